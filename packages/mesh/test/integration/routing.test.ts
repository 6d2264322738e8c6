import { randomBytes } from "node:crypto";
import type { Mesh, MeshInit } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { Bed, full, Probe, until } from "./helpers.ts";

/** Meshes named a, b, c … that are all linked at first, and then only as a test says. */
class Shape {
  readonly meshes: Mesh[] = [];
  #links: ReadonlySet<string> | undefined;

  static async of(
    bed: Bed,
    names: string,
    pairs: string,
    init: (name: string) => Partial<MeshInit> = () => ({}),
  ): Promise<Shape> {
    const shape = new Shape();
    for (const name of names) {
      const mesh = await bed.mesh(name, {
        bootstrap: shape.meshes[0]?.addresses() ?? [],
        mayLink: (peer) => shape.#mayLink(name, peer.name),
        ...init(name),
      });
      shape.meshes.push(mesh);
    }
    await full(...shape.meshes);
    await shape.become(pairs);
    return shape;
  }

  /** Only these are linked from now on: "ab bc". */
  async become(pairs: string): Promise<void> {
    this.#links = new Set(pairs.split(" ").flatMap((pair) => [pair, pair.split("").toReversed().join("")]));
    await until(this.meshes, () =>
      this.meshes.every((mesh) =>
        this.meshes.every(
          (other) =>
            mesh === other || mesh.member(other.peerId)?.linked === this.#mayLink(mesh.name, other.name),
        ),
      ),
    );
  }

  #mayLink(a: string, b: string): boolean {
    return this.#links?.has(`${a}${b}`) ?? true;
  }
}

/** Connects as soon as gossip has told the way. */
async function reach(from: Mesh, to: Mesh, options: Parameters<Mesh["connect"]>[1] = {}): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      await from.connect(to.peerId, options);
      return;
    } catch (error) {
      if (tries > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

describe("a mesh in which not all are linked", { timeout: 60_000 }, () => {
  it("carries channels to a member that is no neighbour", async () => {
    await using bed = new Bed();
    const { meshes } = await Shape.of(bed, "abcd", "ab bc cd");
    const [a, b, c, d] = meshes as [Mesh, Mesh, Mesh, Mesh];
    const [atA, atD] = [new Probe(a), new Probe(d)];
    await reach(a, d);
    await atA.until(() => atA.channel.peers().includes(d.peerId));
    await atD.until(() => atD.channel.peers().includes(a.peerId));
    const frames = [0, 1, 100, 200_000, 3_000_000, 5].map((length) => randomBytes(length));
    for (const frame of frames) {
      expect(atA.channel.send(d.peerId, frame)).toBe(true);
      expect(atD.channel.send(a.peerId, frame)).toBe(true);
    }
    for (const probe of [atA, atD]) {
      await probe.until(() => probe.frames.length === frames.length);
      expect(probe.frames.map((frame, index) => Buffer.compare(frame, frames[index] ?? Buffer.of()))).toEqual(
        frames.map(() => 0),
      );
    }
    expect(a.member(d.peerId)?.linked).toBe(false);
    expect([a, b, c, d].map((mesh) => mesh.stats().tunnels)).toEqual([1, 0, 0, 1]);
    expect([a, b, c, d].map((mesh) => mesh.stats().tunnelsCarried)).toEqual([0, 1, 1, 0]);
    expect(meshes.map((mesh) => mesh.stats().badFrames)).toEqual([0, 0, 0, 0]);
  });
});
