import { EffectRunner, randomBelow, SeededRandom } from "@klatsch/kit/core";
import type { Instant } from "@klatsch/kit/core";
import { Membership } from "../../src/core/membership.ts";
import type { MembershipEffect, MembershipEvent, MembershipInput } from "../../src/core/membership-types.ts";
import type { MemberMessage } from "../../src/core/messages.ts";
import { MEMBERSHIP_TIMES } from "../../src/core/times.ts";
import type { MembershipTimes } from "../../src/core/times.ts";

interface Task {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export interface WorldInit {
  readonly seed: number;
  readonly size: number;
  readonly times?: Partial<MembershipTimes>;
}

/** What a node saw, with the time. */
export interface Seen {
  readonly atMs: number;
  readonly node: string;
  readonly event: MembershipEvent;
}

const START_WALL_MS = 1_700_000_000_000;
const DIAL_TIMEOUT_MS = 3_000;

/**
 * Several memberships over a simulated network, in one thread and virtual time. One seed, one run. Frames of a
 * pair stay in order; they may be late or lost. A killed process closes its connections and refuses; a paused
 * one does neither; a partition swallows everything. Beliefs are checked at every event.
 */
export class World {
  nowMs = 0;
  lossShare = 0;
  readonly nodes = new Map<string, SimNode>();
  readonly seen: Seen[] = [];
  readonly violations: string[] = [];
  readonly random: SeededRandom;
  readonly times: MembershipTimes;
  /** Whether a death of this peer in the eyes of that node is right. */
  mayDie: (node: string, peer: string) => boolean = () => false;
  /** A fault planted on purpose: what a sender says instead. */
  corrupt: (message: MemberMessage) => MemberMessage = (message) => message;
  #tasks: Task[] = [];
  #order = 0;
  #groups = new Map<string, number>();
  readonly #cuts = new Set<string>();
  /** Per ordered pair: the link this end believes in. Both ends have the same number while it works. */
  readonly #ends = new Map<string, number>();
  #lastLink = 0;
  #boots = 0;

  constructor(init: WorldInit) {
    this.random = new SeededRandom(init.seed);
    this.times = { ...MEMBERSHIP_TIMES, ...init.times };
    for (let index = 0; index < init.size; index += 1) this.start(nameOf(index));
  }

  /** Starts a process of this identity; the first one there was is everybody's seed. */
  start(name: string): SimNode {
    this.#boots += 1;
    const node = new SimNode(this, name, START_WALL_MS + this.#boots);
    this.nodes.set(name, node);
    return node;
  }

  node(index: number): SimNode {
    const node = this.nodes.get(nameOf(index));
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }

  /** Runs the world for this long. */
  run(durationMs: number): void {
    const until = this.nowMs + durationMs;
    for (;;) {
      const next = this.#tasks[0];
      if (next === undefined || next.at > until) break;
      this.#pop();
      this.nowMs = next.at;
      next.run();
    }
    this.nowMs = until;
  }

  /** Runs until it holds; how long that took. */
  runUntil(holds: () => boolean, limitMs: number): number {
    const from = this.nowMs;
    while (!holds()) {
      if (this.nowMs - from >= limitMs) throw new Error(`not within ${limitMs} ms:\n${this.describe()}`);
      this.run(10);
    }
    return this.nowMs - from;
  }

  after(delayMs: number, run: () => void): void {
    this.#order += 1;
    this.#push({ at: this.nowMs + delayMs, order: this.#order, run });
  }

  /** Splits the network; a node in no group hears everybody of no group. */
  partition(...groups: readonly (readonly number[])[]): void {
    this.#groups = new Map(
      groups.flatMap((group, number) => group.map((index) => [nameOf(index), number + 1])),
    );
  }

  /** Two nodes lose their connection and are refused when they redial: a firewall between them alone. */
  cut(a: string, b: string): void {
    this.#cuts.add(`${a}>${b}`).add(`${b}>${a}`);
    this.disconnect(a, b, "cut");
  }

  heal(): void {
    this.#groups.clear();
  }

  connected(a: string, b: string): boolean {
    return (this.#groups.get(a) ?? 0) === (this.#groups.get(b) ?? 0);
  }

  /** Every running node sees every other running one as this. */
  allSee(status: string, among: readonly SimNode[] = this.running()): boolean {
    return among.every((node) => among.every((other) => node === other || node.sees(other.name) === status));
  }

  running(): SimNode[] {
    return [...this.nodes.values()].filter((node) => node.state === "running");
  }

  send(from: SimNode, to: string, message: MemberMessage): void {
    const link = this.#ends.get(`${from.name}>${to}`);
    if (link === undefined || !this.connected(from.name, to)) return;
    if (this.random.uint32() / 2 ** 32 < this.lossShare) return;
    this.after(this.#latency(from.name, to), () => {
      if (!this.connected(from.name, to)) return;
      // A frame on a connection that the other end has given up is answered with a reset.
      if (this.#ends.get(`${to}>${from.name}`) !== link) this.#lose(from.name, to, link, "reset");
      else this.nodes.get(to)?.enter({ type: "message", peer: from.name, message: this.corrupt(message) });
    });
  }

  dial(from: SimNode, peer: string): void {
    const target = this.nodes.get(peer);
    const done = (delayMs: number, outcome: "connected" | "refused" | "failed"): void =>
      this.after(delayMs, () => from.enter({ type: "dialed", peer, outcome }));
    if (!this.connected(from.name, peer)) done(DIAL_TIMEOUT_MS, "failed");
    else if (this.#cuts.has(`${from.name}>${peer}`)) done(1, "refused");
    else if (target === undefined || target.state === "ended") done(1, "refused");
    else if (target.state === "paused") done(DIAL_TIMEOUT_MS, "failed");
    else {
      done(4, "connected");
      this.after(5, () => this.#link(from, target));
    }
  }

  /** One end closes; the other learns of it unless a partition hides it. */
  disconnect(from: string, to: string, reason: string): void {
    const link = this.#ends.get(`${from}>${to}`);
    if (link === undefined) return;
    this.#lose(from, to, link, reason);
    if (this.connected(from, to)) this.after(1, () => this.#lose(to, from, link, "closed by the other end"));
  }

  /** The process is gone: the kernel closes what it had open. */
  closeAll(name: string): void {
    for (const key of [...this.#ends.keys()]) {
      const [from, to] = key.split(">");
      if (from === name && to !== undefined) this.disconnect(name, to, "process ended");
    }
  }

  witness(node: SimNode, event: MembershipEvent): void {
    this.seen.push({ atMs: this.nowMs, node: node.name, event });
    if (event.type === "died" && !this.mayDie(node.name, event.member.record.peer)) {
      this.violations.push(
        `${this.nowMs}: ${node.name} holds ${event.member.record.peer} dead (${event.member.evidence})`,
      );
    }
  }

  violate(what: string): void {
    this.violations.push(`${this.nowMs}: ${what}`);
  }

  describe(): string {
    const lines = this.running().map((node) => {
      const views = node.membership.members().map(({ record, status, linked }) => {
        return `${record.peer}:${status}${linked ? "+" : "-"}${record.inc}`;
      });
      return `${node.name} sees ${views.join(" ")}`;
    });
    return [`at ${this.nowMs} ms`, ...lines, ...this.violations].join("\n");
  }

  #link(from: SimNode, to: SimNode): void {
    if (from.state === "ended" || to.state === "ended" || !this.connected(from.name, to.name)) return;
    const [ours, theirs] = [
      this.#ends.get(`${from.name}>${to.name}`),
      this.#ends.get(`${to.name}>${from.name}`),
    ];
    if (ours !== undefined && ours === theirs) return; // A duplicate: the first is kept.
    if (ours !== undefined) this.#lose(from.name, to.name, ours, "replaced");
    if (theirs !== undefined) this.#lose(to.name, from.name, theirs, "replaced");
    this.#lastLink += 1;
    const link = this.#lastLink;
    // Both greet before either has heard the other.
    const hellos = [from, to].map(({ membership: { self, digest } }) => ({
      peer: self.peer,
      record: self,
      digest,
    }));
    for (const [at, node] of [from, to].entries()) {
      const hello = hellos[1 - at] as (typeof hellos)[number];
      this.#ends.set(`${node.name}>${hello.peer}`, link);
      node.enter({ type: "linkUp", link, ...hello });
    }
  }

  #lose(from: string, to: string, link: number, reason: string): void {
    if (this.#ends.get(`${from}>${to}`) !== link) return;
    this.#ends.delete(`${from}>${to}`);
    this.nodes.get(from)?.enter({ type: "linkDown", peer: to, reason });
  }

  /** 1 to 5 ms, in order on each link. */
  readonly #arrivals = new Map<string, number>();
  #latency(from: string, to: string): number {
    const at = Math.max(
      this.nowMs + 1 + randomBelow(this.random, 4_000) / 1_000,
      this.#arrivals.get(`${from}>${to}`) ?? 0,
    );
    this.#arrivals.set(`${from}>${to}`, at + 0.001);
    return at - this.nowMs;
  }

  #push(task: Task): void {
    const tasks = this.#tasks;
    let at = tasks.push(task) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(task, tasks[parent] as Task)) break;
      tasks[at] = tasks[parent] as Task;
      at = parent;
    }
    tasks[at] = task;
  }

  #pop(): void {
    const tasks = this.#tasks;
    const last = tasks.pop() as Task;
    if (tasks.length === 0) return;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= tasks.length) break;
      if (child + 1 < tasks.length && isBefore(tasks[child + 1] as Task, tasks[child] as Task)) child += 1;
      if (!isBefore(tasks[child] as Task, last)) break;
      tasks[at] = tasks[child] as Task;
      at = child;
    }
    tasks[at] = last;
  }
}

function isBefore(a: Task, b: Task): boolean {
  return a.at === b.at ? a.order < b.order : a.at < b.at;
}

/** One process: a membership with its runner. */
export class SimNode {
  readonly name: string;
  readonly membership: Membership;
  state: "running" | "paused" | "ended" = "running";
  readonly #world: World;
  readonly #runner: EffectRunner<MembershipInput, MembershipEffect>;
  /** What happened to a paused process: its timers run first when it wakes, then its sockets are read. */
  #timers: (() => void)[] = [];
  #inputs: MembershipInput[] = [];
  readonly #standings = new Map<string, readonly [number, number, boolean]>();

  constructor(world: World, name: string, boot: number) {
    this.#world = world;
    this.name = name;
    const seeds = new Map([[nameOf(0), ["/sim"]]]);
    const self = { peer: name, boot, inc: 0, name, cloud: "default", tags: {}, addresses: ["/sim"] };
    const random = new SeededRandom(world.random.uint32());
    this.membership = new Membership(
      { self, seeds, membersMax: 64, times: world.times, random },
      this.#now(),
    );
    this.#runner = new EffectRunner<MembershipInput, MembershipEffect>({
      core: this.membership,
      clock: { now: () => this.#now() },
      tick: { type: "tick" },
      phase: () => "now",
      perform: (effect) => this.#perform(effect),
      commit: () => undefined,
      soon: (task) => world.after(0, () => this.#guarded(task)),
      at: (monoMs, task) => {
        let cancelled = false;
        const due = (): void => {
          if (!cancelled) this.#timer(task);
        };
        world.after(Math.max(0, monoMs - world.nowMs), due);
        return () => (cancelled = true);
      },
      onFailed: (error) => {
        throw error;
      },
    });
    this.enter({ type: "tick" });
  }

  sees(peer: string): string | undefined {
    return this.membership.member(peer)?.status;
  }

  enter(input: MembershipInput): void {
    if (this.state === "paused") this.#inputs.push(input);
    else if (this.state === "running") this.#runner.enter(input);
  }

  kill(): void {
    this.state = "ended";
    this.#runner.stop();
    this.#world.closeAll(this.name);
  }

  pause(): void {
    this.state = "paused";
  }

  resume(): void {
    this.state = "running";
    for (const task of this.#timers.splice(0)) this.#guarded(task);
    for (const input of this.#inputs.splice(0)) this.#world.after(1, () => this.enter(input));
  }

  /** Stops reading and ticking for a while, as a process with a blocked event loop. */
  stall(durationMs: number): void {
    if (this.state !== "running") return;
    this.pause();
    this.#world.after(durationMs, () => this.resume());
  }

  #timer(task: () => void): void {
    if (this.state === "paused") this.#timers.push(task);
    else this.#guarded(task);
  }

  #guarded(task: () => void): void {
    if (this.state === "paused") this.#timers.push(task);
    else if (this.state === "running") {
      task();
      this.#checkStandings();
    }
  }

  #now(): Instant {
    return { monoMs: this.#world.nowMs, wallMs: START_WALL_MS + this.#world.nowMs };
  }

  #perform(effect: MembershipEffect): void {
    switch (effect.type) {
      case "send":
        this.#world.send(this, effect.to, effect.message);
        return;
      case "dial":
        this.#world.dial(this, effect.peer);
        return;
      case "disconnect":
        this.#world.disconnect(this.name, effect.peer, effect.reason);
        return;
      case "emit":
        this.#world.witness(this, effect.event);
        return;
      case "departed":
        this.kill();
        return;
      case "raiseBoot":
        this.enter({ type: "booted", boot: effect.above + 1 });
    }
  }

  /** (boot, incarnation) never go back, and the ended come back only with a higher one. */
  #checkStandings(): void {
    for (const { record, status } of this.membership.members()) {
      const before = this.#standings.get(record.peer);
      const ended = status !== "alive" && status !== "suspect";
      this.#standings.set(record.peer, [record.boot, record.inc, ended]);
      if (before === undefined) continue;
      const [boot, inc, wasEnded] = before;
      const order = record.boot - boot || record.inc - inc;
      if (order < 0 || (order === 0 && wasEnded && !ended)) {
        this.#world.violate(`${this.name}: the view of ${record.peer} went back`);
      }
    }
  }
}

function nameOf(index: number): string {
  return `n${String(index).padStart(2, "0")}`;
}
