import type { MembershipEvent } from "../../../packages/mesh/src/core/membership-types.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** What a node saw, with the time. */
export interface Seen {
  readonly atMs: number;
  readonly node: string;
  readonly event: MembershipEvent;
}

export type Rule =
  /** No live, connected member is held dead. */
  | "FALSE_DEATH"
  /** A planned end is seen as what was announced. */
  | "PLANNED_END"
  /** (boot, incarnation) never goes back, and the ended come back only with a higher one. */
  | "MONOTONE"
  /** Nobody is told of a member again that was forgotten. */
  | "GHOST"
  /** Who has ended, or is cut off, is seen as ended by all within the bound. */
  | "MISSED_DEATH"
  /** Who is there and can be reached is seen alive by all within the bound. */
  | "NOT_SEEN"
  /** Links of the live connect all of them, and nobody has more than its share. */
  | "OVERLAY";

export interface Violation {
  readonly rule: Rule;
  readonly atMs: number;
  readonly what: string;
}

/** Bounds of what a scenario asks, in milliseconds. */
export interface Rules {
  /** Stalls up to this have to be borne. */
  readonly stallMsMax: number;
  /** What ended has to be seen as ended after this. */
  readonly deathMs: number;
  /** What is there has to be seen alive after this. */
  readonly healMs: number;
  /** Verdicts under way when a partition heals or a process wakes are nobody's fault for this long. */
  readonly graceMs: number;
  /** A network without loss: planned ends are announced for certain. */
  readonly forgetMs: number;
}

/** Watches all nodes from outside, where the truth is known. */
export class Checks {
  readonly seen: Seen[] = [];
  readonly violations: Violation[] = [];
  /** Keeps all that was seen; off where many nodes see too much. */
  isRecording = true;
  /** Compares every view after every step; off where there are too many. */
  isThorough = true;
  readonly #world: World;
  readonly #standings = new Map<SimNode, Map<string, readonly [number, number, boolean]>>();
  readonly #forgotten = new Map<SimNode, Map<string, number>>();

  constructor(world: World) {
    this.#world = world;
  }

  saw(node: SimNode, event: MembershipEvent): void {
    if (this.isRecording) this.seen.push({ atMs: this.#world.nowMs, node: node.name, event });
    if (event.type === "died") this.#judgeDeath(node, event.member.record.peer, event.member.record.boot);
    if (event.type === "forgotten") this.#forgot(node, event.member.record.peer, event.member.record.boot);
    if (event.type === "joined") {
      const { peer, boot } = event.member.record;
      const forgotten = this.#forgotten.get(node)?.get(peer);
      const isBack =
        this.#world.nodes.get(peer)?.boot === boot && this.#world.nodes.get(peer)?.state !== "ended";
      if (forgotten !== undefined && boot <= forgotten && !isBack)
        this.violate("GHOST", `${node.name} is told again of ${peer}, whom it had forgotten`);
    }
  }

  /** A node's answers to whether a peer is gone, by the number of the question. */
  readonly answers: Map<number, boolean> = new Map();

  answered(_node: SimNode, id: number, gone: boolean): void {
    this.answers.set(id, gone);
  }

  /** A node has run. */
  stepped(node: SimNode): void {
    if (this.isThorough) this.#checkMonotone(node);
  }

  violate(rule: Rule, what: string): void {
    this.violations.push({ rule, atMs: this.#world.nowMs, what });
  }

  /** What has to hold at any time, once the bounds have passed since the last change. */
  settled(): void {
    const { nodes, rules, nowMs, network } = this.#world;
    for (const node of nodes.values()) {
      if (node.state !== "running" || node.departedAs !== undefined) continue;
      if (!this.isThorough) this.#checkMonotone(node);
      if (nowMs - node.wellSinceMs < rules.healMs) continue;
      for (const other of nodes.values()) {
        if (other === node) continue;
        const status = node.sees(other.name);
        if (status === "alive" || status === "suspect") {
          const silentMs = other.state === "paused" ? other.pausedMs : other.endedMs;
          const endedMs = Math.min(silentMs, network.partedSinceMs(node.name, other.name));
          // Alone, the fault is likely one's own: others are judged three times as slowly.
          const factor = network.linksOf(node.name).length === 0 ? 3 : 1;
          if (nowMs - endedMs > rules.deathMs * factor)
            this.violate("MISSED_DEATH", `${node.name} still holds ${other.name} ${status}`);
        } else if (other.state !== "ended" && other.departedAs === undefined) {
          const joinedMs = Math.max(other.wellSinceMs, network.joinedSinceMs(node.name, other.name));
          if (nowMs - joinedMs > rules.healMs)
            this.violate("NOT_SEEN", `${node.name} holds ${other.name} ${status}`);
        }
      }
    }
  }

  #judgeDeath(node: SimNode, peer: string, boot: number): void {
    const { nodes, rules, nowMs, network } = this.#world;
    const subject = nodes.get(peer);
    if (subject === undefined || subject.state === "ended" || subject.boot > boot) {
      if (subject?.departedAs !== undefined && subject.boot === boot && this.#heardFarewell(node, subject))
        this.violate("PLANNED_END", `${node.name} holds ${peer} dead, which ${subject.departedAs}`);
      return;
    }
    // Who wakes is told what others rightly held while it, who joined them, did not; and what it doubted before it
    // slept may end so, once it has read what was sent to it meanwhile.
    const { evidence } = node.membership.member(peer) ?? {};
    const isBarred = nowMs - node.sickUntilMs < this.#world.times.barMs;
    const awakeMs = evidence === "reported" || !isBarred ? node.sickUntilMs : -Infinity;
    const wellMs = Math.max(subject.wellSinceMs, awakeMs, network.joinedSinceMs(node.name, peer));
    if (wellMs === Infinity || (wellMs > subject.startedMs && nowMs - wellMs < rules.graceMs)) return;
    this.violate("FALSE_DEATH", `${node.name} holds ${peer} dead (${evidence})`);
  }

  /** Whether nothing was in the way when a member said that it goes. */
  #heardFarewell(node: SimNode, subject: SimNode): boolean {
    const { rules, network } = this.#world;
    const wellMs = Math.max(
      node.wellSinceMs,
      subject.wellSinceMs,
      network.joinedSinceMs(node.name, subject.name),
    );
    const isStalled = subject.departedMs - node.pausedMs < rules.stallMsMax;
    return (
      !subject.departedInLoss &&
      network.lossShare === 0 &&
      !isStalled &&
      subject.departedMs - wellMs > rules.graceMs
    );
  }

  #forgot(node: SimNode, peer: string, boot: number): void {
    const forgotten = this.#forgotten.get(node) ?? new Map<string, number>();
    this.#forgotten.set(node, forgotten.set(peer, boot));
    this.#standings.get(node)?.delete(peer);
  }

  #checkMonotone(node: SimNode): void {
    let standings = this.#standings.get(node);
    if (standings === undefined) this.#standings.set(node, (standings = new Map()));
    for (const { record, status } of node.membership.members()) {
      const before = standings.get(record.peer);
      const ended = status !== "alive" && status !== "suspect";
      if (before !== undefined) {
        const [boot, inc, wasEnded] = before;
        if (boot === record.boot && inc === record.inc && wasEnded === ended) continue;
        const order = record.boot - boot || record.inc - inc;
        if (order < 0 || (order === 0 && wasEnded && !ended))
          this.violate("MONOTONE", `${node.name}: its view of ${record.peer} went back`);
      }
      standings.set(record.peer, [record.boot, record.inc, ended]);
    }
  }
}
