import { Buffer } from "node:buffer";
import type { Disk } from "./disk.ts";
import { prefixRange } from "./disk.ts";
import { StoreError } from "./errors.ts";
import { BASE_RECORDS_KEPT } from "./limits.ts";
import { JournalBatch, sha256 } from "./record.ts";
import type { Base } from "./table.ts";
import {
  BASE_PREFIX,
  baseKey,
  guarded,
  JOURNAL_PREFIX,
  journalKey,
  readBase,
  STORE_ID_KEY,
  unguarded,
} from "./table.ts";

/** What an intact store holds beside its table. */
export interface RecoveredChain {
  readonly base: Base;
  /** The journal from `base.no + 1` on; never empty. */
  readonly batches: readonly JournalBatch[];
}

/** Base 0 of a new store: its hash ties the whole chain to the store's id. */
export function genesis(storeId: string): Base {
  const hash = sha256(Buffer.from(`klatsch store 1 ${storeId}`, "latin1"));
  return { sliceNo: 0, no: 0, hash, boot: 0 };
}

/** The value under {@link STORE_ID_KEY}. */
export function storeIdRecord(storeId: string): Uint8Array {
  return guarded(STORE_ID_KEY, Buffer.from(storeId, "latin1"));
}

/** The id recorded inside the database, or `undefined` if it is absent or altered. */
export async function readStoreId(disk: Disk): Promise<string | undefined> {
  const stored = await disk.get(STORE_ID_KEY);
  return stored && unguarded(STORE_ID_KEY, stored)?.toString("latin1");
}

/**
 * Checks that nothing acknowledged is missing as far as one disk can tell: base records without a
 * gap, then journal records without a gap from the base to the highest, each with the right hash.
 * Throws {@link StoreError} `STORE_DAMAGED`; writes nothing.
 */
export async function recoverChain(disk: Disk, storeId: string): Promise<RecoveredChain> {
  const recordedId = await readStoreId(disk);
  if (recordedId !== storeId)
    throw damaged(storeId, `its own record of the storeId says ${String(recordedId)}`);
  const base = await recoverBase(disk, storeId);
  const batches = await recoverJournal(disk, storeId, base);
  return { base, batches };
}

async function recoverBase(disk: Disk, storeId: string): Promise<Base> {
  let last: Base | undefined;
  let count = 0;
  for await (const page of disk.pages(prefixRange(BASE_PREFIX))) {
    for (const [key, stored] of page) {
      const base = readBase(key, stored);
      if (base === undefined || key !== baseKey(base.sliceNo))
        throw damaged(storeId, `base record ${key} is altered`);
      if (last !== undefined && base.sliceNo !== last.sliceNo + 1) {
        throw damaged(storeId, `base records ${last.sliceNo + 1} to ${base.sliceNo - 1} are missing`);
      }
      last = base;
      count += 1;
    }
  }
  if (last === undefined) throw damaged(storeId, "no base record is left");
  // Fewer than kept: the oldest are gone, or a slice between them was lost with its neighbours.
  const expected = Math.min(last.sliceNo + 1, BASE_RECORDS_KEPT);
  if (count !== expected) throw damaged(storeId, `${count} base records instead of ${expected}`);
  return last;
}

async function recoverJournal(disk: Disk, storeId: string, base: Base): Promise<JournalBatch[]> {
  const batches: JournalBatch[] = [];
  let { no, hash } = base;
  for await (const page of disk.pages(prefixRange(JOURNAL_PREFIX))) {
    for (const [key, record] of page) {
      const expected = journalKey(no + 1);
      if (key !== expected)
        throw damaged(storeId, `found ${key} where ${expected} belongs (base ${base.no})`);
      const batch = JournalBatch.read(record, no + 1, hash);
      if (!(batch instanceof JournalBatch)) throw damaged(storeId, `journal record ${key}: ${batch}`);
      batches.push(batch);
      ({ no, hash } = batch);
    }
  }
  // Each open writes a record and the newest is never folded away.
  if (batches.length === 0) throw damaged(storeId, `no journal record after base ${base.no}`);
  return batches;
}

function damaged(storeId: string, found: string): StoreError {
  return new StoreError("STORE_DAMAGED", `store ${storeId} is damaged: ${found}; quarantine it`, { storeId });
}
