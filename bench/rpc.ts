/**
 * How fast calls are between two processes on loopback, encrypted as always. Each run has fresh processes and a
 * warm-up of the same kind that is not counted.
 *
 * - `ask`: calls per second that are answered with what they sent, so many at a time, and how long each took.
 * - `cast`: from the call of `cast` to the call of the other's handler, one at a time; both stamps are of the
 *   monotonic clock that all processes of a machine share.
 * - `stream`: items per second of one stream that the other end reads to the end.
 */
import { parseArgs } from "node:util";
import { commit, machine, spreadOf, table, wholeNumbers, withFleet, writeJson } from "./harness.ts";
import type { BenchNode, Spread } from "./harness.ts";
import type { RpcCommands } from "./rpc-node.ts";

type Work = "ask" | "cast" | "stream";
const WORKS: readonly Work[] = ["ask", "cast", "stream"];
const STREAM_ITEM_BYTES = 32 * 1_024 - 64;

interface Case {
  readonly work: Work;
  readonly bytes: number;
  readonly inFlight?: number;
}

interface Figures {
  readonly opsPerSecond: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  /** Processor time of the calling process for each, in microseconds: comparable on a busy machine too. */
  readonly cpuUs?: number;
  readonly megabytesPerSecond?: number;
  /** Growth over the run: heap and array buffers after a collection, and resident. */
  readonly heldBytes?: number;
  readonly residentBytes?: number;
}

interface Row extends Case, Figures {
  readonly runs: number;
  readonly spread: { readonly [Name in keyof Figures]: Spread };
}

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    profile: { type: "string" },
    work: { type: "string", default: WORKS.join(",") },
    bytes: { type: "string", default: "256,4096" },
    "in-flight": { type: "string", default: "1,64" },
    seconds: { type: "string", default: "3" },
    mebibytes: { type: "string", default: "1024" },
    runs: { type: "string", default: "3" },
  },
});

const [seconds = 3] = wholeNumbers("seconds", values.seconds);
const [runs = 3] = wholeNumbers("runs", values.runs);
const [mebibytes = 1_024] = wholeNumbers("mebibytes", values.mebibytes);

function cases(): Case[] {
  const works = values.work.split(",");
  const asks = wholeNumbers("bytes", values.bytes).flatMap((bytes) =>
    wholeNumbers("in-flight", values["in-flight"]).map((inFlight): Case => ({
      work: "ask",
      bytes,
      inFlight,
    })),
  );
  return [
    ...(works.includes("ask") ? asks : []),
    ...(works.includes("cast") ? [{ work: "cast", bytes: 9, inFlight: 1 } as const] : []),
    ...(works.includes("stream") ? [{ work: "stream", bytes: STREAM_ITEM_BYTES } as const] : []),
  ];
}

async function measure(one: Case, [a, b]: readonly BenchNode<RpcCommands>[]): Promise<Figures> {
  if (a === undefined || b === undefined) throw new Error("two nodes are needed");
  const first = await b.call("start", { name: "b", dataDir: b.dataDir, bootstrap: [] });
  await a.call("start", { name: "a", dataDir: a.dataDir, bootstrap: first.addresses });
  while ((await a.call("links")) < 3) await new Promise((resolve) => setTimeout(resolve, 20));
  const peer = first.peerId;
  if (one.work === "stream") {
    await a.call("stream", { peer, size: one.bytes, totalBytes: 64 * 2 ** 20 });
    return await a.call("stream", { peer, size: one.bytes, totalBytes: mebibytes * 2 ** 20 });
  }
  const inFlight = one.inFlight ?? 1;
  if (one.work === "cast") {
    await a.call("cast", { peer, seconds: 1 });
    return await a.call("cast", { peer, seconds });
  }
  await a.call("ask", { peer, size: one.bytes, inFlight, seconds: 1 });
  return await a.call("ask", { peer, size: one.bytes, inFlight, seconds });
}

async function row(one: Case): Promise<Row> {
  const all: Figures[] = [];
  for (let run = 0; run < runs; run += 1) {
    const label = `${one.work}-${one.bytes}-${one.inFlight ?? 1}-${run}`;
    const profile = values.profile === undefined ? undefined : { directory: values.profile, label };
    const script = new URL("rpc-node.ts", import.meta.url);
    all.push(
      await withFleet<RpcCommands, Figures>(
        { script, nodes: 2, profile },
        async (fleet) => await measure(one, fleet),
      ),
    );
  }
  const names = Object.keys(all[0] ?? {}) as (keyof Figures)[];
  const spread = Object.fromEntries(
    names.map((name) => [name, spreadOf(all.map((figures) => figures[name] ?? Number.NaN))]),
  ) as Row["spread"];
  const medians = Object.fromEntries(names.map((name) => [name, spread[name]?.median])) as unknown as Figures;
  return { ...one, ...medians, runs, spread };
}

const results: Row[] = [];
for (const one of cases()) results.push(await row(one));

const cell = (value: number | undefined, digits: number): string =>
  value === undefined ? "" : value.toFixed(digits);
console.log(
  table(
    ["work", "bytes", "in flight", "ops/s", "p50 ms", "p99 ms", "cpu µs", "MB/s", "held MiB", "resident MiB"],
    results.map((one) => [
      one.work,
      `${one.bytes}`,
      `${one.inFlight ?? 1}`,
      cell(one.opsPerSecond, 0),
      cell(one.p50Ms, 3),
      cell(one.p99Ms, 3),
      cell(one.cpuUs, 1),
      cell(one.megabytesPerSecond, 0),
      cell(one.heldBytes === undefined ? undefined : one.heldBytes / 2 ** 20, 1),
      cell(one.residentBytes === undefined ? undefined : one.residentBytes / 2 ** 20, 1),
    ]),
  ),
);
if (values.json !== undefined) writeJson(values.json, { machine: machine(), ...commit(), results });
