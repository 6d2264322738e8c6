import { SeededRandom } from "@klatsch/kit/core";
import type { Instant, Random } from "@klatsch/kit/core";
import { Membership } from "../../../packages/mesh/src/core/membership.ts";
import type { MemberRecord } from "../../../packages/mesh/src/core/messages.ts";
import { MEMBERSHIP_TIMES } from "../../../packages/mesh/src/core/times.ts";
import type { MembershipTimes } from "../../../packages/mesh/src/core/times.ts";
import { EventQueue } from "../events.ts";
import { Checks } from "./checks.ts";
import type { Rules } from "./checks.ts";
import { Network } from "./network.ts";
import type { NetworkFlaws } from "./network.ts";
import { SimNode } from "./node.ts";

export interface WorldInit {
  readonly seed: number;
  readonly nodes: number;
  /** When the nodes start: all at once, or spread evenly over this time. Default 0. */
  readonly startMs?: number;
  readonly times?: Partial<MembershipTimes>;
  readonly rules?: Partial<Rules>;
  /** What the host does wrong. */
  readonly flaws?: NetworkFlaws | undefined;
  /** A broken core, to see that the checks find it. */
  readonly membershipClass?: typeof Membership | undefined;
  /** Cloud of the node with this number. Default: all in one. */
  readonly cloudOf?: (index: number) => string;
}

const RULES: Rules = {
  stallMsMax: 2_000,
  deathMs: 12_000,
  healMs: 12_000,
  graceMs: 5_000,
  forgetMs: MEMBERSHIP_TIMES.forgetMs,
};
/** Above this, views are compared now and then instead of after each step. */
const THOROUGH_MAX = 30;
const MEMBERS_MAX = 4_096;
const BOOT_FIRST = 1_700_000_000_000;

/** Many memberships over a simulated network, in one thread and virtual time. One seed, one run. */
export class World {
  readonly nodes = new Map<string, SimNode>();
  readonly random: SeededRandom;
  readonly times: MembershipTimes;
  readonly rules: Rules;
  readonly network: Network;
  readonly checks: Checks;
  /** What was done to the world. */
  readonly log: string[] = [];
  readonly #init: WorldInit;
  readonly #events = new EventQueue();
  /** What is due before time goes on; cheaper than the queue. */
  #soon: (() => void)[] = [];
  #boots = BOOT_FIRST;

  constructor(init: WorldInit) {
    this.#init = init;
    this.random = new SeededRandom(init.seed);
    this.times = { ...MEMBERSHIP_TIMES, ...init.times };
    this.rules = { ...RULES, ...init.rules, forgetMs: this.times.forgetMs };
    this.network = new Network(this, init.flaws ?? {});
    this.checks = new Checks(this);
    this.checks.isThorough = init.nodes <= THOROUGH_MAX;
    this.checks.isRecording = init.nodes <= THOROUGH_MAX;
    const spreadMs = init.startMs ?? 0;
    for (let index = 0; index < init.nodes; index += 1) {
      if (spreadMs === 0) this.start(nameOf(index));
      else this.in((spreadMs * index) / init.nodes, () => this.start(nameOf(index)));
    }
  }

  get nowMs(): number {
    return this.#events.now;
  }

  /** Starts a process of this identity; the first one there was is everybody's seed. */
  start(name: string, seeds: readonly string[] = [nameOf(0)], boot = this.#boots + 1): SimNode {
    this.nodes.get(name)?.kill();
    this.#boots = Math.max(this.#boots, boot);
    const cloud = this.#init.cloudOf?.(Number(name.slice(1))) ?? "default";
    const node = new SimNode(this, { name, boot, cloud, seeds });
    this.nodes.set(name, node);
    this.network.changed();
    return node;
  }

  newMembership(
    init: {
      readonly self: MemberRecord;
      readonly seeds: ReadonlyMap<string, readonly string[]>;
      readonly random: Random;
    },
    now: Instant,
  ): Membership {
    const MembershipClass = this.#init.membershipClass ?? Membership;
    return new MembershipClass({ ...init, membersMax: MEMBERS_MAX, times: this.times }, now);
  }

  node(index: number): SimNode {
    const node = this.nodes.get(nameOf(index));
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }

  running(): SimNode[] {
    return [...this.nodes.values()].filter((node) => node.state === "running");
  }

  /** Runs the world for this long. */
  run(durationMs: number): void {
    const untilMs = this.nowMs + durationMs;
    this.#drain();
    while (this.#events.step(untilMs)) this.#drain();
  }

  /** Runs for this long and checks now and then what has to hold at any time. */
  runChecked(durationMs: number, everyMs = 1_000): void {
    const untilMs = this.nowMs + durationMs;
    while (this.nowMs < untilMs && this.checks.violations.length === 0) {
      this.run(Math.min(everyMs, untilMs - this.nowMs));
      this.checks.settled();
    }
  }

  /** Runs until it holds; how long that took. */
  runUntil(holds: () => boolean, limitMs: number, everyMs = 10): number {
    const fromMs = this.nowMs;
    while (!holds()) {
      if (this.nowMs - fromMs >= limitMs) throw new Error(`not within ${limitMs} ms:\n${this.describe()}`);
      this.run(everyMs);
    }
    return this.nowMs - fromMs;
  }

  in(delayMs: number, run: () => void): () => void {
    return this.at(this.nowMs + delayMs, run);
  }

  at(atMs: number, run: () => void): () => void {
    return this.#events.timer(atMs, run);
  }

  /** Runs `task` after what runs now, before time goes on. */
  soon(task: () => void): void {
    this.#soon.push(task);
  }

  /** Every running node sees every other running one as this. */
  allSee(status: string, among: readonly SimNode[] = this.running()): boolean {
    return among.every((node) => among.every((other) => node === other || node.sees(other.name) === status));
  }

  /** All have each other in their tables and nobody doubts anybody. */
  isConverged(): boolean {
    const running = this.running();
    return running.length === this.#init.nodes && this.allSee("alive", running);
  }

  isFullMesh(): boolean {
    const running = this.running();
    return running.every((node) =>
      running.every((other) => node === other || this.network.isLinked(node.name, other.name)),
    );
  }

  /** Into how many parts the links divide the running nodes. */
  partsByLinks(): number {
    const left = new Set(this.running().map(({ name }) => name));
    let parts = 0;
    for (const start of left) {
      parts += 1;
      const waiting = [start];
      for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
        if (!left.delete(name)) continue;
        for (const other of this.network.linksOf(name))
          if (this.network.isLinked(name, other)) waiting.push(other);
      }
    }
    return parts;
  }

  note(what: string): void {
    this.log.push(`${this.nowMs.toFixed(1)} ${what}`);
  }

  describe(): string {
    const lines = this.running()
      .slice(0, 24)
      .map((node) => {
        const views = node.membership
          .members()
          .slice(0, 24)
          .map(({ record, status, linked }) => {
            return `${record.peer}:${status}${linked ? "+" : "-"}${record.inc}`;
          });
        return `${node.name} sees ${views.join(" ")}`;
      });
    const violations = this.checks.violations
      .slice(0, 20)
      .map(({ atMs, rule, what }) => `${atMs}: ${rule} ${what}`);
    return [`seed ${this.#init.seed} at ${this.nowMs} ms`, ...lines, ...violations].join("\n");
  }

  #drain(): void {
    for (let tasks = this.#soon; tasks.length > 0; tasks = this.#soon) {
      this.#soon = [];
      for (const task of tasks) task();
    }
  }
}

export function nameOf(index: number): string {
  return `n${String(index).padStart(4, "0")}`;
}
