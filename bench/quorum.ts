/**
 * How fast queues are when each message is on the disks of a majority of three before anybody hears of it:
 * real processes on loopback, one producer, fsync unless `--durability relaxed`. Each run has fresh processes and empty disks, and is
 * preceded by a warm-up that is not counted: messages through their full life, as many in flight, for `--warm-up` seconds (10 of three nodes, and more of more). Nothing is left
 * of them. One at a time it takes a process some 15,000 of them until its code is compiled; then it is a quarter faster.
 *
 * - `enqueue`: messages per second a producer gets acknowledged. Nobody consumes.
 * - `life`: messages per second through enqueue, election of a consumer, delivery and acknowledgement, from
 *   the first enqueue to the last acknowledgement; one consumer on each node.
 * - `everywhere`, if asked for: as `life`, with a producer on each node. With `--nodes 3`, `5` and `9` it shows
 *   what more nodes cost on one machine.
 * - `latency`: from the call of `enqueue` to the call of the handler, at 200 messages per second. Both stamps
 *   are of the monotonic clock (`process.hrtime`), which all processes of a machine share.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  BUFFERS_AS_HEAP_BYTES,
  commit,
  machine,
  percentile,
  spreadOf,
  table,
  wholeNumbers,
  withFleet,
  writeJson,
} from "./harness.ts";
import type { Spread } from "./harness.ts";
import type { Durability } from "@klatsch/queue";
import { join, producerOf } from "./quorum-fleet.ts";
import type { Fleet } from "./quorum-fleet.ts";
import type { QuorumCommands } from "./quorum-node.ts";

const LIFE_IN_FLIGHT = 512;
const IN_FLIGHT_BYTES_MAX = 32 * 1_024 * 1_024;
/** With more credit than the producer has in flight, an enqueue and the election of its consumer are one round. */
const PREFETCH = 1_024;
const LATENCY_PER_SECOND = 200;
/** Nothing acknowledged for this long: the run has failed, in milliseconds. */
const STALLED_MS = 30_000;

type Work = "enqueue" | "life" | "everywhere" | "latency";
const WORKS: readonly Work[] = ["enqueue", "life", "everywhere", "latency"];
const DEFAULT_WORKS: readonly Work[] = ["enqueue", "life", "latency"];

interface Options {
  readonly json: string | undefined;
  readonly profile: string | undefined;
  readonly works: readonly Work[];
  readonly bytes: readonly number[];
  readonly inFlight: readonly number[];
  readonly nodes: number;
  readonly durability: Durability;
  readonly seconds: number;
  readonly warmUp: number;
  readonly runs: number;
}

/** What is measured at a time. */
interface Case {
  readonly work: Work;
  readonly bytes: number;
  readonly inFlight?: number;
}

/** What one run gave; a figure that does not apply is left out. */
interface Figures {
  readonly opsPerSecond?: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  /** Of all processes together, user and system, in microseconds per message. */
  readonly cpuUs?: number;
}

/** Medians; the extremes of the runs stand beside them. */
interface Row extends Case, Figures {
  readonly runs: number;
  readonly spread: { readonly [Name in keyof Figures]: Omit<Spread, "median"> };
}

function parseOptions(): Options {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      profile: { type: "string" },
      work: { type: "string", default: DEFAULT_WORKS.join(",") },
      bytes: { type: "string", default: "256,4096" },
      "in-flight": { type: "string", default: "1,64,512" },
      nodes: { type: "string", default: "3" },
      durability: { type: "string", default: "fsync" },
      seconds: { type: "string", default: "5" },
      "warm-up": { type: "string" },
      runs: { type: "string", default: "3" },
    },
  });
  const one = (option: "nodes" | "seconds" | "runs"): number => wholeNumbers(option, values[option])[0] ?? 1;
  const nodes = one("nodes");
  // Each node compiles the same code, and all of them share the processors.
  const [warmUp = 1] = wholeNumbers("warm-up", values["warm-up"] ?? `${Math.ceil((nodes * 10) / 3)}`);
  const bytes = wholeNumbers("bytes", values.bytes);
  if (bytes.some((size) => size < 8)) throw new Error("--bytes: from 8, a body holds a time");
  const { durability } = values;
  if (durability !== "fsync" && durability !== "relaxed") throw new Error("--durability: fsync or relaxed");
  return {
    json: values.json,
    profile: values.profile,
    works: values.work.split(",").map((name) => {
      const work = WORKS.find((known) => known === name);
      if (work === undefined) throw new Error(`--work: ${name} is none of ${WORKS.join(", ")}`);
      return work;
    }),
    bytes,
    inFlight: wholeNumbers("in-flight", values["in-flight"]),
    nodes,
    durability,
    seconds: one("seconds"),
    warmUp,
    runs: one("runs"),
  };
}

/** The queue refuses what would have more than twice as many bytes wait for a quorum. */
function fewer(inFlight: number, bytes: number): number {
  return Math.max(1, Math.min(inFlight, Math.floor(IN_FLIGHT_BYTES_MAX / bytes)));
}

function casesOf({ works, bytes, inFlight }: Options): Case[] {
  return works.flatMap((work) =>
    bytes.flatMap((size): Case[] => {
      switch (work) {
        case "enqueue":
          return [...new Set(inFlight.map((count) => fewer(count, size)))].map((count) => {
            return { work, bytes: size, inFlight: count };
          });
        case "life":
        case "everywhere":
          return [{ work, bytes: size, inFlight: fewer(LIFE_IN_FLIGHT, size) }];
        case "latency":
          return [{ work, bytes: size }];
      }
    }),
  );
}

/** What all processes used meanwhile, by message, in microseconds. Steadier than any rate where the machine is shared. */
async function withCpu<T extends { readonly enqueued: number }>(
  fleet: Fleet,
  work: () => Promise<T>,
): Promise<T & { readonly cpuUs: number }> {
  const used = async (): Promise<number> => {
    const all = await Promise.all(fleet.map((node) => node.call("cpu")));
    return all.reduce((sum, one) => sum + one, 0);
  };
  const before = await used();
  const done = await work();
  return { ...done, cpuUs: ((await used()) - before) / done.enqueued };
}

/** Ends with a consumer on each node, and says how many messages those have had. */
async function warm(
  fleet: Fleet,
  { bytes, inFlight = 1 }: Case,
  { warmUp }: Options,
  producers: Fleet = [producerOf(fleet)],
): Promise<number> {
  await Promise.all(fleet.map((node) => node.call("consume", { prefetch: PREFETCH })));
  const { enqueued } = await produce(producers, { bytes, inFlight, seconds: warmUp });
  await allAcked(fleet, enqueued);
  return enqueued;
}

async function measureEnqueue(fleet: Fleet, one: Case, options: Options): Promise<Figures> {
  const args = { bytes: one.bytes, inFlight: one.inFlight ?? 1, seconds: options.seconds };
  const producer = producerOf(fleet);
  await warm(fleet, one, options);
  await Promise.all(fleet.map((node) => node.call("endConsume")));
  const { enqueued, startedAt, endedAt, p50Ms, p99Ms, cpuUs } = await withCpu(fleet, () =>
    producer.call("produce", args),
  );
  return { opsPerSecond: (enqueued * 1_000) / (endedAt - startedAt), p50Ms, p99Ms, cpuUs };
}

/** Resolves with the time of the last acknowledgement once there have been `total`. */
async function allAcked(fleet: Fleet, total: number): Promise<number> {
  let before = -1;
  let since = performance.now();
  for (;;) {
    const all = await Promise.all(fleet.map((node) => node.call("consumed")));
    const acked = all.reduce((sum, each) => sum + each.acked, 0);
    if (acked >= total) return Math.max(...all.map((each) => each.lastAckAt));
    if (acked > before) since = performance.now();
    else if (performance.now() - since > STALLED_MS) {
      throw new Error(`${acked} of ${total} messages acknowledged, and no more come: ${JSON.stringify(all)}`);
    }
    before = acked;
    await delay(20);
  }
}

/** All of `producers` at the same time. */
async function produce(
  producers: Fleet,
  args: { readonly bytes: number; readonly inFlight: number; readonly seconds: number },
): Promise<{ readonly enqueued: number; readonly startedAt: number }> {
  const made = await Promise.all(producers.map((node) => node.call("produce", args)));
  return {
    enqueued: made.reduce((sum, { enqueued }) => sum + enqueued, 0),
    startedAt: Math.min(...made.map(({ startedAt }) => startedAt)),
  };
}

async function measureLife(
  fleet: Fleet,
  one: Case,
  options: Options,
  producers: Fleet = [producerOf(fleet)],
): Promise<Figures> {
  const args = { bytes: one.bytes, inFlight: one.inFlight ?? LIFE_IN_FLIGHT, seconds: options.seconds };
  const before = await warm(fleet, one, options, producers);
  const { enqueued, startedAt, lastAckAt, cpuUs } = await withCpu(fleet, async () => {
    const made = await produce(producers, args);
    return { ...made, lastAckAt: await allAcked(fleet, before + made.enqueued) };
  });
  return { opsPerSecond: (enqueued * 1_000) / (lastAckAt - startedAt), cpuUs };
}

async function measureLatency(fleet: Fleet, one: Case, options: Options): Promise<Figures> {
  const args = { bytes: one.bytes, perSecond: LATENCY_PER_SECOND, seconds: options.seconds };
  const producer = producerOf(fleet);
  const before = await warm(fleet, one, options);
  await Promise.all(fleet.map((node) => node.call("latencies")));
  const { cpuUs } = await withCpu(fleet, async () => {
    const made = await producer.call("pace", args);
    await allAcked(fleet, before + made.enqueued);
    return made;
  });
  const latencies = (await Promise.all(fleet.map((node) => node.call("latencies")))).flat();
  latencies.sort((a, b) => a - b);
  return { p50Ms: percentile(latencies, 50), p99Ms: percentile(latencies, 99), cpuUs };
}

function measureEverywhere(fleet: Fleet, one: Case, options: Options): Promise<Figures> {
  return measureLife(fleet, one, options, fleet);
}

const MEASURE = {
  enqueue: measureEnqueue,
  life: measureLife,
  everywhere: measureEverywhere,
  latency: measureLatency,
};

async function measure(one: Case, options: Options): Promise<Row> {
  const runs: Figures[] = [];
  for (let run = 1; run <= options.runs; run += 1) {
    const label = [one.work, one.bytes, one.inFlight, `run-${run}`].filter((part) => part !== undefined);
    const figures = await withFleet<QuorumCommands, Figures>(
      {
        script: new URL("quorum-node.ts", import.meta.url),
        nodes: options.nodes,
        profile:
          options.profile === undefined ? undefined : { directory: options.profile, label: label.join("-") },
      },
      async (fleet) => {
        await join(fleet, {
          durability: options.durability,
          buffersAsHeap: one.bytes >= BUFFERS_AS_HEAP_BYTES,
        });
        return await MEASURE[one.work](fleet, one, options);
      },
    );
    console.error(`${label.join(" ")}: ${describe(figures)}`);
    runs.push(figures);
  }
  return rowOf(one, runs);
}

function rowOf(one: Case, runs: readonly Figures[]): Row {
  const medians: Record<string, number> = {};
  const spread: Record<string, Omit<Spread, "median">> = {};
  for (const name of ["opsPerSecond", "p50Ms", "p99Ms", "cpuUs"] as const) {
    const values = runs.map((figures) => figures[name]).filter((value) => value !== undefined);
    if (values.length === 0) continue;
    const { median, min, max } = spreadOf(values.map((value) => rounded(value)));
    medians[name] = median;
    spread[name] = { min, max };
  }
  return { ...one, ...medians, runs: runs.length, spread };
}

function rounded(value: number): number {
  return value >= 1_000 ? Math.round(value) : Math.round(value * 100) / 100;
}

function describe({ opsPerSecond, p50Ms, p99Ms, cpuUs }: Figures): string {
  const parts = [];
  if (opsPerSecond !== undefined) parts.push(`${text(opsPerSecond)}/s`);
  if (p50Ms !== undefined && p99Ms !== undefined) parts.push(`p50 ${text(p50Ms)} ms, p99 ${text(p99Ms)} ms`);
  if (cpuUs !== undefined) parts.push(`${text(cpuUs)} µs of processor each`);
  return parts.join(", ");
}

function text(value: number | undefined): string {
  if (value === undefined) return "-";
  return rounded(value).toLocaleString("en", { maximumFractionDigits: 2 });
}

async function main(): Promise<void> {
  const options = parseOptions();
  const rows: Row[] = [];
  for (const one of casesOf(options)) rows.push(await measure(one, options));
  const here = machine();
  console.log(
    `${here.cpu}, ${here.cores} cores, ${here.memoryGiB} GiB, Node ${here.node}; ${options.nodes} nodes, ` +
      `3 replicas, ${options.durability}; medians of ${options.runs} run${options.runs === 1 ? "" : "s"} of ${options.seconds} s\n`,
  );
  console.log(
    table(
      ["work", "bytes", "in flight", "per second", "min", "max", "p50 ms", "p99 ms", "cpu µs"],
      rows.map(({ work, bytes, inFlight, opsPerSecond, p50Ms, p99Ms, cpuUs, spread }) => [
        work,
        text(bytes),
        text(inFlight),
        text(opsPerSecond),
        text(spread.opsPerSecond?.min),
        text(spread.opsPerSecond?.max),
        text(p50Ms),
        text(p99Ms),
        text(cpuUs),
      ]),
    ),
  );
  if (options.json !== undefined)
    writeJson(options.json, { machine: here, ...commit(), durability: options.durability, results: rows });
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
