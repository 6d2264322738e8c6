/** What calls of one method have cost so far. */
export interface MethodProfile {
  readonly method: string;
  readonly count: number;
  readonly errors: number;
  /** Of those that ended, together, in milliseconds. */
  readonly totalMs: number;
  readonly maxMs: number;
}

interface Tally {
  count: number;
  errors: number;
  totalMs: number;
  maxMs: number;
}

/** Methods counted one by one; more share one line, so that made-up names cannot fill the memory. */
const METHODS_MAX = 1_000;

/** Counts, times and errors by method. */
export class Profile {
  readonly #tallies = new Map<string, Tally>();

  record(method: string, tookMs: number, ok: boolean): void {
    const name = this.#tallies.size < METHODS_MAX || this.#tallies.has(method) ? method : "(others)";
    let tally = this.#tallies.get(name);
    if (tally === undefined) {
      tally = { count: 0, errors: 0, totalMs: 0, maxMs: 0 };
      this.#tallies.set(name, tally);
    }
    tally.count += 1;
    if (!ok) tally.errors += 1;
    tally.totalMs += tookMs;
    if (tookMs > tally.maxMs) tally.maxMs = tookMs;
  }

  list(): readonly MethodProfile[] {
    return [...this.#tallies].map(([method, tally]) => ({ method, ...tally }));
  }
}
