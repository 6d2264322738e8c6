import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const body = new Uint8Array(4);
const INVALID = { code: "INVALID_OPTIONS" };

describe("queues that are given", () => {
  it("names and ids that are no texts refuse them, and reasons in half characters are text", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const exchange = await queues.declareExchange("x");
    expect(() => queues.open("~elect/chief/x")).toThrow(expect.objectContaining(INVALID));
    await expect(queues.consumers("~elect/chief/x")).rejects.toMatchObject(INVALID);
    for (const odd of [Symbol("jobs"), Object.create(null), ["jobs"], null] as never[]) {
      expect(() => queues.open(odd)).toThrow(expect.objectContaining(INVALID));
      expect(() => queues.exchange(odd)).toThrow(expect.objectContaining(INVALID));
      expect(() => queues.on(odd, () => undefined)).toThrow(expect.objectContaining(INVALID));
      await expect(queues.consumers(odd)).rejects.toMatchObject(INVALID);
      await expect(queues.resolve(odd)).rejects.toMatchObject(INVALID);
      await expect(queues.inspect(odd)).rejects.toMatchObject(INVALID);
    }
    await expect(exchange.bind("jobs", { key: "\ud800" })).rejects.toMatchObject(INVALID);
    await jobs?.enqueue(body);
    await (await jobs?.take())?.nack({ delayMs: 0, reason: "\ud800" });
    const failing = jobs?.consume(async (message) => {
      if (message.attempt > 2) return await message.reject("\udc00");
      throw new Error("x".repeat(1_016) + "\u{1f600}".repeat(9));
    });
    await until("it is dead", async () => (await jobs?.counts())?.dead === 1);
    await failing?.stop();
    const [dead] = (await jobs?.dead.list())?.messages ?? [];
    const texts = [dead?.reason, ...(dead?.failures ?? []).map(({ reason }) => reason)];
    expect(texts).toHaveLength(4);
    expect(texts.map((one) => one?.isWellFormed())).toEqual([true, true, true, true]);
  });
});

describe("a queue that is given", () => {
  it("a body without memory refuses that one message", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const gone = new Uint8Array(8);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    const memory = new ArrayBuffer(16, { maxByteLength: 32 });
    const shrunk = new Uint8Array(memory, 8, 8);
    memory.resize(4);
    const odd = [gone, shrunk, new Proxy(body, {}), Object.create(Uint8Array.prototype) as Uint8Array];
    for (const one of odd) await expect(jobs?.enqueue(one)).rejects.toMatchObject(INVALID);
    await expect(jobs?.enqueue(new Uint8Array())).resolves.toMatchObject({ duplicate: false });
  });

  it("a body that its owner goes on using has it as it was, as often as it comes", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs", { retry: { kind: "fixed", delayMs: 10 } });
    for (const length of [8, 5_000, 100_000]) {
      const one = new Uint8Array(length).fill(1);
      const other = new Uint8Array(length).fill(1);
      const alone = async (): Promise<unknown> => await a?.enqueue(one);
      const among = async (): Promise<unknown> => await a?.enqueueMany([{ body: other }]);
      const entered = Promise.all([alone(), among()]);
      one.fill(2);
      structuredClone(other.buffer, { transfer: [other.buffer] });
      await entered;
    }
    for (const queue of [a, b]) {
      const first = (await Promise.all([1, 2, 3, 4, 5, 6].map(async () => await queue?.take()))).filter(
        (message) => message !== undefined,
      );
      const seen = first.map(({ body: its }) => its.slice());
      expect(new Set(seen.flatMap((its) => [...new Set(its)]))).toEqual(new Set([1]));
      expect(seen.map((its) => its.length).toSorted((x, y) => x - y)).toEqual(
        [8, 5_000, 100_000].flatMap((length) => [length, length]),
      );
      for (const { body: its } of first) its.fill(3);
      await Promise.all(first.map(async (message) => await message.nack()));
    }
  });

  it("texts that no other node could read as they are refuses them", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1, groups: true, dedupMs: 60_000 });
    for (const options of [{ group: "\ud800" }, { dedupKey: "\udc00" }, { headers: { "\ud800": "" } }]) {
      await expect(jobs?.enqueue(body, options)).rejects.toMatchObject(INVALID);
    }
    await jobs?.enqueue(body, { group: "\u{1f600}", dedupKey: "é" });
  });

  it("several messages, one of which it cannot take, takes none", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const long = { body, headers: { a: "x".repeat(9_000), b: "x".repeat(9_000) } };
    await expect(jobs?.enqueueMany([{ body }, long])).rejects.toMatchObject({ code: "MESSAGE_TOO_LARGE" });
    await expect(jobs?.enqueueMany(Array.from({ length: 2 }))).rejects.toMatchObject(INVALID);
    expect(await jobs?.counts()).toMatchObject({ ready: 0 });
  });

  it("a thousand ids, or a thousand questions at once, answers all of them", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs");
    const entered = await a?.enqueueMany(Array.from({ length: 1_000 }, () => ({ body })));
    const ids = entered?.flatMap(({ id }) => id ?? []) ?? [];
    const peeked = await Promise.all([1, 2, 3].map(async () => await b?.peek({ limit: 1_000 })));
    expect(peeked.map((found) => found?.length)).toEqual([1_000, 1_000, 1_000]);
    const counted = await Promise.all(Array.from({ length: 1_100 }, async () => await b?.counts()));
    expect(new Set(counted.map((counts) => counts?.ready))).toEqual(new Set([1_000]));
    expect(await b?.purge({ ids })).toEqual({ count: 1_000, missing: [] });
  });

  it("a binding or a schedule that could never be followed refuses it", async () => {
    await using nodes = await Nodes.start("a");
    await nodes.declare("jobs", { replicas: 1, dedupMs: 600_000, bodyBytesMax: 100 });
    const { queues } = nodes.get("a");
    const news = await queues.declareExchange("news", { kind: "headers" });
    await expect(news.bind("jobs", { headers: { a: "x".repeat(2_000) } })).rejects.toMatchObject(INVALID);
    await queues.deleteExchange("news");
    await expect(news.bind("jobs")).rejects.toMatchObject({ code: "EXCHANGE_NOT_FOUND" });
    const every = { queue: "jobs", everyMs: 60_000 };
    const headers = Object.fromEntries(Array.from({ length: 64 }, (_, no) => [`h${no}`, ""]));
    await expect(queues.schedule("s", { ...every, body: new Uint8Array(101) })).rejects.toMatchObject({
      code: "MESSAGE_TOO_LARGE",
    });
    await expect(queues.schedule("s", { ...every, body, headers })).rejects.toMatchObject(INVALID);
    await expect(queues.schedule("s", { ...every, body, timezone: "UTC" })).rejects.toMatchObject(INVALID);
  });

  it("what a publish never said refuses to go on with it, and doubles nothing that may exist", async () => {
    await using nodes = await Nodes.start("a");
    await nodes.declare("jobs", { replicas: 1 });
    const news = await nodes.get("a").queues.declareExchange("news", { kind: "fanout" });
    await news.bind("jobs");
    const outcomes = [null, { queue: "~elect/chief/x", id: undefined }];
    for (const retry of [{}, ...outcomes.map((one) => ({ publishId: "0".repeat(32), outcomes: [one] }))]) {
      await expect(news.publish(body, { retry: retry as never })).rejects.toMatchObject(INVALID);
    }
    await nodes.end("a");
    await nodes.add("a");
    const again = nodes.get("a").queues;
    const publishing = again.exchange("news").publish(body);
    const stopped = again.stop();
    const error = await publishing.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    await stopped;
    if (error !== undefined) expect(error).toMatchObject({ outcome: "unknown" });
  });

  it("its own message back by beforeEnqueue takes it as changed, and hears of what was thrown", async () => {
    await using nodes = await Nodes.start("a", {
      hooks: {
        beforeEnqueue: (message) => {
          // eslint-disable-next-line typescript/only-throw-error -- what an application may do.
          if (message.priority === 1) throw Object.create(null);
          return { ...message, priority: 9 };
        },
      },
    });
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    await jobs?.enqueue(body);
    expect((await jobs?.take())?.priority).toBe(9);
    await expect(jobs?.enqueue(body, { priority: 1 })).rejects.toMatchObject({ code: "REFUSED" });
  });
});

describe("the queues of a node", () => {
  it("leave their directory free if they could not begin", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "klatsch-queue-odd-"));
    const mesh = await createMesh({ name: "a", listen: ["/memory/odd"], dataDir });
    const first = await createQueues({ mesh, dataDir: join(dataDir, "one") });
    const two = { mesh, dataDir: join(dataDir, "two") };
    await expect(createQueues(two)).rejects.toMatchObject({ code: "CHANNEL_EXISTS" });
    await first.stop();
    await using second = await createQueues(two);
    expect(second.list()).toEqual([]);
    await second.stop();
    await mesh.stop();
    await rm(dataDir, { recursive: true });
  });

  it("refuse events that there are none of, and what is no listener", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    expect(() => queues.on("bogus" as "lane:moved", () => undefined)).toThrow(/event: must be one of store:/);
    expect(() => queues.on("toString" as "lane:moved", () => undefined)).toThrow(/event/);
    expect(() => queues.on("lane:moved", null as never)).toThrow(/listener/);
  });

  it("stop once the enqueues under way are answered, and schedule nothing afterwards", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [jobs] = await nodes.declare("jobs");
    const entered = Array.from({ length: 200 }, async () => await jobs?.enqueue(body));
    const { queues } = nodes.get("a");
    await queues.stop();
    expect((await Promise.all(entered)).every((one) => one?.duplicate === false)).toBe(true);
    await expect(queues.unschedule("none")).rejects.toMatchObject({ code: "STOPPED" });
  });

  it("stop after their mesh has, too", async () => {
    await using nodes = await Nodes.start("a");
    const { mesh, queues } = nodes.get("a");
    await mesh.stop();
    await queues.stop();
  });

  it("begin nothing any more once they stop, however long that takes", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const [alone] = await nodes.declare("alone", { replicas: 1, exclusive: true });
    const gate = Promise.withResolvers<void>();
    const begun: string[] = [];
    alone?.consume(async () => {
      begun.push("alone");
      await gate.promise;
    });
    jobs?.consume(
      async () => {
        begun.push("job");
        await gate.promise;
      },
      { concurrency: 1, prefetch: 8 },
    );
    await alone?.enqueue(body);
    await jobs?.enqueueMany([{ body }, { body }, { body }]);
    await until("both run", () => begun.length === 2);
    const { queues } = nodes.get("a");
    const taking = jobs?.take();
    const streaming = jobs?.messages().next();
    const ended = Promise.all([
      expect(taking).rejects.toMatchObject({ code: "STOPPED" }),
      expect(streaming).rejects.toMatchObject({ code: "STOPPED" }),
    ]);
    const stopping = queues.stop({ timeoutMs: 20_000 });
    await ended;
    gate.resolve();
    await stopping;
    expect(begun.toSorted()).toEqual(["alone", "job"]);
  });

  it("stop although a handler never returns: its signal tells", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    let signal: AbortSignal | undefined;
    const consumer = jobs?.consume(async (message) => {
      signal = message.signal;
      await new Promise(() => undefined);
    });
    await jobs?.enqueue(body);
    await until("it runs", () => signal !== undefined);
    const { queues } = nodes.get("a");
    await expect(queues.stop({ timeoutMs: -1 })).rejects.toMatchObject(INVALID);
    const stopping = consumer?.stop();
    await queues.stop({ timeoutMs: 50 });
    expect(signal?.aborted).toBe(true);
    await stopping;
    await consumer?.stop();
  });

  it("wait for the handlers of consumers that are being stopped already", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const gate = Promise.withResolvers<void>();
    let signal: AbortSignal | undefined;
    const consumer = jobs?.consume(async (message) => {
      signal = message.signal;
      await gate.promise;
    });
    await jobs?.enqueue(body);
    await until("it runs", () => signal !== undefined);
    const stopping = consumer?.stop();
    const ending = nodes.get("a").queues.stop();
    await new Promise((resolve) => setImmediate(resolve));
    expect(signal?.aborted).toBe(false);
    gate.resolve();
    await Promise.all([stopping, ending]);
    expect([signal?.aborted, consumer?.stats.acked]).toEqual([false, 1]);
  });
});
