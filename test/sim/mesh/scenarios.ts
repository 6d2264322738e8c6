import type { MembershipTimes } from "../../../packages/mesh/src/core/times.ts";
import type { Rules } from "./checks.ts";
import { sleepOverSuspicion, spreadFalseDeath, stallAround } from "./faults.ts";
import { nameOf, World } from "./world.ts";
import type { WorldInit } from "./world.ts";

const MINUTE_MS = 60_000;

/** A mesh in which all see all, or the first violation of that. */
function joined(
  init: ScenarioInit,
  nodes: number,
  times: Partial<MembershipTimes> = {},
  rules: Partial<Rules> = {},
): World {
  const world = new World({ ...init, nodes, times, rules });
  world.runUntil(() => world.isConverged(), 20_000, 50);
  world.run(3_000);
  return world;
}

/** What went wrong. */
export function found(world: World): readonly string[] {
  return world.checks.violations.map(({ atMs, rule, what }) => `${atMs}: ${rule} ${what}`);
}

function told(world: World, type: string): readonly string[] {
  return world.checks.seen.filter(({ event }) => event.type === type).map(({ node }) => node);
}

export type ScenarioInit = Pick<WorldInit, "seed" | "membershipClass" | "flaws">;

/** What each of these runs finds wrong: nothing, with the real core. */
export const SCENARIOS = {
  sleepOverSuspicion: (init: ScenarioInit) => {
    const world = joined(init, 8, { probeMs: [500, 500, 500] }); // The stall has to be noticed for this.
    sleepOverSuspicion(world, world.node(1), world.node(2));
    return found(world);
  },

  /** Two that are linked with each other freeze together. */
  freezeTwo: (init: ScenarioInit) => {
    const world = joined(init, 8);
    world.node(3).pause();
    world.node(4).pause();
    world.runChecked(20_000);
    return found(world);
  },

  stallsAndLossOfTwo: (init: ScenarioInit) => {
    const world = joined(init, 2);
    world.network.lossShare = 0.4; // More than a mesh has to bear, so that it shows soon.
    const again = (): void => {
      world.node(1).stall(2_000);
      world.in(3_000, again);
    };
    again();
    world.runChecked(5 * MINUTE_MS);
    return found(world);
  },

  /** Words about a suspicion that is over keep coming, by long ways, after the member has died. */
  staleHeard: (init: ScenarioInit) => {
    const world = joined(init, 5);
    const victim = world.node(4);
    victim.pause();
    const { boot } = victim.membership.self;
    for (let atMs = 0; atMs < 20_000; atMs += 200) {
      world.in(atMs, () => {
        for (const to of [0, 1, 2, 3]) {
          const from = world.node((to + 1) % 4);
          const message = { subject: victim.name, boot, id: "old:1:1", witness: from.name };
          world.network.send(from, nameOf(to), { type: "heard", ...message });
        }
      });
    }
    world.runChecked(20_000);
    return found(world);
  },

  /** One node says of a live one that it is dead; that one is told, and nobody believes it. */
  falseDeath: (init: ScenarioInit) => {
    const world = joined(init, 4);
    spreadFalseDeath(world, 1, 0, 3);
    world.runChecked(5_000);
    const isTold = told(world, "declaredDead").join() === nameOf(3);
    return [...found(world), ...(isTold ? [] : ["the victim does not know that it was held dead"])];
  },

  splitAndHeal: (init: ScenarioInit) => {
    const world = joined(init, 24);
    world.network.split([[0, 1, 2, 3, 4, 5, 6, 7, 8].map(nameOf)]);
    world.runChecked(MINUTE_MS);
    world.network.heal();
    world.runChecked(MINUTE_MS);
    return found(world);
  },

  /** A process comes back with a boot from before, since its disk did. */
  diskGoesBack: (init: ScenarioInit) => {
    const world = joined(init, 4);
    const { boot, name } = world.node(3);
    world.node(3).kill();
    world.run(5_000);
    world.start(name, [nameOf(0)], boot - 100);
    world.runChecked(MINUTE_MS);
    const isHigher = world.node(3).boot > boot;
    return [...found(world), ...(isHigher ? [] : ["its boot went back"])];
  },

  forget: (init: ScenarioInit) => {
    const forgetMs = 2 * MINUTE_MS;
    const world = joined(init, 4, { forgetMs });
    world.node(3).kill();
    // Each that comes learns of the dead at another time.
    for (let late = 0; late < 8; late += 1) {
      world.run(20_000);
      world.start(nameOf(9)).name.at(0);
    }
    world.run(forgetMs - 8 * 20_000 + 30_000);
    const holding = world.running().filter((node) => node.sees(nameOf(3)) !== undefined);
    return holding.map(({ name }) => `${name} has not forgotten the dead`);
  },

  /** One sleeps on its own side of a partition while another dies and is forgotten. */
  wakeWithGhost: (init: ScenarioInit) => {
    const world = joined(init, 4, { forgetMs: 2 * MINUTE_MS });
    const sleeper = world.node(2);
    world.network.split([[0, 1, 3].map(nameOf)]);
    sleeper.pause();
    world.node(3).kill();
    world.run(3 * MINUTE_MS);
    sleeper.resume();
    world.network.heal();
    world.runUntil(() => world.node(0).sees(sleeper.name) === "alive", 10_000);
    world.runChecked(MINUTE_MS);
    return found(world);
  },

  stop: (init: ScenarioInit) => {
    const world = joined(init, 4);
    world.node(3).depart("stopped");
    world.runChecked(10_000);
    const wrong = world.running().filter((node) => node.sees(nameOf(3)) !== "stopped");
    return [...found(world), ...wrong.map((node) => `${node.name} sees ${node.sees(nameOf(3))}`)];
  },

  /** A cut leaves a few, most of whose list nobody there is linked with. */
  splitOffFew: (init: ScenarioInit) => {
    const world = joined(init, 60, {}, { deathMs: 18_000 });
    world.network.split([[0, 1, 2, 3].map(nameOf)]);
    world.runChecked(25_000);
    return found(world);
  },

  /** The same where they would look for the others for a long time. */
  splitOffFewOfMany: (init: ScenarioInit) => {
    const world = joined(init, 100, {}, { deathMs: 16_000 });
    world.network.split([[0, 1, 2, 3].map(nameOf)]);
    world.run(18_000);
    world.runChecked(1_000);
    return found(world).filter((line) => line.includes("MISSED_DEATH"));
  },

  /** Each in turn is cut off from all; some of them watch nobody often. */
  cutOffAlone: (init: ScenarioInit) => {
    const lines: string[] = [];
    for (const size of [4, 5, 6]) {
      for (let alone = 0; alone < size; alone += 1) {
        const world = joined(init, size);
        world.run(5_000);
        world.network.split([[nameOf(alone)]]);
        world.runChecked(20_000);
        lines.push(...found(world));
      }
    }
    return lines;
  },

  /** A partition heals while somebody is busy for 2 s whom the other side holds dead. */
  healWhileBusy: (init: ScenarioInit) => {
    const lines: string[] = [];
    for (let stalledMs = 600; stalledMs < 1_500; stalledMs += 100) {
      const world = joined(init, 8);
      world.network.split([[0, 1, 2, 3].map(nameOf)]);
      world.run(30_000);
      world.node(1).stall(2_000);
      world.run(stalledMs);
      world.network.heal();
      world.network.dial(world.node(0), nameOf(4));
      world.runChecked(10_000);
      lines.push(...found(world));
    }
    return lines;
  },

  /** A firewall goes, and at that moment the one over whom the two behind it knew of each other. */
  mendedAndAlone: (init: ScenarioInit) => {
    const lines: string[] = [];
    for (let cutMs = 1_000; cutMs < 10_000; cutMs += 1_000) {
      const world = joined(init, 3);
      world.network.cut(nameOf(0), nameOf(1));
      world.network.lossShare = 0.3; // What takes a finding back may be lost.
      world.run(cutMs);
      world.network.lossShare = 0;
      world.network.mend(nameOf(0), nameOf(1));
      world.node(2).kill();
      world.runChecked(10_000);
      lines.push(...found(world));
    }
    return lines;
  },

  /** In a chain everybody but its ends' neighbours is refused by all but two, while some are busy. */
  chainOfWalls: (init: ScenarioInit) => {
    const world = joined(init, 5);
    for (let a = 0; a < 5; a += 1) for (let b = a + 2; b < 5; b += 1) world.network.cut(nameOf(a), nameOf(b));
    world.run(20_000);
    stallAround(world, 2 * MINUTE_MS);
    world.runChecked(2 * MINUTE_MS);
    return found(world);
  },

  /** Two that held each other dead meet, and what they say of that is lost. */
  lostRefutation: (init: ScenarioInit) => {
    const world = joined(init, 2);
    world.network.split([[nameOf(0)]]);
    world.run(30_000);
    world.network.heal();
    world.network.dial(world.node(0), nameOf(1));
    world.runUntil(() => world.network.isLinked(nameOf(0), nameOf(1)), 1_000, 1);
    world.network.lossShare = 1;
    world.run(500);
    world.network.lossShare = 0;
    world.run(3_000);
    return world.allSee("alive") ? found(world) : ["they do not believe each other"];
  },

  /** A partition that becomes another one, through all pairs of parts. */
  regroup: (init: ScenarioInit) => {
    const lines: string[] = [];
    for (const moving of [0, 1, 2, 3, 4]) {
      for (const staying of [0, 1, 2, 3, 4]) {
        if (staying === moving) continue;
        const third = [0, 1, 2, 3, 4].find((index) => index !== moving && index !== staying) ?? 0;
        const world = joined(init, 5);
        world.network.split([[moving, staying, third].map(nameOf)]);
        world.run(4_500);
        world.network.split([[staying, third].map(nameOf)]);
        world.runChecked(20_000);
        lines.push(...found(world));
      }
    }
    return lines;
  },

  /** Both ends dial at once, again and again. */
  duplicates: (init: ScenarioInit) => {
    const world = joined(init, 4);
    for (let round = 0; round < 20; round += 1) {
      world.in(round * 500, () => world.network.dial(world.node(1), nameOf(2)));
    }
    world.runChecked(10_000);
    const isKnown = world.node(1).membership.member(nameOf(2))?.linked === true;
    const isLinked = world.network.isLinked(nameOf(1), nameOf(2));
    return [...found(world), ...(isKnown === isLinked ? [] : ["a link is taken for lost that is there"])];
  },

  /** A process that is busy for 2 s loses its connections at that moment. */
  stallWithoutLinks: (init: ScenarioInit) => {
    const world = joined(init, 5);
    const victim = world.node(2);
    victim.stall(2_000);
    for (const index of [0, 1, 3, 4]) world.network.disconnect(nameOf(index), victim.name, "lost on the way");
    world.runChecked(20_000);
    return found(world);
  },

  inquire: (init: ScenarioInit) => {
    const world = joined(init, 8);
    world.run(MINUTE_MS);
    const [asking, gone] = [world.node(0), world.node(7)];
    for (const [id, node] of [...world.nodes.values()].slice(1).entries()) {
      asking.enter({ type: "ask", id, peer: node.name, boot: node.boot });
    }
    world.run(2_000);
    gone.kill();
    asking.enter({ type: "ask", id: 100, peer: gone.name, boot: gone.boot });
    world.run(2_000);
    const { answers } = world.checks;
    const wrong = [...answers].filter(([id, isGone]) => isGone !== (id === 100));
    const isComplete = answers.size === 8;
    return [
      ...wrong.map(([id]) => `question ${id} is answered wrongly`),
      ...(isComplete ? [] : ["unanswered"]),
    ];
  },
};
