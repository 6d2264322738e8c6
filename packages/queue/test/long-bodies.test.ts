import { createHash, randomBytes } from "node:crypto";
import { BODY_BYTES_LIMIT } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const hashOf = (body: Uint8Array): string => createHash("sha256").update(body).digest("hex");

describe("a long body", () => {
  it("is whole on every other node, whatever else is under way", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b, c] = await nodes.declare("jobs");
    const lengths = [65_536, 65_537, 300_000, 1_048_576];
    const bodies = lengths.flatMap((length) => [randomBytes(length), randomBytes(100)]);
    const seen = new Set<string>();
    for (const queue of [b, c]) queue?.consume(({ body }) => void seen.add(hashOf(body)), { prefetch: 4 });
    await Promise.all(
      bodies.map(async (body, no) => await (no % 4 === 0 ? b : a)?.enqueue(body, { timeoutMs: 30_000 })),
    );
    await until("all are handled", () => seen.size === bodies.length);
    expect(seen).toEqual(new Set(bodies.map(hashOf)));
    await a?.drain();
    const faults = ["a", "b", "c"].map((name) => nodes.get(name).queues.stats());
    expect(faults.map(({ badFrames, faults: broken }) => badFrames + broken)).toEqual([0, 0, 0]);
  });

  it("goes as far as its queue says, and that is said on every node", async () => {
    await using nodes = await Nodes.start("a", "b");
    const [a, b] = await nodes.declare("small", { replicas: 1, bodyBytesMax: 10 });
    await expect(a?.enqueue(new Uint8Array(11))).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
    const many = a?.enqueueMany([{ body: new Uint8Array(1) }, { body: new Uint8Array(11) }]);
    await expect(many).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
    expect(await b?.counts()).toMatchObject({ ready: 0 });
    await b?.enqueue(new Uint8Array(10));
    expect(nodes.get("b").queues.list()).toMatchObject([{ name: "small", bodyBytesMax: 10 }]);
    const { queues } = nodes.get("b");
    await expect(queues.declare("small", { replicas: 1 })).rejects.toMatchObject({ code: "QUEUE_CONFLICT" });
    await expect(queues.declare("huge", { bodyBytesMax: BODY_BYTES_LIMIT + 1 })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
    });
    const longest = await queues.declare("longest", { replicas: 1, bodyBytesMax: BODY_BYTES_LIMIT });
    await longest.enqueue(new Uint8Array(BODY_BYTES_LIMIT).fill(7), { timeoutMs: 20_000 });
    await until("the other knows it", () =>
      nodes
        .get("a")
        .queues.list()
        .some(({ name }) => name === "longest"),
    );
    const taken = await nodes.get("a").queues.open("longest").take();
    expect([taken.body.length, taken.body.at(-1)]).toEqual([BODY_BYTES_LIMIT, 7]);
    await taken.ack();
    await queues.declare("plain", { bodyBytesMax: 1_048_576 });
    await nodes.get("a").queues.declare("plain");
  });
});

describe("a consumer with much credit", () => {
  it.each([
    { count: 900, bytes: 40_960 },
    { count: 48, bytes: 1_048_576 },
  ])("gets $count bodies of $bytes B, more than a link queues", async ({ count, bytes }) => {
    await using nodes = await Nodes.start("a", "b");
    const [a, b] = await nodes.declare("jobs", { replicas: 1 });
    for (let at = 0; at < count; at += 40) {
      const bodies = Array.from({ length: Math.min(40, count - at) }, () => ({
        body: Buffer.alloc(bytes, at),
      }));
      await a?.enqueueMany(bodies, { timeoutMs: 30_000 });
    }
    const seen = new Set<string>();
    b?.consume(({ id }) => void seen.add(id), { prefetch: count, concurrency: 64 });
    await until("all are handled", () => seen.size === count, 30_000);
    // The link never ended: it would have brought all of it again.
    expect(nodes.get("a").mesh.stats().streamResets).toBe(0);
  });
});
