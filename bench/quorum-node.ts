/** A node of `quorum.ts`: a mesh member with queues that produces and consumes as it is told. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { countBuffersAsHeap } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import type { Durability, Consumer, Message, Queue, Queues } from "@klatsch/queue";
import { percentile } from "./harness.ts";
import { serve, sharedMs } from "./serve.ts";

/** How exactly the time of the last acknowledgement is known, in milliseconds. */
const WATCH_MS = 10;

export interface Production {
  readonly enqueued: number;
  readonly startedAt: number;
  readonly endedAt: number;
  /** From the call of `enqueue` until a quorum had the message on disk. */
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface Consumption {
  readonly acked: number;
  /** When `acked` grew last. */
  readonly lastAckAt: number;
  readonly unconfirmed: number;
  readonly redelivered: number;
}

/** What a node takes. */
export interface Footprint {
  readonly lanesWritten: number;
  readonly lanesKept: number;
  readonly files: number;
  readonly diskMiB: number;
  readonly memoryMiB: number;
}

let queues: Queues | undefined;
let directory = "";
let jobs: Queue | undefined;
let consumer: Consumer | undefined;
let lastAckAt = 0;
/** From the call of `enqueue` to the call of the handler, of messages that carry a time. */
let latenciesMs: number[] = [];

function queue(): Queue {
  if (jobs === undefined) throw new Error("not started");
  return jobs;
}

const commands = {
  async start(setup: {
    readonly name: string;
    readonly dataDir: string;
    readonly bootstrap: readonly string[];
    readonly listen?: readonly string[];
    readonly durability?: Durability;
    readonly buffersAsHeap?: boolean;
  }): Promise<readonly string[]> {
    const { durability = "fsync", buffersAsHeap = false, ...init } = setup;
    if (buffersAsHeap) countBuffersAsHeap();
    const mesh = await createMesh(init);
    directory = setup.dataDir;
    queues = await createQueues({ mesh, dataDir: setup.dataDir });
    queues.on("queues:failed", ({ error }) => {
      console.error(error);
      process.exit(1);
    });
    jobs = await queues.declare("jobs", { replicas: 3, durability });
    return mesh.addresses();
  },

  /** Resolves once this node sees the queues of that many others. */
  async seeOthers({ others }: { readonly others: number }): Promise<void> {
    while ((queues?.stats().peers ?? 0) < others) await delay(20);
  },

  consume({ prefetch }: { readonly prefetch: number }): Promise<void> {
    consumer = queue().consume(onMessage, { prefetch });
    const watched = consumer;
    let acked = 0;
    setInterval(() => {
      if (watched.stats.acked > acked) lastAckAt = sharedMs();
      acked = watched.stats.acked;
    }, WATCH_MS);
    return Promise.resolve();
  },

  async endConsume(): Promise<void> {
    await consumer?.stop();
  },

  consumed(): Promise<Consumption> {
    const { acked = 0, unconfirmed = 0, redelivered = 0 } = consumer?.stats ?? {};
    return Promise.resolve({ acked, lastAckAt, unconfirmed, redelivered });
  },

  /** Latencies since the last call. */
  latencies(): Promise<readonly number[]> {
    const taken = latenciesMs;
    latenciesMs = [];
    return Promise.resolve(taken);
  },

  /** What this process has used of the processors so far, user and system, in microseconds. */
  cpu(): Promise<number> {
    const { user, system } = process.cpuUsage();
    return Promise.resolve(user + system);
  },

  async declareMany({ queues: count }: { readonly queues: number }): Promise<void> {
    for (let no = 0; no < count; no += 1) await queues?.declare(nameOf(no), { replicas: 3 });
  },

  /** Consumes every `step`th queue from `from` on. */
  async consumeMany({ queues: count, from, step }: ManyArgs): Promise<void> {
    for (let no = from; no < count; no += step) {
      const one = await queues?.declare(nameOf(no), { replicas: 3 });
      one?.consume(onMessage, { prefetch: 4 });
    }
  },

  /** Enqueues at a steady rate, each message into another queue. */
  async paceMany({ queues: count, ...pace }: PaceArgs & { readonly queues: number }): Promise<Paced> {
    const targets = Array.from({ length: count }, (_, no) => queues?.open(nameOf(no)));
    return await paced(pace, (number) => targets[(number * STRIDE) % count]);
  },

  async footprint(): Promise<Footprint> {
    const names = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = names.filter((entry) => entry.isFile());
    // LevelDB removes files as it likes.
    const sizes = files.map((entry) =>
      stat(join(entry.parentPath, entry.name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
    const bytes = (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
    const { lanesWritten = 0, lanesKept = 0 } = queues?.stats() ?? {};
    const inMiB = (count: number): number => Math.round(count / 2 ** 20);
    const memoryMiB = inMiB(process.memoryUsage().rss);
    return { lanesWritten, lanesKept, files: files.length, diskMiB: inMiB(bytes), memoryMiB };
  },

  /** Resident memory of this process, in bytes. */
  memory(): Promise<number> {
    return Promise.resolve(process.memoryUsage().rss);
  },

  /** Enqueues that many, `inFlight` at a time; tells how long each tenth of them took, in milliseconds. */
  async fill({ bytes, inFlight, messages }: FillArgs): Promise<readonly number[]> {
    const target = queue();
    const body = Buffer.alloc(bytes, 1);
    const endedAt: number[] = [sharedMs()];
    let sent = 0;
    let answered = 0;
    const lane = async (): Promise<void> => {
      while (sent < messages) {
        sent += 1;
        await target.enqueue(body);
        answered += 1;
        if (answered % Math.ceil(messages / 10) === 0 || answered === messages) endedAt.push(sharedMs());
      }
    };
    await Promise.all(Array.from({ length: inFlight }, lane));
    return endedAt.slice(1).map((at, index) => at - (endedAt[index] ?? at));
  },

  /** Enqueues for that long, `inFlight` at a time, as fast as a quorum answers. */
  async produce({ bytes, inFlight, seconds }: ProduceArgs): Promise<Production> {
    const target = queue();
    const body = Buffer.alloc(bytes, 1).fill(0, 0, 8); // No time: nobody measures latency under full load.
    const durationsMs: number[] = [];
    const startedAt = sharedMs();
    const until = startedAt + seconds * 1_000;
    const lane = async (): Promise<void> => {
      for (let sentAt = sharedMs(); sentAt < until;) {
        await target.enqueue(body);
        const now = sharedMs();
        durationsMs.push(now - sentAt);
        sentAt = now;
      }
    };
    await Promise.all(Array.from({ length: inFlight }, lane));
    const endedAt = sharedMs();
    durationsMs.sort((a, b) => a - b);
    return {
      enqueued: durationsMs.length,
      startedAt,
      endedAt,
      p50Ms: percentile(durationsMs, 50),
      p99Ms: percentile(durationsMs, 99),
    };
  },

  /** Enqueues at a steady rate, whether or not earlier ones were answered; each body begins with its time. */
  async pace(pace: PaceArgs): Promise<Paced> {
    const target = queue();
    return await paced(pace, () => target);
  },
};

interface Paced {
  readonly enqueued: number;
}

/** Prime: one queue after the other, all of them before any comes again. */
const STRIDE = 7_919;

function nameOf(no: number): string {
  return `queue-${no}`;
}

function onMessage({ body }: Message): void {
  const sentAt = Buffer.from(body.buffer, body.byteOffset).readDoubleLE();
  if (sentAt > 0) latenciesMs.push(sharedMs() - sentAt);
}

async function paced(
  { bytes, perSecond, seconds }: PaceArgs,
  target: (number: number) => Queue | undefined,
): Promise<Paced> {
  const startedAt = sharedMs();
  const total = perSecond * seconds;
  const answers: Promise<unknown>[] = [];
  for (let number = 0; number < total; number += 1) {
    const waitMs = startedAt + (number * 1_000) / perSecond - sharedMs();
    if (waitMs > 0) await delay(waitMs);
    const body = Buffer.alloc(bytes, 1);
    body.writeDoubleLE(sharedMs());
    answers.push(target(number)?.enqueue(body) ?? Promise.resolve());
  }
  await Promise.all(answers);
  return { enqueued: total };
}

interface ManyArgs {
  readonly queues: number;
  readonly from: number;
  readonly step: number;
}

interface FillArgs {
  readonly bytes: number;
  readonly inFlight: number;
  readonly messages: number;
}

interface ProduceArgs {
  readonly bytes: number;
  readonly inFlight: number;
  readonly seconds: number;
}

interface PaceArgs {
  readonly bytes: number;
  readonly perSecond: number;
  readonly seconds: number;
}

export type QuorumCommands = typeof commands;

serve(commands);
