interface Entry {
  readonly at: number;
  /** Entries of one instant run in the order they were made. */
  readonly order: number;
  run: (() => void) | undefined;
}

/** Virtual time: what happens next, and nothing else. One thread, no real clock. */
export class EventQueue {
  /** Milliseconds since the run began. */
  now = 0;
  /** Events run so far. */
  count = 0;
  readonly #heap: Entry[] = [];
  #order = 0;

  /** Runs `run` at `at`, or at once after what is due now. */
  at(at: number, run: () => void): void {
    this.#add(at, run);
  }

  in(delayMs: number, run: () => void): void {
    this.#add(this.now + delayMs, run);
  }

  /** As `at`; the returned function cancels. */
  timer(at: number, run: () => void): () => void {
    const entry = this.#add(at, run);
    return () => {
      entry.run = undefined;
    };
  }

  #add(at: number, run: () => void): Entry {
    const entry: Entry = { at: Math.max(at, this.now), order: this.#order, run };
    this.#order += 1;
    this.#push(entry);
    return entry;
  }

  /** `false`: nothing is left before `untilMs`, which is the time now. */
  step(untilMs: number): boolean {
    for (;;) {
      const entry = this.#heap[0];
      if (entry === undefined || entry.at > untilMs) {
        this.now = Math.max(this.now, untilMs);
        return false;
      }
      this.#pop();
      if (entry.run === undefined) continue;
      this.now = entry.at;
      this.count += 1;
      entry.run();
      return true;
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(entry, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
