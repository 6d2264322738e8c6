import type { MembershipTimes } from "./times.ts";

/**
 * How far this node may trust its own judgement of others' silence (Lifeguard's local health): each sign that
 * the fault is here stretches its own timers, each quiet while takes one back.
 */
export class LocalHealth {
  readonly #times: MembershipTimes;
  #score = 0;
  #changedAt = -Infinity;

  constructor(times: MembershipTimes) {
    this.#times = times;
  }

  /** Stretches soft timers; 1 for a healthy node. */
  get factor(): number {
    return 1 + this.#score * this.#times.sickFactor;
  }

  /** Our timers ran late, others heard whom we did not, or we suspected somebody who is there. */
  worsen(now: number): void {
    this.#score = Math.min(this.#times.sickMax, this.#score + 1);
    this.#changedAt = now;
  }

  recover(now: number): void {
    if (this.#score === 0 || now - this.#changedAt < this.#times.sickMs) return;
    this.#score -= 1;
    this.#changedAt = now;
  }
}
