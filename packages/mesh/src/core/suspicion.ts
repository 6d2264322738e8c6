import type { MembershipTimes } from "./times.ts";

/** Suspicions of one member that may run at once; each accuser has one. */
const IDS_MAX = 16;

/**
 * The doubt about one member at one (boot, incarnation). Several members may raise it at once, each under an id
 * of its own; a witness takes back one id at a time, so that a word about an old doubt never ends a newer one.
 */
export class Suspicion {
  readonly inc: number;
  /** Core time of when this node learnt of it. */
  readonly startedAt: number;
  readonly firstAccuser: string;
  /** Core time at which it was last told. */
  repeatedAt: number;
  readonly #accusersById = new Map<string, Set<string>>();
  /** All of them; counted again after each change, for it is asked often. */
  #accuserCount = 0;

  constructor(init: {
    readonly inc: number;
    readonly startedAt: number;
    readonly id: string;
    readonly accuser: string;
  }) {
    this.inc = init.inc;
    this.startedAt = init.startedAt;
    this.firstAccuser = init.accuser;
    this.repeatedAt = init.startedAt;
    this.accuse(init.id, init.accuser);
  }

  get ids(): readonly string[] {
    return [...this.#accusersById.keys()];
  }

  /** Adds an accusation; `false` if it is known already or there are too many. */
  accuse(id: string, accuser: string): boolean {
    const accusers = this.#accusersById.get(id);
    if (accusers === undefined) {
      if (this.#accusersById.size >= IDS_MAX) return false;
      this.#accusersById.set(id, new Set([accuser]));
      this.#recount();
      return true;
    }
    if (accusers.has(accuser)) return false;
    accusers.add(accuser);
    this.#recount();
    return true;
  }

  /** A witness heard the member after it learnt of this id. `false` if the id is unknown. */
  takeBack(id: string): boolean {
    const known = this.#accusersById.delete(id);
    this.#recount();
    return known;
  }

  get isOver(): boolean {
    return this.#accusersById.size === 0;
  }

  /**
   * Core time of the verdict. Lifeguard's shortening: from the longest wait, without confirmation, towards the
   * shortest, by the logarithm of confirmations over those that count. `possible`: members that could confirm;
   * without any, silence confirms nothing and the wait stays long.
   */
  deadline(times: MembershipTimes, possible: number, factor: number): number {
    const counting = Math.min(times.confirmationsMax, possible);
    const confirmed = Math.min(counting, Math.max(0, this.#accuserCount - 1));
    const share = counting === 0 ? 0 : Math.log(confirmed + 1) / Math.log(counting + 1);
    const waitMs = times.suspicionMsMax - (times.suspicionMsMax - times.suspicionMsMin) * share;
    return this.startedAt + waitMs * factor;
  }

  #recount(): void {
    const accusers = new Set<string>();
    for (const names of this.#accusersById.values()) for (const name of names) accusers.add(name);
    this.#accuserCount = accusers.size;
  }
}
