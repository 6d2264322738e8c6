/** Which faults happen when: all of it follows from the seed. */
import { SeededRandom } from "@klatsch/kit";
import { randomBelow } from "@klatsch/kit/core";
import type { Random } from "@klatsch/kit/core";

export const NODES = ["a", "b", "c", "d", "e"] as const;
export type NodeName = (typeof NODES)[number];
/** The only node whose disk is damaged: with three replicas one may be lost for good. */
export const DAMAGED: NodeName = "e";

/** Nobody of a pair hears the other, or only the second hears nothing of the first. */
export type Cut = readonly [from: NodeName, to: NodeName];

export type Fault =
  /** SIGKILL, and started again when the fault ends. */
  | { readonly type: "kill"; readonly nodes: readonly NodeName[] }
  /** SIGSTOP, and SIGCONT when the fault ends. */
  | { readonly type: "stop"; readonly nodes: readonly NodeName[] }
  | { readonly type: "cut"; readonly what: string; readonly cuts: readonly Cut[] }
  /** The wall clock goes wrong by `stepMs`, and right again when the fault ends. */
  | { readonly type: "clock"; readonly nodes: readonly NodeName[]; readonly stepMs: number }
  /** SIGKILL, the store loses its last `batches`, and a new start. */
  | { readonly type: "truncate"; readonly nodes: readonly NodeName[]; readonly batches: number };

export interface Planned {
  readonly atMs: number;
  readonly durationMs: number;
  /** One or two at once, of different nodes. */
  readonly faults: readonly Fault[];
}

const KINDS = ["kill", "kill", "stop", "stop", "cut", "cut", "cut", "clock", "truncate"] as const;
const FIRST_MS = 5_000;
/** Longer than a lease with its grace, so that those who stand still lose theirs. */
export const LEASE_MS = 4_000;
const STOP_MS_MIN = LEASE_MS + 3_000;

/** Faults one after the other until `endMs`, with rests between. */
export function plan(seed: number, endMs: number): readonly Planned[] {
  const random = new SeededRandom(seed);
  const planned: Planned[] = [];
  for (let atMs = FIRST_MS; atMs < endMs;) {
    const first = draw(random, shuffled(random));
    // A fourth comes with a second one, of nodes that the first leaves alone.
    const others = NODES.filter((node) => !touched(first).includes(node));
    const second = first.type !== "cut" && randomBelow(random, 4) === 0 ? draw(random, others) : undefined;
    const faults = second === undefined ? [first] : [first, second];
    const durationMs = STOP_MS_MIN + randomBelow(random, 8_000);
    planned.push({ atMs, durationMs, faults });
    atMs += durationMs + 1_000 + randomBelow(random, 6_000);
  }
  return planned;
}

function touched(fault: Fault): readonly NodeName[] {
  return fault.type === "cut" ? NODES : fault.nodes;
}

function draw(random: Random, candidates: readonly NodeName[]): Fault {
  const kind = KINDS[randomBelow(random, KINDS.length)] ?? "kill";
  // Mostly one; sometimes two, so that lanes lose their majority; rarely all.
  const dice = randomBelow(random, 12);
  const count = dice === 0 ? candidates.length : dice < 4 ? 2 : 1;
  const nodes = candidates.slice(0, count);
  switch (kind) {
    case "kill":
    case "stop":
      return { type: kind, nodes };
    case "clock": {
      const stepMs = [1_500, 30_000, 3_600_000][randomBelow(random, 3)] ?? 0;
      return { type: "clock", nodes, stepMs: randomBelow(random, 2) === 0 ? stepMs : -stepMs };
    }
    case "truncate":
      if (!candidates.includes(DAMAGED)) return { type: "kill", nodes };
      return { type: "truncate", nodes: [DAMAGED], batches: 1 + randomBelow(random, 40) };
    case "cut":
      return cut(random, shuffled(random));
  }
}

/** Halves, one alone, a ring in which each hears two others, or one direction of one pair. */
function cut(random: Random, order: readonly NodeName[]): Fault {
  const at = (index: number): NodeName => order[index % order.length] ?? "a";
  switch (randomBelow(random, 4)) {
    case 0:
      return split(order.slice(0, 2), order.slice(2));
    case 1:
      return split(order.slice(0, 1), order.slice(1));
    case 2: {
      const across = order.flatMap((node, index) => [[node, at(index + 2)] as const]);
      const cuts = across.flatMap(([from, to]) => [[from, to] as const, [to, from] as const]);
      return { type: "cut", what: `ring ${order.join("")}`, cuts };
    }
    default:
      return { type: "cut", what: `${at(0)} unheard by ${at(1)}`, cuts: [[at(0), at(1)]] };
  }
}

function split(here: readonly NodeName[], there: readonly NodeName[]): Fault {
  const cuts = here.flatMap((a) => there.flatMap((b) => [[a, b] as const, [b, a] as const]));
  return { type: "cut", what: `${here.join("")}|${there.join("")}`, cuts };
}

function shuffled(random: Random): readonly NodeName[] {
  const left: NodeName[] = [...NODES];
  return NODES.flatMap(() => left.splice(randomBelow(random, left.length), 1));
}

/** One line for people. */
export function describe(fault: Fault): string {
  switch (fault.type) {
    case "cut":
      return `cut ${fault.what}`;
    case "clock":
      return `clock ${fault.stepMs / 1_000} s ${fault.nodes.join("")}`;
    case "truncate":
      return `truncate ${fault.batches} batches ${fault.nodes.join("")}`;
    case "kill":
    case "stop":
      return `${fault.type} ${fault.nodes.join("")}`;
  }
}
