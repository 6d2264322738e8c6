import { World } from "./world.ts";

/** Until links that nobody wants are closed. */
const SETTLE_MS = 120_000;
const REST_MS = 60_000;
const JOIN_MS_MAX = 120_000;
const DEATH_MS_MAX = 30_000;

/** Joins, rests and loses members in a mesh of this size, and prints what that took. */
export function measure(nodes: number, seed: number): void {
  const startedMs = performance.now();
  const world = new World({ seed, nodes });
  const joinMs = world.runUntil(() => world.isConverged(), JOIN_MS_MAX, 100);
  world.run(SETTLE_MS);
  world.network.isCounting = true;
  world.run(REST_MS);
  world.network.isCounting = false;
  const { sentBytes, sentFrames, sentByType: byType } = world.network;
  const perNode = (REST_MS / 1_000) * nodes;
  const killed = world.node(nodes - 1);
  killed.kill();
  const killMs = world.runUntil(() => isDead(world, killed.name), DEATH_MS_MAX, 10);
  const frozen = world.node(nodes - 2);
  frozen.pause();
  const freezeMs = world.runUntil(() => isDead(world, frozen.name), DEATH_MS_MAX, 10);
  const links = world.running().map(({ name }) => world.network.linksOf(name).length);
  console.log(
    JSON.stringify({
      nodes,
      joinMs: Math.round(joinMs),
      restBytesPerSecond: Math.round(sentBytes / perNode),
      restFramesPerSecond: Number((sentFrames / perNode).toFixed(2)),
      restPayloadByType: Object.fromEntries(
        [...byType].map(([type, bytes]) => [type, Math.round(bytes / perNode)]),
      ),
      killSeenByAllMs: Math.round(killMs),
      freezeSeenByAllMs: Math.round(freezeMs),
      linksMin: Math.min(...links),
      linksMax: Math.max(...links),
      violations: world.checks.violations.length,
      heapMiB: Math.round(process.memoryUsage().heapUsed / 2 ** 20),
      tookS: Number(((performance.now() - startedMs) / 1_000).toFixed(1)),
    }),
  );
}

function isDead(world: World, name: string): boolean {
  return world.running().every((node) => node.sees(name) === "dead");
}
