/**
 * What very many queues cost that see a message now and then: three nodes, three replicas, each queue consumed on one
 * node, a steady few messages a second over all of them, entered on the first node.
 *
 * - latency: from the call of `enqueue` to the call of the handler.
 * - of each node: lanes it writes and keeps, files and bytes on its disk, resident memory.
 */
import { parseArgs } from "node:util";
import { commit, machine, percentile, table, wholeNumbers, withFleet, writeJson } from "./harness.ts";
import { join, producerOf } from "./quorum-fleet.ts";
import type { Fleet } from "./quorum-fleet.ts";
import type { Footprint, QuorumCommands } from "./quorum-node.ts";

const NODES = 3;
const BODY_BYTES = 256;

interface Figures {
  readonly queues: number;
  readonly messages: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of one processor, all nodes together. */
  readonly cpuPercent: number;
  readonly nodes: readonly Footprint[];
}

async function measure(
  fleet: Fleet,
  options: { queues: number; perSecond: number; seconds: number },
): Promise<Figures> {
  const { queues, perSecond, seconds } = options;
  await join(fleet);
  const producer = producerOf(fleet);
  await producer.call("declareMany", { queues });
  await Promise.all(
    fleet.map((node, from) => node.call("consumeMany", { queues, from, step: fleet.length })),
  );
  const used = async (): Promise<number> => {
    const all = await Promise.all(fleet.map((node) => node.call("cpu")));
    return all.reduce((sum, one) => sum + one, 0);
  };
  const before = await used();
  const startedAt = performance.now();
  const { enqueued } = await producer.call("paceMany", { queues, bytes: BODY_BYTES, perSecond, seconds });
  const cpuPercent = ((await used()) - before) / (performance.now() - startedAt) / 10;
  const latencies = (await Promise.all(fleet.map((node) => node.call("latencies")))).flat();
  latencies.sort((a, b) => a - b);
  return {
    queues,
    messages: enqueued,
    p50Ms: percentile(latencies, 50),
    p99Ms: percentile(latencies, 99),
    cpuPercent,
    nodes: await Promise.all(fleet.map((node) => node.call("footprint"))),
  };
}

const { values } = parseArgs({
  options: {
    queues: { type: "string", default: "1000" },
    "per-second": { type: "string", default: "10" },
    seconds: { type: "string", default: "60" },
    json: { type: "string" },
  },
});
const one = (option: "queues" | "per-second" | "seconds"): number =>
  wholeNumbers(option, values[option])[0] ?? 1;
const options = { queues: one("queues"), perSecond: one("per-second"), seconds: one("seconds") };
const figures = await withFleet<QuorumCommands, Figures>(
  { script: new URL("quorum-node.ts", import.meta.url), nodes: NODES },
  (fleet) => measure(fleet, options),
);
const { queues, messages, p50Ms, p99Ms, cpuPercent } = figures;
console.log(
  `${queues} queues, ${messages} messages: p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ` +
    `${cpuPercent.toFixed(1)} % of a processor on all nodes together\n`,
);
console.log(
  table(
    ["node", "lanes written", "lanes kept", "files", "disk MiB", "resident MiB"],
    figures.nodes.map(({ lanesWritten, lanesKept, files, diskMiB, memoryMiB }, at) =>
      [at + 1, lanesWritten, lanesKept, files, diskMiB, memoryMiB].map(String),
    ),
  ),
);
if (values.json !== undefined)
  writeJson(values.json, { machine: machine(), ...commit(), results: [figures] });
