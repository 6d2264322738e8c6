/** One node of a chaos run: produces, consumes, and writes down what it does. Told over IPC what to do. */
import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { SeededRandom } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { randomBelow } from "@klatsch/kit/core";
import { createMesh } from "@klatsch/mesh";
import { createQueues, QueueError } from "@klatsch/queue";
import type { QueueInit, EnqueueOptions, Message, Queue } from "@klatsch/queue";
import { HistoryWriter } from "./history.ts";
import type { Act } from "./history.ts";
import { LEASE_MS } from "./schedule.ts";

const GROUPS = 64;

export interface NodeInit {
  readonly name: string;
  /** How often this node was started before. */
  readonly run: number;
  readonly seed: number;
  readonly listen: string;
  readonly bootstrap: readonly string[];
  readonly dataDir: string;
  readonly historyDir: string;
  /** Enqueues a second; 0 for none. */
  readonly produces: number;
  readonly consumes: boolean;
}

export type Command =
  | { readonly type: "clock"; readonly stepMs: number }
  /** Enqueues nothing any more; answered when all outcomes are there. */
  | { readonly type: "rest" }
  | { readonly type: "sees" }
  /** Puts dead messages back, and counts what is left. */
  | { readonly type: "left" }
  | { readonly type: "inspect" };

export interface Reply {
  readonly type: Command["type"] | "started";
  readonly value: unknown;
}

const init = JSON.parse(process.argv[2] ?? "{}") as NodeInit;
const { name, run } = init;
const history = new HistoryWriter(init.historyDir, name, run);
const random = new SeededRandom(init.seed * 1_000 + run * 10 + name.charCodeAt(0));
const resting = new AbortController();
const realNow = Date.now;
let clockMs = 0;
Date.now = () => realNow() + clockMs;

const say = (reply: Reply): void => void process.send?.(reply);
const note = (text: string): void => history.write({ what: "note", text });
const logger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message, fields) => note(`warn: ${message} ${JSON.stringify(fields ?? {})}`),
  error: (message, fields) =>
    note(`error: ${message} ${JSON.stringify(fields ?? {})} ${String(fields?.["err"])}`),
};

process.on("uncaughtException", (error) => {
  note(`uncaught: ${error.stack}`);
  process.exit(1);
});
process.on("disconnect", () => process.exit(0));

const { dataDir, bootstrap } = init;
const mesh = await createMesh({ name, listen: [init.listen], bootstrap, dataDir, admission: "open", logger });
const queues = await createQueues({ mesh, dataDir, logger });
queues.on("queues:failed", ({ error }) => {
  note(`failed: ${error.message}`);
  process.exit(2); // Started again by whoever watches: a store that lost its end is put aside then.
});
queues.on("store:quarantined", ({ reason }) => note(`quarantined: ${reason}`));
queues.on("protocol:fault", ({ peer, what }) => note(`fault: ${what}, ${peer}`));
say({ type: "started", value: [...mesh.addresses()] });
process.on("message", (command: Command) => void obey(command));
const options = { leaseMs: LEASE_MS, maxDeliveries: 1_000 };
// The second waits for the others, at first. Clocks that are wrong by an hour must not end the time of its keys.
const declared = Promise.all([
  declare("jobs", options),
  declare("ordered", { ...options, groups: true, dedupMs: 86_400_000 }),
]);
const both = await declared;
const [plain, ordered] = both;
if (init.consumes) both.forEach(consume);
const producing = produce();
void lead();

/** An ordered queue needs its stores when it is made: on a slow machine, or in a partition, they come later. */
async function declare(queue: string, wanted: QueueInit): Promise<Queue> {
  for (;;) {
    try {
      return await queues.declare(queue, wanted);
    } catch (error) {
      if (!(error instanceof QueueError && error.retryable)) throw error;
      note(`declare ${queue}: ${error.message}`);
      await delay(100);
    }
  }
}

async function obey(command: Command): Promise<void> {
  await declared;
  switch (command.type) {
    case "clock":
      clockMs = command.stepMs;
      return say({ type: "clock", value: clockMs });
    case "rest":
      resting.abort();
      await producing;
      return say({ type: "rest", value: null });
    case "sees":
      return say({ type: "sees", value: queues.stats().peers });
    case "left": {
      const counts = both.map(async (queue) => {
        const left = await queue.counts({ timeoutMs: 5_000 });
        if (left.dead > 0) await queue.dead.redrive({ timeoutMs: 5_000 });
        return left;
      });
      return say({ type: "left", value: await Promise.all(counts) });
    }
    case "inspect": {
      const found = both.map(
        async (queue) => await queue.browse({ state: "any", limit: 5, timeoutMs: 5_000 }),
      );
      const messages = (await Promise.all(found)).flatMap((browsed) => browsed.messages);
      const lives = messages.map(async ({ id }) => await queues.inspect(id, { timeoutMs: 5_000 }));
      return say({ type: "inspect", value: { messages, lives: await Promise.all(lives) } });
    }
  }
}

// Producers: the body says what it is, and proves that it is whole.

function bodyOf(key: string): Uint8Array {
  const dice = randomBelow(random, 100);
  const length = dice < 85 ? 200 : dice < 98 ? 5_000 : 200_000;
  const head = Buffer.from(`${key}\n`);
  const rest = Buffer.concat([head, Buffer.alloc(randomBelow(random, length), random.uint32() & 255)]);
  return Buffer.concat([createHash("sha256").update(rest).digest(), rest]);
}

function keyOf(body: Uint8Array): { readonly key: string; readonly flaw: string | undefined } {
  const rest = body.subarray(32);
  const whole = createHash("sha256").update(rest).digest().equals(body.subarray(0, 32));
  const key = Buffer.from(rest.subarray(0, Math.max(0, rest.indexOf(10)))).toString();
  return { key, flaw: whole ? undefined : `${body.length} bytes with another hash` };
}

async function produce(): Promise<void> {
  if (init.produces === 0) return;
  const open = new Set<Promise<void>>();
  for (let no = 0; !resting.signal.aborted; no += 1) {
    for (const started of enqueueAny(`${name}.${run}.${no}`)) {
      const one = started.finally(() => open.delete(one));
      open.add(one);
    }
    if (open.size >= 64) await Promise.race(open);
    await delay(1_000 / init.produces);
  }
  await Promise.all(open);
}

/** A third goes into the ordered queue, some of it twice under one key. */
function enqueueAny(key: string): readonly Promise<void>[] {
  if (randomBelow(random, 3) > 0) {
    const dice = randomBelow(random, 20);
    const more: EnqueueOptions = {
      ...(dice === 0 ? { delayMs: randomBelow(random, 3_000) } : {}),
      ...(dice === 1 ? { priority: randomBelow(random, 10) } : {}),
      ...(dice === 2 ? { headers: { key } } : {}),
    };
    return [enqueue(plain, key, more)];
  }
  const group = `g${randomBelow(random, GROUPS)}`;
  if (randomBelow(random, 5) > 0) return [enqueue(ordered, key, { group })];
  const twice = { group, dedupKey: key };
  return [enqueue(ordered, key, twice), enqueue(ordered, `${key}.again`, twice)];
}

async function enqueue(to: Queue, key: string, options: EnqueueOptions): Promise<void> {
  const body = bodyOf(key);
  const { group, dedupKey } = options;
  history.write({ what: "try", key, group, dedupKey });
  try {
    const { id, duplicate } = await to.enqueue(body, { timeoutMs: 5_000, ...options });
    history.write({ what: duplicate ? "same" : "ok", key, id });
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    const { code, outcome, id } = error;
    history.write({ what: "no", key, code, outcome, id });
  }
}

// Consumers: most acknowledge, and some do all that may be done.

function consume(from: Queue): void {
  from.consume(handle, { prefetch: 8 });
}

async function handle(message: Message): Promise<void> {
  const { id, epoch } = message;
  history.write({ what: "got", id, epoch, ...keyOf(message.body) });
  const dice = randomBelow(random, 100);
  // Some take longer than the lease, which is renewed meanwhile.
  await delay(dice < 2 ? LEASE_MS * 1.5 : randomBelow(random, 10));
  const act = (what: Act): void => history.write({ what: "act", id, epoch, act: what });
  if (dice < 10) {
    act("nack");
    if (dice < 6) await message.nack({ delayMs: randomBelow(random, 500) }).catch(known);
    else throw new Error("not this time");
  } else if (dice < 13) {
    act("release");
    await message.release().catch(known);
  } else if (dice < 14) {
    act("reject");
    await message.reject("poison").catch(known);
  } else if (dice < 40) act("ack");
  else {
    act("ack");
    await message.ack().then(() => history.write({ what: "done", id, epoch, act: "ack" }), known);
  }
}

function known(error: unknown): void {
  if (!(error instanceof QueueError)) throw error;
}

/** Leads whenever it is this node's turn, a while each time. */
async function lead(): Promise<void> {
  const { signal } = resting;
  while (!signal.aborted) {
    try {
      await using leadership = await queues.elect("chair", { leaseMs: LEASE_MS, signal });
      history.write({ what: "leads", token: leadership.token });
      await delay(randomBelow(random, 5_000), undefined, {
        signal: AbortSignal.any([signal, leadership.signal]),
      });
    } catch (error) {
      if (!signal.aborted && !leadershipEnded(error)) note(`election: ${String(error)}`);
      await delay(500);
    }
  }
}

function leadershipEnded(error: unknown): boolean {
  return error instanceof QueueError || (error instanceof Error && error.name === "AbortError");
}
