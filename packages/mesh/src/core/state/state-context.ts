import type { Instant } from "@klatsch/kit/core";
import type { StateMessage } from "./messages.ts";
import { meshAheadMs } from "./hybrid-clock.ts";
import type { TokenBucket } from "./token-bucket.ts";
import type { StateEffect, StateTimes } from "./state-types.ts";

/** A linked peer. */
export interface StateLink {
  readonly peer: string;
  readonly upAtMs: number;
  /** What its wall clock showed when our monotonic one showed 0, as it last told: each of the two may be set meanwhile. */
  wallAtZeroMs: number;
  /** When its state is compared with ours, if that is intended. */
  compareAt: number | undefined;
  comparedAt: number;
  /** Comparisons in a row that brought nothing: the next one waits longer. */
  fruitless: number;
  /** Checks of signatures that this peer may cost us. */
  readonly checks: TokenBucket;
  /** Answers, in KiB, that this peer may have of us. */
  readonly answers: TokenBucket;
}

const KIB = 1_024;
/** What it costs to look for an answer, even if there is none. */
const QUESTION_KIB = 16;

/** What the parts of gossip state share: links, time and the effects of the running step. */
export class StateContext {
  readonly times: StateTimes;
  readonly self: string;
  readonly #links = new Map<string, StateLink>();
  /** Sorted out once a step: every entry that arrives is held against it. */
  #meshAheadMs: number | undefined;
  nowMs: number;
  wallMs: number;
  /** Whether every member that takes part is linked to this node. */
  reachesAll: () => boolean = () => false;
  #effects: StateEffect[] = [];

  constructor(self: string, times: StateTimes, now: Instant) {
    this.self = self;
    this.times = times;
    this.nowMs = now.monoMs;
    this.wallMs = now.wallMs;
  }

  advanceTo(now: Instant): void {
    this.nowMs = Math.max(this.nowMs, now.monoMs);
    this.wallMs = now.wallMs;
    this.#meshAheadMs = undefined;
  }

  get links(): ReadonlyMap<string, StateLink> {
    return this.#links;
  }

  addLink(link: StateLink): void {
    this.#links.set(link.peer, link);
    this.#meshAheadMs = undefined;
  }

  removeLink(peer: string): void {
    this.#links.delete(peer);
    this.#meshAheadMs = undefined;
  }

  /** A linked peer has told what its wall clock shows now. */
  heardClock(link: StateLink, wallMs: number): void {
    link.wallAtZeroMs = wallMs - this.nowMs;
    this.#meshAheadMs = undefined;
  }

  /** How far the mesh's time is ahead of our wall clock. */
  get meshAheadMs(): number {
    this.#meshAheadMs ??= meshAheadMs(this.#links.values(), this.nowMs, this.wallMs);
    return this.#meshAheadMs;
  }

  /** What the mesh takes for the time, in milliseconds since the epoch. */
  get meshMs(): number {
    return this.wallMs + this.meshAheadMs;
  }

  effect(effect: StateEffect): void {
    this.#effects.push(effect);
  }

  send(to: string, message: StateMessage): void {
    if (this.links.has(to)) this.#effects.push({ type: "send", to, message });
  }

  /** Whether a peer is answered. One that asks for too much has to wait: what it lacks then is found by comparing. */
  mayAsk(link: StateLink): boolean {
    if (link.answers.take(this.nowMs)) {
      link.answers.charge(QUESTION_KIB, this.nowMs);
      return true;
    }
    this.compareBy(link.peer, this.nowMs + this.times.continueMs);
    return false;
  }

  /** An answer goes to a linked peer. */
  answered(peer: string, bytes: number): void {
    this.links.get(peer)?.answers.charge(Math.ceil(bytes / KIB), this.nowMs);
  }

  /** A comparison with this peer was worth it. */
  learnt(peer: string): void {
    const link = this.links.get(peer);
    if (link !== undefined) link.fruitless = 0;
  }

  /** Compares with a linked peer no later than `atMs`. */
  compareBy(peer: string, atMs: number): void {
    const link = this.links.get(peer);
    if (link !== undefined) link.compareAt = Math.min(link.compareAt ?? Infinity, atMs);
  }

  take(): readonly StateEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
