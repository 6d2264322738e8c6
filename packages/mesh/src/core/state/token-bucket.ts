/** How often something may happen: `burst` times at once after quiet, then once in `refillMs`. */
export interface Budget {
  readonly burst: number;
  readonly refillMs: number;
}

/** Counts tokens without a timer: it is asked, with the time. */
export class TokenBucket {
  #budget: Budget;
  #tokens: number;
  /** When the last token was accounted for. */
  #atMs: number;

  constructor(budget: Budget, nowMs: number) {
    this.#budget = budget;
    this.#tokens = budget.burst;
    this.#atMs = nowMs;
  }

  /** Takes a token. `false`: there is none; {@link nextAt} says when there will be. */
  take(nowMs: number): boolean {
    this.#fill(nowMs);
    if (this.#tokens <= 0) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Takes so many, even if there are fewer: those that are missing have to come before there is one again. */
  charge(count: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#tokens -= count;
  }

  /** When there is a token: `nowMs` if there is one. */
  nextAt(nowMs: number): number {
    this.#fill(nowMs);
    return this.#tokens > 0 ? nowMs : this.#atMs + this.#budget.refillMs * (1 - this.#tokens);
  }

  /** From now on tokens come at another pace. */
  setRefill(refillMs: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#budget = { ...this.#budget, refillMs };
  }

  #fill(nowMs: number): void {
    const { burst, refillMs } = this.#budget;
    const gained = Math.floor((nowMs - this.#atMs) / refillMs);
    if (gained > 0) {
      this.#tokens = Math.min(burst, this.#tokens + gained);
      this.#atMs += gained * refillMs;
    }
    // A full one gains nothing: the pace counts from when the first token is taken.
    if (this.#tokens === burst) this.#atMs = Math.max(this.#atMs, nowMs);
  }
}
