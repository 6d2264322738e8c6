import { Buffer } from "node:buffer";
import type { Disk, DiskOperation } from "./disk.ts";
import { prefixRange } from "./disk.ts";
import { StoreError } from "./errors.ts";
import { BASE_RECORDS_KEPT } from "./limits.ts";
import { JournalBatch, sha256 } from "./record.ts";
import type { Base } from "./table.ts";
import {
  BASE_PREFIX,
  baseKey,
  baseOperation,
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
  /** To be written, synced, before the store is used; mostly empty. */
  readonly repair: readonly DiskOperation[];
  /** To be done away with before: what nobody waited for and a power cut left behind a gap. Mostly empty. */
  readonly stray: readonly DiskOperation[];
}

/** What the base records say. */
interface FoundBase {
  /** Where to begin; its slice is the last there was. */
  readonly base: Base;
  /** Of slices that were written although one before them is lost. */
  readonly beyond: readonly Base[];
  readonly repair: readonly DiskOperation[];
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
 * Checks that nothing acknowledged is missing as far as one disk can tell: base records, then journal records without a gap from the base to the highest, each with the right hash.
 * Throws {@link StoreError} `STORE_DAMAGED`; writes nothing.
 */
export async function recoverChain(disk: Disk, storeId: string): Promise<RecoveredChain> {
  const recordedId = await readStoreId(disk);
  if (recordedId !== storeId)
    throw damaged(storeId, `its own record of the storeId says ${String(recordedId)}`);
  const found = await findBase(disk);
  if (typeof found === "string") throw damaged(storeId, found);
  const { base, beyond, repair } = found;
  const { batches, stray } = await recoverJournal(disk, storeId, base);
  for (const { no, hash } of beyond) {
    const batch = batches[no - base.no - 1];
    if (batch === undefined || Buffer.compare(batch.hash, hash) !== 0)
      throw damaged(storeId, `a slice up to record ${no} is of another history`);
  }
  return { base, batches, repair, stray };
}

/**
 * Reads the base records, or says what is wrong with them. A power cut may take unsynced slices and leave later ones:
 * each took its base record along, and left the one it should have deleted. The base is then the last one
 * before, for replaying all records after it undoes whatever half of the slices the table has.
 */
export async function findBase(disk: Disk): Promise<FoundBase | string> {
  const found = new Map<number, Base>();
  for await (const page of disk.pages(prefixRange(BASE_PREFIX))) {
    for (const [key, stored] of page) {
      const base = readBase(key, stored);
      if (base === undefined || key !== baseKey(base.sliceNo)) return `base record ${key} is altered`;
      found.set(base.sliceNo, base);
    }
  }
  const lastNo = Math.max(...found.keys());
  const firstNo = Math.max(0, lastNo - BASE_RECORDS_KEPT + 1);
  let expected = 0;
  let lostNo: number | undefined;
  for (let no = firstNo; no <= lastNo; no += 1) {
    const isLost = !found.has(no);
    if (isLost) lostNo ??= no;
    if (!isLost || no >= BASE_RECORDS_KEPT) expected += 1;
    if (isLost && no >= BASE_RECORDS_KEPT && !found.has(no - BASE_RECORDS_KEPT))
      return `base record ${no} is missing`;
  }
  // The oldest are gone, or one is left that a slice should have deleted.
  if (found.size !== expected) return `${found.size} base records instead of ${expected}`;
  const base = found.get(lostNo === undefined ? lastNo : lostNo - 1);
  if (base === undefined) return "no base record is left to begin from";
  const beyond: Base[] = [];
  const repair: DiskOperation[] = [];
  for (const [no, each] of found) {
    if (no > base.sliceNo) beyond.push(each);
    if (no < firstNo) repair.push({ type: "del", key: baseKey(no) });
  }
  for (let no = base.sliceNo + 1; no <= lastNo; no += 1) repair.push(baseOperation({ ...base, sliceNo: no }));
  return { base: { ...base, sliceNo: lastNo }, beyond, repair };
}

async function recoverJournal(
  disk: Disk,
  storeId: string,
  base: Base,
): Promise<Pick<RecoveredChain, "batches" | "stray">> {
  const batches: JournalBatch[] = [];
  const stray: DiskOperation[] = [];
  let { no, hash } = base;
  for await (const page of disk.pages(prefixRange(JOURNAL_PREFIX))) {
    for (const [key, record] of page) {
      const expected = journalKey(no + 1);
      if ((key !== expected || stray.length > 0) && batches.length > 0 && JournalBatch.saysRelaxed(record)) {
        stray.push({ type: "del", key });
        continue;
      }
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
  return { batches, stray };
}

function damaged(storeId: string, found: string): StoreError {
  return new StoreError("STORE_DAMAGED", `store ${storeId} is damaged: ${found}; quarantine it`, { storeId });
}
