/** Deadlines are kept in steps of this size, rounded up: a call may end this much late, never early. */
const DEADLINE_STEP_MS = 8;

/**
 * Many deadlines under one timer. Adding and removing cost one set operation each, so calls that end
 * early (nearly all) leave nothing behind; only the few distinct steps are kept in order.
 */
export class Deadlines<T> {
  readonly #steps = new Map<number, Set<T>>();
  /** Binary heap of the keys of `#steps`. */
  readonly #heap: number[] = [];

  /** Monotonic instant of the earliest deadline in milliseconds, or `undefined` if there is none. */
  next(): number | undefined {
    for (let step = this.#heap[0]; step !== undefined; step = this.#heap[0]) {
      if ((this.#steps.get(step)?.size ?? 0) > 0) return step * DEADLINE_STEP_MS;
      this.#steps.delete(step);
      this.#pop();
    }
    return undefined;
  }

  add(item: T, atMs: number): void {
    const step = Math.ceil(atMs / DEADLINE_STEP_MS);
    const items = this.#steps.get(step);
    if (items !== undefined) {
      items.add(item);
      return;
    }
    this.#steps.set(step, new Set([item]));
    this.#push(step);
  }

  /** `atMs`: the same that was given to `add`. */
  delete(item: T, atMs: number): void {
    this.#steps.get(Math.ceil(atMs / DEADLINE_STEP_MS))?.delete(item);
  }

  /** Removes and returns what is due. */
  due(nowMs: number): readonly T[] {
    const items: T[] = [];
    for (let at = this.next(); at !== undefined && at <= nowMs; at = this.next()) {
      const step = at / DEADLINE_STEP_MS;
      for (const item of this.#steps.get(step) ?? []) items.push(item);
      this.#steps.delete(step);
      this.#pop();
    }
    return items;
  }

  #push(step: number): void {
    const heap = this.#heap;
    let at = heap.push(step) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as number) <= step) break;
      heap[at] = heap[parent] as number;
      at = parent;
    }
    heap[at] = step;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (let child = 1; child < heap.length; child = 2 * at + 1) {
      if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child += 1;
      if ((heap[child] as number) >= last) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = last;
  }
}
