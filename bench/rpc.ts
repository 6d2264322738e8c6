/**
 * How fast calls are between processes on loopback, encrypted as always. Each run has fresh processes and a
 * warm-up of the same kind, `--warm-up` seconds long (for a stream 64 MiB), that is not counted: until their code is compiled.
 *
 * - `ask`: calls per second that are answered with what they sent, so many at a time, and how long each took; one at a
 *   time also beside a bare echo over libp2p between the same processes, in turns.
 * - `cast`: to 10 other processes, from the call of `cast` to the last of their handlers, one at a time; the stamps
 *   are of the monotonic clock that all processes of a machine share.
 * - `gather`: 20 processes count themselves, one gather after the other. In the end 3 of them are killed while one
 *   is under way, and its account has to be exact.
 * - `stream`: items per second of one stream that the other end reads to the end.
 */
import { parseArgs } from "node:util";
import {
  BUFFERS_AS_HEAP_BYTES,
  commit,
  machine,
  spreadOf,
  table,
  wholeNumbers,
  withFleet,
  writeJson,
} from "./harness.ts";
import type { BenchNode, Spread } from "./harness.ts";
import type { RpcCommands } from "./rpc-node.ts";

type Work = "ask" | "cast" | "gather" | "stream";
const WORKS: readonly Work[] = ["ask", "cast", "gather", "stream"];
/** Processes of each work, the caller included. */
const NODES: Readonly<Record<Work, number>> = { ask: 2, cast: 11, gather: 20, stream: 2 };
const KILLED = 3;
const READY_MS_MAX = 120_000;
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
  /** The same of the bare echo. */
  readonly echoP50Ms?: number;
  readonly echoP99Ms?: number;
  /** Processor time for each, of the calling process or (cast, gather) of all; microseconds. Comparable on a busy machine too. */
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
    "warm-up": { type: "string", default: "10" },
    mebibytes: { type: "string", default: "1024" },
    runs: { type: "string", default: "3" },
  },
});

const [seconds = 3] = wholeNumbers("seconds", values.seconds);
const [warmUp = 10] = wholeNumbers("warm-up", values["warm-up"]);
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
    ...(works.includes("gather") ? [{ work: "gather", bytes: 9, inFlight: 1 } as const] : []),
    ...(works.includes("stream") ? [{ work: "stream", bytes: STREAM_ITEM_BYTES } as const] : []),
  ];
}

type Fleet = readonly BenchNode<RpcCommands>[];
type Started = Awaited<ReturnType<RpcCommands["start"]>>;

/** Starts all, `a` first, and waits until each has its links. */
async function join(fleet: Fleet, bytes: number): Promise<readonly Started[]> {
  const [first, ...others] = fleet;
  if (first === undefined) throw new Error("no nodes");
  const buffersAsHeap = bytes >= BUFFERS_AS_HEAP_BYTES;
  const a = await first.call("start", { name: "a", dataDir: first.dataDir, bootstrap: [], buffersAsHeap });
  const rest = await Promise.all(
    others.map(
      async (node, no) =>
        await node.call("start", {
          name: `b${no}`,
          dataDir: node.dataDir,
          bootstrap: a.addresses,
          buffersAsHeap,
        }),
    ),
  );
  // In a mesh of more than 16 not everybody is linked with everybody; some have few links.
  const links = 3 * (fleet.length > 16 ? 4 : fleet.length - 1);
  const endMs = performance.now() + READY_MS_MAX;
  for (const node of fleet) {
    while ((await node.call("links")) < links || (await node.call("members")) < fleet.length) {
      if (performance.now() > endMs)
        throw new Error(
          `${node.name} has ${await node.call("links")} sessions and knows ${await node.call("members")}`,
        );
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return [a, ...rest];
}

async function measure(one: Case, fleet: Fleet): Promise<Figures> {
  const [a, b] = fleet;
  if (a === undefined || b === undefined) throw new Error("two nodes are needed");
  const started = await join(fleet, one.bytes);
  const peer = started[1]?.peerId ?? "";
  const inFlight = one.inFlight ?? 1;
  switch (one.work) {
    case "stream":
      await a.call("stream", { peer, size: one.bytes, totalBytes: 64 * 2 ** 20 });
      return await a.call("stream", { peer, size: one.bytes, totalBytes: mebibytes * 2 ** 20 });
    case "cast":
      await a.call("cast", { targets: fleet.length - 1, seconds: warmUp });
      return await counted(fleet, async () => await a.call("cast", { targets: fleet.length - 1, seconds }));
    case "gather": {
      await a.call("gather", { members: fleet.length, seconds: warmUp });
      const figures = await counted(
        fleet,
        async () => await a.call("gather", { members: fleet.length, seconds }),
      );
      await checkAccount(a, started);
      return figures;
    }
    case "ask": {
      await a.call("ask", { peer, size: one.bytes, inFlight, seconds: warmUp });
      const figures = await a.call("ask", { peer, size: one.bytes, inFlight, seconds });
      if (inFlight > 1) return figures;
      const address = await b.call("serveEcho");
      await a.call("compare", { peer, address, size: one.bytes, seconds: warmUp });
      return { ...figures, ...(await a.call("compare", { peer, address, size: one.bytes, seconds })) };
    }
  }
}

/** With the processor time of all processes for each operation. */
async function counted(
  fleet: Fleet,
  run: () => Promise<Figures & { readonly count: number }>,
): Promise<Figures> {
  const total = async (): Promise<number> =>
    (await Promise.all(fleet.map(async (node) => await node.call("cpuUs")))).reduce((sum, us) => sum + us, 0);
  const before = await total();
  const { count, ...figures } = await run();
  return { ...figures, cpuUs: ((await total()) - before) / count };
}

/** Kills some while a gather is under way: all others have to be among the answered, and everybody in one list only. */
async function checkAccount(a: BenchNode<RpcCommands>, started: readonly Started[]): Promise<void> {
  const asked = a.call("account", 200);
  await new Promise((resolve) => setTimeout(resolve, 50));
  for (const { pid } of started.slice(-KILLED)) process.kill(pid, "SIGKILL");
  const { answered, failed, missing, values } = await asked;
  const names = ["a", ...started.slice(1).map((_, no) => `b${no}`)].toSorted();
  const all = [...answered, ...failed, ...missing].toSorted();
  if (all.join() !== names.join()) throw new Error(`the account has ${all.join()}`);
  if (values.toSorted().join() !== answered.toSorted().join())
    throw new Error(`the result has ${values.join()}, and ${answered.join()} answered`);
  const killed = new Set(started.slice(-KILLED).map((_, no) => `b${started.length - 1 - KILLED + no}`));
  const lost = [...failed, ...missing].filter((name) => !killed.has(name));
  if (lost.length > 0) throw new Error(`${lost.join()} live and were not heard`);
}

async function row(one: Case): Promise<Row> {
  const all: Figures[] = [];
  for (let run = 0; run < runs; run += 1) {
    const label = `${one.work}-${one.bytes}-${one.inFlight ?? 1}-${run}`;
    const profile = values.profile === undefined ? undefined : { directory: values.profile, label };
    const script = new URL("rpc-node.ts", import.meta.url);
    all.push(
      await withFleet<RpcCommands, Figures>(
        { script, nodes: NODES[one.work], profile },
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
    [
      "work",
      "bytes",
      "in flight",
      "ops/s",
      "p50 ms",
      "p99 ms",
      "echo p50",
      "echo p99",
      "cpu µs",
      "MB/s",
      "held MiB",
      "resident MiB",
    ],
    results.map((one) => [
      one.work,
      `${one.bytes}`,
      `${one.inFlight ?? 1}`,
      cell(one.opsPerSecond, 0),
      cell(one.p50Ms, 3),
      cell(one.p99Ms, 3),
      cell(one.echoP50Ms, 3),
      cell(one.echoP99Ms, 3),
      cell(one.cpuUs, 1),
      cell(one.megabytesPerSecond, 0),
      cell(one.heldBytes === undefined ? undefined : one.heldBytes / 2 ** 20, 1),
      cell(one.residentBytes === undefined ? undefined : one.residentBytes / 2 ** 20, 1),
    ]),
  ),
);
if (values.json !== undefined) writeJson(values.json, { machine: machine(), ...commit(), results });
