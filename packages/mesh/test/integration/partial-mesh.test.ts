import type { Mesh } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { Bed, Probe, until } from "./helpers.ts";

const NODES = 14;
/** Small, so that few nodes show what many do. */
const SPARSE = { fullMeshUpTo: 1, degree: 4 };

/** Nodes of one mesh that is not full, each of which knows all others. */
async function partialMesh(bed: Bed): Promise<readonly Mesh[]> {
  const first = await bed.mesh("n00", SPARSE);
  const others = Array.from({ length: NODES - 1 }, (_, index) => {
    return bed.mesh(`n${String(index + 1).padStart(2, "0")}`, { ...SPARSE, bootstrap: first.addresses() });
  });
  const meshes = [first, ...(await Promise.all(others))];
  await until(meshes, () => allSeeAll(meshes), 20_000);
  return meshes;
}

function allSeeAll(meshes: readonly Mesh[]): boolean {
  return meshes.every((mesh) => meshes.every((other) => mesh.member(other.peerId)?.status === "alive"));
}

function unlinked(mesh: Mesh, meshes: readonly Mesh[]): Mesh | undefined {
  return meshes.find((other) => other !== mesh && mesh.member(other.peerId)?.linked === false);
}

describe("a mesh with more members than links", () => {
  it("knows everybody, keeps few links, and opens one to whom it attends", async () => {
    await using bed = new Bed();
    const meshes = await partialMesh(bed);
    const mesh = meshes.find((each) => unlinked(each, meshes) !== undefined);
    const far = mesh === undefined ? undefined : unlinked(mesh, meshes);
    if (mesh === undefined || far === undefined) throw new Error("everybody is linked with everybody");
    const [here, there] = [new Probe(mesh), new Probe(far)];
    const release = mesh.attend(far.peerId);
    await until([mesh, far], () => mesh.member(far.peerId)?.linked === true);
    await Promise.all([here.up(), there.up()]);
    expect(here.channel.send(far.peerId, Buffer.from("direct"))).toBe(true);
    await there.until(() => there.frames.length > 0);
    release();
  }, 60_000);

  it("is told by all of a planned end, and answers who is gone", async () => {
    await using bed = new Bed();
    const meshes = await partialMesh(bed);
    const [asking, leaving] = meshes as [Mesh, Mesh];
    const { peerId, boot } = leaving;
    expect(await asking.isGone(peerId, boot)).toBe(false);
    expect(await asking.isGone(peerId, boot - 1)).toBe(true);
    await leaving.leave();
    const rest = meshes.filter((mesh) => mesh !== leaving);
    await until(rest, () => rest.every((mesh) => mesh.member(peerId)?.status === "left"));
    expect(await asking.isGone(peerId, boot)).toBe(true);
  }, 60_000);
});
