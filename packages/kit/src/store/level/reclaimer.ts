import { DeadRanges } from "./dead-ranges.ts";

/** Tables of a span of deleted keys that are fewer bytes than this stay until LevelDB comes to them. */
const LEAST_BYTES: number = 8 * 1024 * 1024;

/** What it needs of LevelDB. */
export interface Compactable {
  approximateSize(first: string, end: string): Promise<number>;
  compactRange(first: string, last: string): Promise<void>;
}

/**
 * Gives back the disk space of what was deleted. LevelDB does so only where more is written to the same place, and a queue that was drained
 * writes nothing there: its bodies stayed for good.
 */
export class Reclaimer {
  readonly #database: Compactable;
  readonly #dead = new DeadRanges();
  #running: Promise<void> | undefined;
  /** What was noted until the last call is not under way yet. */
  #isAsked = false;
  #stopped = false;

  constructor(database: Compactable) {
    this.#database = database;
  }

  /** A key that is about to be deleted. */
  note(key: string): void {
    this.#dead.add(key);
  }

  /** Clears away what was noted until now, after what is being cleared away already. */
  async reclaim(): Promise<void> {
    this.#isAsked = true;
    // Not in `#compact` itself: without anything to clear away it ends before this has what it returns.
    this.#running ??= this.#compact().finally(() => (this.#running = undefined));
    await this.#running;
  }

  /** Begins nothing any more; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #compact(): Promise<void> {
    try {
      while (this.#isAsked) {
        this.#isAsked = false;
        for (const { first, last } of this.#dead.take()) {
          if (this.#stopped) return;
          // One of them at least; the end is not included there.
          const bytes = await this.#database.approximateSize(first, `${last}\0`);
          if (bytes >= LEAST_BYTES && !this.#stopped) await this.#database.compactRange(first, last);
        }
      }
    } catch {
      // The next write fails for the same reason, and tells.
    }
  }
}
