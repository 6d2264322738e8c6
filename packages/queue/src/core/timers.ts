/** A callback waiting in {@link Timers}. */
export interface Timer {
  readonly bucket: number;
  readonly run: () => void;
}

const BUCKET_MS = 10;

/**
 * Deadlines of a core, in buckets of 10 ms so that setting and cancelling a lease's timer costs the
 * same whatever their number. A timer never fires early; within a bucket, in the order they were set.
 */
export class Timers {
  readonly #buckets = new Map<number, Set<Timer>>();
  /** Binary min-heap of bucket numbers; emptied buckets are dropped lazily. */
  readonly #heap: number[] = [];
  /** The bucket that fires now: a timer in it may cancel one behind itself. */
  #firing: Set<Timer> | undefined;

  /** Runs `run` in the first `fire` at or after `monoMs`. */
  set(monoMs: number, run: () => void): Timer {
    const bucket = Math.ceil(monoMs / BUCKET_MS);
    const timer: Timer = { bucket, run };
    const timers = this.#buckets.get(bucket);
    if (timers === undefined) {
      this.#buckets.set(bucket, new Set([timer]));
      this.#push(bucket);
    } else timers.add(timer);
    return timer;
  }

  cancel(timer: Timer | undefined): void {
    if (timer === undefined) return;
    this.#buckets.get(timer.bucket)?.delete(timer);
    this.#firing?.delete(timer);
  }

  /** Monotonic instant of the next timer, in milliseconds. */
  next(): number | undefined {
    for (;;) {
      const bucket = this.#heap[0];
      if (bucket === undefined) return undefined;
      if ((this.#buckets.get(bucket)?.size ?? 0) > 0) return bucket * BUCKET_MS;
      this.#buckets.delete(bucket);
      this.#pop();
    }
  }

  fire(monoMs: number): void {
    for (let next = this.next(); next !== undefined && next <= monoMs; next = this.next()) {
      const bucket = next / BUCKET_MS;
      const timers = this.#buckets.get(bucket) ?? new Set();
      this.#buckets.delete(bucket);
      this.#pop();
      this.#firing = timers;
      for (const timer of timers) timer.run();
      this.#firing = undefined;
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
