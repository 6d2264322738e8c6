import { describe, expect, it } from "vitest";
import type { MembershipTimes } from "../../../packages/mesh/src/core/times.ts";
import { spreadFalseDeath, stallAround } from "./faults.ts";
import { found } from "./scenarios.ts";
import { nameOf, World } from "./world.ts";

const MINUTE_MS = 60_000;
const NODES = 40;

function joined(seed: number, nodes = NODES, times: Partial<MembershipTimes> = {}): World {
  const world = new World({ seed, nodes, times });
  world.runUntil(() => world.isConverged(), 20_000, 100);
  world.run(5_000);
  return world;
}

function isDead(world: World, names: readonly string[]): boolean {
  return world.running().every((node) => names.every((name) => node.sees(name) === "dead"));
}

describe.each([1, 2])("a mesh of 40 that is not full, seed %i", (seed) => {
  it("is connected by few links, and quiet", () => {
    const world = joined(seed);
    world.runChecked(3 * MINUTE_MS, 10_000);
    const links = world.running().map(({ name }) => world.network.linksOf(name).length);
    const degree = Math.ceil(2 * Math.log2(NODES));
    expect(Math.max(...links)).toBeLessThanOrEqual(2 * degree);
    expect(Math.min(...links)).toBeGreaterThanOrEqual(degree / 2);
    expect(world.partsByLinks()).toBe(1);
    expect(found(world)).toEqual([]);
  });

  it("has room for a newcomer, though everybody keeps a link with everybody else", () => {
    const world = new World({
      seed,
      nodes: NODES,
      cloudOf: (index) => (index === NODES ? "other" : "default"),
    });
    world.runUntil(() => world.isConverged(), 20_000, 100);
    for (const a of world.running()) {
      for (const b of world.running()) {
        if (a !== b) a.enter({ type: "attend", peer: b.name, on: true, closely: false });
      }
    }
    const size = world.running().length;
    const isFull = (): boolean =>
      world.running().every(({ name }) => world.network.linksOf(name).length >= size - 1);
    expect(world.runUntil(isFull, MINUTE_MS, 100)).toBeLessThan(MINUTE_MS);
    world.run(2 * MINUTE_MS); // None of them is too many.
    expect(isFull()).toBe(true);
    world.start(nameOf(NODES));
    world.run(1_000);
    expect(world.runUntil(() => world.allSee("alive"), MINUTE_MS, 100)).toBeLessThan(MINUTE_MS);
    expect(found(world)).toEqual([]);
  });

  it("sees at once that some were killed, and soon that some froze", () => {
    const world = joined(seed);
    const killed = [7, 23, 31].map((index) => world.node(index));
    for (const node of killed) node.kill();
    const names = killed.map(({ name }) => name);
    expect(world.runUntil(() => isDead(world, names), 1_500)).toBeLessThan(1_500);
    const frozen = [11, 12, 13].map((index) => world.node(index));
    for (const node of frozen) node.pause();
    expect(
      world.runUntil(
        () =>
          isDead(
            world,
            frozen.map(({ name }) => name),
          ),
        6_000,
      ),
    ).toBeLessThan(6_000);
    world.runChecked(MINUTE_MS);
    expect(world.partsByLinks()).toBe(1);
    expect(found(world)).toEqual([]);
  });

  it.each([
    ["stalls of 2 s", 0, true],
    ["30 % loss", 0.3, false],
    ["both", 0.3, true],
  ])("never convicts a live node under %s", (_what, lossShare, stalls) => {
    const world = joined(seed);
    world.network.lossShare = lossShare;
    if (stalls) stallAround(world, MINUTE_MS);
    world.runChecked(MINUTE_MS, 5_000);
    world.network.lossShare = 0;
    world.run(15_000);
    expect(found(world)).toEqual([]);
    expect(world.isConverged()).toBe(true);
  });

  it.each([20, 8, 3])("splits off %i, agrees on both sides who is left, and merges by itself", (count) => {
    const world = joined(seed);
    world.network.split([Array.from({ length: count }, (_, index) => nameOf(index))]);
    world.runChecked(MINUTE_MS);
    expect(found(world)).toEqual([]);
    world.network.heal();
    const tookMs = world.runUntil(() => world.isConverged(), 10_000);
    expect(tookMs).toBeLessThan(10_000);
    world.runChecked(MINUTE_MS);
    expect(found(world)).toEqual([]);
    expect(world.partsByLinks()).toBe(1);
  });

  it("does not believe what one node says of a death", () => {
    const world = joined(seed);
    for (let liar = 1; liar < 10; liar += 1) {
      for (const peer of world.network.linksOf(nameOf(liar)))
        spreadFalseDeath(world, liar, indexOf(peer), 38 - liar);
    }
    world.runChecked(10_000);
    expect(found(world)).toEqual([]);
    expect(world.isConverged()).toBe(true);
  });

  it("is full again when few are left", () => {
    const world = joined(seed);
    for (let index = 10; index < NODES; index += 1) world.node(index).depart("left");
    world.run(30_000);
    expect(world.isFullMesh()).toBe(true);
    expect(found(world)).toEqual([]);
  });
});

function indexOf(name: string): number {
  return Number(name.slice(1));
}
