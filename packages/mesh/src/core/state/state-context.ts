import type { Instant } from "@klatsch/kit/core";
import type { StateMessage } from "./messages.ts";
import type { StateEffect, StateTimes } from "./state-types.ts";

/** A linked peer. */
export interface StateLink {
  readonly peer: string;
  /** How far its wall clock is ahead of ours. */
  readonly aheadMs: number;
  /** When its state is compared with ours, if that is intended. */
  compareAt: number | undefined;
  comparedAt: number;
}

/** What the parts of gossip state share: links, time and the effects of the running step. */
export class StateContext {
  readonly times: StateTimes;
  readonly self: string;
  readonly links: Map<string, StateLink> = new Map();
  nowMs: number;
  wallMs: number;
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
  }

  effect(effect: StateEffect): void {
    this.#effects.push(effect);
  }

  send(to: string, message: StateMessage): void {
    if (this.links.has(to)) this.#effects.push({ type: "send", to, message });
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
