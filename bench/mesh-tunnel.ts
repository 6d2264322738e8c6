/** The work `tunnel` of `mesh.ts`: what passes three links of a mesh in which not all are linked. */
import { setTimeout as delay } from "node:timers/promises";
import { BenchNode, percentile } from "./harness.ts";
import type { MeshCommands } from "./mesh-node.ts";

type Node = BenchNode<MeshCommands>;

interface Member {
  readonly node: Node;
  readonly pid: number;
  readonly peerId: string;
  readonly addresses: readonly string[];
}

export interface TunnelFigures {
  /** The longest pause between two answers when a relay on the way was killed. */
  readonly pausesMs: readonly number[];
  /** What three links add to the round trip of one, at p50. */
  readonly addedP50Ms: number;
  readonly megabytesPerSecond: number;
}

/** In a ring. */
export const TUNNEL_NODES = 6;
/** Two ways of three links from the first to the fourth. */
const RING = ["12", "23", "34", "15", "56", "64"].map((pair) => pair.split("").map((node) => `node-${node}`));
const POURED_BYTES = 256 * 2 ** 20;
const ROUND_TRIPS = 500;
/** Answers that must have come before a relay is killed, and after. */
const BEATS = 20;

/** Starts a node that links as the ring says; it joins by those neighbours that run. */
async function startInRing(
  node: Node,
  before: readonly Member[],
  listen: readonly string[],
): Promise<Member> {
  const neighbours = RING.flatMap(([a, b]) => (a === node.name ? [b] : b === node.name ? [a] : []));
  const { name, dataDir } = node;
  const bootstrap = before
    .filter((member) => neighbours.includes(member.node.name))
    .flatMap((member) => member.addresses);
  const { pid } = await node.call("ready");
  const names = neighbours.filter((neighbour) => neighbour !== undefined);
  // As everybody should through whom much passes.
  const setup = { name, dataDir, listen, bootstrap, neighbours: names, buffersAsHeap: true };
  return { node, pid, ...(await node.call("start", setup)) };
}

/** Measures round trips and throughput once, and the loss of a relay so many times. */
export async function measureTunnels(
  fleet: readonly Node[],
  script: URL,
  runs: number,
): Promise<TunnelFigures> {
  let members: Member[] = [];
  for (const node of fleet) members.push(await startInRing(node, members, ["/ip4/127.0.0.1/tcp/0"]));
  try {
    await Promise.all(members.map(({ node }) => node.call("listed", { nodes: TUNNEL_NODES })));
    const [first, , , last] = members;
    if (first === undefined || last === undefined) throw new Error("no ends");
    const path = await first.node.call("reach", { peerId: last.peerId });
    const beside = members.find(({ node }) => node.name === path[1]);
    if (path.length !== 4 || beside === undefined) throw new Error(`the way is ${path.join(" ")}`);
    await first.node.call("reach", { peerId: beside.peerId });
    const p50Of = async (peerId: string): Promise<number> => {
      await first.node.call("roundTrips", { peerId, count: ROUND_TRIPS }); // To warm up.
      return percentile(await first.node.call("roundTrips", { peerId, count: ROUND_TRIPS }), 50);
    };
    const [far, near] = [await p50Of(last.peerId), await p50Of(beside.peerId)];
    const cpuMs = await processorMs(members);
    const pouredMs = await first.node.call("pour", { peerId: last.peerId, bytes: POURED_BYTES });
    const workedMs = (await processorMs(members)) - cpuMs;
    console.error(
      `tunnel: round trip ${far.toFixed(2)} ms, of one link ${near.toFixed(2)} ms; ` +
        `${(POURED_BYTES / workedMs / 1_000).toFixed(1)} MB per second of all processors' time`,
    );
    const pausesMs: number[] = [];
    for (let run = 1; run <= runs; run += 1) {
      const [pauseMs, next] = await killRelay(members, first, last, script);
      console.error(`tunnel run ${run}: a pause of ${pauseMs.toFixed(0)} ms`);
      pausesMs.push(pauseMs);
      members = next;
    }
    return {
      pausesMs,
      addedP50Ms: Math.round((far - near) * 1_000) / 1_000,
      megabytesPerSecond: Math.round(POURED_BYTES / pouredMs / 1_000),
    };
  } finally {
    await Promise.all(members.map(({ node }) => node.stop()));
  }
}

async function processorMs(members: readonly Member[]): Promise<number> {
  const usages = await Promise.all(members.map(({ node }) => node.call("usage")));
  return usages.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
}

/** Kills a relay on the way between two; the longest pause between answers, and the members with its successor. */
async function killRelay(
  members: readonly Member[],
  first: Member,
  last: Member,
  script: URL,
): Promise<[pauseMs: number, next: Member[]]> {
  const { peerId } = last;
  const path = await first.node.call("reach", { peerId });
  const relay = members.find(({ node }) => node.name === path[1]);
  if (relay === undefined) throw new Error(`the way is ${path.join(" ")}`);
  const answered = async (count: number): Promise<void> => {
    while ((await first.node.call("beats")) < count) await delay(20);
  };
  await first.node.call("beat", { peerId });
  await answered(BEATS);
  process.kill(relay.pid, "SIGKILL");
  const before = await first.node.call("beats");
  await answered(before + BEATS);
  const pause = await first.node.call("hush");
  const node: Node = new BenchNode<MeshCommands>(script, relay.node.name, relay.node.dataDir, []);
  const listen = relay.addresses.map((address) => address.replace(/\/p2p\/.*$/, ""));
  const others = members.filter((member) => member !== relay);
  const successor = await startInRing(node, others, listen);
  const next = members.map((member) => (member === relay ? successor : member));
  await Promise.all(next.map((member) => member.node.call("listed", { nodes: next.length })));
  // Links are told a moment later, and routes that were lost are avoided for a while.
  await delay(12_000);
  return [pause, next];
}
