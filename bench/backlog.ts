/**
 * What a queue costs whose consumers are away: three nodes, three replicas, one producer, nobody who consumes.
 * Then all three processes end at once and start again on the same disks, and consumers come.
 *
 * - `fill`: messages per second of the first and the last tenth of the backlog.
 * - `memory`: resident memory of each process with the whole backlog on its disk.
 * - `ready`: from the start of the processes until each has its queue back and sees the others, and until the
 *   first message is delivered.
 * - `drain`: messages per second that one consumer on each node takes from the backlog.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { BenchNode, commit, machine, table, wholeNumbers, withFleet, writeJson } from "./harness.ts";
import type { QuorumCommands } from "./quorum-node.ts";

const SCRIPT = new URL("quorum-node.ts", import.meta.url);
const NODES = 3;
const IN_FLIGHT = 512;
const PREFETCH = 1_024;

type Fleet = readonly BenchNode<QuorumCommands>[];

interface Figures {
  readonly messages: number;
  readonly bytes: number;
  readonly firstTenthPerSecond: number;
  readonly lastTenthPerSecond: number;
  readonly memoryMiB: readonly number[];
  readonly readyMs: number;
  readonly firstDeliveryMs: number;
  readonly memoryAfterRestartMiB: readonly number[];
  readonly drainPerSecond: number;
}

/** Starts the nodes one by one. Where each listens. */
async function start(fleet: Fleet): Promise<readonly (readonly string[])[]> {
  const addresses: (readonly string[])[] = [];
  for (const node of fleet) {
    const { name, dataDir } = node;
    addresses.push(await node.call("start", { name, dataDir, bootstrap: addresses[0] ?? [] }));
  }
  await seeOthers(fleet);
  return addresses;
}

/** Starts all of them at once, where they listened before. */
async function startAgain(fleet: Fleet, addresses: readonly (readonly string[])[]): Promise<void> {
  const bootstrap = addresses[0] ?? [];
  await Promise.all(
    fleet.map((node, at) => {
      const { name, dataDir } = node;
      const listen = addresses[at]?.map((address) => address.replace(/\/p2p\/[^/]+$/, "")) ?? [];
      return node.call("start", { name, dataDir, bootstrap: at === 0 ? [] : bootstrap, listen });
    }),
  );
  await seeOthers(fleet);
}

async function seeOthers(fleet: Fleet): Promise<void> {
  await Promise.all(fleet.map((node) => node.call("seeOthers", { others: fleet.length - 1 })));
}

async function memoryOf(fleet: Fleet): Promise<readonly number[]> {
  const bytes = await Promise.all(fleet.map((node) => node.call("memory")));
  return bytes.map((one) => Math.round(one / 2 ** 20));
}

async function acked(fleet: Fleet): Promise<number> {
  const all = await Promise.all(fleet.map((node) => node.call("consumed")));
  return all.reduce((sum, one) => sum + one.acked, 0);
}

async function measure(fleet: Fleet, messages: number, bytes: number, seconds: number): Promise<Figures> {
  const addresses = await start(fleet);
  const [producer] = fleet;
  const tenths = (await producer?.call("fill", { bytes, messages, inFlight: IN_FLIGHT })) ?? [];
  const perSecond = (ms: number | undefined): number => Math.round((messages * 100) / (ms ?? Infinity));
  const memoryMiB = await memoryOf(fleet);
  console.error(`filled; resident ${memoryMiB.join(", ")} MiB`);
  await Promise.all(fleet.map((node) => node.stop()));
  const again = fleet.map(({ name, dataDir }) => new BenchNode<QuorumCommands>(SCRIPT, name, dataDir, []));
  try {
    const startedAt = performance.now();
    await startAgain(again, addresses);
    const readyMs = Math.round(performance.now() - startedAt);
    console.error(`ready again after ${readyMs} ms`);
    await Promise.all(again.map((node) => node.call("consume", { prefetch: PREFETCH })));
    while ((await acked(again)) === 0) await delay(20);
    const firstDeliveryMs = Math.round(performance.now() - startedAt);
    const before = await acked(again);
    const drainedFrom = performance.now();
    await delay(seconds * 1_000);
    const drained = (await acked(again)) - before;
    return {
      messages,
      bytes,
      firstTenthPerSecond: perSecond(tenths[0]),
      lastTenthPerSecond: perSecond(tenths.at(-1)),
      memoryMiB,
      readyMs,
      firstDeliveryMs,
      memoryAfterRestartMiB: await memoryOf(again),
      drainPerSecond: Math.round((drained * 1_000) / (performance.now() - drainedFrom)),
    };
  } finally {
    await Promise.all(again.map((node) => node.stop()));
  }
}

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "2000000" },
    bytes: { type: "string", default: "256" },
    seconds: { type: "string", default: "10" },
    json: { type: "string" },
  },
});
const [messages = 0] = wholeNumbers("messages", values.messages);
const [bytes = 0] = wholeNumbers("bytes", values.bytes);
const [seconds = 0] = wholeNumbers("seconds", values.seconds);
const figures = await withFleet<QuorumCommands, Figures>({ script: SCRIPT, nodes: NODES }, (fleet) =>
  measure(fleet, messages, bytes, seconds),
);
console.log(
  table(
    ["", ""],
    Object.entries(figures).map(([name, value]) => [name, String(value)]),
  ),
);
if (values.json !== undefined)
  writeJson(values.json, { machine: machine(), ...commit(), results: [figures] });
