/** Timers that are due in the same 10 ms; those cancelled leave a hole. */
interface Bucket {
  timers: (Timer | undefined)[];
  count: number;
}

/** A callback waiting in {@link Timers}. */
export interface Timer {
  readonly bucket: Bucket;
  at: number;
  readonly run: () => void;
}

const BUCKET_MS = 10;
/** A bucket longer than this that is mostly holes is made shorter. */
const HOLES_MIN = 1_024;

/**
 * Deadlines of a core, in buckets of 10 ms so that setting and cancelling a lease's timer costs the
 * same whatever their number. A timer never fires early; within a bucket, in the order they were set.
 */
export class Timers {
  readonly #buckets = new Map<number, Bucket>();
  /** Binary min-heap of bucket numbers; emptied buckets are dropped lazily. */
  readonly #heap: number[] = [];

  /** Runs `run` in the first `fire` at or after `monoMs`. */
  set(monoMs: number, run: () => void): Timer {
    const number = Math.ceil(monoMs / BUCKET_MS);
    let bucket = this.#buckets.get(number);
    if (bucket === undefined) {
      this.#buckets.set(number, (bucket = { timers: [], count: 0 }));
      this.#push(number);
    }
    if (bucket.timers.length >= HOLES_MIN && bucket.timers.length >= 4 * bucket.count) tidy(bucket);
    const timer: Timer = { bucket, at: bucket.timers.length, run };
    bucket.timers.push(timer);
    bucket.count += 1;
    return timer;
  }

  /** Of one that has fired, or was cancelled before, there is nothing to cancel. */
  cancel(timer: Timer | undefined): void {
    if (timer === undefined) return;
    const { bucket, at } = timer;
    if (bucket.timers[at] !== timer) return;
    bucket.timers[at] = undefined;
    bucket.count -= 1;
    if (bucket.count === 0) bucket.timers = [];
  }

  /** Monotonic instant of the next timer, in milliseconds. */
  next(): number | undefined {
    for (;;) {
      const number = this.#heap[0];
      if (number === undefined) return undefined;
      if ((this.#buckets.get(number)?.count ?? 0) > 0) return number * BUCKET_MS;
      this.#buckets.delete(number);
      this.#pop();
    }
  }

  fire(monoMs: number): void {
    for (let next = this.next(); next !== undefined && next <= monoMs; next = this.next()) {
      const number = next / BUCKET_MS;
      const bucket = this.#buckets.get(number);
      this.#buckets.delete(number);
      this.#pop();
      if (bucket === undefined) continue;
      const { timers } = bucket;
      // One that runs may cancel another behind itself.
      for (let at = 0; at < timers.length; at += 1) {
        const timer = timers[at];
        timers[at] = undefined;
        timer?.run();
      }
      bucket.timers = []; // Who keeps a timer that has fired keeps nothing else.
    }
  }

  #push(bucket: number): void {
    const heap = this.#heap;
    let at = heap.push(bucket) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] ?? 0) <= bucket) break;
      heap[at] = heap[parent] ?? 0;
      at = parent;
    }
    heap[at] = bucket;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] ?? 0) < (heap[child] ?? 0)) child += 1;
      if ((heap[child] ?? 0) >= last) break;
      heap[at] = heap[child] ?? 0;
      at = child;
    }
    heap[at] = last;
  }
}

/** Moves what waits together. */
function tidy(bucket: Bucket): void {
  const left = bucket.timers.filter((timer) => timer !== undefined);
  for (const [at, timer] of left.entries()) timer.at = at;
  bucket.timers = left;
}
