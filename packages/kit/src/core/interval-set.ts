import { assert } from "./errors.ts";

/** Whole numbers from `start` up to, not including, `end`. */
export type Interval = readonly [start: number, end: number];

/**
 * A set of whole numbers kept as sorted, disjoint, non-adjacent half-open ranges: sequence numbers
 * that are finished, acknowledged or void. Memory and the cost of an insertion in the middle grow
 * with the number of *ranges*; whoever feeds it from outside bounds {@link IntervalSet.rangeCount}.
 */
export class IntervalSet {
  /** Range i is [#starts[i], #ends[i]). Two flat arrays: no object per range. */
  #starts: number[] = [];
  #ends: number[] = [];
  #size = 0;

  /** A set of the given ranges, in any order and overlapping as they like. */
  static of(ranges: Iterable<Interval>): IntervalSet {
    const set = new IntervalSet();
    for (const [start, end] of ranges) set.addRange(start, end);
    return set;
  }

  /** How many numbers are in the set. */
  get size(): number {
    return this.#size;
  }

  /** How many ranges it takes to say so. */
  get rangeCount(): number {
    return this.#starts.length;
  }

  has(value: number): boolean {
    const at = this.#firstEndingAfter(value);
    const start = this.#starts[at];
    return start !== undefined && start <= value;
  }

  /** Adds one number; `true` if it was not there. */
  add(value: number): boolean {
    return this.addRange(value, value + 1) === 1;
  }

  /** Adds [start, end) and returns how many of its numbers were not there. Throws unless both are whole and `start` ≤ `end`. */
  addRange(start: number, end: number): number {
    assert(
      Number.isSafeInteger(start) && Number.isSafeInteger(end) && start <= end,
      `bad range ${start} to ${end}`,
    );
    if (start === end) return 0;
    // Ranges that touch [start, end) are [from, to): they become one.
    const from = this.#firstEndingAfter(start - 1);
    let to = from;
    let known = 0;
    let mergedStart = start;
    let mergedEnd = end;
    for (; to < this.#starts.length; to += 1) {
      const [oldStart, oldEnd] = this.#at(to);
      if (oldStart > end) break;
      known += Math.max(0, Math.min(oldEnd, end) - Math.max(oldStart, start));
      mergedStart = Math.min(mergedStart, oldStart);
      mergedEnd = Math.max(mergedEnd, oldEnd);
    }
    this.#replace(from, to, mergedStart, mergedEnd);
    const added = end - start - known;
    this.#size += added;
    return added;
  }

  /** A new set with the numbers of both. */
  union(other: IntervalSet): IntervalSet {
    const [large, small] = this.rangeCount < other.rangeCount ? [other, this] : [this, other];
    const union = large.clone();
    for (const [start, end] of small.ranges()) union.addRange(start, end);
    return union;
  }

  clone(): IntervalSet {
    const copy = new IntervalSet();
    copy.#starts = [...this.#starts];
    copy.#ends = [...this.#ends];
    copy.#size = this.#size;
    return copy;
  }

  /** The ranges in rising order. Do not change the set while iterating. */
  *ranges(): Generator<Interval> {
    for (let at = 0; at < this.#starts.length; at += 1) yield this.#at(at);
  }

  /** What is missing from [start, end), in rising order. Do not change the set while iterating. */
  *holes(start: number, end: number): Generator<Interval> {
    let next = start;
    for (let at = this.#firstEndingAfter(start); at < this.#starts.length && next < end; at += 1) {
      const [rangeStart, rangeEnd] = this.#at(at);
      if (rangeStart > next) yield [next, Math.min(rangeStart, end)];
      next = rangeEnd;
    }
    if (next < end) yield [next, end];
  }

  /** The lowest number ≥ `from` that is not in the set. */
  firstMissing(from: number): number {
    const at = this.#firstEndingAfter(from);
    const start = this.#starts[at];
    return start !== undefined && start <= from ? (this.#ends[at] ?? from) : from;
  }

  /** Index of the first range whose end is greater than `value`; the count of ranges if none is. */
  #firstEndingAfter(value: number): number {
    const last = this.#ends.length - 1;
    // Sequence numbers mostly arrive at the end: no search there.
    if (last < 0 || value >= (this.#ends[last] ?? 0)) return last + 1;
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > value) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #replace(from: number, to: number, start: number, end: number): void {
    if (to === from + 1) {
      this.#starts[from] = start;
      this.#ends[from] = end;
      return;
    }
    this.#starts.splice(from, to - from, start);
    this.#ends.splice(from, to - from, end);
  }

  #at(index: number): Interval {
    return [this.#starts[index] ?? 0, this.#ends[index] ?? 0];
  }
}
