import { rowOf, rowText } from "../core/row.ts";
import type { JournalBatch, StoreOperation } from "./record.ts";
import { ROW_BYTES, textValueOffset, valueBytes } from "./record.ts";
import { RowTable } from "./row-table.ts";

/** The newest version of a key that the table does not hold yet. */
interface OverlayEntry {
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

/** Told what changes in the table; `value` is `undefined` for a delete, and a view that must not be kept. */
export type TableChange = (key: string, value: Uint8Array | undefined) => void;

/**
 * The newest version of every key in the journal and in the batches that wait for the disk. Bounded
 * by the journal's limits and by what may wait.
 */
export class Overlay {
  readonly #texts = new Map<string, OverlayEntry>();
  readonly #rows = new RowTable();
  /** Every batch with a newest version, by number. */
  readonly #batches = new Map<number, JournalBatch>();

  get size(): number {
    return this.#texts.size + this.#rows.size;
  }

  /** The newest version of `key`, or `undefined` if only the table can tell. */
  recent(key: string): RecentValue | undefined {
    const row = rowOf(key);
    if (row === undefined) {
      const entry = this.#texts.get(key);
      return entry && { value: valueOf(entry.batch, entry.offset, entry.length) };
    }
    const at = this.#rows.find(row.family, row.slot, row.seq);
    return at < 0 ? undefined : { value: this.#rowValue(at) };
  }

  /** Whether the table's version of a row is not the newest. */
  hasRow(family: number, slot: number, seq: number): boolean {
    return this.#rows.find(family, slot, seq) >= 0;
  }

  #rowValue(at: number): Uint8Array | undefined {
    const rows = this.#rows;
    return valueOf(this.#batches.get(rows.no(at)), rows.offset(at), rows.length(at));
  }

  /** Enters operations that `batch` holds from offset `start` on. */
  apply(batch: JournalBatch, operations: readonly StoreOperation[], start: number): void {
    this.#batches.set(batch.no, batch);
    let at = start;
    for (const operation of operations) {
      const { key, value, fresh } = operation;
      const length = value === undefined ? -1 : valueBytes(operation);
      const row = rowOf(key);
      if (row === undefined) {
        const text = key as string;
        at = textValueOffset(at, text);
        const known = this.#texts.get(text);
        const absent = known === undefined ? fresh === true : known.absent;
        this.#texts.set(text, { batch, offset: at, length, absent });
      } else {
        at += ROW_BYTES;
        this.#rows.set(row.family, row.slot, row.seq, batch.no, at, length, fresh === true);
      }
      if (length > 0) at += length;
    }
  }

  /** Enters everything a batch read back from disk holds. */
  replay(batch: JournalBatch): void {
    this.#batches.set(batch.no, batch);
    batch.visit({
      text: (key, offset, length) => {
        this.#texts.set(key, { batch, offset, length, absent: false });
      },
      row: (family, slot, seq, offset, length) => {
        this.#rows.set(family, slot, seq, batch.no, offset, length, false);
      },
    });
  }

  /**
   * What the oldest `batches` change in the table, once for each key. A change with a newer version up to `syncedNo` is left out; one that still waits for its sync may be lost, and
   * with it the only newer version.
   */
  fold(batches: readonly JournalBatch[], syncedNo: number, change: TableChange): void {
    const rows = this.#rows;
    const unsynced = new Map<string, Uint8Array | undefined>();
    for (const batch of batches) {
      batch.visit({
        text: (key, offset, length) => {
          const newest = this.#texts.get(key);
          if (newest === undefined) return;
          if (newest.batch === batch && newest.offset === offset) {
            if (length < 0 && newest.absent) return;
            newest.absent = false; // Whatever follows while the slice is being written inherits this.
            change(key, viewOf(batch, offset, length));
          } else if (newest.batch.no > syncedNo) {
            newest.absent = false;
            unsynced.set(key, viewOf(batch, offset, length));
          }
        },
        row: (family, slot, seq, offset, length) => {
          const at = rows.find(family, slot, seq);
          if (at < 0) return;
          const newestNo = rows.no(at);
          if (newestNo === batch.no && rows.offset(at) === offset) {
            if (length < 0 && rows.isAbsent(at)) return;
            rows.markPresent(at);
            change(rowText(family, slot, seq), viewOf(batch, offset, length));
          } else if (newestNo > syncedNo) {
            rows.markPresent(at);
            unsynced.set(rowText(family, slot, seq), viewOf(batch, offset, length));
          }
        },
      });
    }
    for (const [key, value] of unsynced) change(key, value);
  }

  /** Drops what reached the table with `batches`, up to number `lastNo`, unless it has changed since. */
  forget(batches: readonly JournalBatch[], lastNo: number): void {
    const rows = this.#rows;
    for (const batch of batches) {
      batch.visit({
        text: (key) => {
          const entry = this.#texts.get(key);
          if (entry !== undefined && entry.batch.no <= lastNo) this.#texts.delete(key);
        },
        row: (family, slot, seq) => {
          const at = rows.find(family, slot, seq);
          if (at >= 0 && rows.no(at) <= lastNo) rows.delete(at);
        },
      });
      this.#batches.delete(batch.no);
      batch.release();
    }
    rows.trim();
  }

  /** The entries with that prefix as they are now, in key order. */
  snapshot(prefix: string): (readonly [key: string, value: Uint8Array | undefined])[] {
    const found: (readonly [string, Uint8Array | undefined])[] = [];
    for (const [key, { batch, offset, length }] of this.#texts) {
      if (key.startsWith(prefix)) found.push([key, valueOf(batch, offset, length)]);
    }
    for (const { family, slot, seq, at } of this.#rows.places()) {
      const key = rowText(family, slot, seq);
      if (key.startsWith(prefix)) found.push([key, this.#rowValue(at)]);
    }
    return found.sort(([a], [b]) => (a < b ? -1 : 1));
  }

  clear(): void {
    this.#texts.clear();
    this.#rows.clear();
    this.#batches.clear();
  }
}

function valueOf(batch: JournalBatch | undefined, offset: number, length: number): Uint8Array | undefined {
  return length < 0 ? undefined : batch?.value(offset, length);
}

function viewOf(batch: JournalBatch, offset: number, length: number): Uint8Array | undefined {
  return length < 0 ? undefined : batch.view(offset, length);
}
