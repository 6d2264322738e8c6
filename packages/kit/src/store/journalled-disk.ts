import { randomBytes } from "node:crypto";
import type { Disk, DiskOperation, DiskPage, DiskRange, DiskVisitor, OpenDisk, SealedDisk } from "./disk.ts";
import { journalLocation } from "./directory.ts";
import { StoreError } from "./errors.ts";
import { JournalFiles } from "./journal-files.ts";
import { openLevelDisk } from "./level/level-disk.ts";
import { findBase } from "./recovery.ts";
import { guarded, JOURNAL_PREFIX, journalKey, SEAL_KEY, unguarded } from "./table.ts";

/** The table is synced once this much of the journal was folded into it, so that its files can be used again. */
const SYNC_BYTES: number = 4 * 1024 * 1024;
/** Journal records in one page. */
const PAGE_RECORDS = 64;
const SEAL_BYTES = 16;

/**
 * LevelDB for the table and files of their own for the journal, as one disk: to the store the records are keys like
 * others. A record is gone once a base record says so that is itself durable, or if it is deleted and nothing else is done.
 */
class JournalledDisk implements SealedDisk {
  readonly seal: Uint8Array;
  readonly #table: Disk;
  readonly #journal: JournalFiles;
  /** Journalled since the table was last synced, in bytes. */
  #unsyncedBytes = 0;

  constructor(table: Disk, journal: JournalFiles, seal: Uint8Array) {
    this.seal = seal;
    this.#table = table;
    this.#journal = journal;
  }

  async write(operations: readonly DiskOperation[], sync: boolean): Promise<void> {
    const [only] = operations;
    if (operations.length === 1 && only?.type === "put" && only.key.startsWith(JOURNAL_PREFIX)) {
      this.#unsyncedBytes += only.value.length;
      return await this.#journal.append(numberOf(only.key), only.value, sync);
    }
    const inTable: DiskOperation[] = [];
    const records: DiskOperation[] = [];
    for (const operation of operations) {
      (operation.key.startsWith(JOURNAL_PREFIX) ? records : inTable).push(operation);
    }
    if (inTable.length === 0) return await this.#journal.remove(records.map(({ key }) => numberOf(key)));
    const isSynced = sync || this.#unsyncedBytes >= SYNC_BYTES;
    if (isSynced) this.#unsyncedBytes = 0;
    await this.#table.write(inTable, isSynced);
    let doneNo = 0;
    for (const record of records) {
      if (record.type === "del") doneNo = Math.max(doneNo, numberOf(record.key));
      else {
        // A chain begins: whatever a creation that was cut short left behind is none of it.
        await this.#journal.clear();
        await this.#journal.append(numberOf(record.key), record.value, true);
        return;
      }
    }
    if (isSynced) this.#journal.done(doneNo);
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return await this.#table.get(key);
  }

  async getMany(keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await this.#table.getMany(keys);
  }

  pages(range: DiskRange): AsyncIterable<DiskPage> {
    return range.first.startsWith(JOURNAL_PREFIX) ? this.#recordPages(range) : this.#table.pages(range);
  }

  /** Of the table alone; writes to the journal's files do not matter to it. */
  async visit(range: DiskRange, visit: DiskVisitor): Promise<boolean> {
    return (await this.#table.visit?.(range, visit)) === true;
  }

  async *#recordPages({ first, end }: DiskRange): AsyncGenerator<DiskPage> {
    const entries = this.#journal.records.map(({ no, bytes }) => [journalKey(no), bytes] as const);
    const inRange = entries.filter(([key]) => key >= first && key < end);
    for (let at = 0; at < inRange.length; at += PAGE_RECORDS) yield inRange.slice(at, at + PAGE_RECORDS);
    if (first === JOURNAL_PREFIX) this.#journal.release();
  }

  async reclaim(): Promise<void> {
    await this.#table.reclaim?.();
  }

  async close(): Promise<void> {
    await this.#journal.close();
    await this.#table.close();
  }
}

function numberOf(key: string): number {
  return Number(key.slice(JOURNAL_PREFIX.length));
}

/** Opens both under LevelDB's lock. */
export const openJournalledDisk: OpenDisk = async (location, createIfMissing, journalFileBytes) => {
  const table = await openLevelDisk(location, createIfMissing);
  try {
    const directory = journalLocation(location);
    const found = await findBase(table);
    // What is wrong is for recovery to say.
    const doneNo = typeof found === "string" ? 0 : found.base.no;
    const seal = await readSeal(table, location);
    const journal = await JournalFiles.open({ directory, fileBytes: journalFileBytes, doneNo, seal });
    return new JournalledDisk(table, journal, seal);
  } catch (error) {
    await table.close();
    throw error;
  }
};

/** What the journal's records are told from everything else by: random, and made when the database is new. */
async function readSeal(table: Disk, location: string): Promise<Uint8Array> {
  const stored = await table.get(SEAL_KEY);
  if (stored === undefined) {
    const seal = randomBytes(SEAL_BYTES);
    await table.write([{ type: "put", key: SEAL_KEY, value: guarded(SEAL_KEY, seal) }], true);
    return seal;
  }
  const seal = unguarded(SEAL_KEY, stored);
  if (seal?.length === SEAL_BYTES) return seal;
  throw new StoreError("STORE_DAMAGED", `${location}: the seal of the journal is altered`);
}
