/**
 * How fast a mesh of real processes on loopback notices what happens, and what it costs when nothing does.
 * Times are of the monotonic clock (`process.hrtime`), which all processes of a machine share.
 *
 * - `join`: from telling all processes, which run already, to call `createMesh` until the last has the full
 *   list. All know one address to join by, and nobody listens on it before. Each run has fresh processes.
 * - `sigkill`: from killing one until the last of the others sees it dead. A new process takes its place.
 * - `sigstop`: the same for a process that is paused, and from its SIGCONT until all see it alive again.
 * - `state`: from saying something of a node until the last of the others can read it, each node five times (what it
 *   may say in a row); and the same for shared entries, which are on the writer's disk first.
 * - `tunnel`: a frame there and back over three links, and what that adds to one link; megabytes per second over
 *   three links; and the longest pause between answers when a relay on the way is killed, another way being there.
 * - `rest`: what crosses the loopback interface (headers included) for each node, and the nodes' processor
 *   time and memory, after a quiet time.
 *
 * The p99 of fewer than 100 runs is the worst of them.
 *
 * Where `unshare` allows it, all of this runs in a network namespace of its own, so that nobody else's bytes
 * are counted.
 */
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createMesh } from "@klatsch/mesh";
import {
  BenchNode,
  commit,
  machine,
  percentile,
  spreadOf,
  table,
  wholeNumbers,
  withFleet,
  writeJson,
} from "./harness.ts";
import type { FleetInit } from "./harness.ts";
import { measureTunnels, TUNNEL_NODES } from "./mesh-tunnel.ts";
import type { TunnelFigures } from "./mesh-tunnel.ts";
import type { MeshCommands, Sight } from "./mesh-node.ts";
import { sharedMs } from "./serve.ts";

/** Says that this process runs in a network namespace made for it. */
const NAMESPACE_VARIABLE = "KLATSCH_BENCH_NAMESPACE";
const SCRIPT = new URL("mesh-node.ts", import.meta.url);

type Node = BenchNode<MeshCommands>;
type Work = "join" | "sigkill" | "sigstop" | "state" | "rest" | "tunnel";
const WORKS: readonly Work[] = ["join", "sigkill", "sigstop", "state", "rest", "tunnel"];
/** What a node may say of itself in a row. */
const SAYINGS = 5;

interface Options {
  readonly json: string | undefined;
  /** Directory for the nodes' CPU profiles. */
  readonly profile: string | undefined;
  readonly works: readonly Work[];
  readonly nodes: number;
  readonly runs: number;
  readonly quiet: number;
  readonly seconds: number;
}

/** A node of the mesh, and what its process is. */
interface Member {
  readonly node: Node;
  readonly pid: number;
  readonly peerId: string;
  readonly addresses: readonly string[];
}

interface Row {
  readonly work: Work;
  readonly nodes: number;
  readonly runs: number;
  /** One minute's load of the machine when this began; it is not ours alone. */
  readonly loadBefore: number;
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  readonly minMs?: number;
  readonly maxMs?: number;
  /** `join`: until each has a link to every other. */
  readonly linkedP50Ms?: number;
  readonly linkedP99Ms?: number;
  /** `join`: until the last `createMesh` came back, and what a node's processor worked until all were linked. */
  readonly createdP50Ms?: number;
  readonly cpuP50Ms?: number;
  /** `state`: until the last could read a shared entry. */
  readonly sharedP50Ms?: number;
  readonly sharedP99Ms?: number;
  /** `sigstop`: from SIGCONT until all see it alive again. */
  readonly refutedP50Ms?: number;
  readonly refutedP99Ms?: number;
  /** Views of others as dead that were not. */
  readonly falseDeaths?: number;
  readonly bytesPerSecond?: number;
  readonly cpuPercent?: number;
  readonly cpuPercentMax?: number;
  readonly rssBytes?: number;
  /** `tunnel`: what three links add to the round trip of one, and what passes them. The times are pauses. */
  readonly addedP50Ms?: number;
  readonly megabytesPerSecond?: number;
}

function parseOptions(): Options {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      profile: { type: "string" },
      work: { type: "string", default: WORKS.join(",") },
      nodes: { type: "string", default: "20" },
      runs: { type: "string", default: "3" },
      quiet: { type: "string", default: "30" },
      seconds: { type: "string", default: "60" },
    },
  });
  const one = (option: "nodes" | "runs" | "quiet" | "seconds"): number =>
    wholeNumbers(option, values[option])[0] ?? 1;
  if (one("nodes") < 2) throw new Error("--nodes: from 2");
  return {
    json: values.json,
    profile: values.profile,
    works: values.work.split(",").map((name) => {
      const work = WORKS.find((known) => known === name);
      if (work === undefined) throw new Error(`--work: ${name} is none of ${WORKS.join(", ")}`);
      return work;
    }),
    nodes: one("nodes"),
    runs: one("runs"),
    quiet: one("quiet"),
    seconds: one("seconds"),
  };
}

/** The address that `node` will have: its identity is made here, its process listens on it later. */
async function addressOf({ name, dataDir }: Node): Promise<string> {
  await using mesh = await createMesh({ name, dataDir });
  const [address] = mesh.addresses();
  if (address === undefined) throw new Error(`${name} has no address`);
  return address;
}

interface Joined {
  readonly members: readonly Member[];
  /** Until the last `createMesh` came back. */
  readonly createdMs: number;
  readonly listedMs: number;
  readonly linkedMs: number;
  /** Processor time that a node spent on it, in milliseconds. */
  readonly cpuMs: number;
}

/** Tells all to join at once. Resolves when each has a link to every other. */
async function join(fleet: readonly Node[]): Promise<Joined> {
  const nodes = fleet.length;
  const [seed] = fleet;
  if (seed === undefined) throw new Error("no nodes");
  const pids = await Promise.all(fleet.map((node) => node.call("ready")));
  const bootstrap = [await addressOf(seed)];
  const listen = bootstrap.map((address) => address.replace(/\/p2p\/.*$/, ""));
  const cpuMs = async (): Promise<number> => {
    const usages = await Promise.all(fleet.map((node) => node.call("usage")));
    return usages.reduce((sum, usage) => sum + usage.cpuMs, 0) / nodes;
  };
  const cpuBeforeMs = await cpuMs();
  let createdAt = 0;
  const startedAt = sharedMs();
  const told = fleet.map(async (node, index) => {
    const { name, dataDir } = node;
    const own = node === seed ? listen : ["/ip4/127.0.0.1/tcp/0"];
    const started = await node.call("start", { name, dataDir, listen: own, bootstrap });
    createdAt = sharedMs();
    return { node, pid: pids[index]?.pid ?? 0, ...started };
  });
  // Asked before it is so: a later question would add its own way to the time.
  const [members, listed, linked] = await Promise.all([
    Promise.all(told),
    Promise.all(fleet.map((node) => node.call("listed", { nodes }))),
    Promise.all(fleet.map((node) => node.call("linked", { nodes }))),
  ]);
  return {
    members,
    createdMs: createdAt - startedAt,
    listedMs: Math.max(...listed) - startedAt,
    linkedMs: Math.max(...linked) - startedAt,
    cpuMs: (await cpuMs()) - cpuBeforeMs,
  };
}

/** Does something to `victim` and gives the time until the last of the others saw what came of it. */
async function seenByAll(
  others: readonly Member[],
  victim: Member,
  sight: Sight,
  act: () => void,
): Promise<number> {
  const sinceMs = sharedMs();
  const told = others.map(({ node }) => node.call("saw", { peerId: victim.peerId, sight, sinceMs }));
  await Promise.all(others.map(({ node }) => node.call("ready"))); // All have heard the question.
  const actedAt = sharedMs();
  act();
  return Math.max(...(await Promise.all(told))) - actedAt;
}

async function allLinked(members: readonly Member[]): Promise<void> {
  const nodes = members.length;
  await Promise.all(members.map(({ node }) => node.call("linked", { nodes })));
}

async function falseDeathsOf(members: readonly Member[], expected: number): Promise<number> {
  const counts = await Promise.all(members.map(({ node }) => node.call("deaths")));
  return counts.reduce((sum, count) => sum + count, 0) - expected;
}

type Times = Required<Pick<Row, "p50Ms" | "p99Ms" | "minMs" | "maxMs">>;
type Figures = Omit<Row, "work" | "nodes" | "runs" | "loadBefore">;

function timesOf(values: readonly number[], perMs = 1): Times {
  const rounded = values.map((value) => Math.round(value * perMs) / perMs).sort((a, b) => a - b);
  const { median, min, max } = spreadOf(rounded);
  return { p50Ms: median, p99Ms: percentile(rounded, 99), minMs: min, maxMs: max };
}

function fleetOf({ nodes, profile }: Options, label: string): FleetInit {
  const directory = profile === undefined ? undefined : { directory: profile, label };
  return { script: SCRIPT, nodes, profile: directory };
}

async function measureJoin(options: Options): Promise<Figures> {
  const joins: Omit<Joined, "members">[] = [];
  for (let run = 1; run <= options.runs; run += 1) {
    const joined = await withFleet<MeshCommands, Joined>(fleetOf(options, `join-${run}`), join);
    console.error(
      `join run ${run}: ${text(joined.listedMs)} ms, links ${text(joined.linkedMs)} ms, the last ` +
        `createMesh ${text(joined.createdMs)} ms, processor ${text(joined.cpuMs)} ms for each node`,
    );
    joins.push(joined);
  }
  const medianOf = (values: readonly number[]): number => Math.round(spreadOf(values).median);
  const linked = timesOf(joins.map(({ linkedMs }) => linkedMs));
  return {
    ...timesOf(joins.map(({ listedMs }) => listedMs)),
    linkedP50Ms: linked.p50Ms,
    linkedP99Ms: linked.p99Ms,
    createdP50Ms: medianOf(joins.map(({ createdMs }) => createdMs)),
    cpuP50Ms: medianOf(joins.map(({ cpuMs }) => cpuMs)),
  };
}

/** The process that takes the place of a dead one: the same disk, a higher boot. */
async function replace({ node, addresses }: Member, bootstrap: readonly string[]): Promise<Member> {
  const { name, dataDir } = node;
  const next: Node = new BenchNode<MeshCommands>(SCRIPT, name, dataDir, []);
  const { pid } = await next.call("ready");
  const listen = addresses.map((address) => address.replace(/\/p2p\/.*$/, ""));
  return { node: next, pid, ...(await next.call("start", { name, dataDir, listen, bootstrap })) };
}

async function measureSigkill(options: Options): Promise<Figures> {
  const { nodes, runs } = options;
  return await withFleet<MeshCommands, Figures>(fleetOf(options, "sigkill"), async (fleet) => {
    let { members } = await join(fleet);
    const times: number[] = [];
    let falseDeaths = 0;
    try {
      for (let run = 1; run <= runs; run += 1) {
        const victim = members[run % nodes];
        if (victim === undefined) throw new Error("no victim");
        const others = members.filter((member) => member !== victim);
        const before = await falseDeathsOf(others, 0);
        const time = await seenByAll(others, victim, "died", () => process.kill(victim.pid, "SIGKILL"));
        console.error(`sigkill run ${run}: ${text(time)} ms`);
        times.push(time);
        const bootstrap = others[0]?.addresses ?? [];
        const next = await replace(victim, bootstrap);
        members = members.map((member) => (member === victim ? next : member));
        await allLinked(members);
        falseDeaths += await falseDeathsOf(others, before + others.length);
      }
      return { ...timesOf(times), falseDeaths };
    } finally {
      await Promise.all(members.map(({ node }) => node.stop()));
    }
  });
}

async function measureSigstop(options: Options): Promise<Figures> {
  const { nodes, runs } = options;
  return await withFleet<MeshCommands, Figures>(fleetOf(options, "sigstop"), async (fleet) => {
    const { members } = await join(fleet);
    const died: number[] = [];
    const refuted: number[] = [];
    for (let run = 1; run <= runs; run += 1) {
      const victim = members[run % nodes];
      if (victim === undefined) throw new Error("no victim");
      const others = members.filter((member) => member !== victim);
      try {
        died.push(await seenByAll(others, victim, "died", () => process.kill(victim.pid, "SIGSTOP")));
        refuted.push(await seenByAll(others, victim, "back", () => process.kill(victim.pid, "SIGCONT")));
      } finally {
        process.kill(victim.pid, "SIGCONT"); // A paused process would not end.
      }
      console.error(`sigstop run ${run}: ${text(died.at(-1))} ms, back after ${text(refuted.at(-1))} ms`);
      await allLinked(members);
    }
    const back = timesOf(refuted);
    return {
      ...timesOf(died),
      refutedP50Ms: back.p50Ms,
      refutedP99Ms: back.p99Ms,
      falseDeaths: await falseDeathsOf(members, runs * (nodes - 1)),
    };
  });
}

/** From saying something until the last of the others can read it. */
async function saidToAll(
  members: readonly Member[],
  speaker: Member,
  value: number,
  shared: boolean,
): Promise<number> {
  const { peerId } = speaker;
  const saying = { key: "bench", value, shared };
  const others = members.filter((member) => member !== speaker);
  const told = others.map(({ node }) => node.call("heard", { ...saying, peerId }));
  await Promise.all(others.map(({ node }) => node.call("ready"))); // All have heard the question.
  const saidAt = await speaker.node.call("say", saying);
  return Math.max(...(await Promise.all(told))) - saidAt;
}

async function measureState(options: Options): Promise<Figures> {
  return await withFleet<MeshCommands, Figures>(fleetOf(options, "state"), async (fleet) => {
    const { members } = await join(fleet);
    await delay(options.quiet * 1_000);
    const own: number[] = [];
    const shared: number[] = [];
    for (let round = 1; round <= SAYINGS; round += 1) {
      for (const speaker of members) {
        own.push(await saidToAll(members, speaker, round, false));
        shared.push(await saidToAll(members, speaker, shared.length, true));
      }
    }
    const { p50Ms: sharedP50Ms, p99Ms: sharedP99Ms } = timesOf(shared, 10);
    return { ...timesOf(own, 10), sharedP50Ms, sharedP99Ms };
  });
}

/** Bytes that left through the loopback interface, headers included, since it is up. */
async function loopbackBytes(): Promise<number> {
  const line = /^\s*lo:(.*)$/m.exec(await readFile("/proc/net/dev", "utf8"))?.[1];
  const bytes = Number(line?.trim().split(/\s+/)[8]);
  if (!Number.isFinite(bytes)) throw new Error("/proc/net/dev says nothing about lo");
  return bytes;
}

async function measureRest(options: Options): Promise<Figures> {
  const { nodes, quiet, seconds } = options;
  return await withFleet<MeshCommands, Figures>(fleetOf(options, "rest"), async (fleet) => {
    const { members } = await join(fleet);
    await delay(quiet * 1_000);
    const sample = async () => ({
      atMs: sharedMs(),
      bytes: await loopbackBytes(),
      usage: await Promise.all(fleet.map((node) => node.call("usage"))),
    });
    const before = await sample();
    await delay(seconds * 1_000);
    const after = await sample();
    const elapsedMs = after.atMs - before.atMs;
    const percents = after.usage.map(
      ({ cpuMs }, index) => ((cpuMs - (before.usage[index]?.cpuMs ?? 0)) * 100) / elapsedMs,
    );
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / nodes;
    return {
      bytesPerSecond: Math.round(((after.bytes - before.bytes) * 1_000) / elapsedMs / nodes),
      cpuPercent: Math.round(mean(percents) * 1_000) / 1_000,
      cpuPercentMax: Math.round(Math.max(...percents) * 1_000) / 1_000,
      rssBytes: Math.round(mean(after.usage.map(({ rssBytes }) => rssBytes))),
      falseDeaths: await falseDeathsOf(members, 0),
    };
  });
}

async function measureTunnel(options: Options): Promise<Figures> {
  const fleetInit = { ...fleetOf(options, "tunnel"), nodes: TUNNEL_NODES };
  const { pausesMs, ...figures } = await withFleet<MeshCommands, TunnelFigures>(fleetInit, (fleet) =>
    measureTunnels(fleet, SCRIPT, options.runs),
  );
  return { ...timesOf(pausesMs), ...figures };
}

const MEASURE = {
  join: measureJoin,
  sigkill: measureSigkill,
  sigstop: measureSigstop,
  state: measureState,
  rest: measureRest,
  tunnel: measureTunnel,
};

function text(value: number | undefined, digits = 0): string {
  return value === undefined ? "-" : value.toLocaleString("en", { maximumFractionDigits: digits });
}

function report(rows: readonly Row[]): string {
  return table(
    [
      "work",
      "nodes",
      "runs",
      "p50 ms",
      "p99 ms",
      "then p50",
      "then p99",
      "B/s",
      "MB/s",
      "+ ms",
      "CPU %",
      "MiB",
      "false",
      "load",
    ],
    rows.map((row) => [
      row.work,
      text(row.nodes),
      text(row.runs),
      text(row.p50Ms, 1),
      text(row.p99Ms, 1),
      text(row.linkedP50Ms ?? row.refutedP50Ms ?? row.sharedP50Ms, 1),
      text(row.linkedP99Ms ?? row.refutedP99Ms ?? row.sharedP99Ms, 1),
      text(row.bytesPerSecond),
      text(row.megabytesPerSecond),
      text(row.addedP50Ms, 2),
      text(row.cpuPercent, 2),
      text(row.rssBytes === undefined ? undefined : row.rssBytes / 2 ** 20),
      text(row.falseDeaths),
      text(row.loadBefore, 1),
    ]),
  );
}

function runsOf(work: Work, { nodes, runs }: Options): number {
  if (work === "rest") return 1;
  return work === "state" ? nodes * SAYINGS : runs;
}

async function main(): Promise<void> {
  const options = parseOptions();
  const network = process.env[NAMESPACE_VARIABLE] === undefined ? "the machine's loopback" : "own namespace";
  const results: Row[] = [];
  for (const work of options.works) {
    const loadBefore = Math.round((loadavg()[0] ?? 0) * 10) / 10;
    const figures = await MEASURE[work](options);
    const runs = runsOf(work, options);
    results.push({ work, nodes: options.nodes, runs, loadBefore, ...figures });
  }
  const here = machine();
  console.log(
    `${here.cpu}, ${here.cores} cores, ${here.memoryGiB} GiB, Node ${here.node}; network: ${network}\n` +
      "tunnel: p50 and p99 of the pause when a relay is killed; + ms, what three links add to a round trip of one\n" +
      "then: join, until each has a link to every other; sigstop, from SIGCONT until all see it alive;\n" +
      "state: own entries until all others read them, then shared ones\n",
  );
  console.log(report(results));
  if (options.json !== undefined) {
    writeJson(options.json, { machine: here, network, ...commit(), results });
  }
}

/** Runs this program again in a network namespace; `undefined` where that is not allowed. */
function inNamespace(): number | undefined {
  const unshare = (script: string, ...args: readonly string[]) =>
    spawnSync("unshare", ["-rn", "sh", "-c", script, ...args], {
      stdio: args.length === 0 ? "ignore" : "inherit",
      env: { ...process.env, [NAMESPACE_VARIABLE]: "1" },
    });
  if (unshare("ip link set lo up").status !== 0) return undefined;
  process.on("SIGINT", () => undefined); // It goes to the whole group; the program inside tidies up.
  const program = [process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)];
  return unshare('ip link set lo up && exec "$0" "$@"', ...program, ...process.argv.slice(2)).status ?? 1;
}

try {
  const status = process.env[NAMESPACE_VARIABLE] === undefined ? inNamespace() : undefined;
  if (status === undefined) await main();
  else process.exitCode = status;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
