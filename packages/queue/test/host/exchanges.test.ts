import type { Mesh, SharedChange, StateValue } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";

import { Exchanges } from "../../src/host/exchanges.ts";

const WRITES_MAX = 1_024;
const BINDINGS_MAX = 10_000;

/** A mesh of one member, as busy as it may be: each write takes a turn of the event loop, and of these there are at most so many. */
function makeMesh(): Mesh {
  const values = new Map<string, StateValue>();
  let waiting = 0;
  let tell: ((change: SharedChange) => void) | undefined;
  const write = async (key: string, value: StateValue | undefined): Promise<boolean> => {
    if (waiting >= WRITES_MAX) throw new Error("too many writes wait already");
    waiting += 1;
    await new Promise((resolve) => setImmediate(resolve));
    waiting -= 1;
    const had = value === undefined ? values.delete(key) : values.has(key);
    if (value !== undefined) values.set(key, value);
    tell?.({ key, value, writer: "me", writtenWallMs: 0 });
    return had;
  };
  const shared = {
    entries: () => [],
    get: (key: string) => values.get(key),
    set: write,
    delete: (key: string) => write(key, undefined),
    watch: (_filter: unknown, listener: (change: SharedChange) => void) => {
      tell = listener;
      return () => undefined;
    },
  };
  return { state: { shared } } as unknown as Mesh;
}

async function bindMany(exchanges: Exchanges, from: number, count: number): Promise<number> {
  const keys = Array.from({ length: count }, (_, no) => `k${from + no}`);
  const bound = keys.map((key) => exchanges.bind("x", { queue: "jobs", key, headers: {}, match: "all" }));
  return (await Promise.allSettled(bound)).filter(({ status }) => status === "fulfilled").length;
}

describe("bindings by the thousand", () => {
  it("are all followed that were taken, although they were made at once", async () => {
    const exchanges = new Exchanges(makeMesh());
    let taken = 0;
    // Not a whole number of times.
    for (let from = 0; from < 1.1 * BINDINGS_MAX; from += 700) taken += await bindMany(exchanges, from, 700);
    expect([taken, exchanges.bindingsOf("x").length]).toEqual([BINDINGS_MAX, BINDINGS_MAX]);
  });

  it("are made and undone at once, more of them than the mesh writes at a time", async () => {
    const exchanges = new Exchanges(makeMesh());
    expect(await bindMany(exchanges, 0, 2 * WRITES_MAX)).toBe(2 * WRITES_MAX);
    const undone = exchanges.bindingsOf("x").map((binding) => exchanges.unbind("x", binding));
    expect(new Set(await Promise.all(undone))).toEqual(new Set([true]));
    expect(exchanges.bindingsOf("x")).toEqual([]);
  });

  it("go with their queue or their exchange, more of them than the mesh writes at a time", async () => {
    const exchanges = new Exchanges(makeMesh());
    const remove = [() => exchanges.unbindAll("jobs"), () => exchanges.delete("x")];
    for (const removed of remove) {
      await bindMany(exchanges, 0, 1_000);
      await bindMany(exchanges, 1_000, 1_000);
      await removed();
      expect(exchanges.bindingsOf("x")).toEqual([]);
    }
  });
});

describe("a binding that another member wrote", () => {
  it("leads to no queue that cannot be declared", async () => {
    const mesh = makeMesh();
    const exchanges = new Exchanges(mesh);
    const plain = { key: "", headers: {}, match: "all" };
    for (const queue of ["jobs", "~elect/chief/x"]) {
      await mesh.state.shared.set(`queue/binding/x/${queue.length}`, { queue, ...plain });
    }
    expect(exchanges.bindingsOf("x").map(({ queue }) => queue)).toEqual(["jobs"]);
  });
});
