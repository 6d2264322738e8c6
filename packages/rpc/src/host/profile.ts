import type { MetricFamily } from "@klatsch/kit";

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
  /** Calls by the first of `BOUNDS_MS` that they did not exceed; the last is for all that did. */
  readonly buckets: Uint32Array;
}

/** Methods counted one by one; more share one line, so that made-up names cannot fill the memory. */
const METHODS_MAX = 1_000;
/** Upper bounds of the histogram's buckets, in milliseconds. */
const BOUNDS_MS: readonly number[] = [
  0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000,
];

/** Counts, times and errors by method. */
export class Profile {
  readonly #tallies = new Map<string, Tally>();

  record(method: string, tookMs: number, ok: boolean): void {
    const tally = this.#tallies.get(method) ?? this.#begin(method);
    tally.count += 1;
    if (!ok) tally.errors += 1;
    tally.totalMs += tookMs;
    if (tookMs > tally.maxMs) tally.maxMs = tookMs;
    let at = 0;
    while (at < BOUNDS_MS.length && tookMs > (BOUNDS_MS[at] as number)) at += 1;
    tally.buckets[at] = (tally.buckets[at] as number) + 1;
  }

  #begin(method: string): Tally {
    const name = this.#tallies.size < METHODS_MAX ? method : "(others)";
    const tally = this.#tallies.get(name) ?? {
      count: 0,
      errors: 0,
      totalMs: 0,
      maxMs: 0,
      buckets: new Uint32Array(BOUNDS_MS.length + 1),
    };
    this.#tallies.set(name, tally);
    return tally;
  }

  list(): readonly MethodProfile[] {
    return [...this.#tallies].map(([method, { buckets: _buckets, ...tally }]) => ({ method, ...tally }));
  }

  /** `side`: `client` or `server`. */
  histogram(side: string): MetricFamily["samples"] {
    return [...this.#tallies].flatMap(([method, { count, totalMs, buckets }]) => {
      const labels = { side, method };
      let below = 0;
      const cumulated = [...BOUNDS_MS, Infinity].map((bound, at) => {
        below += buckets[at] ?? 0;
        const le = bound === Infinity ? "+Inf" : String(bound / 1_000);
        return { suffix: "_bucket" as const, labels: { ...labels, le }, value: below };
      });
      return [
        ...cumulated,
        { suffix: "_sum" as const, labels, value: totalMs / 1_000 },
        { suffix: "_count" as const, labels, value: count },
      ];
    });
  }

  errors(side: string): MetricFamily["samples"] {
    return [...this.#tallies].map(([method, { errors }]) => ({ labels: { side, method }, value: errors }));
  }
}
