import type { Mesh, StateChange } from "@klatsch/mesh";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Bed, full } from "./helpers.ts";

let bed: Bed;
let meshes: Mesh[];

beforeEach(async () => {
  bed = new Bed();
  const first = await bed.mesh("a");
  const rest = await Promise.all(["b", "c"].map((name) => bed.mesh(name, { bootstrap: first.addresses() })));
  meshes = [first, ...rest];
  await full(...meshes);
});

afterEach(() => bed[Symbol.asyncDispose]());

/** Resolves once it holds, looked at now and after each change of any key at any of the meshes. */
async function seen(holds: () => boolean, among: readonly Mesh[] = meshes, limitMs = 10_000): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const check = (): void => {
      if (!holds()) return;
      finish();
      resolve();
    };
    const offs = among.map((mesh) => mesh.state.watch({}, check));
    const timer = setTimeout(() => {
      finish();
      reject(new Error(`not within ${limitMs} ms`));
    }, limitMs);
    const finish = (): void => {
      clearTimeout(timer);
      for (const off of offs) off();
    };
    check();
  });
}

function at(index: number): Mesh {
  const mesh = meshes[index];
  if (mesh === undefined) throw new Error(`no mesh ${index}`);
  return mesh;
}

describe("own state", () => {
  it("is read by everybody, and taken back from everybody", async () => {
    const { peerId } = at(0);
    const value = { load: 0.5, tags: ["x", null, true], raw: Uint8Array.of(1, 2, 3) };
    at(0).state.set("app/info", value);
    expect(at(0).state.get(peerId, "app/info")).toEqual(value);
    await seen(() => meshes.every((mesh) => mesh.state.get(peerId, "app/info") !== undefined));
    for (const mesh of meshes) expect(mesh.state.get(peerId, "app/info")).toEqual(value);

    expect(at(0).state.delete("app/info")).toBe(true);
    expect(at(0).state.delete("app/info")).toBe(false);
    await seen(() => meshes.every((mesh) => mesh.state.entries({ peerId }).length === 0));
  });

  it("tells watchers what they asked for, and whose", async () => {
    const changes: StateChange[] = [];
    const off = at(1).state.watch({ prefix: "app/", peerId: at(2).peerId }, (change) => changes.push(change));
    at(2).state.set("other", 1);
    at(0).state.set("app/x", "not whose");
    at(2).state.set("app/x", "this");
    await seen(() => at(1).state.get(at(2).peerId, "app/x") === "this");
    expect(changes).toEqual([{ peerId: at(2).peerId, key: "app/x", value: "this", boot: at(2).boot }]);
    off();
  });

  it("reaches who joins later, and ends with the process that said it", async () => {
    at(0).state.set("color", "red");
    const late = await bed.mesh("d", { bootstrap: at(1).addresses() });
    await full(...meshes, late);
    await seen(() => late.state.get(at(0).peerId, "color") === "red", [late]);

    const { peerId } = at(0);
    await at(0).stop();
    const again = await bed.mesh("a", { bootstrap: at(1).addresses() });
    const others = [at(1), at(2), late];
    await full(again, ...others);
    again.state.set("shape", "round");
    await seen(() => others.every((mesh) => mesh.state.get(peerId, "shape") === "round"), others);
    for (const mesh of others) {
      expect(mesh.state.entries({ peerId })).toEqual([
        { peerId, key: "shape", value: "round", boot: again.boot },
      ]);
    }
  });

  it.each([
    ["a key with a space", "a b", 1, "STATE_INVALID"],
    ["no key", "", 1, "STATE_INVALID"],
    ["a key of the mesh's own", "klatsch/links", 1, "FORBIDDEN"],
    ["a value too long", "k", "x".repeat(33_000), "STATE_TOO_LARGE"],
    ["a date", "k", new Date() as never, "STATE_INVALID"],
    ["a function in a list", "k", [() => 1] as never, "STATE_INVALID"],
    ["nothing", "k", undefined as never, "STATE_INVALID"],
  ])("refuses %s and changes nothing", (_what, key, value, code) => {
    expect(() => at(0).state.set(key, value)).toThrow(expect.objectContaining({ code }));
    expect(at(0).state.entries({ peerId: at(0).peerId })).toEqual([]);
  });

  it("names the limit that is reached", () => {
    for (let key = 0; key < 256; key += 1) at(0).state.set(`k${key}`, key);
    expect(() => at(0).state.set("one-more", 1)).toThrow("keysMax is 256");
    at(0).state.set("k0", "a known key may change");
    expect(() => {
      for (let key = 1; key < 4; key += 1) at(0).state.set(`k${key}`, "x".repeat(30_000));
    }).toThrow("nodeBytesMax is 65536");
  });

  it("is refused by a mesh that has stopped", async () => {
    await at(2).stop();
    expect(() => at(2).state.set("k", 1)).toThrow(expect.objectContaining({ code: "STOPPED" }));
  });
});
