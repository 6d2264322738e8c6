import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Mesh, StateChange } from "@klatsch/mesh";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Bed, full, isFull, next, until } from "./helpers.ts";

let bed: Bed;
let meshes: Mesh[];

afterEach(() => bed[Symbol.asyncDispose]());

/** Three meshes, all linked. */
async function three(): Promise<void> {
  bed = new Bed();
  const first = await bed.mesh("a");
  const rest = await Promise.all(["b", "c"].map((name) => bed.mesh(name, { bootstrap: first.addresses() })));
  meshes = [first, ...rest];
  await until(meshes, () => isFull(meshes), 20_000);
}

/** Resolves once it holds, looked at now and after each change of any key at any of the meshes. */
async function seen(holds: () => boolean, among: readonly Mesh[] = meshes, limitMs = 20_000): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const check = (): void => {
      if (!holds()) return;
      finish();
      resolve();
    };
    const offs = among.flatMap(({ state }) => [state.watch({}, check), state.shared.watch({}, check)]);
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
  beforeEach(three);

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
});

/** Shared entries of a mesh by key. */
function sharedOf(mesh: Mesh): Record<string, unknown> {
  return Object.fromEntries(mesh.state.shared.entries().map(({ key, value }) => [key, value]));
}

async function agree(expected: Record<string, unknown>, among: readonly Mesh[] = meshes): Promise<void> {
  const wanted = JSON.stringify(expected);
  await seen(() => among.every((mesh) => JSON.stringify(sharedOf(mesh)) === wanted), among);
}

describe("shared state", () => {
  beforeEach(three);

  it("is read by everybody, the last writer's, and says whose it is", async () => {
    await at(0).state.shared.set("queue/x", { replicas: 3 });
    await agree({ "queue/x": { replicas: 3 } });
    await at(1).state.shared.set("queue/x", { replicas: 5 });
    await agree({ "queue/x": { replicas: 5 } });
    for (const mesh of meshes) {
      expect(mesh.state.shared.get("queue/x")).toEqual({ replicas: 5 });
      expect(mesh.state.shared.entries({ prefix: "queue/" })).toMatchObject([{ writer: at(1).peerId }]);
      expect(mesh.state.shared.entries({ prefix: "store/" })).toEqual([]);
    }
  });

  it("outlasts all processes, and what is deleted stays deleted", async () => {
    await at(0).state.shared.set("kept", 1);
    await at(0).state.shared.set("gone", 1);
    await agree({ gone: 1, kept: 1 });
    const sleeper = at(2);
    await sleeper.stop();
    expect(await at(1).state.shared.delete("gone")).toBe(true);
    expect(await at(1).state.shared.delete("gone")).toBe(false);
    await agree({ kept: 1 }, meshes.slice(0, 2));
    await Promise.all(meshes.map((mesh) => mesh.stop()));

    // The sleeper still holds the deleted one on its disk, and is there first.
    const woken = await bed.mesh("c");
    expect(sharedOf(woken)).toEqual({ gone: 1, kept: 1 });
    const again = await bed.mesh("b", { bootstrap: woken.addresses() });
    expect(sharedOf(again)).toEqual({ kept: 1 });
    await full(woken, again);
    await agree({ kept: 1 }, [woken, again]);
  });

  it("is not overwritten by those that come later without override", async () => {
    await at(0).state.shared.set("policy", "strict", { override: true });
    await agree({ policy: "strict" });
    await expect(at(1).state.shared.set("policy", "lax")).rejects.toMatchObject({ code: "FORBIDDEN" });
    await at(1).state.shared.set("policy", "fair", { override: true });
    await agree({ policy: "fair" });
  });

  it("tells watchers of each change once", async () => {
    const changes: unknown[] = [];
    at(2).state.shared.watch({ prefix: "a/" }, ({ key, value, writer }) =>
      changes.push([key, value, writer]),
    );
    await at(0).state.shared.set("a/1", "x");
    await at(0).state.shared.set("b/1", "x");
    await agree({ "a/1": "x", "b/1": "x" });
    await at(1).state.shared.delete("a/1");
    await agree({ "b/1": "x" });
    expect(changes).toEqual([
      ["a/1", "x", at(0).peerId],
      ["a/1", undefined, at(1).peerId],
    ]);
  });
});

describe("shared state of other kinds", () => {
  beforeEach(() => void (bed = new Bed()));

  it("knows no keys but those that were planned for", async () => {
    const mesh = await bed.mesh("strict", { mesh: "strict", sharedPrefixes: { "queue/": "declare" } });
    await mesh.state.shared.set("queue/x", 1);
    await expect(mesh.state.shared.set("other", 1)).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  it("is dropped by who joins another mesh", async () => {
    const { shared } = (await bed.mesh("mover", { mesh: "one" })).state;
    await shared.set("k", 1);
    await bed.meshes.at(-1)?.stop();
    const moved = await bed.mesh("mover", { mesh: "two" });
    expect(moved.state.shared.entries()).toEqual([]);
  });

  it.each([
    ["its log", damageLog],
    ["its description", damageDescription],
  ])("comes back from the others where a disk was damaged, in %s", async (_where, damage) => {
    await three();
    await at(0).state.shared.set("k", "v");
    await agree({ k: "v" });
    await at(2).stop();
    damage(join(bed.dataDir("c"), "mesh"));
    const again = await bed.mesh("c", { bootstrap: at(0).addresses() });
    const { path } = await next(again, "state:quarantined");
    expect(path).toContain("mesh.quarantined-1");
    await agree({ k: "v" }, [again]);
  });

  it("is of one process at a time", async () => {
    await bed.mesh("a");
    await expect(bed.mesh("a")).rejects.toMatchObject({ code: "STORE_LOCKED", retryable: true });
  });
});

describe("state in a mesh that is not full", () => {
  it("is passed on to those without a link to who said it", { timeout: 60_000 }, async () => {
    bed = new Bed();
    const options = { fullMeshUpTo: 1, degree: 4 };
    const first = await bed.mesh("m0", options);
    const names = Array.from({ length: 9 }, (_, index) => `m${index + 1}`);
    const rest = await Promise.all(
      names.map((name) => bed.mesh(name, { ...options, bootstrap: first.addresses() })),
    );
    meshes = [first, ...rest];
    await Promise.all(meshes.map((mesh) => mesh.waitFor({ members: meshes.length, timeoutMs: 30_000 })));
    const speaker = at(9);
    const strangers = meshes.filter(
      (mesh) => mesh !== speaker && mesh.member(speaker.peerId)?.linked !== true,
    );
    speaker.state.set("k", "own");
    await speaker.state.shared.set("k", "shared");
    await seen(() => meshes.every(({ state }) => state.get(speaker.peerId, "k") === "own"), meshes, 30_000);
    await seen(() => meshes.every(({ state }) => state.shared.get("k") === "shared"), meshes, 30_000);
    expect(strangers.length).toBeGreaterThan(0);
  });
});

describe("what cannot be said", () => {
  let solo: Mesh;

  beforeEach(async () => {
    bed = new Bed();
    solo = await bed.mesh("solo");
  });

  it.each([
    ["a key with a space", "a b", 1, "STATE_INVALID"],
    ["no key", "", 1, "STATE_INVALID"],
    ["a key of the mesh's own", "klatsch/links", 1, "FORBIDDEN"],
    ["a value too long", "k", "x".repeat(33_000), "STATE_TOO_LARGE"],
    ["a date", "k", new Date() as never, "STATE_INVALID"],
    ["a function in a list", "k", [() => 1] as never, "STATE_INVALID"],
    ["nothing", "k", undefined as never, "STATE_INVALID"],
    ["a number for a key", 5 as never, 1, "INVALID_OPTIONS"],
    ["a key that would be a prototype", "k", JSON.parse('{"__proto__":{}}') as never, "STATE_INVALID"],
  ])("refuses %s and changes nothing", (_what, key, value, code) => {
    expect(() => solo.state.set(key, value)).toThrow(expect.objectContaining({ code }));
    expect(solo.state.entries({ peerId: solo.peerId })).toEqual([]);
  });

  it("names the limit that is reached", () => {
    for (let key = 0; key < 256; key += 1) solo.state.set(`k${key}`, key);
    expect(() => solo.state.set("one-more", 1)).toThrow("keysMax is 256");
    solo.state.set("k0", "a known key may change");
    expect(() => {
      for (let key = 1; key < 4; key += 1) solo.state.set(`k${key}`, "x".repeat(30_000));
    }).toThrow("nodeBytesMax is 65536");
  });

  it("is refused by a mesh that has stopped", async () => {
    await solo.stop();
    expect(() => solo.state.set("k", 1)).toThrow(expect.objectContaining({ code: "STOPPED" }));
  });

  describe("as a shared entry", () => {
    it.each([
      ["a key with a space", "a b", 1, "STATE_INVALID"],
      ["a key of the mesh's own", "klatsch/x", 1, "FORBIDDEN"],
      ["a value too long", "k", "x".repeat(33_000), "STATE_TOO_LARGE"],
      ["a set", "k", new Set() as never, "STATE_INVALID"],
      ["a symbol for a key", Symbol("k") as never, 1, "INVALID_OPTIONS"],
      ["a key that would be a prototype", "k", JSON.parse('{"__proto__":{}}') as never, "STATE_INVALID"],
    ])("refuses %s and changes nothing", async (_what, key, value, code) => {
      await expect(solo.state.shared.set(key, value)).rejects.toMatchObject({ code });
      expect(solo.state.shared.entries()).toEqual([]);
    });
  });
});

/** Flips bits in the older half of the log: the loss of its newest end alone would show nowhere. */
function damageLog(store: string): void {
  const level = join(store, "level");
  const log = readdirSync(level).find((name) => name.endsWith(".log"));
  if (log === undefined) throw new Error(`no log in ${level}`);
  const bytes = readFileSync(join(level, log));
  for (let at = 0; at < bytes.length / 2; at += 7) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  writeFileSync(join(level, log), bytes);
}

function damageDescription(store: string): void {
  writeFileSync(join(store, "klatsch-store.json"), Buffer.alloc(58));
}
