import { contract, method, nodeContract } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const text = z.string();
const api = contract({
  name: "api",
  methods: {
    note: method({ input: text, output: z.undefined(), access: "members" }),
    load: method({ input: z.number(), output: z.object({ load: z.number() }), access: "members" }),
    never: method({ input: text, output: text, access: "members" }),
    secret: method({ input: text, output: z.number(), access: "self" }),
  },
});

/** Six members with tags, each of which serves `api`; `notes` has who was cast what. */
async function six() {
  const nodes = await Nodes.start();
  const notes: string[] = [];
  const zones = ["a", "a", "b", "b", "c", "c"];
  for (const [no, zone] of zones.entries()) {
    const tags = { role: no === 0 ? "db" : "web", zone, ...(no === 1 ? { draining: "yes" } : {}) };
    const name = `n${no}`;
    const { rpc } = await nodes.add(name, { tags, cloud: no < 3 ? "east" : "west" });
    rpc.serve(api, {
      note: (input) => void notes.push(`${name} ${input}`),
      load: (factor) => {
        if (no === 4) throw Object.assign(new Error("no sensor"), { code: "NO_SENSOR" });
        return { load: no * factor };
      },
      never: async (_input, { signal }) =>
        no === 5
          ? await new Promise((_resolve, reject) =>
              signal.addEventListener("abort", () => reject(new Error())),
            )
          : "x",
      secret: () => 1,
    });
  }
  return { nodes, notes };
}

describe("groups", () => {
  it("are exactly those a target means", async () => {
    const { nodes, notes } = await six();
    await using _ = nodes;
    const { rpc } = nodes.get("n0");
    const cast = async (target: string | string[], wanted: readonly number[]): Promise<void> => {
      notes.length = 0;
      const { addressed, unreachable } = await rpc.cast(target, api, "note", "x");
      const ids = wanted.map((no) => nodes.get(`n${no}`).id);
      expect([addressed.toSorted(), unreachable]).toEqual([ids.toSorted(), []]);
      await until("all have it", () => notes.length >= wanted.length);
      expect(notes.toSorted()).toEqual(wanted.map((no) => `n${no} x`));
    };
    await cast("role=web & (zone=a | zone=b) & !draining", [2, 3]);
    await cast("cloud=west", [3, 4, 5]);
    await cast("all", [0, 1, 2, 3, 4, 5]);
    await cast(["n1", nodes.get("n5").id], [1, 5]);
    await expect(rpc.cast("role=", api, "note", "x")).rejects.toMatchObject({ code: "INVALID_TARGET" });
    await expect(rpc.cast("all", api, "note", 7 as never)).rejects.toMatchObject({ code: "INVALID_INPUT" });
  });

  it("are gathered with an exact account", async () => {
    const { nodes } = await six();
    await using _ = nodes;
    const { rpc } = nodes.get("n0");
    const progress: number[] = [];
    const sum = await rpc.gather("all", api, "load", 10, {
      reduce: { by: "sum", of: "load" },
      fanout: 2,
      onProgress: ({ answered }) => void progress.push(answered),
    });
    expect(sum.value).toBe(110);
    expect(sum.answered.map(({ name }) => name).toSorted()).toEqual(["n0", "n1", "n2", "n3", "n5"]);
    expect(sum.failed).toEqual([{ peerId: nodes.get("n4").id, name: "n4", code: "NO_SENSOR" }]);
    expect(sum.missing).toEqual([]);
    expect(progress.at(-1)).toBe(5);

    const late = await rpc.gather("all", api, "never", "x", {
      deadlineMs: 1_000, // Each of six levels keeps a tenth of it: enough on a busy machine.
      reduce: { by: "count" },
      fanout: 1,
    });
    expect(late.missing.map(({ name }) => name)).toEqual(["n5"]);
    expect(late.value).toBe(5);
    const first = await rpc.gather("all", api, "never", "x", { until: 3, reduce: { by: "count" } });
    expect(first.answered.length).toBeGreaterThanOrEqual(3);
    // One of the six never answers: each of these would take until the deadline if it waited for all.
    for (const [enough, least] of [["first", 1] as const, ["quorum", 4] as const]) {
      const some = await rpc.gather("all", api, "never", "x", { until: enough, reduce: { by: "count" } });
      expect(some.answered.length).toBeGreaterThanOrEqual(least);
      expect(some.missing.map(({ name }) => name)).toContain("n5");
    }
    const stalled = await rpc.gather("all", api, "never", "x", {
      until: { stallMs: 100 },
      reduce: { by: "count" },
    });
    expect(stalled.missing.map(({ name }) => name)).toEqual(["n5"]);

    // The guard holds for a gather as for a call: only this node may ask itself.
    const secret = await rpc.gather("all", api, "secret", "x", { reduce: { by: "sum" } });
    expect([secret.value, secret.failed.map(({ code }) => code)]).toEqual([1, Array(5).fill("DENIED")]);
    for (const node of nodes.all()) {
      node.rpc.reducer("longest", {
        map: (answer) => JSON.stringify(answer).length,
        merge: (a, b) => Math.max(a as number, b as number),
        done: (state) => state,
      });
    }
    const own = await rpc.gather("zone=b", api, "load", 1, { reduce: { by: "own", name: "longest" } });
    expect(own.value).toBe(10);
    await expect(rpc.gather("all", api, "load", 1, { fanout: 0 })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
    });
    await until("nothing is left", () =>
      nodes.all().every(({ rpc }) => rpc.stats().pending + rpc.stats().running === 0),
    );
  });

  it("are gathered around nodes that go meanwhile", async () => {
    const { nodes } = await six();
    await using _ = nodes;
    const { rpc } = nodes.get("n0");
    const gathering = rpc.gather("all", api, "never", "x", {
      reduce: { by: "concat" },
      fanout: 2,
      deadlineMs: 1_000,
    });
    await Promise.all([nodes.end("n1"), nodes.end("n3")]);
    const { answered, failed, missing } = await gathering;
    const names = [...answered, ...failed, ...missing].map(({ name }) => name);
    expect(names.toSorted()).toEqual(["n0", "n1", "n2", "n3", "n4", "n5"]);
    expect(missing.map(({ name }) => name)).toEqual(["n5"]);
  });
});

describe("topics", () => {
  it("reach all who are subscribed, once, and tell late joiners what was last", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const heard: string[] = [];
    for (const name of ["a", "b"]) {
      nodes.get(name).rpc.subscribe("news", z.number(), (value, { peerId }) => {
        heard.push(`${name} ${value} from ${peerId === nodes.get("a").id ? "a" : "?"}`);
      });
    }
    expect(await nodes.get("a").rpc.emit("news", 1)).toEqual([]);
    await nodes.get("a").rpc.emit("news", "no number");
    await nodes.get("a").rpc.emit("other", 9);
    for (const value of [2, 3]) await nodes.get("a").rpc.emit("news", value);
    await until("both have all", () => heard.length === 6);
    expect(heard.toSorted()).toEqual(
      [1, 2, 3].flatMap((no) => [`a ${no} from a`, `b ${no} from a`]).toSorted(),
    );

    const late: [number, boolean][] = [];
    const end = nodes
      .get("c")
      .rpc.subscribe("news", z.number(), (value, { replayed }) => late.push([value, replayed]), {
        last: 2,
      });
    await until("the last two came", () => late.length === 2);
    await nodes.get("a").rpc.emit("news", 4);
    await until("the new one came", () => late.length === 3);
    expect(late.toSorted()).toEqual(
      [
        [2, true],
        [3, true],
        [4, false],
      ].toSorted(),
    );
    await nodes.add("d");
    const later: number[] = [];
    nodes.get("d").rpc.subscribe("news", z.number(), (value) => later.push(value), { last: 3 });
    await until("the last three came", () => later.length === 3);
    expect(later).toEqual([2, 3, 4]);
    end();
    await nodes.get("a").rpc.emit("news", 5);
    await until("the new one came", () => later.length === 4);
    expect(late.length).toBe(3);
  });
});

describe("every node", () => {
  it("says what it is and what it offers", async () => {
    await using nodes = await Nodes.start("a", "b");
    const { mesh, id, rpc } = nodes.get("b");
    const node = nodes.get("a").rpc.peer(id, nodeContract);
    expect(await node.ping()).toBe(mesh.boot);
    expect(await node.info()).toMatchObject({ peerId: id, name: "b", boot: mesh.boot });
    expect(await node.stats()).toMatchObject({ links: 3, badFrames: 0 });
    expect(await node.uptime()).toBeGreaterThan(0);
    expect(await node.methods()).toEqual(
      expect.arrayContaining(["klatsch.node.ping", "klatsch.gather.collect"]),
    );
    await rpc.stop();
    await expect(node.ping(undefined, { deadlineMs: 50 })).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });

  it("lets middleware around its calls and handlers, the first outermost", async () => {
    await using nodes = await Nodes.start();
    const seen: string[] = [];
    const layer =
      (name: string) => async (call: { readonly method: string }, next: () => Promise<unknown>) => {
        seen.push(`${name} before ${call.method}`);
        const value = await next();
        seen.push(`${name} after`);
        return value;
      };
    await nodes.add("a", { middleware: { client: [layer("c1"), layer("c2")] } });
    await nodes.add("b", { middleware: { server: [layer("s1"), layer("s2")] } });
    await nodes.get("a").rpc.peer(nodes.get("b").id, nodeContract).ping();
    const order = [
      "c1 before",
      "c2 before",
      "s1 before",
      "s2 before",
      "s2 after",
      "s1 after",
      "c2 after",
      "c1 after",
    ];
    expect(seen.map((line) => line.replace(" klatsch.node.ping", ""))).toEqual(order);
    expect(nodes.get("a").rpc.profile().client).toMatchObject([
      { method: "klatsch.node.ping", count: 1, errors: 0 },
    ]);
  });
});
