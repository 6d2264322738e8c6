import { randomBytes } from "node:crypto";
import { Arena } from "./arena.ts";
import type { Disk, OpenDisk } from "./disk.ts";
import { prefixRange } from "./disk.ts";
import { claimDirectory, levelLocation, readIdentity, writeIdentity } from "./directory.ts";
import { diskError, StoreError } from "./errors.ts";
import { JournalStore } from "./journal-store.ts";
import { openJournalledDisk } from "./journalled-disk.ts";
import type { StoreLimits } from "./limits.ts";
import { DEFAULT_LIMITS } from "./limits.ts";
import type { StoreVisitor } from "./load.ts";
import { VisitFailure } from "./load.ts";
import { JournalBatch } from "./record.ts";
import { genesis, readStoreId, recoverChain, storeIdRecord } from "./recovery.ts";
import { baseKey, baseOperation, DATA_PREFIX, journalKey, STORE_ID_KEY } from "./table.ts";

/** What only tests replace. */
interface StoreInternals {
  readonly limits?: Partial<StoreLimits> | undefined;
  readonly openDisk?: OpenDisk | undefined;
}

interface OpenJournalStore extends StoreInternals {
  readonly visitor?: StoreVisitor | undefined;
}

/** Opens or creates the store in `directory`; see `openStore`. */
export async function openJournalStore(
  directory: string,
  internals: OpenJournalStore = {},
): Promise<JournalStore> {
  const release = claimDirectory(directory);
  try {
    return await open(directory, internals, release);
  } catch (error) {
    release();
    if (error instanceof VisitFailure) throw error.cause;
    throw diskError(`cannot open the store in ${directory}`, error);
  }
}

async function open(
  directory: string,
  internals: OpenJournalStore,
  release: () => void,
): Promise<JournalStore> {
  const openDisk = internals.openDisk ?? openJournalledDisk;
  const limits = { ...DEFAULT_LIMITS, ...internals.limits };
  const { journalFileBytes } = limits;
  const known = await readIdentity(directory).catch(async (error: unknown) => {
    throw await unlessInUse(error, () => openDisk(levelLocation(directory), false, journalFileBytes));
  });
  const disk = await openDisk(levelLocation(directory), known === undefined, journalFileBytes).catch(
    (error: unknown) => {
      throw withStoreId(error, known);
    },
  );
  try {
    // Read again: another process may have created the store before this one got the lock.
    const identity = known ?? (await readIdentity(directory));
    const storeId = identity ?? (await createChain(disk, limits));
    const chain = await recoverChain(disk, storeId);
    if (chain.stray.length > 0) await disk.write(chain.stray, true);
    if (chain.repair.length > 0) await disk.write(chain.repair, true);
    const store = new JournalStore({ disk, storeId, chain, limits, onClosed: release });
    if (internals.visitor !== undefined) await store.load(internals.visitor);
    await store.commit([]);
    if (identity === undefined) await writeIdentity(directory, storeId);
    return store;
  } catch (error) {
    await disk.close();
    if (error instanceof VisitFailure) throw error;
    throw diskError(`cannot read the store in ${directory}`, error, known);
  }
}

/** Fills a database that holds nothing acknowledged with the beginning of a chain. */
async function createChain(disk: Disk, { slabBytes }: StoreLimits): Promise<string> {
  await assertNeverUsed(disk);
  const storeId = randomBytes(16).toString("hex");
  const base = genesis(storeId);
  const first = JournalBatch.create(1, 0, new Arena(slabBytes));
  await disk.write(
    [
      { type: "put", key: STORE_ID_KEY, value: storeIdRecord(storeId) },
      baseOperation(base),
      { type: "put", key: journalKey(1), value: first.seal(base.hash, 0) },
      { type: "del", key: journalKey(2) },
    ],
    true,
  );
  return storeId;
}

/**
 * A database without an identity file is what a creation that was cut short leaves behind, or a
 * store whose file was removed. Only the former may be begun anew.
 */
async function assertNeverUsed(disk: Disk): Promise<void> {
  const traces = [
    prefixRange(DATA_PREFIX),
    { first: journalKey(3), end: journalKey(3) + "~" },
    { first: baseKey(1), end: baseKey(1) + "~" },
  ];
  for (const trace of traces) {
    for await (const page of disk.pages(trace)) {
      const storeId = await readStoreId(disk);
      const message = `the identity file is missing beside a database in use (it holds ${String(page[0]?.[0])})`;
      throw new StoreError("STORE_DAMAGED", message, { storeId });
    }
  }
}

/**
 * A damaged identity file, with the id that the database has. What keeps the database from being opened comes first
 * unless it is damage as well: only the lock tells, and a store in use must never be quarantined.
 */
async function unlessInUse(error: unknown, openDisk: () => Promise<Disk>): Promise<unknown> {
  if (!isDamage(error)) return error;
  try {
    const disk = await openDisk();
    try {
      return new StoreError(error.code, error.message, { storeId: await readStoreId(disk) });
    } finally {
      await disk.close();
    }
  } catch (cause) {
    return isDamage(cause) ? error : cause;
  }
}

function isDamage(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === "STORE_DAMAGED";
}

/** Names the store in an error raised before its database could be asked. */
function withStoreId(error: unknown, storeId: string | undefined): unknown {
  if (!(error instanceof StoreError) || storeId === undefined) return error;
  return new StoreError(error.code, error.message, { storeId, outcome: error.outcome, cause: error.cause });
}
