/** Prefixes whose deleted keys are kept apart; with more, the one that rests longest is left to LevelDB. */
const PREFIXES_MAX = 1_024;

/** A span of keys that were deleted, both ends included. */
export interface DeadRange {
  readonly first: string;
  readonly last: string;
}

interface Span {
  first: string;
  last: string;
}

/**
 * Where deleted keys lay, by what stands before their last `/`: a queue's lane is deleted from its beginning on, so that little of what lives lies
 * between the first and the last of them.
 */
export class DeadRanges {
  readonly #spans = new Map<string, Span>();

  add(key: string): void {
    const prefix = key.slice(0, key.lastIndexOf("/") + 1);
    const span = this.#spans.get(prefix);
    if (span !== undefined) {
      if (key < span.first) span.first = key;
      else if (key > span.last) span.last = key;
      return;
    }
    if (this.#spans.size >= PREFIXES_MAX) {
      const [oldest = ""] = this.#spans.keys();
      this.#spans.delete(oldest);
    }
    this.#spans.set(prefix, { first: key, last: key });
  }

  /** All of them; from now on others are noted. */
  take(): readonly DeadRange[] {
    const ranges = [...this.#spans.values()];
    this.#spans.clear();
    return ranges;
  }
}
