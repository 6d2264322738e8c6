/** Entries of clocks further ahead than this are refused; who is further off writes none. In milliseconds. */
export const SKEW_MS_MAX = 60_000;

/** Largest `c` of a stamp, on the wire and on disk. */
export const COUNTER_MAX = 0xffff_ffff;

/** A hybrid logical time (Kulkarni et al. 2014): close to the wall clock, and after all that was seen. */
export interface Stamp {
  readonly l: number;
  readonly c: number;
}

/** What the mesh takes for the time, and the order of what this node writes. */
export class HybridClock {
  #last: Stamp = { l: 0, c: 0 };

  /**
   * The next stamp, after all that were seen, at the mesh's time `nowMs`. A peer may have signed the last counter there is: what came behind
   * it nobody could read, and each entry would end all links of whoever wrote it or holds it. Not after what is further ahead than others
   * take over: the mesh's time was set back since; `after` has to be overtaken all the same.
   */
  next(nowMs: number, after: Stamp | undefined): Stamp {
    if (this.#last.l > nowMs + SKEW_MS_MAX) this.#last = { l: 0, c: 0 };
    if (after !== undefined) this.observe(after);
    const isSpent = this.#last.c >= COUNTER_MAX;
    const l = Math.max(isSpent ? this.#last.l + 1 : this.#last.l, Math.floor(nowMs));
    this.#last = { l, c: l === this.#last.l ? this.#last.c + 1 : 0 };
    return this.#last;
  }

  /** An entry was taken over: what is written from now on comes after it. */
  observe({ l, c }: Stamp): void {
    if (l > this.#last.l || (l === this.#last.l && c > this.#last.c)) this.#last = { l, c };
  }
}

/**
 * How far the mesh's time is ahead of our wall clock: the median of our neighbours and us, of the two in the middle
 * the one nearer to us. One neighbour with a wrong clock moves nothing.
 */
export function meshAheadMs(
  links: Iterable<{ readonly wallAtZeroMs: number }>,
  monoMs: number,
  wallMs: number,
): number {
  const ahead = [0];
  for (const { wallAtZeroMs } of links) ahead.push(wallAtZeroMs + monoMs - wallMs);
  ahead.sort((a, b) => a - b);
  const upper = ahead[ahead.length >>> 1] ?? 0;
  const lower = ahead[(ahead.length - 1) >>> 1] ?? 0;
  return Math.abs(lower) <= Math.abs(upper) ? lower : upper;
}
