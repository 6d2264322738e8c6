import { DeadRanges } from "./dead-ranges.ts";

/** Nothing was written for so long, in milliseconds: then what was deleted is cleared away. */
const IDLE_MS = 10_000;
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
  readonly #idleMs: number;
  readonly #dead = new DeadRanges();
  #wroteAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(database: Compactable, idleMs: number = IDLE_MS) {
    this.#database = database;
    this.#idleMs = idleMs;
  }

  /** A key that is about to be deleted. */
  note(key: string): void {
    this.#dead.add(key);
  }

  /** A batch was written. */
  written(): void {
    this.#wroteAt = performance.now();
    if (!this.#dead.isEmpty) this.#arm(this.#idleMs);
  }

  /** Begins nothing any more; resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #arm(delayMs: number): void {
    if (this.#stopped || this.#timer !== undefined || this.#running !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const leftMs = this.#wroteAt + this.#idleMs - performance.now();
      if (leftMs > 0) this.#arm(leftMs);
      else this.#running = this.#reclaim();
    }, delayMs).unref();
  }

  async #reclaim(): Promise<void> {
    try {
      for (const { first, last } of this.#dead.take()) {
        if (this.#stopped) return;
        // One of them at least; the end is not included there.
        const bytes = await this.#database.approximateSize(first, `${last}\0`);
        if (bytes >= LEAST_BYTES && !this.#stopped) await this.#database.compactRange(first, last);
      }
    } catch {
      // The next write fails for the same reason, and tells.
    } finally {
      this.#running = undefined;
      if (!this.#dead.isEmpty) this.#arm(this.#idleMs);
    }
  }
}
