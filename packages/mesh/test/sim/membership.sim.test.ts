import { randomBelow } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";
import type { MembershipTimes } from "../../src/core/times.ts";
import { World } from "./world.ts";

const SEEDS = [1, 2, 3, 4, 5];
const MINUTE_MS = 60_000;

function joined(seed: number, size: number, times: Partial<MembershipTimes> = {}): World {
  const world = new World({ seed, size, times });
  world.runUntil(() => world.allSee("alive") && isFullMesh(world), 10_000);
  return world;
}

function isFullMesh(world: World): boolean {
  return world
    .running()
    .every((node) =>
      node.membership.members().every(({ record, linked }) => linked || record.peer === node.name),
    );
}

/** Blocks one node in ten for two seconds at a time, with a second between. */
function stallAround(world: World, durationMs: number): void {
  const until = world.nowMs + durationMs;
  const again = (): void => {
    if (world.nowMs > until) return;
    const nodes = world.running();
    nodes[randomBelow(world.random, nodes.length)]?.stall(2_000);
    world.after((3_000 * 10) / nodes.length, again);
  };
  again();
}

/** n01 believes that n03 is dead, and says so. */
function spreadFalseDeath(world: World): void {
  const record = world.node(3).membership.self;
  world.send(world.node(1), "n00", { type: "views", views: [{ ...record, status: "dead", ageMs: 0 }] });
  world.run(5_000);
}

/** n01 falls asleep while it suspects n02, whose refutation then waits in its socket behind its own timers. */
function sleepOverSuspicion(world: World): void {
  const suspecting = world.node(1);
  world.mayDie = (_node, peer) => peer === "n01";
  world.node(2).stall(2_000);
  world.runUntil(() => suspecting.sees("n02") === "suspect", 5_000);
  suspecting.stall(10_000);
  world.run(30_000);
}

/**
 * n02 sleeps on its own side of a partition while n03 dies and is forgotten by all others. It wakes up and links
 * again, and nothing has told it yet that its old connections are dead.
 */
function wakeWithGhost(world: World): World {
  world.mayDie = () => true;
  world.partition([0, 1, 3]);
  const sleeper = world.node(2);
  sleeper.pause();
  world.node(3).kill();
  world.run(3 * MINUTE_MS);
  expect([0, 1].map((index) => world.node(index).sees("n03"))).toEqual([undefined, undefined]);
  world.seen.length = 0;
  sleeper.resume();
  world.heal();
  world.runUntil(() => world.node(0).sees("n02") === "alive", 10_000);
  world.run(MINUTE_MS);
  return world;
}

/** What the others saw of n03 since. */
function ghosts(world: World): string[] {
  return world.seen.flatMap(({ node, event }) =>
    node !== "n02" && "member" in event && event.member.record.peer === "n03" ? [event.type] : [],
  );
}

describe.each(SEEDS)("membership, seed %i", (seed) => {
  it.each([2, 3, 8, 16])("joins %i nodes into a full mesh by one seed address", (size) => {
    const world = joined(seed, size);
    world.run(MINUTE_MS);
    expect(world.violations).toEqual([]);
    expect(world.seen.filter(({ event }) => event.type === "linkDown" || event.type === "suspected")).toEqual(
      [],
    );
  });

  it.each([
    ["stalls of 2 s", 0, true],
    ["30 % loss", 0.3, false],
    ["both", 0.3, true],
  ])("never convicts a live node under %s", (_what, lossShare, stalls) => {
    const world = joined(seed, 8);
    world.lossShare = lossShare;
    if (stalls) stallAround(world, 5 * MINUTE_MS);
    world.run(5 * MINUTE_MS);
    world.lossShare = 0;
    world.run(15_000);
    expect(world.violations).toEqual([]);
    expect(world.allSee("alive")).toBe(true);
  });

  it.each([
    [2, 1],
    [3, 1],
    [3, 2],
    [8, 1],
    [8, 6],
  ])("sees in a mesh of %i that %i were killed", (size, killed) => {
    const world = joined(seed, size);
    const victims = Array.from({ length: killed }, (_, index) => world.node(size - 1 - index));
    world.mayDie = (_node, peer) => victims.some(({ name }) => name === peer);
    for (const victim of victims) victim.kill();
    const tookMs = world.runUntil(
      () => world.running().every((node) => victims.every(({ name }) => node.sees(name) === "dead")),
      1_500,
    );
    expect(tookMs).toBeLessThan(1_000);
    expect(world.violations).toEqual([]);
    // And it stays so: nobody brings the dead back.
    world.run(MINUTE_MS);
    expect(world.running().every((node) => victims.every(({ name }) => node.sees(name) === "dead"))).toBe(
      true,
    );
  });

  it.each([
    [2, 9_000],
    [3, 9_000],
    [8, 6_000],
  ])("sees in a mesh of %i that a node is frozen, and takes it back when it wakes", (size, limitMs) => {
    const world = joined(seed, size);
    const frozen = world.node(1);
    world.mayDie = (_node, peer) => peer === frozen.name;
    frozen.pause();
    world.runUntil(() => world.running().every((node) => node.sees(frozen.name) === "dead"), limitMs);
    world.run(20_000);
    frozen.resume();
    world.runUntil(() => world.allSee("alive") && isFullMesh(world), 10_000);
    world.run(1_000);
    expect(world.violations).toEqual([]);
    // It is told, once: whoever held a lease in its place has to know.
    const told = world.seen.filter(
      ({ node, event }) => node === frozen.name && event.type === "declaredDead",
    );
    expect(told.length).toBe(1);
  });

  it("goes on in both halves of a partition and merges by itself when it heals", () => {
    const world = joined(seed, 8);
    const halves = [
      [0, 1, 2],
      [3, 4, 5, 6, 7],
    ];
    world.mayDie = (node, peer) => !world.connected(node, peer);
    world.partition(...halves);
    world.runUntil(
      () =>
        world
          .running()
          .every((node) =>
            world
              .running()
              .every(
                (other) =>
                  node === other ||
                  node.sees(other.name) === (world.connected(node.name, other.name) ? "alive" : "dead"),
              ),
          ),
      12_000,
    );
    world.run(MINUTE_MS);
    world.heal();
    world.mayDie = () => true; // Views of before the heal still arrive; that they are refuted is what counts.
    world.runUntil(() => world.allSee("alive") && isFullMesh(world), 10_000);
    world.run(MINUTE_MS);
    expect(world.allSee("alive")).toBe(true);
    expect(world.violations).toEqual([]);
  });

  it("knows a restarted process by its higher boot", () => {
    const world = joined(seed, 4);
    const old = world.node(3);
    world.mayDie = (_node, peer) => peer === old.name;
    old.kill();
    world.run(200); // Quicker than the verdict.
    const { boot } = world.start(old.name).membership.self;
    world.runUntil(() => world.allSee("alive") && isFullMesh(world), 5_000);
    expect(world.running().every((node) => node.membership.member(old.name)?.record.boot === boot)).toBe(
      true,
    );
    world.run(MINUTE_MS);
    expect(world.violations).toEqual([]);
    expect(world.allSee("alive")).toBe(true);
  });

  it.each(["stopped", "left"] as const)("sees a planned end as %s, never as a death", (status) => {
    const world = joined(seed, 5);
    world.node(4).enter({ type: "depart", status });
    world.run(MINUTE_MS);
    expect(world.running().map((node) => node.sees("n04"))).toEqual([status, status, status, status]);
    expect(world.violations).toEqual([]);
  });

  it("keeps a member alive that only one other cannot reach", () => {
    const world = joined(seed, 4);
    world.cut("n01", "n02");
    world.run(5 * MINUTE_MS);
    expect(world.violations).toEqual([]);
    expect(world.allSee("alive")).toBe(true);
    expect(world.node(1).membership.member("n02")?.linked).toBe(false);
    world.mayDie = (_node, peer) => peer === "n02";
    world.node(2).kill();
    world.runUntil(() => world.running().every((node) => node.sees("n02") === "dead"), 1_500);
  });

  it("does not believe a report of a death that it knows better, and tells the one it is about", () => {
    const world = joined(seed, 4);
    spreadFalseDeath(world);
    expect(world.violations).toEqual([]);
    expect(world.seen.filter(({ event }) => event.type === "declaredDead").map(({ node }) => node)).toEqual([
      "n03",
    ]);
    expect(world.running().map((node) => node.membership.member("n03")?.record.inc)).toEqual([1, 1, 1, 1]);
  });

  it("does not convict anybody for its own sleep", () => {
    const world = joined(seed, 8, { probeMs: [500, 500, 500] }); // The stall has to be noticed for this.
    sleepOverSuspicion(world);
    expect(world.violations).toEqual([]);
    world.runUntil(() => world.allSee("alive"), 10_000);
  });

  it("believes a third party that somebody left only once it is gone", () => {
    const world = joined(seed, 4);
    const left = { ...world.node(3).membership.self, status: "left", ageMs: 0 } as const;
    world.send(world.node(1), "n00", { type: "views", views: [left] });
    world.run(5_000);
    expect(world.running().map((node) => node.membership.member("n03")?.record.inc)).toEqual([1, 1, 1, 1]);
    expect(world.seen.filter(({ event }) => event.type === "left")).toEqual([]);
    expect(world.allSee("alive")).toBe(true);
  });

  it("forgets the dead, everywhere, and nobody tells of them again", () => {
    const world = joined(seed, 4, { forgetMs: 2 * MINUTE_MS });
    world.mayDie = () => true;
    world.node(3).kill();
    world.run(3 * MINUTE_MS);
    expect(world.running().map((node) => node.sees("n03"))).toEqual([undefined, undefined, undefined]);
    const late = world.start("n09");
    world.runUntil(() => world.allSee("alive"), 10_000);
    expect(late.sees("n03")).toBeUndefined();
    expect(world.violations).toEqual([]);
  });
});

describe.each(SEEDS)("a list that is complete before the links are, seed %i", (seed) => {
  it("lists everybody after one link each, and links while nobody joins", () => {
    const world = new World({ seed, size: 20 });
    const linksOf = (): number =>
      world.running().flatMap(({ membership }) => membership.members().filter(({ linked }) => linked)).length;
    world.runUntil(() => world.allSee("alive"), 1_000);
    expect(linksOf()).toBeLessThan(4 * 20); // Two ends each: about a star.
    world.runUntil(() => isFullMesh(world), 10_000);
    world.run(MINUTE_MS);
    expect(world.violations).toEqual([]);
  });

  it("never tells of a ghost that a sleeper remembers", () => {
    expect(ghosts(wakeWithGhost(joined(seed, 4, { forgetMs: 2 * MINUTE_MS })))).toEqual([]);
  });

  it("never convicts a newcomer that only those cannot reach who never could", () => {
    const world = joined(seed, 5);
    for (const index of [1, 2, 3]) world.cut(`n0${index}`, "n09");
    world.start("n09");
    world.runUntil(() => world.allSee("alive"), 1_000);
    world.run(5 * MINUTE_MS);
    expect(world.violations).toEqual([]);
    expect(world.allSee("alive")).toBe(true);
  });

  it("sees a newcomer dead that is killed before more than one is linked to it", () => {
    const world = joined(seed, 5);
    const late = world.start("n09");
    world.runUntil(() => world.running().every((node) => node.sees("n09") !== undefined), 1_000);
    world.mayDie = (_node, peer) => peer === "n09";
    late.kill();
    world.runUntil(() => world.running().every((node) => node.sees("n09") === "dead"), 1_500);
    expect(world.violations).toEqual([]);
  });
});

describe("the checks above", () => {
  it("catch a core that vouches for those it only heard of", () => {
    const world = joined(1, 4, { forgetMs: 2 * MINUTE_MS });
    world.corrupt = (message) =>
      message.type === "views"
        ? { ...message, views: message.views.map((view) => ({ ...view, vouched: true })) }
        : message;
    expect(ghosts(wakeWithGhost(world))).not.toEqual([]);
  });

  it("catch a core that does not know that it slept", () => {
    const world = joined(1, 8, { probeMs: [500, 500, 500], lateMs: Infinity });
    sleepOverSuspicion(world);
    expect(world.violations).not.toEqual([]);
  });

  it("catch a core that convicts as if all had confirmed", () => {
    const found = SEEDS.map((seed) => {
      const world = joined(seed, 8, { suspicionMsMin: 900, suspicionMsMax: 900 });
      stallAround(world, MINUTE_MS);
      world.run(MINUTE_MS);
      return world.violations.length;
    });
    expect(Math.max(...found)).toBeGreaterThan(0);
  });

  it("catch a core that believes any report of a death", () => {
    const world = joined(1, 4, { heardMs: -1 });
    spreadFalseDeath(world);
    expect(world.violations).not.toEqual([]);
  });

  it("catch a core that takes one refused redial by one node for proof", () => {
    const world = joined(1, 4, { goneNeeded: 1 });
    world.cut("n01", "n02");
    world.run(MINUTE_MS);
    expect(world.violations).not.toEqual([]);
  });
});
