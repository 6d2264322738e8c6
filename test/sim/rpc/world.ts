import { randomBelow, SeededRandom } from "@klatsch/kit";

import { Gather } from "../../../packages/rpc/src/core/gather.ts";
import type { GatherEffect, GatherInput, Part } from "../../../packages/rpc/src/core/gather.ts";
import type { Forest } from "../../../packages/rpc/src/core/tree.ts";

export interface WorldInit {
  readonly seed: number;
  readonly nodes: number;
  readonly fanout: number;
  readonly deadlineMs: number;
  /** Delay of one hop: fixed, and what chance adds at most, in milliseconds. */
  readonly delayMs: number;
  readonly jitterMs: number;
  /** Links of each node, from which nodes are as many hops apart as it takes. 0: all have links with all. */
  readonly degree: number;
  /** In how many of a hundred a node dies, and in how many a link breaks, at some moment. */
  readonly deaths: number;
  readonly breaks: number;
  /** Default: the core as it is. */
  readonly coreClass?: typeof Gather | undefined;
}

export interface Outcome {
  readonly targets: readonly string[];
  readonly answered: readonly string[];
  readonly failed: readonly (readonly [string, string])[];
  readonly missing: readonly string[];
  /** Names in the reduced state. */
  readonly counted: readonly string[];
  readonly dead: ReadonlySet<string>;
  readonly tookMs: number;
  readonly messagesAtRoot: number;
  /** Questions, and how many of them went to a neighbour. */
  readonly asked: number;
  readonly askedNear: number;
}

/** A question to a child: breaks when either end dies. */
interface Link {
  readonly parent: Actor;
  readonly child: string;
  actor: Actor | undefined;
  isOpen: boolean;
}

interface Actor {
  readonly name: string;
  readonly core: Gather;
  readonly up: Link | undefined;
  readonly down: Map<string, Link>;
}

interface Event {
  readonly at: number;
  readonly no: number;
  readonly run: () => void;
}

/** Many gather cores, virtual time, links that delay, nodes that die. One seed, one run. */
export class GatherWorld {
  readonly #init: WorldInit;
  readonly #random: SeededRandom;
  #events: Event[] = [];
  #no = 0;
  #now = 0;
  readonly #actors = new Set<Actor>();
  readonly #dead = new Set<string>();
  readonly #parts: Part[] = [];
  #rootEnded: number | undefined;
  #messagesAtRoot = 0;
  #asked = 0;
  #askedNear = 0;
  readonly #graph: ReadonlyMap<string, readonly string[]>;
  readonly #distances = new Map<string, ReadonlyMap<string, number>>();

  constructor(init: WorldInit) {
    this.#init = init;
    this.#random = new SeededRandom(init.seed);
    this.#graph = this.#links();
  }

  /** Rings in random order, as the mesh's overlay has them. */
  #links(): ReadonlyMap<string, readonly string[]> {
    const { nodes, degree } = this.#init;
    const names = Array.from({ length: nodes }, (_, no) => `n${no}`);
    if (degree === 0) return new Map(names.map((name) => [name, names.filter((one) => one !== name)]));
    const graph = new Map(names.map((name) => [name, new Set<string>()]));
    for (let ring = 0; ring < degree / 2; ring += 1) {
      const order = names.map((name) => ({ name, at: this.#random.uint32() })).sort((a, b) => a.at - b.at);
      order.forEach(({ name }, at) => {
        const next = order[(at + 1) % nodes]?.name ?? name;
        if (next === name) return;
        graph.get(name)?.add(next);
        graph.get(next)?.add(name);
      });
    }
    return new Map([...graph].map(([name, links]) => [name, [...links]]));
  }

  #hops(from: string, to: string): number {
    if (this.#init.degree === 0) return 1;
    let distances = this.#distances.get(from);
    if (distances === undefined) {
      const found = new Map([[from, 0]]);
      for (const [at, hops] of found)
        for (const next of this.#graph.get(at) ?? []) if (!found.has(next)) found.set(next, hops + 1);
      distances = found;
      this.#distances.set(from, found);
    }
    return distances.get(to) ?? 1;
  }

  run(): Outcome {
    const { nodes, deaths, deadlineMs } = this.#init;
    const targets = Array.from({ length: nodes }, (_, no) => `n${no}`);
    for (const name of targets) {
      if (name !== "n0" && this.#chance(deaths))
        this.#after(randomBelow(this.#random, 80), () => this.#kill(name));
    }
    this.#begin("n0", { peers: targets.slice(1), sizes: [] }, deadlineMs, undefined);
    while (this.#rootEnded === undefined) this.#next();
    const answered = this.#parts.flatMap((part) => part.answered);
    const failed = this.#parts.flatMap((part) => part.failed);
    const covered = new Set([...answered, ...failed.map(([name]) => name)]);
    return {
      targets,
      answered,
      failed,
      missing: targets.filter((name) => !covered.has(name)),
      counted: this.#parts.flatMap((part) => (part.state ?? []) as string[]),
      dead: this.#dead,
      tookMs: this.#rootEnded,
      messagesAtRoot: this.#messagesAtRoot,
      asked: this.#asked,
      askedNear: this.#askedNear,
    };
  }

  #chance(percent: number): boolean {
    return randomBelow(this.#random, 100) < percent;
  }

  /** Time from one to the other. */
  #way(from: string, to: string): number {
    return this.#hops(from, to) * this.#init.delayMs + randomBelow(this.#random, this.#init.jitterMs + 1);
  }

  #after(delayMs: number, run: () => void): void {
    this.#no += 1;
    this.#events.push({ at: this.#now + delayMs, no: this.#no, run });
  }

  /** The next event, or the next deadline of a core. */
  #next(): void {
    const due = Math.min(...[...this.#actors].map(({ core }) => core.nextDeadline() ?? Infinity));
    const event = this.#events.reduce<Event | undefined>(
      (first, one) =>
        first === undefined || one.at < first.at || (one.at === first.at && one.no < first.no) ? one : first,
      undefined,
    );
    if (event !== undefined && event.at <= due) {
      this.#events = this.#events.filter((one) => one !== event);
      this.#now = event.at;
      event.run();
      return;
    }
    if (due === Infinity) throw new Error("the world stands still");
    this.#now = Math.max(this.#now, due);
    for (const actor of this.#actors) {
      if ((actor.core.nextDeadline() ?? Infinity) <= this.#now) this.#enter(actor, { type: "tick" });
    }
  }

  #begin(name: string, below: Forest, deadlineMs: number, up: Link | undefined): Actor {
    const core = new (this.#init.coreClass ?? Gather)({
      self: name,
      asked: true,
      neighbours: (peer) => this.#graph.get(peer) ?? [],
      below,
      fanout: this.#init.fanout,
      deadlineAt: this.#now + deadlineMs,
      holdMs: up === undefined ? undefined : 20,
      merge: (a, b) => [...(a as string[]), ...(b as string[])],
    });
    const actor: Actor = { name, core, up, down: new Map() };
    this.#actors.add(actor);
    this.#enter(actor, { type: "start" });
    return actor;
  }

  #enter(actor: Actor, input: GatherInput): void {
    if (this.#dead.has(actor.name)) return;
    for (const effect of actor.core.step(input, { monoMs: this.#now, wallMs: 0 }))
      this.#perform(actor, effect);
  }

  #perform(actor: Actor, effect: GatherEffect): void {
    switch (effect.type) {
      case "runOwn":
        this.#after(randomBelow(this.#random, 4), () =>
          this.#enter(actor, { type: "own", result: { state: [actor.name] } }),
        );
        return;
      case "ask":
        this.#ask(actor, effect.child, effect.below, effect.deadlineMs);
        return;
      case "cancel": {
        const link = actor.down.get(effect.child);
        if (link !== undefined) this.#close(link, undefined);
        return;
      }
      case "report":
        this.#report(actor, effect.part, effect.last);
    }
  }

  #ask(parent: Actor, child: string, below: Forest, deadlineMs: number): void {
    const link: Link = { parent, child, actor: undefined, isOpen: true };
    parent.down.set(child, link);
    this.#asked += 1;
    if (this.#hops(parent.name, child) === 1) this.#askedNear += 1;
    this.#after(this.#way(parent.name, child), () => {
      if (!link.isOpen) return;
      if (this.#dead.has(child)) this.#close(link, "UNAVAILABLE");
      else link.actor = this.#begin(child, below, deadlineMs, link);
    });
    if (this.#chance(this.#init.breaks)) {
      this.#after(randomBelow(this.#random, 60), () => this.#close(link, "UNAVAILABLE"));
    }
  }

  #report(actor: Actor, part: Part, last: boolean): void {
    if (last) this.#actors.delete(actor);
    const link = actor.up;
    if (link === undefined) {
      this.#parts.push(part);
      if (last) this.#rootEnded = this.#now;
      return;
    }
    // Fixed: parts and the end of one child keep their order.
    this.#after(this.#hops(link.parent.name, link.child) * this.#init.delayMs, () => {
      // Also where the link has broken meanwhile: what comes too late must not count.
      if (link.parent.up === undefined) this.#messagesAtRoot += 1;
      this.#enter(link.parent, { type: "part", child: link.child, part });
      if (!last || !link.isOpen) return;
      link.isOpen = false;
      this.#enter(link.parent, { type: "ended", child: link.child, code: undefined });
    });
  }

  #close(link: Link, code: string | undefined): void {
    if (!link.isOpen) return;
    link.isOpen = false;
    if (code !== undefined) this.#enter(link.parent, { type: "ended", child: link.child, code });
    const { actor } = link;
    if (actor !== undefined)
      this.#after(this.#way(link.parent.name, link.child), () => this.#enter(actor, { type: "stop" }));
  }

  #kill(name: string): void {
    this.#dead.add(name);
    for (const actor of [...this.#actors]) {
      if (actor.name !== name) continue;
      this.#actors.delete(actor);
      const links = [...actor.down.values(), ...(actor.up === undefined ? [] : [actor.up])];
      for (const link of links)
        this.#after(this.#way(link.parent.name, link.child), () => this.#close(link, "UNAVAILABLE"));
    }
  }
}

/** What is wrong with a gather's account: every target exactly once, and the state of those who answered. */
export function faultsOf({ targets, answered, failed, missing, counted }: Outcome): string[] {
  const covered = [...answered, ...failed.map(([name]) => name), ...missing];
  return [
    ...(covered.toSorted().join() === targets.toSorted().join() ? [] : ["coverage is not exact"]),
    ...(counted.toSorted().join() === answered.toSorted().join()
      ? []
      : ["the state counts others than answered"]),
  ];
}

/** Who lives and was not heard although there was time. */
export function unheard({ missing, failed, dead }: Outcome): readonly string[] {
  return [...missing, ...failed.map(([name]) => name)].filter((name) => !dead.has(name));
}
