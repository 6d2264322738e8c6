import type { Queue } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (message: { readonly body: Uint8Array } | undefined): string =>
  message === undefined ? "" : new TextDecoder().decode(message.body);

async function enqueue(queue: Queue | undefined, count: number): Promise<void> {
  await queue?.enqueueMany(Array.from({ length: count }, (_, at) => ({ body: bytes(`${at}`) })));
}

/** Nothing of any lane is left on the node. */
async function isBare(nodes: Nodes, name: string): Promise<void> {
  await until(`${name} keeps no lane`, () => {
    const { lanesKept, lanesWritten, alive, waitingEnqueues } = nodes.get(name).queues.stats();
    return lanesKept + lanesWritten + alive + waitingEnqueues === 0;
  });
}

describe("a deleted queue", () => {
  it("is gone on all nodes with all that was in it, and its name is free for another one", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b, c] = await nodes.declare("jobs");
    await enqueue(a, 300);
    await enqueue(b, 20);
    const dead = await b?.take();
    await dead?.reject("poison");
    expect(await nodes.get("c").queues.delete("jobs")).toEqual({ count: 320, missing: [] });
    for (const name of ["a", "b", "c"]) {
      expect(nodes.get(name).queues.list()).toEqual([]);
      expect(() => nodes.get(name).queues.open("jobs")).toThrow("no queue jobs is known here");
      await isBare(nodes, name);
    }
    await expect(a?.enqueue(bytes("late"))).rejects.toMatchObject({ code: "QUEUE_NOT_FOUND" });
    await expect(nodes.get("a").queues.delete("jobs")).rejects.toMatchObject({ code: "QUEUE_NOT_FOUND" });
    await nodes.get("b").queues.declare("jobs", { leaseMs: 5_000, maxDeliveries: 3 });
    await until("c knows it", () => nodes.get("c").queues.list().length === 1);
    expect(await c?.counts()).toMatchObject({ ready: 0, dead: 0, leased: 0 });
    await c?.enqueue(bytes("new"));
    const message = await b?.take();
    expect(text(message)).toBe("new");
    await message?.ack();
  });

  it("may be declared and deleted again and again with the same options", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    for (const round of ["one", "two", "three"]) {
      const [a, b] = await nodes.declare("jobs");
      await a?.enqueue(bytes(round));
      await a?.enqueue(bytes(`${round} more`));
      const message = await b?.take();
      expect(text(message)).toBe(round);
      await message?.ack();
      expect(await nodes.get("a").queues.delete("jobs")).toMatchObject({ missing: [] });
    }
  });

  it("tells everybody who waits for it, and whoever holds one of its messages", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b, c] = await nodes.declare("jobs");
    await nodes.declare("other");
    const told: string[] = [];
    for (const name of ["a", "b", "c"]) {
      nodes.get(name).queues.on("queue:deleted", (event) => told.push(`${name} ${event.name}`));
    }
    await a?.enqueue(bytes("x"));
    const held = await b?.take();
    const taking = c?.take();
    const ended = expect(taking).rejects.toMatchObject({ code: "QUEUE_DELETED" });
    const streaming = (async () => {
      for await (const message of b?.messages() ?? []) await message.ack();
    })();
    const streamEnded = expect(streaming).rejects.toMatchObject({ code: "QUEUE_DELETED" });
    const consumer = c?.consume(() => undefined);
    const isAborted = new Promise((resolve) => held?.signal.addEventListener("abort", resolve));
    await until("c consumes", async () => (await nodes.get("a").queues.consumers("jobs")).length >= 3);
    await nodes.get("a").queues.delete("jobs");
    await Promise.all([ended, streamEnded, isAborted]);
    await expect(held?.ack()).rejects.toMatchObject({ code: "STALE" });
    expect(told.toSorted()).toEqual(["a jobs", "b jobs", "c jobs"]);
    await consumer?.stop();
    expect(() => c?.consume(() => undefined)).toThrow("no queue jobs is known here");
    expect(nodes.get("a").queues.list()).toMatchObject([{ name: "other" }]);
  });

  it("ends the enqueues that wait for replicas", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a] = await nodes.declare("jobs", { replicas: 3 });
    await a?.enqueue(bytes("x"));
    await nodes.end("b");
    await nodes.end("c");
    const waiting = a?.enqueue(bytes("y"), { timeoutMs: 60_000 });
    const ended = expect(waiting).rejects.toMatchObject({ code: "QUEUE_DELETED" });
    expect(await nodes.get("a").queues.delete("jobs", { timeoutMs: 200 })).toMatchObject({ count: 1 });
    await ended;
    await isBare(nodes, "a");
  });

  it("is gone for members that were away meanwhile, with what they had of it", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a] = await nodes.declare("jobs");
    await enqueue(a, 500);
    await nodes.end("c");
    await nodes.get("b").queues.delete("jobs", { timeoutMs: 1_000 });
    await nodes.add("c");
    await until("c knows of no queue", () => nodes.get("c").queues.list().length === 0);
    await isBare(nodes, "c");
    // All of them know it from their disks alone.
    for (const name of ["a", "b", "c"]) await nodes.end(name);
    for (const name of ["a", "b", "c"]) {
      await nodes.add(name);
      expect(nodes.get(name).queues.list()).toEqual([]);
      expect(nodes.get(name).queues.stats().lanesKept).toBe(0);
    }
    const [again] = await nodes.declare("jobs");
    expect(await again?.counts()).toMatchObject({ ready: 0 });
  });

  it("does not take a new member's queue of the same name and options with it", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    await nodes.declare("jobs");
    await nodes.get("a").queues.delete("jobs");
    await nodes.end("c");
    const { queues } = await nodes.addAlone("d");
    const jobs = await queues.declare("jobs");
    const done: string[] = [];
    jobs.consume((message) => void done.push(text(message)));
    const early = jobs.enqueue(bytes("early"), { timeoutMs: 30_000 });
    await nodes.add("c");
    await early;
    await until("a knows the queue", () => nodes.get("a").queues.list().length === 1);
    await nodes.get("a").queues.open("jobs").enqueue(bytes("late"));
    await until("both are done", () => done.length === 2);
    expect(done.toSorted()).toEqual(["early", "late"]);
  });
});

describe("a name that two queues have had", () => {
  it("keeps what a node enqueues with what it consumes, if both were declared apart", async () => {
    await using nodes = await Nodes.start();
    const a = await nodes.addAlone("a");
    const b = await nodes.addAlone("b");
    const done: string[] = [];
    for (const [node, maxDeliveries] of [
      [a, 5],
      [b, 6],
    ] as const) {
      const jobs = await node.queues.declare("jobs", { maxDeliveries });
      jobs.consume((message) => void done.push(`${node.name} ${text(message)}`));
    }
    const handles = [a, b].map(({ queues }) => queues.open("jobs"));
    await nodes.add("c");
    await until("all agree on the name", () => {
      const known = [a, b, nodes.get("c")].map(({ queues }) => queues.list()[0]?.maxDeliveries);
      return new Set(known).size === 1;
    });
    for (const jobs of handles) await jobs.enqueue(bytes("x"));
    await until("both are done", () => done.length === 2);
    expect(done.toSorted()).toEqual(["a x", "b x"]);
    await nodes.get("c").queues.delete("jobs");
    expect(nodes.get("c").queues.list()).toEqual([]);
  });

  it("is not brought back by somebody who wanted another queue and had not heard of its end", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    await nodes.declare("jobs", { maxDeliveries: 5 });
    await nodes.end("c");
    await nodes.get("a").queues.delete("jobs", { timeoutMs: 1_000 });
    const { queues } = await nodes.addAlone("c");
    const wanted = queues.declare("jobs", { maxDeliveries: 9 });
    await nodes.add("d");
    await wanted;
    await until("a knows it", () => nodes.get("a").queues.list()[0]?.maxDeliveries === 9);
    expect(nodes.get("b").queues.list()).toMatchObject([{ maxDeliveries: 9 }]);
  });

  it("ends quietly on a node that stops just then", async () => {
    await using nodes = await Nodes.start("a", "b");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    await jobs?.enqueue(bytes("x"));
    await nodes.get("a").queues.delete("jobs");
    const { queues } = await nodes.addAlone("c");
    const failed: unknown[] = [];
    queues.on("queues:failed", ({ error }) => failed.push(error));
    const begun = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    for (const name of ["jobs", "other"]) {
      const queue = await queues.declare(name, { replicas: 1 });
      queue.consume(async () => {
        begun.resolve();
        await gate.promise;
      });
    }
    await queues.open("other").enqueue(bytes("y"));
    await begun.promise;
    const stopping = queues.stop();
    await nodes.addAlone("d", [...nodes.get("a").mesh.addresses(), ...nodes.get("c").mesh.addresses()]);
    await until("c has heard", () => queues.list().every(({ name }) => name !== "jobs"));
    gate.resolve();
    await stopping;
    expect(failed).toEqual([]);
  });
});

describe("deleting", () => {
  it("forgets groups and keys of an ordered queue", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const options = { groups: true, dedupMs: 600_000 };
    const [a, b] = await nodes.declare("jobs", options);
    const first = await a?.enqueue(bytes("x"), { group: "g", dedupKey: "k" });
    expect(await b?.enqueue(bytes("x"), { group: "g", dedupKey: "k" })).toMatchObject({ duplicate: true });
    await nodes.get("b").queues.delete("jobs");
    for (const name of ["a", "b", "c"]) await isBare(nodes, name);
    const [again] = await nodes.declare("jobs", options);
    const second = await again?.enqueue(bytes("x"), { group: "g", dedupKey: "k" });
    expect([second?.duplicate, second?.id === first?.id]).toEqual([false, false]);
  });

  it("ends the election of an exclusive queue, and leaves no queue behind", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs", { exclusive: true });
    const done: string[] = [];
    const consumers = [a, b].map((queue) => queue?.consume((message) => void done.push(text(message))));
    await a?.enqueue(bytes("x"));
    await until("it is done", () => done.length === 1);
    await nodes.get("c").queues.delete("jobs");
    for (const consumer of consumers) await consumer?.stop();
    for (const name of ["a", "b", "c"]) await isBare(nodes, name);
    const [, , again] = await nodes.declare("jobs", { exclusive: true });
    const last = again?.consume((message) => void done.push(text(message)));
    await again?.enqueue(bytes("y"));
    await until("the new one is done", () => done.length === 2);
    await last?.stop();
  });

  it("unbinds the queue from its exchanges", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    await nodes.declare("jobs");
    const { queues } = nodes.get("a");
    const exchange = await queues.declareExchange("news", { kind: "fanout" });
    await exchange.bind("jobs");
    await queues.delete("jobs");
    expect(exchange.bindings()).toEqual([]);
    await expect(exchange.publish(bytes("x"))).rejects.toMatchObject({ code: "UNROUTABLE" });

    // Whoever binds its successor at once is not unbound by whoever deleted it.
    await nodes.declare("jobs");
    await exchange.bind("jobs");
    const b = nodes.get("b").queues;
    await until("b knows it", () => b.exchanges().length === 1 && b.exchange("news").bindings().length === 1);
    const bound = Promise.withResolvers<void>();
    b.on("queue:deleted", () => bound.resolve(b.declare("jobs").then(() => b.exchange("news").bind("jobs"))));
    await Promise.all([queues.delete("jobs"), bound.promise]);
    await until("a knows the new one", () => queues.list().length === 1 && exchange.bindings().length === 1);
    await exchange.publish(bytes("y"));
  });
});
