import type { StateCore } from "../../../packages/mesh/src/core/state/state-core.ts";
import { DAY_MS, MINUTE_MS, World } from "./world.ts";
import type { Violation } from "./world.ts";

/** A story that a seed fills in; it ends with what has to hold. */
export type Scenario = (seed: number, coreClass?: typeof StateCore) => Violation | undefined;

/** Writes, deletions, loss, links that come and go, crashes, a wrong clock, a forger; then quiet. */
export const chaos: Scenario = (seed, coreClass) => {
  const world = new World({ seed, coreClass });
  const { nodes } = world;
  for (const node of nodes) node.aheadMs = world.below(20_000) - 10_000;
  world.node(0).aheadMs = world.below(2) === 0 ? 0 : 5 * MINUTE_MS;
  world.lossShare = 0.2;
  world.delayMsMax = 1 + world.below(800);
  for (let event = 0; event < 120 && world.violation === undefined; event += 1) {
    const [a, b] = [world.below(nodes.length), world.below(nodes.length)];
    const kind = world.below(100);
    if (kind < 35) world.writeOwn(world.node(a), world.below(3) === 0);
    else if (kind < 65) world.writeShared(world.node(a), world.below(3) === 0);
    else if (kind < 78) world.connect(a, b);
    else if (kind < 90) world.cut(a, b);
    else if (kind < 93) world.forge(world.node(a), world.node(b));
    else if (kind < 96) world.restart(a);
    else world.run(12 * MINUTE_MS); // Long enough for deletions to be forgotten by their owner.
    world.run(world.below(1_000));
  }
  return settle(world);
};

/** A process that starts with a boot that others have seen: its disk and clock went back. */
export const lowBoot: Scenario = (seed, coreClass) => {
  const world = new World({ seed, coreClass });
  for (let round = 0; round < 5; round += 1) {
    world.writeOwn(world.node(0), false);
    world.run(1_000);
  }
  world.node(0).bootFallsBy = 1 + world.below(2);
  world.restart(0);
  world.connect(0, 1);
  world.connect(0, 4);
  world.writeOwn(world.node(0), false);
  return settle(world);
};

/** What was deleted while a node was away for weeks, and its deletion forgotten, does not come back with it. */
export const longAway: Scenario = (seed, coreClass) => {
  const world = new World({ seed, coreClass });
  const [key = ""] = world.sharedKeys;
  world.writeShared(world.node(0), false, key);
  world.run(5_000);
  world.kill(4);
  world.writeShared(world.node(1), true, key);
  world.run(5_000);
  const days = 10 + world.below(50);
  for (let day = 0; day < days; day += 1) world.leap(DAY_MS);
  for (const { name, core } of world.nodes) {
    if (days > 31 && core?.shared(key) !== undefined)
      world.violate("FORGETS", `${name} remembers after ${days} days`);
  }
  world.restart(4);
  // What it writes itself before it has caught up is as good as anything.
  world.writeShared(world.node(4), false, world.sharedKeys[1]);
  world.connect(4, world.below(4));
  world.run(2 * MINUTE_MS);
  for (const { name, core } of world.nodes) {
    if (core?.shared(key)?.value !== undefined)
      world.violate("UNDEAD", `${name} has ${key} after ${days} days`);
    if (core?.shared(world.sharedKeys[1] ?? "")?.value === undefined) {
      world.violate("CONVERGES", `${name} lacks what the returned one wrote`);
    }
  }
  return settle(world);
};

/** Nodes that restart every few weeks forget deletions as well. */
export const restartsForWeeks: Scenario = (seed, coreClass) => {
  const world = new World({ seed, coreClass, size: 3 });
  const [key = ""] = world.sharedKeys;
  world.writeShared(world.node(0), false, key);
  world.run(3_000);
  world.writeShared(world.node(1), true, key);
  for (let day = 0; day < 40; day += 1) {
    world.leap(DAY_MS);
    if (day % 9 !== 8) continue;
    const index = world.below(3);
    world.restart(index);
    for (let other = 0; other < 3; other += 1) world.connect(index, other);
  }
  world.run(10_000);
  for (const { name, core } of world.nodes) {
    if (core?.shared(key) !== undefined) world.violate("FORGETS", `${name} remembers after 40 days`);
  }
  return settle(world);
};

export const SCENARIOS: Readonly<Record<string, Scenario>> = { chaos, lowBoot, longAway, restartsForWeeks };

/** Everything works again: all have to agree before long. */
function settle(world: World): Violation | undefined {
  world.lossShare = 0;
  world.delayMsMax = 20;
  // What was written ahead of time counts once that time has come.
  const aheadMs = Math.max(...world.nodes.map((node) => node.aheadMs));
  for (const node of world.nodes) node.aheadMs = Math.min(node.aheadMs, 10_000);
  for (let index = 0; index < world.nodes.length; index += 1) {
    if (!world.node(index).running) world.restart(index);
  }
  for (let index = 0; index < world.nodes.length; index += 1) {
    // Anew: hellos tell the clocks as they are now.
    const next = (index + 1) % world.nodes.length;
    world.cut(index, next);
    world.connect(index, next);
  }
  world.run(aheadMs + 3 * MINUTE_MS);
  world.checkContent();
  world.checkConverged();
  return world.violation;
}
