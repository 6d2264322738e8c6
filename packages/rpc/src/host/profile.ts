import { Histogram } from "@klatsch/kit";
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
  /** In seconds. */
  readonly times: Histogram;
}

/** Methods counted one by one; more share one line, so that made-up names cannot fill the memory. */
const METHODS_MAX = 1_000;
/** Upper bounds of the histogram's buckets, in seconds. */
const BOUNDS: readonly number[] = [
  0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
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
    tally.times.observe(tookMs / 1_000);
  }

  #begin(method: string): Tally {
    const name = this.#tallies.size < METHODS_MAX ? method : "(others)";
    const tally = this.#tallies.get(name) ?? {
      count: 0,
      errors: 0,
      totalMs: 0,
      maxMs: 0,
      times: new Histogram(BOUNDS),
    };
    this.#tallies.set(name, tally);
    return tally;
  }

  list(): readonly MethodProfile[] {
    return [...this.#tallies].map(([method, { times: _times, ...tally }]) => ({ method, ...tally }));
  }

  /** `side`: `client` or `server`. */
  histogram(side: string): MetricFamily["samples"] {
    return [...this.#tallies].flatMap(([method, { times }]) => times.samples({ side, method }));
  }

  errors(side: string): MetricFamily["samples"] {
    return [...this.#tallies].map(([method, { errors }]) => ({ labels: { side, method }, value: errors }));
  }
}
