import { randomBelow } from "@klatsch/kit/core";
import type { SimNode } from "./node.ts";
import { nameOf } from "./world.ts";
import type { World } from "./world.ts";

/** Blocks one node in ten for two seconds at a time, with a second between. */
export function stallAround(world: World, durationMs: number): void {
  const untilMs = world.nowMs + durationMs;
  const again = (): void => {
    if (world.nowMs > untilMs) return;
    const nodes = world.running();
    nodes[randomBelow(world.random, nodes.length)]?.stall(2_000);
    world.in((3_000 * 10) / nodes.length, again);
  };
  again();
}

/** Somebody claims that a live member is dead. */
export function spreadFalseDeath(world: World, liar: number, told: number, victim: number): void {
  const record = world.node(victim).membership.self;
  world.network.send(world.node(liar), nameOf(told), {
    type: "views",
    views: [{ ...record, status: "dead", ageMs: 0 }],
  });
}

/** A node falls asleep while it suspects another, whose refutation then waits in its socket behind its own timers. */
export function sleepOverSuspicion(world: World, sleeper: SimNode, suspect: SimNode): void {
  suspect.stall(2_000);
  world.runUntil(() => sleeper.sees(suspect.name) === "suspect", 5_000);
  sleeper.stall(10_000);
  world.run(30_000);
}

const KINDS = [
  "kill",
  "restart",
  "stall",
  "freeze",
  "loss",
  "cut",
  "split",
  "silence",
  "depart",
  "flap",
] as const;

/** One random fault with a beginning and, later, an end. */
export function breakSomething(world: World): void {
  const { random, network } = world;
  const nodes = world.running();
  if (nodes.length === 0) return; // All are frozen, or on their way back.
  const pick = (): SimNode => nodes[randomBelow(random, nodes.length)]!;
  const [a, b] = [pick(), pick()];
  const durationMs = 500 + randomBelow(random, 20_000);
  const kind = KINDS[randomBelow(random, KINDS.length)]!;
  world.note(`${kind} ${a.name} ${b.name} for ${durationMs} ms`);
  switch (kind) {
    case "kill":
      if (nodes.length <= 2) return;
      a.kill();
      world.in(durationMs, () => restart(world, a.name));
      return;
    case "restart":
      restart(world, a.name);
      return;
    case "stall":
      a.stall(Math.min(durationMs, 2_000));
      return;
    case "freeze":
      a.stall(durationMs);
      return;
    case "loss":
      network.lossShare = 0.3;
      world.in(durationMs, () => (network.lossShare = 0));
      return;
    case "cut":
      if (a === b) return;
      network.cut(a.name, b.name);
      world.in(durationMs, () => network.mend(a.name, b.name));
      return;
    case "silence":
      if (a === b) return;
      network.silence(a.name, b.name);
      world.in(durationMs, () => network.mend(a.name, b.name));
      return;
    case "split":
      split(world);
      world.in(durationMs, () => network.heal());
      return;
    case "depart":
      if (nodes.length <= 2) return;
      a.depart(randomBelow(random, 2) === 0 ? "stopped" : "left");
      world.in(durationMs, () => restart(world, a.name));
      return;
    case "flap":
      for (let flap = 0; flap < 10; flap += 1) {
        world.in(flap * 300, () => network.disconnect(a.name, b.name, "flap"));
      }
  }
}

/** Cuts the network into two or three parts of any size. */
function split(world: World): void {
  const { random } = world;
  const parts = 2 + randomBelow(random, 2);
  const groups: string[][] = Array.from({ length: parts }, () => []);
  for (const name of world.nodes.keys()) groups[randomBelow(random, parts)]!.push(name);
  world.network.split(groups);
}

/** Starts a process again, which knows a few addresses. */
function restart(world: World, name: string): void {
  const seeds = [...world.nodes.keys()].filter((other) => other !== name);
  world.start(name, seeds.slice(0, 5));
}
