import { QueueError } from "@klatsch/queue";
import type { Message, Queue } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = ({ body }: { readonly body: Uint8Array }): string => new TextDecoder().decode(body);

describe("a queue with groups", () => {
  it("takes a group and a key for another pair by no character in them", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs", { groups: true, dedupMs: 60_000, shards: 1, replicas: 1 });
    const pairs = [
      { group: "a", dedupKey: "b\0c" },
      { group: "a\0b", dedupKey: "c" },
      { dedupKey: "\0b" },
      { group: "\0", dedupKey: "b" },
      { group: "1", dedupKey: "1" },
      { dedupKey: "1 11" },
    ];
    const entered = [];
    for (const pair of pairs) entered.push(await queue?.enqueue(bytes("x"), pair));
    expect(new Set(entered.map((one) => one?.id)).size).toBe(pairs.length);
    expect(await queue?.enqueue(bytes("x"), pairs[0])).toEqual({ ...entered[0], duplicate: true });
  });

  it("has as many ready as groups with one that waits", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs", { groups: true, shards: 1, replicas: 1 });
    for (let no = 0; no < 10; no += 1) await queue?.enqueue(bytes(`${no}`), { group: `${no % 2}` });
    await until("it is told", () => queue?.depth === 2);
  });

  it("hands out the messages of a group one at a time, in the order they came, on any node", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const queues = await nodes.declare("jobs", { groups: true });
    for (let no = 0; no < 12; no += 1) {
      await queues[no % 3]?.enqueue(bytes(`${no}`), { group: no % 2 === 0 ? "even" : "odd" });
    }
    const seen: Record<string, string[]> = { even: [], odd: [] };
    const held = new Map<string, number>();
    let most = 0;
    const consumers = queues.map((queue) =>
      queue.consume(async (message) => {
        const { group = "" } = message;
        held.set(group, (held.get(group) ?? 0) + 1);
        most = Math.max(most, held.get(group) ?? 0);
        seen[group]?.push(text(message));
        await new Promise((resolve) => setTimeout(resolve, 2));
        held.set(group, (held.get(group) ?? 0) - 1);
      }),
    );
    await until("all are done", () => consumers.reduce((sum, { stats }) => sum + stats.acked, 0) === 12);
    expect(most).toBe(1);
    expect(seen).toEqual({ even: ["0", "2", "4", "6", "8", "10"], odd: ["1", "3", "5", "7", "9", "11"] });
  });

  it("keeps the order when the node that writes its lanes ends", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const queues = await nodes.declare("jobs", { groups: true, shards: 2 });
    const [a] = queues;
    for (let no = 0; no < 5; no += 1) await a?.enqueue(bytes(`${no}`), { group: "g" });
    const first: Message | undefined = await queues[1]?.take();
    await first?.ack();
    const id = first?.id ?? "";
    const writer = (await nodes.get("a").queues.inspect(id)).writer;
    const name = ["a", "b", "c"].find((one) => nodes.get(one).mesh.peerId === writer) ?? "a";
    await nodes.end(name);
    const left = ["a", "b", "c"]
      .filter((one) => one !== name)
      .map((one) => nodes.get(one).queues.open("jobs"));
    await left[0]?.enqueue(bytes("5"), { group: "g" });
    const seen: string[] = [];
    for (let no = 0; no < 5; no += 1) {
      const message = await left[no % 2]?.take();
      if (message !== undefined) seen.push(text(message));
      await message?.ack();
    }
    expect(seen).toEqual(["1", "2", "3", "4", "5"]);
  });

  it("is handled by others while one message of a group is held", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs", { replicas: 1, groups: true, shards: 1 });
    for (const [body, group] of [
      ["1", "x"],
      ["2", "x"],
      ["3", "y"],
      ["4", undefined],
    ] as const) {
      await queue?.enqueue(bytes(body), { group });
    }
    const held: Message[] = [];
    for (let no = 0; no < 3; no += 1) held.push(await queue!.take());
    expect(held.map(text).toSorted()).toEqual(["1", "3", "4"]);
    const waiting = (await queue?.groups()) ?? { groups: [], unreachable: [0] };
    expect(waiting.unreachable).toEqual([]);
    expect(waiting.groups.map(({ group, count, head }) => [group, count, head.state]).toSorted()).toEqual([
      ["x", 2, "leased"],
      ["y", 1, "leased"],
    ]);
    await held.find((message) => text(message) === "1")?.reject("poison");
    const next = await queue!.take();
    expect([text(next), next.group]).toEqual(["2", "x"]);
  });
});

describe("an ordered queue whose stores are replaced one after another", () => {
  it(
    "keeps its order, its ids and its keys, and is found by a node that knew none of them",
    { timeout: 60_000 },
    async () => {
      await using nodes = await Nodes.start("a", "b", "c");
      const [queue, , other] = await nodes.declare("jobs", { groups: true, dedupMs: 60_000, shards: 1 });
      const first = await queue!.enqueue(bytes("0"), { group: "g", dedupKey: "k" });
      await (await queue!.take()).ack();
      for (let no = 1; no < 4; no += 1) await queue!.enqueue(bytes(`${no}`), { group: "g" });
      const last = await queue!.enqueue(bytes("4"), { group: "g" });
      const held: Message | undefined = await other!.take();
      let old = ["a", "b", "c"];
      for (const fresh of ["d", "e", "f"]) {
        const [leaver = "", ...others] = old;
        old = [...others, fresh];
        await nodes.add(fresh);
        await nodes.get(leaver).mesh.leave();
        await nodes.end(leaver);
        const { peerId } = nodes.get(fresh).mesh;
        await until(`${fresh} has what ${leaver} had`, async () => {
          const { replicas } = await nodes.get(fresh).queues.inspect(last.id);
          const holders = replicas.filter(({ message }) => message !== undefined);
          return holders.length === 3 && holders.some(({ peer }) => peer === peerId);
        });
        const { queues } = nodes.get(fresh);
        const next = await queues.open("jobs").enqueue(bytes(fresh), { group: "g" });
        expect(next.id.split("-")[0]).toBe(first.id.split("-")[0]);
        const again = await queues.open("jobs").enqueue(bytes("again"), { group: "g", dedupKey: "k" });
        expect(again).toEqual({ id: first.id, duplicate: true });
        expect(await queues.resolve(first.id)).toBe("ACKED");
        if (fresh === "d") await held?.ack(); // Its lease moved with it.
      }
      await nodes.add("g");
      const seen: string[] = [];
      const jobs = nodes.get("g").queues.open("jobs");
      await jobs.enqueue(bytes("g"), { group: "g" });
      while (seen.at(-1) !== "g") {
        const message = await jobs.take();
        seen.push(text(message));
        await message.ack();
      }
      expect(seen).toEqual(["2", "3", "4", "d", "e", "f", "g"]);
    },
  );
});

describe("a queue with deduplication", () => {
  it("answers a second enqueue of a key with the first id, on any node and after the first is done", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b, c] = await nodes.declare("jobs", { dedupMs: 60_000 });
    const first = await a!.enqueue(bytes("1"), { dedupKey: "k" });
    expect(first.duplicate).toBe(false);
    expect(await b!.enqueue(bytes("2"), { dedupKey: "k" })).toEqual({ id: first.id, duplicate: true });
    await (await c!.take()).ack();
    expect(await c!.enqueue(bytes("3"), { dedupKey: "k" })).toEqual({ id: first.id, duplicate: true });
    const [same, other] = await a!.enqueueMany([
      { body: bytes("4"), dedupKey: "k" },
      { body: bytes("5"), dedupKey: "l" },
    ]);
    expect([same, other?.error, other?.id === first.id]).toEqual([
      { id: first.id, duplicate: true },
      undefined,
      false,
    ]);
    expect(await nodes.get("b").queues.resolve(first.id)).toBe("ACKED");
  });

  it("remembers keys when its nodes come back", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs", { replicas: 1, dedupMs: 1_000 });
    const { id } = await queue!.enqueue(bytes("1"), { dedupKey: "k" });
    await (await queue!.take()).ack();
    await nodes.end("a");
    const again: Queue = (await nodes.add("a")).queues.open("jobs");
    expect(await again.enqueue(bytes("2"), { dedupKey: "k" })).toEqual({ id, duplicate: true });
  });

  it("takes what an exchange publishes once, however often it is tried", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const jobs = await queues.declare("jobs", { replicas: 1, dedupMs: 60_000 });
    const exchange = await queues.declareExchange("in", { kind: "fanout" });
    await exchange.bind("jobs");
    const published = await exchange.publish(bytes("x"), { group: "nobody has groups" });
    const [outcome] = published.outcomes;
    const unsure = { ...published, outcomes: [{ ...outcome!, error: new QueueError("INDETERMINATE", "") }] };
    const again = await exchange.publish(bytes("x"), { retry: unsure });
    expect(again.outcomes.map(({ id }) => id)).toEqual([outcome?.id]);
    expect(await jobs.counts()).toMatchObject({ ready: 1 });
  });
});

describe("an ordered queue", () => {
  it("is refused with other options, and refuses groups and keys that it has not", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const plain = await queues.declare("plain", { replicas: 1 });
    await expect(plain.enqueue(bytes(""), { group: "g" })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
      message: /options.group: queue plain is declared without groups/,
    });
    await expect(plain.enqueue(bytes(""), { dedupKey: "k" })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
      message: /options.dedupKey: queue plain/,
    });
    await expect(queues.declare("plain", { replicas: 1, groups: true })).rejects.toMatchObject({
      code: "QUEUE_CONFLICT",
      message: /groups false, not true/,
    });
    await queues.declare("jobs", { replicas: 1, groups: true, dedupMs: 5_000 });
    await expect(queues.declare("jobs", { replicas: 1, groups: true })).rejects.toMatchObject({
      code: "QUEUE_CONFLICT",
      message: /dedupMs 5000, not undefined/,
    });
    expect(queues.list()).toMatchObject([
      { name: "jobs", groups: true, dedupMs: 5_000, shards: 4 },
      { name: "plain", groups: false, dedupMs: undefined, shards: 0 },
    ]);
  });
});
