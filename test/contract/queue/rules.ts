/**
 * What whoever implements `Queues` and `Queue` promises, as rules that any test runner can run: each is given the queues of at
 * least two nodes that share everything, uses names of its own, and throws if the promise is broken.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import type { Message, Queue, QueueInit, Queues } from "@klatsch/queue";

export interface Rule {
  readonly name: string;
  run(nodes: readonly Queues[]): Promise<void>;
}

const LATE_MS = 20_000;
let lastName = 0;

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = ({ body }: { readonly body: Uint8Array }): string => new TextDecoder().decode(body);

/** A new queue, on every node. */
async function declare(
  nodes: readonly Queues[],
  init?: QueueInit,
): Promise<readonly [Queue, Queue, ...Queue[]]> {
  lastName += 1;
  const name = `contract-${process.pid}-${lastName}`;
  const all = [];
  for (const queues of nodes) all.push(await queues.declare(name, init));
  const [here, there, ...others] = all;
  assert(here !== undefined && there !== undefined, "at least two nodes");
  return [here, there, ...others];
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + LATE_MS;
  while (!(await condition())) {
    assert(performance.now() < endMs, `in vain: ${what}`);
    await delay(10);
  }
}

async function take(queue: Queue): Promise<Message> {
  return await queue.take({ signal: AbortSignal.timeout(LATE_MS) });
}

/** Nothing comes for a while. */
async function assertEmpty(queue: Queue): Promise<void> {
  const taken = queue.take({ signal: AbortSignal.timeout(300) });
  await assert.rejects(taken, { name: "TimeoutError" });
}

const code = (wanted: string): object => ({ name: "QueueError", code: wanted });

const DELIVERY: readonly Rule[] = [
  {
    name: "a message entered at one node comes out at another as it was",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      const headers = { "content-type": "text/plain", größe: "☕" };
      const { id } = await here.enqueue(bytes("x"), { headers, priority: 3 });
      const message = await take(there);
      assert.equal(message.id, id);
      assert.deepEqual({ ...message.headers }, headers);
      assert.deepEqual([textOf(message), message.priority, message.attempt], ["x", 3, 1]);
      assert(message.epoch >= 1 && message.ageMs >= 0 && !message.signal.aborted);
      await message.ack();
    },
  },
  {
    name: "bodies of nothing and of the longest length are whole",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      for (const length of [0, 1, 65_537, 1_048_576]) {
        const body = new Uint8Array(length).map((_, at) => at % 251);
        await here.enqueue(body);
        const message = await take(there);
        assert(Buffer.from(message.body).equals(body), `${length} bytes`);
        await message.ack();
      }
    },
  },
  {
    name: "each message goes to one of all consumers, once",
    async run(nodes) {
      const all = await declare(nodes);
      const seen: string[] = [];
      const consumers = all.map((queue) => queue.consume((message) => void seen.push(textOf(message))));
      const names = Array.from({ length: 60 }, (_, no) => `${no}`);
      await Promise.all(names.map(async (name, no) => await all[no % all.length]?.enqueue(bytes(name))));
      await until("all are handled", () => seen.length >= names.length);
      await all[0].drain({ timeoutMs: LATE_MS });
      assert.deepEqual(seen.toSorted(), names.toSorted());
      for (const consumer of consumers) await consumer.stop();
    },
  },
  {
    name: "a consumer that is stopped with a limit tells its handlers, and gives back what they hold",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      const ends = [{ timeoutMs: 20 }, { signal: AbortSignal.timeout(20) }];
      for (const end of ends) {
        await here.enqueue(bytes("x"));
        const running = Promise.withResolvers<Message>();
        const consumer = there.consume(async (message) => {
          running.resolve(message);
          await new Promise(() => undefined);
        });
        const held = await running.promise;
        const endless = consumer.stop();
        await assert.rejects(consumer.stop({ timeoutMs: 0 }), code("INVALID_OPTIONS"));
        assert(!held.signal.aborted);
        await consumer.stop(end);
        await endless;
        assert(held.signal.aborted);
        await assert.rejects(held.ack(), code("SETTLED"));
        const next = await take(here);
        assert.deepEqual([next.id, next.attempt], [held.id, 1]);
        assert(next.epoch > held.epoch);
        await next.ack();
      }
    },
  },
  {
    name: "each delivery has a higher epoch; failures count as attempts, releases do not",
    async run(nodes) {
      const [here, there] = await declare(nodes, { retry: { kind: "fixed", delayMs: 1 } });
      await here.enqueue(bytes("x"));
      const seen: (readonly [epoch: number, attempt: number])[] = [];
      for (const end of ["nack", "release", "ack"] as const) {
        const message = await take(seen.length % 2 === 0 ? there : here);
        seen.push([message.epoch, message.attempt]);
        await message[end]();
      }
      assert.deepEqual(
        seen.map(([, attempt]) => attempt),
        [1, 2, 2],
      );
      const epochs = seen.map(([epoch]) => epoch);
      assert.deepEqual(
        epochs,
        [...new Set(epochs)].toSorted((a, b) => a - b),
      );
    },
  },
  {
    name: "an acknowledgement is final, and a delivery ends once",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      await here.enqueue(bytes("x"));
      const message = await take(there);
      await message.ack();
      await assert.rejects(message.ack(), code("SETTLED"));
      await assert.rejects(message.nack(), code("SETTLED"));
      await assertEmpty(here);
    },
  },
  {
    name: "a nacked message waits for as long as was asked",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      await here.enqueue(bytes("x"));
      const beganMs = performance.now();
      await (await take(there)).nack({ delayMs: 700 });
      await (await take(here)).ack();
      assert(performance.now() - beganMs >= 650);
    },
  },
  {
    name: "whoever waits in vain can be told to stop waiting, and takes no message with it",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      const waiting = there.take({ signal: AbortSignal.timeout(50) });
      await assert.rejects(waiting, { name: "TimeoutError" });
      await assert.rejects(there.take({ signal: AbortSignal.abort(new Error("no")) }), { message: "no" });
      await here.enqueue(bytes("x"));
      await (await take(there)).ack();
    },
  },
];

const DEAD: readonly Rule[] = [
  {
    name: "what fails too often or is rejected is dead, with its reason, and can be put back",
    async run(nodes) {
      const [here, there] = await declare(nodes, { maxDeliveries: 2, retry: { kind: "fixed", delayMs: 1 } });
      await here.enqueue(bytes("fails"));
      for (let times = 0; times < 2; times += 1) await (await take(there)).nack({ reason: "broken" });
      await here.enqueue(bytes("poison"));
      await (await take(there)).reject("bad smell");
      await assertEmpty(here);
      const { messages } = await here.dead.list();
      assert.deepEqual(messages.map(({ reason }) => reason).toSorted(), ["bad smell", "maxDeliveries"]);
      assert.equal((await there.dead.redrive()).count, 2);
      for (let times = 0; times < 2; times += 1) await (await take(here)).ack();
    },
  },
  {
    name: "what nobody took in time is dead, and delayed messages are not early",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      await here.enqueue(bytes("expires"), { ttlMs: 50 });
      await until("it is dead", async () => (await there.counts()).dead === 1);
      const beganMs = performance.now();
      await here.enqueue(bytes("later"), { delayMs: 500 });
      const message = await take(there);
      assert(performance.now() - beganMs >= 450);
      assert.equal(textOf(message), "later");
      await message.ack();
      assert.equal((await here.dead.purge()).count, 1);
    },
  },
];

const MANY: readonly Rule[] = [
  {
    name: "many at once are each a message of its own, in their order",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      const outcomes = await here.enqueueMany(["a", "b", "c"].map((name) => ({ body: bytes(name) })));
      const ids = outcomes.map(({ id, error }) => (error === undefined ? id : undefined));
      const taken = [await take(there), await take(there), await take(there)];
      const byId = new Map(taken.map((message) => [message.id, textOf(message)]));
      assert.deepEqual(
        ids.map((id) => byId.get(id ?? "")),
        ["a", "b", "c"],
      );
      for (const message of taken) await message.ack();
    },
  },
  {
    name: "an id tells on any node whether its message exists",
    async run(nodes) {
      const [here] = await declare(nodes);
      const { id } = await here.enqueue(bytes("x"));
      for (const queues of nodes) assert.equal(await queues.resolve(id), "ACKED");
      await assert.rejects(async () => await nodes[0]?.resolve("nonsense"), code("INVALID_OPTIONS"));
      await (await take(here)).ack();
    },
  },
  {
    name: "looking changes nothing: counts, browse, peek",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      const { id } = await here.enqueue(bytes("x"), { headers: { h: "v" } });
      const { ready, delayed, leased, dead, missing } = await there.counts();
      assert.deepEqual([ready, delayed, leased, dead, missing], [1, 0, 0, 0, []]);
      assert.deepEqual(
        (await there.browse()).messages.map((one) => one.id),
        [id],
      );
      const [seen] = await there.peek();
      assert.deepEqual([seen?.headers["h"], seen && textOf(seen)], ["v", "x"]);
      const message = await take(here);
      assert.equal(message.attempt, 1);
      assert.equal((await there.counts()).leased, 1);
      await message.ack();
      assert.equal((await there.counts()).leased, 0);
    },
  },
  {
    name: "messages are listed page by page, each once, the pages on whatever node, while others come and go",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      const ids: string[] = [];
      for (const queue of [here, there]) {
        const outcomes = await queue.enqueueMany(Array.from({ length: 5 }, () => ({ body: bytes("x") })));
        for (const { id } of outcomes) ids.push(id ?? "");
      }
      const [gone = "", ...stay] = ids;
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const pages: Queue = seen.length % 2 === 0 ? there : here;
        const page = await pages.browse({ limit: 3, after });
        assert.deepEqual([page.missing, page.unserved], [[], 0]);
        assert(page.messages.length <= 3 && (page.next === undefined || page.messages.length > 0));
        seen.push(...page.messages.map(({ id }) => id));
        if (after === undefined) await here.purge({ ids: [gone] });
        after = page.next;
      } while (after !== undefined);
      assert.equal(new Set(seen).size, seen.length);
      assert.deepEqual(seen.filter((id) => id !== gone).toSorted(), stay.toSorted());
      const [other] = await declare(nodes);
      await assert.rejects(async () => await here.browse({ after: "x" }), code("INVALID_OPTIONS"));
      const { next } = await here.browse({ limit: 1 });
      await assert.rejects(async () => await other.browse({ after: next }), code("INVALID_OPTIONS"));
      await here.purge();
    },
  },
  {
    name: "a paused queue hands out nothing on any node, and takes everything in",
    async run(nodes) {
      const [here, there] = await declare(nodes);
      await there.pause();
      await until("all know", () => here.isPaused && there.isPaused);
      await here.enqueue(bytes("x"));
      await assertEmpty(there);
      await here.resume();
      await (await take(there)).ack();
    },
  },
  {
    name: "an altered queue is altered on all nodes, and goes by what it was declared with for who declares it",
    async run(nodes) {
      const [here, there] = await declare(nodes, { leaseMs: 20_000, maxLength: 7 });
      await here.alter({ leaseMs: 40_000, maxLength: null });
      await until("the other knows", () => there.leaseMs === 40_000);
      for (const queues of nodes) {
        const described = queues.list().find(({ name }) => name === here.name);
        assert.deepEqual([described?.leaseMs, described?.maxLength], [40_000, undefined]);
        await queues.declare(here.name, { leaseMs: 20_000, maxLength: 7 });
        await queues.declare(here.name, { leaseMs: 40_000 });
        await assert.rejects(queues.declare(here.name, { leaseMs: 30_000 }), code("QUEUE_CONFLICT"));
      }
      await assert.rejects(there.alter({ replicas: 1 } as never), code("INVALID_OPTIONS"));
    },
  },
  {
    name: "a full queue refuses, and takes more once there is room",
    async run(nodes) {
      const [here, there] = await declare(nodes, { maxLength: 1 });
      await here.enqueue(bytes("x"));
      await assert.rejects(here.enqueue(bytes("y")), code("QUEUE_FULL"));
      await (await take(there)).ack();
      await until(
        "there is room",
        async () =>
          await here.enqueue(bytes("y")).then(
            () => true,
            () => false,
          ),
      );
      assert.equal((await here.purge()).count, 1);
    },
  },
];

const NAMES: readonly Rule[] = [
  {
    name: "a name means one queue everywhere, with one set of options",
    async run(nodes) {
      const [here] = await declare(nodes, { leaseMs: 5_000 });
      const other = nodes.at(-1);
      assert(other !== undefined);
      assert.deepEqual(
        [other.open(here.name).leaseMs, other.list().some(({ name }) => name === here.name)],
        [5_000, true],
      );
      await assert.rejects(other.declare(here.name, { leaseMs: 6_000 }), code("QUEUE_CONFLICT"));
      assert.throws(() => other.open("nobody-declared-this"), code("QUEUE_NOT_FOUND"));
    },
  },
  {
    name: "what cannot be is refused by name, and nothing happens",
    async run(nodes) {
      const [here] = await declare(nodes);
      const wrong = [
        here.enqueue("text" as unknown as Uint8Array),
        here.enqueue(bytes("x"), { priority: 10 }),
        here.enqueue(bytes("x"), { delayMs: -1 }),
        here.enqueue(bytes("x"), { ttlMs: Number.NaN }),
        here.enqueue(bytes("x"), { timeoutMs: 0 }),
        here.enqueue(bytes("x"), { headers: { "": "v" } }),
        here.enqueue(bytes("x"), { headers: JSON.parse('{"__proto__":"v"}') as Record<string, string> }),
        here.enqueue(bytes("x"), { unknown: 1 } as object),
        nodes[0]?.declare("no spaces please"),
        nodes[0]?.declare("even", { replicas: 2 }),
      ];
      for (const each of wrong) await assert.rejects(async () => await each, code("INVALID_OPTIONS"));
      await assert.rejects(here.enqueue(new Uint8Array(1_048_577)), code("MESSAGE_TOO_LARGE"));
      const { ready, delayed, leased } = await here.counts();
      assert.equal(ready + delayed + leased, 0);
    },
  },
  {
    name: "an exchange routes by its bindings, and says so where there are none",
    async run(nodes) {
      const [first] = await declare(nodes);
      const [second] = await declare(nodes);
      const exchange = await nodes[0]?.declareExchange(`${first.name}-exchange`, { kind: "topic" });
      assert(exchange !== undefined);
      await assert.rejects(exchange.publish(bytes("x"), { key: "a.b" }), code("UNROUTABLE"));
      await exchange.bind(first.name, { key: "a.*" });
      await exchange.bind(second.name, { key: "#" });
      const { outcomes } = await exchange.publish(bytes("x"), { key: "a.b" });
      assert.deepEqual(outcomes.map(({ queue }) => queue).toSorted(), [first.name, second.name].toSorted());
      for (const queue of [first, second]) await (await take(queue)).ack();
    },
  },
  {
    name: "one leads at a time, and the token of the next is greater",
    async run(nodes) {
      const [here, there] = nodes;
      lastName += 1;
      const name = `chair-${process.pid}-${lastName}`;
      const first = await here?.elect(name);
      let isSecond = false;
      const second = there?.elect(name).then((leadership) => ((isSecond = true), leadership));
      await delay(300);
      assert.deepEqual([isSecond, first?.signal.aborted], [false, false]);
      await first?.resign();
      const next = await second;
      assert(next !== undefined && first !== undefined && next.token > first.token);
      await next.resign();
    },
  },
];

/** All of them. */
export const CONTRACT: readonly Rule[] = [...DELIVERY, ...DEAD, ...MANY, ...NAMES];
