import type { StoreOperation } from "./record.ts";
import { valueOffset } from "./record.ts";
import type { JournalBatch } from "./record.ts";

/** The newest version of a key that the table does not hold yet. */
export interface OverlayEntry {
  readonly batch: JournalBatch;
  readonly offset: number;
  /** Bytes of the value, −1 for a delete. */
  readonly length: number;
  /** The table holds no version of this key: a delete need not reach it. */
  absent: boolean;
}

/** A recent value, or `undefined` in `value` where the newest version is a delete. */
export interface RecentValue {
  readonly value: Uint8Array | undefined;
}

/**
 * The newest version of every key in the journal and in the batches that wait for the disk. Bounded
 * by the journal's limits and by what may wait.
 */
export class Overlay {
  readonly #entries = new Map<string, OverlayEntry>();

  get size(): number {
    return this.#entries.size;
  }

  /** The newest version of `key`, or `undefined` if only the table can tell. */
  recent(key: string): RecentValue | undefined {
    const entry = this.#entries.get(key);
    return entry && { value: entryValue(entry) };
  }

  /** Enters operations that `batch` holds from offset `start` on. */
  apply(batch: JournalBatch, operations: readonly StoreOperation[], start: number): void {
    let at = start;
    for (const { key, value, fresh } of operations) {
      const offset = valueOffset(at, key);
      const length = value === undefined ? -1 : value.length;
      const known = this.#entries.get(key);
      const absent = known === undefined ? fresh === true : known.absent;
      this.#entries.set(key, { batch, offset, length, absent });
      at = offset + Math.max(length, 0);
    }
  }

  /** Enters everything a batch read back from disk holds. */
  replay(batch: JournalBatch): void {
    batch.visit((key, offset, length) => {
      this.#entries.set(key, { batch, offset, length, absent: false });
    });
  }

  /**
   * What the oldest `batches`, up to number `lastNo`, change in the table, once for each key. A change
   * with a newer version up to `syncedNo` is left out; one that still waits for its sync may be lost, and
   * with it the only newer version. Returns the keys whose newest version is among them.
   */
  fold(
    batches: readonly JournalBatch[],
    lastNo: number,
    syncedNo: number,
    change: (key: string, entry: OverlayEntry) => void,
  ): readonly string[] {
    const settled: string[] = [];
    const unsynced = new Map<string, OverlayEntry>();
    for (const batch of batches) {
      batch.visit((key, offset, length) => {
        const newest = this.#entries.get(key);
        if (newest === undefined) return;
        if (newest.batch === batch && newest.offset === offset) {
          settled.push(key);
          if (length < 0 && newest.absent) return;
          newest.absent = false; // Whatever follows while the slice is being written inherits this.
          change(key, newest);
        } else if (newest.batch.no > syncedNo) unsynced.set(key, { batch, offset, length, absent: false });
      });
    }
    for (const [key, entry] of unsynced) {
      const newest = this.#entries.get(key);
      if (newest === undefined || newest.batch.no <= lastNo) continue;
      newest.absent = false;
      change(key, entry);
    }
    return settled;
  }

  /** Drops a key that reached the table with batch `lastNo`, unless it has changed since. */
  forget(key: string, lastNo: number): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.batch.no <= lastNo) this.#entries.delete(key);
  }

  /** The entries with that prefix as they are now, in key order. */
  snapshot(prefix: string): (readonly [key: string, entry: OverlayEntry])[] {
    const found: (readonly [string, OverlayEntry])[] = [];
    for (const pair of this.#entries) if (pair[0].startsWith(prefix)) found.push(pair);
    return found.sort(([a], [b]) => (a < b ? -1 : 1));
  }

  clear(): void {
    this.#entries.clear();
  }
}

/** The value an entry stands for, `undefined` for a delete. */
export function entryValue(entry: OverlayEntry): Uint8Array | undefined {
  return entry.length < 0 ? undefined : entry.batch.value(entry.offset, entry.length);
}
