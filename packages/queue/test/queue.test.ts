import { silentLogger } from "@klatsch/kit";
import type { LogFields } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import { createQueues, QueueError } from "@klatsch/queue";
import type { Message } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (message: Message): string => new TextDecoder().decode(message.body);

describe("a queue on three nodes", () => {
  it("hands each message to one consumer of any node, once", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const queues = await nodes.declare("jobs");
    const seen: string[] = [];
    for (const queue of queues) queue.consume((message) => void seen.push(text(message)));
    const names = Array.from({ length: 300 }, (_, no) => `job ${no}`);
    await Promise.all(names.map(async (name, no) => await queues[no % 3]?.enqueue(bytes(name))));
    await until("all are handled", () => seen.length >= names.length);
    expect(seen.toSorted()).toEqual(names.toSorted());
  });

  it("reaches consumers and replicas over others, where there can be no link with them", async () => {
    await using nodes = await Nodes.start("a", "b");
    await nodes.add("c", ["a"]);
    const [a, , c] = await nodes.declare("jobs");
    const entered = await a?.enqueue(bytes("over b"));
    const seen = await nodes.get("a").queues.inspect(entered?.id ?? "");
    expect(seen.replicas.length).toBe(3);
    const message = await c?.take();
    expect(message && text(message)).toBe("over b");
    await message?.ack();
    const linked = nodes
      .get("c")
      .mesh.members()
      .filter((member) => member.linked);
    expect(linked.map(({ name }) => name)).toEqual(["b"]);
  });

  it("puts messages on a third store as soon as there is one, although it had only just got a second", async () => {
    await using nodes = await Nodes.start("a");
    const [jobs] = await nodes.declare("jobs");
    const replicas: (number | undefined)[] = [];
    for (const name of ["b", "c", undefined]) {
      const entered = await jobs?.enqueue(new Uint8Array(8));
      const seen = await nodes.get("a").queues.inspect(entered?.id ?? "");
      replicas.push(seen.replicas.length);
      if (name !== undefined) await nodes.add(name);
    }
    expect(replicas).toEqual([1, 2, 3]);
  });

  it("delivers what was enqueued before any consumer came", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs");
    for (let no = 0; no < 50; no += 1) await a?.enqueue(bytes(`${no}`));
    const seen = new Set<string>();
    b?.consume((message) => void seen.add(text(message)), { prefetch: 4 });
    await until("all are handled", () => seen.size === 50);
    expect(a?.depth).toBe(0);
  });

  it("gives a message that was nacked, or whose handler threw, again at a higher epoch", async () => {
    const logged: LogFields[] = [];
    const warn = (message: string, fields: LogFields = {}): void => {
      if (message === "a handler threw") logged.push(fields);
    };
    await using nodes = await Nodes.start("a", "b", "c", { logger: { ...silentLogger, warn } });
    const [a, b] = await nodes.declare("jobs");
    await a?.enqueue(bytes("nacked"));
    const first = await b?.take();
    await first?.nack();
    const second = await a?.take();
    expect(second?.id).toBe(first?.id);
    expect([second?.attempt, (second?.epoch ?? 0) > (first?.epoch ?? 0)]).toEqual([2, true]);
    await second?.ack();
    const attempts: number[] = [];
    const notYet = new Error("not yet");
    const consumer = b?.consume((message) => {
      attempts.push(message.attempt);
      if (message.attempt < 3) throw notYet;
    });
    const thrown = await a?.enqueue(bytes("thrown"));
    await until("the third attempt succeeds", () => consumer?.stats.acked === 1);
    expect(attempts).toEqual([1, 2, 3]);
    const failure = { err: notYet, queue: "jobs", id: thrown?.id };
    expect(logged).toEqual([1, 2].map((attempt) => ({ ...failure, attempt })));
  });

  it("does not count a release, and never delivers what was rejected", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs");
    await a?.enqueue(bytes("x"));
    await (await b?.take())?.release();
    const again = await b?.take();
    expect(again?.attempt).toBe(1);
    await again?.reject("poison");
    await a?.enqueue(bytes("y"));
    const next = await b?.take();
    expect(next === undefined ? "" : text(next)).toBe("y");
    await next?.ack();
    await expect(next?.ack()).rejects.toMatchObject({ code: "SETTLED" });
  });

  it("renews a lease by itself for as long as the holder lives", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs", { leaseMs: 1_000 });
    await a?.enqueue(bytes("x"));
    const held = await b?.take();
    const others: number[] = [];
    a?.consume((message) => void others.push(message.attempt));
    // Three leases and their grace: without renewal it would have gone to the other consumer.
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect([held?.signal.aborted, others]).toEqual([false, []]);
    await held?.ack();
  });

  it("goes on when a node stops, with everything that was acknowledged", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs");
    const acked = new Set<string>();
    for (let no = 0; no < 40; no += 1) acked.add((await a?.enqueue(bytes(`${no}`)))?.id ?? "");
    await nodes.end("a");
    const seen = new Set<string>();
    b?.consume((message) => void seen.add(message.id));
    await until("all are handled by those who are left", () => seen.size === acked.size);
    expect(seen).toEqual(acked);
    await b?.enqueue(bytes("and on"));
    await until("the new one too", () => seen.size === acked.size + 1);
  });

  it("refuses to acknowledge without a quorum, and has everything when the others return", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a] = await nodes.declare("jobs");
    const { id } = (await a?.enqueue(bytes("kept"))) ?? { id: "" };
    await nodes.end("b");
    await nodes.end("c");
    const refused = a?.enqueue(bytes("refused"), { timeoutMs: 500 });
    await expect(refused).rejects.toSatisfy(
      (error: QueueError) => error.code === "QUORUM_UNAVAILABLE" || error.code === "INDETERMINATE",
    );
    await nodes.add("b");
    await nodes.add("c");
    const taken = await a?.take();
    expect(taken?.id).toBe(id);
    await taken?.ack();
  });
});

describe("a message's attributes", () => {
  it("reach its consumer on another node, with a body that is only the body", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs");
    const headers = { "content-type": "text/plain", größe: "☕" };
    await a?.enqueue(bytes("x"), { headers, priority: 3 });
    const first = await b?.take();
    expect({ ...first?.headers }).toEqual(headers);
    expect([first === undefined ? "" : text(first), first?.priority, first?.attempt]).toEqual(["x", 3, 1]);
    expect(first?.ageMs).toBeGreaterThanOrEqual(0);
    await first?.nack();
    const second = await a?.take();
    expect({ ...second?.headers }).toEqual(headers);
    await second?.ack();
  });

  it("hand out higher priorities first, and delayed messages last", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs");
    const outcomes = await queue?.enqueueMany([
      { body: bytes("late"), delayMs: 1_500, priority: 9 },
      { body: bytes("low") },
      { body: bytes("high"), priority: 5 },
      { body: bytes("higher"), priority: 7 },
    ]);
    expect(new Set(outcomes?.map(({ id }) => id)).size).toBe(4);
    const seen: string[] = [];
    queue?.consume((message) => void seen.push(text(message)), { prefetch: 1 });
    await until("all are handled", () => seen.length === 4);
    expect(seen).toEqual(["higher", "high", "low", "late"]);
  });

  it("end a message whose time ran out, also across a restart", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs");
    await queue?.enqueue(bytes("short"), { ttlMs: 50 });
    await queue?.enqueue(bytes("delayed beyond its time"), { ttlMs: 50, delayMs: 100 });
    await nodes.end("a");
    await nodes.add("a");
    const [again] = await nodes.declare("jobs");
    await new Promise((resolve) => setTimeout(resolve, 200));
    await again?.enqueue(bytes("lasting"));
    const taken = await again?.take();
    expect(taken === undefined ? "" : text(taken)).toBe("lasting");
    await taken?.ack();
  });
});

describe("one node alone", () => {
  it("keeps its messages across a restart", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs");
    const { id } = (await queue?.enqueue(bytes("kept"))) ?? { id: "" };
    await nodes.end("a");
    await nodes.add("a");
    const [again] = await nodes.declare("jobs");
    const taken = await again?.take();
    expect([taken?.id, taken === undefined ? "" : text(taken)]).toEqual([id, "kept"]);
    await taken?.ack();
  });

  it("delivers a backlog after a restart, its bodies read from disk", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs");
    const names = Array.from({ length: 2_000 }, (_, no) => `job ${no}`);
    await Promise.all(names.map(async (name) => await queue?.enqueue(bytes(name))));
    await nodes.end("a");
    await nodes.add("a");
    const [again] = await nodes.declare("jobs");
    const seen: string[] = [];
    const consumer = again?.consume((message) => void seen.push(text(message)), { prefetch: 256 });
    await until("all are handled", () => consumer?.stats.acked === names.length);
    expect(seen.toSorted()).toEqual(names.toSorted());
  });

  it("says what became of a message id", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs");
    const { queues } = nodes.get("a");
    const { id } = (await queue?.enqueue(bytes("x"))) ?? { id: "" };
    expect(await queues.resolve(id)).toBe("ACKED");
    expect(await queues.resolve(`${"0".repeat(64)}-7`)).toBe("UNKNOWN");
    await expect(queues.resolve("nonsense")).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
  });

  it("ends a wait for a message when its signal aborts", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs");
    const controller = new AbortController();
    const waiting = queue?.take({ signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
    await queue?.enqueue(bytes("later"));
    const next = await queue?.take();
    expect(next?.attempt).toBe(1);
    await next?.ack();
  });
});

describe("a store that is opened again", () => {
  it("is the same one, whatever its lanes have of finished messages, keys and ends", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const plain = await queues.declare("plain", { replicas: 1 });
    const ordered = await queues.declare("ordered", { replicas: 1, groups: true, dedupMs: 60_000 });
    const ids: string[] = [];
    for (let no = 0; no < 20; no += 1) {
      await plain.enqueue(bytes(`${no}`));
      ids.push((await ordered.enqueue(bytes(`${no}`), { group: `g${no % 7}`, dedupKey: `${no}` })).id);
    }
    for (const queue of [plain, ordered]) for (let no = 0; no < 10; no += 1) await (await queue.take()).ack();
    const { storeId } = queues.stats();
    for (const again of [1, 2]) {
      await nodes.end("a");
      const node = await nodes.add("a");
      expect(node.queues.stats().storeId, `time ${again}`).toBe(storeId);
    }
    const { queues: now } = nodes.get("a");
    await until("both are known", () => now.list().length === 2);
    const known = await now.open("ordered").enqueue(bytes("0"), { group: "g0", dedupKey: "0" });
    expect(known).toEqual({ id: ids[0], duplicate: true });
    for (const name of ["plain", "ordered"]) {
      const left = new Set<string>();
      for (let no = 0; no < 10; no += 1) {
        const message = await now.open(name).take();
        left.add(text(message));
        await message.ack();
      }
      expect(left.size).toBe(10);
      expect(await now.open(name).counts()).toMatchObject({ ready: 0, leased: 0, dead: 0 });
    }
  });
});

describe("what is wrong", () => {
  it("is named with its field, and changes nothing", async () => {
    await using nodes = await Nodes.start("a");
    const { queues, mesh } = nodes.get("a");
    const [queue] = await nodes.declare("jobs");
    const wrong: readonly [() => Promise<unknown>, string, RegExp][] = [
      [() => queues.declare("jobs", { replicas: 2 }), "INVALID_OPTIONS", /replicas/],
      [() => queues.declare("no spaces"), "INVALID_OPTIONS", /name/],
      [() => queues.declare("other", { leaseMs: 5 }), "INVALID_OPTIONS", /leaseMs/],
      [() => queues.declare("jobs", { leaseMs: 5_000 }), "QUEUE_CONFLICT", /leaseMs 30000, not 5000/],
      [
        () => queues.declare("jobs", { durability: "relaxed" }),
        "QUEUE_CONFLICT",
        /durability fsync, not relaxed/,
      ],
      [() => queues.declare("other", { durability: "none" as never }), "INVALID_OPTIONS", /durability/],
      [async () => await queue?.enqueue(new Uint8Array(2 ** 20 + 1)), "MESSAGE_TOO_LARGE", /1048576/],
      [async () => await queue?.enqueue("text" as never), "INVALID_OPTIONS", /body/],
      [async () => await queue?.enqueue(bytes("x"), { priority: 10 }), "INVALID_OPTIONS", /priority/],
      [async () => await queue?.enqueue(bytes("x"), { ttlMs: 0 }), "INVALID_OPTIONS", /ttlMs/],
      [
        async () => await queue?.enqueue(bytes("x"), { headers: { a: 1 } as never }),
        "INVALID_OPTIONS",
        /headers\.a/,
      ],
      [
        async () => await queue?.enqueue(bytes("x"), { headers: { a: "x".repeat(16_384) } }),
        "MESSAGE_TOO_LARGE",
        /headers/,
      ],
      [async () => await queue?.enqueueMany([{ body: bytes("x") }, {} as never]), "INVALID_OPTIONS", /body/],
      [async () => queue?.consume(() => {}, { prefetch: 0 }), "INVALID_OPTIONS", /prefetch/],
      [() => createQueues({ mesh, dataDir: "" }), "INVALID_OPTIONS", /dataDir/],
      [() => createQueues({ mesh: {} as never, dataDir: "x" }), "INVALID_OPTIONS", /mesh/],
      [() => createQueues({ mesh, dataDir: nodes.dataDir("a") }), "STORE_LOCKED", /directory|use/],
    ];
    for (const [call, code, message] of wrong) {
      const failure: unknown = await call().then(
        () => undefined,
        (error: unknown) => error,
      );
      expect(failure).toBeInstanceOf(QueueError);
      expect(failure).toMatchObject({ code, message: expect.stringMatching(message), outcome: "none" });
    }
    await queue?.enqueue(bytes("still works"));
  });

  it("takes a body of exactly the limit, and an empty one", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs");
    await a?.enqueue(new Uint8Array(2 ** 20).fill(7));
    await a?.enqueue(new Uint8Array(0));
    const sizes = new Set<number>();
    const consumer = b?.consume((message) => void sizes.add(message.body.length));
    await until("both are handled", () => consumer?.stats.acked === 2);
    expect(sizes).toEqual(new Set([2 ** 20, 0]));
  });

  it("tells a node that has just been started of a queue that is there with other options", async () => {
    await using nodes = await Nodes.start();
    const a = await nodes.addAlone("a");
    const jobs = await a.queues.declare("jobs", { replicas: 1 });
    await jobs.enqueue(new Uint8Array(1));
    const b = await nodes.addAlone("b", a.mesh.addresses());
    await expect(b.queues.declare("jobs", { replicas: 1, maxDeliveries: 5 })).rejects.toMatchObject({
      code: "QUEUE_CONFLICT",
    });
    const same = await b.queues.declare("jobs", { replicas: 1 });
    expect(await same.counts()).toMatchObject({ ready: 1 });
  });

  it("says that a queue was declared with other options by a node that had not met this one", async () => {
    const warnings: string[] = [];
    const warn = (message: string, { queue, difference }: LogFields = {}): void => {
      if (message.startsWith("a queue was declared twice"))
        warnings.push(`${String(queue)} ${String(difference)}`);
    };
    await using nodes = await Nodes.start({ logger: { ...silentLogger, warn } });
    const a = await nodes.addAlone("a");
    await a.queues.declare("jobs", { replicas: 1 });
    await a.queues.declare("same", { replicas: 1 });
    const b = await nodes.addAlone("b");
    await b.queues.declare("jobs", { replicas: 1, maxDeliveries: 5 });
    await b.queues.declare("same", { replicas: 1 });
    await nodes.add("c");
    const known = (): (number | undefined)[] => [a, b].map(({ queues }) => queues.list()[0]?.maxDeliveries);
    await until("both agree, and all three say so", () => {
      return warnings.length === 3 && new Set(known()).size === 1;
    });
    const [kept = 0] = known();
    expect(new Set(warnings)).toEqual(new Set([`jobs maxDeliveries ${kept}, not ${25 - kept}`]));
  });

  it("ends every call of a node that was stopped", async () => {
    await using nodes = await Nodes.start("a");
    const mesh = await createMesh({ name: "z", mesh: "alone", dataDir: nodes.dataDir("z") });
    const queues = await createQueues({ mesh, dataDir: nodes.dataDir("z") });
    const queue = await queues.declare("jobs");
    const exchange = await queues.declareExchange("all", { kind: "fanout" });
    await exchange.bind("jobs");
    const waiting = queue.take();
    const settled = expect(waiting).rejects.toMatchObject({ code: "STOPPED" });
    await queues.stop();
    await queues.stop();
    await settled;
    const calls = [
      () => queue.enqueue(bytes("x")),
      () => queue.pause(),
      () => queue.resume(),
      () => exchange.publish(bytes("x")),
      () => exchange.bind("jobs"),
      () => queues.deleteExchange("all"),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: "STOPPED" });
    await mesh.stop();
  });
});
