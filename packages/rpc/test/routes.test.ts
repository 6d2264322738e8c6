import { contract, method, nodeContract } from "@klatsch/rpc";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const text = z.string();
const api = contract({
  name: "api",
  methods: {
    echo: method({ input: text, output: text, access: "members" }),
    from: method({ input: text, output: text, access: "members", class: "bulk" }),
    count: method({ input: z.number(), output: z.number(), access: "members", stream: "output" }),
    hang: method({ input: text, output: text, access: "members" }),
    note: method({ input: text, output: z.undefined(), access: "members" }),
    raw: method({ input: z.unknown(), output: z.unknown(), access: "members" }),
  },
});

/** Five in a row, each linked with the next only. `notes` has who was cast what. */
async function row() {
  const nodes = await Nodes.start();
  const notes: string[] = [];
  for (let no = 0; no < 5; no += 1) {
    const name = `n${no}`;
    const { rpc } = await nodes.add(name, {
      neighbours: [`n${no - 1}`, `n${no + 1}`],
      tags: { no: `${no}` },
    });
    rpc.serve(api, {
      echo: (input) => `${name} ${input}`,
      from: (_input, { caller }) => caller.peerId,
      *count(to) {
        for (let item = 0; item < to; item += 1) yield item;
      },
      hang: async (_input, { signal }) =>
        await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error()))),
      note: (input) => void notes.push(`${name} ${input}`),
      raw: (input) => input,
    });
  }
  return { nodes, notes };
}

describe("over several hops", () => {
  let nodes: Nodes;
  let notes: string[];

  beforeAll(async () => ({ nodes, notes } = await row()), 60_000);
  afterAll(async () => await nodes[Symbol.asyncDispose]());

  it("calls and streams reach members that are no neighbours, and the caller is proven all the same", async () => {
    const { rpc, id } = nodes.get("n0");
    const far = rpc.peer(nodes.get("n4").id, api);
    expect(await far.echo("hello")).toBe("n4 hello");
    expect(await far.from("x")).toBe(id);
    const items: number[] = [];
    for await (const item of far.count(200)) items.push(item);
    expect(items.length).toBe(200);
    const controller = new AbortController();
    const hanging = far.hang("x", { signal: controller.signal });
    await until("it runs", () => nodes.get("n4").rpc.stats().running === 1);
    controller.abort();
    await expect(hanging).rejects.toMatchObject({ code: "CANCELLED" });
    await until("it ended", () => nodes.get("n4").rpc.stats().running === 0);
    expect(rpc.stats().pending).toBe(0);
  });

  it("casts and topics are heard once by all, neighbours or not", { timeout: 60_000 }, async () => {
    const { rpc } = nodes.get("n0");
    const heard: string[] = [];
    for (const { name, rpc: own } of nodes.all())
      own.subscribe("news", z.number(), (value) => heard.push(`${name} ${value}`));
    const all = nodes.all().map(({ name }) => name);
    // Gossip begins with the first use: what it carries before all take part may be lost.
    await until(
      "gossip runs everywhere",
      () => {
        void rpc.cast("all", api, "note", "warm");
        return all.every((name) => notes.includes(`${name} warm`));
      },
      30_000,
    );
    notes.length = 0;
    const cast = async (target: string | string[], wanted: readonly string[]): Promise<void> => {
      const { addressed, unreachable } = await rpc.cast(target, api, "note", "x");
      expect([addressed.length, unreachable]).toEqual([wanted.length, []]);
      const those = (): string[] => notes.filter((note) => note.endsWith(" x"));
      await until("all have it", () => those().length >= wanted.length);
      expect(those().toSorted()).toEqual(wanted.map((name) => `${name} x`));
      notes.length = 0;
    };
    await cast("all", all);
    await cast("no=1 | no=3", ["n1", "n3"]);
    await cast(["n0", "n4"], ["n0", "n4"]);
    const far = nodes.all().filter(({ mesh }) => mesh.member(nodes.get("n0").id)?.linked === false);
    const large = await rpc.cast("all", api, "note", "y".repeat(100_000));
    expect(large.unreachable.every((peer) => far.some(({ id }) => id === peer))).toBe(true);
    expect(large.unreachable.length).toBeGreaterThan(0); // Gossip takes 64 KiB.
    const farthest = nodes.get("n4").id;
    await expect(rpc.cast([farthest], api, "raw", () => 1)).rejects.toMatchObject({ code: "INVALID_INPUT" });
    heard.length = 0;
    expect(await rpc.emit("news", 7)).toEqual([]);
    await until("all heard it", () => heard.length >= 5);
    expect(heard.toSorted()).toEqual(all.map((name) => `${name} 7`));
    const late: number[] = [];
    nodes.get("n4").rpc.subscribe("news", z.number(), (value) => late.push(value), { last: 1 });
    await until("what was last came from afar", () => late.length > 0);
    expect(late).toEqual([7]);
  });

  it("gathers reach all", async () => {
    const { value, missing } = await nodes
      .get("n0")
      .rpc.gather("all", api, "echo", "x", { reduce: { by: "set" } });
    expect([value, missing]).toEqual([["n0 x", "n1 x", "n2 x", "n3 x", "n4 x"], []]);
  });

  it("an idempotent call is sent again over another way when the one it took is lost", async () => {
    await using four = await Nodes.start();
    await four.add("a", { neighbours: ["b", "c"] });
    await four.add("b", { neighbours: ["a", "d"] });
    await four.add("c", { neighbours: ["a", "d"] });
    await four.add("d", { neighbours: ["b", "c"] });
    const slow = contract({
      methods: { slow: method({ input: text, output: z.number(), access: "members", idempotent: true }) },
    });
    let runs = 0;
    const held = Promise.withResolvers<void>();
    four.get("d").rpc.serve(slow, {
      slow: async () => {
        runs += 1;
        await held.promise;
        return runs;
      },
    });
    const relays: string[] = [];
    four.get("a").mesh.on("tunnel:up", ({ path }) => relays.push(path[1] ?? ""));
    const call = four.get("a").rpc.peer(four.get("d").id, slow).slow("x", { deadlineMs: 20_000 });
    await until("it runs", () => runs === 1);
    const relay = four.all().find(({ id }) => id === relays.at(-1));
    await four.end(relay?.name ?? "");
    await until("it runs again", () => runs === 2);
    held.resolve();
    expect(await call).toBe(2);
    expect(new Set(relays).size).toBe(2);
  });

  it("a call waits for a way, and says so if there is none in time", async () => {
    await using three = await Nodes.start();
    await three.add("a", { neighbours: ["b"] });
    await three.add("b", { neighbours: ["a", "c"] });
    await three.add("c", { neighbours: ["b"] });
    const far = three.get("a").rpc.peer(three.get("c").id, nodeContract);
    expect(await far.ping()).toBe(three.get("c").mesh.boot);
    await three.end("b"); // Nobody is left in between.
    await expect(far.ping(undefined, { deadlineMs: 300 })).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(three.get("a").rpc.stats().pending).toBe(0);
  });
});
