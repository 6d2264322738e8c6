import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { withDescriptor } from "../descriptors.ts";
import { syncDirectory, undefinedIfMissing } from "../directory.ts";
import type { Disk, DiskOperation, DiskPage, DiskRange, DiskVisitor } from "../disk.ts";
import { diskError, StoreError } from "../errors.ts";
import { LEVEL_LOG_BYTES } from "../limits.ts";
import { MalformedError } from "./byte-reader.ts";
import { findTableFault } from "./find-table-fault.ts";
import { FrozenTables } from "./frozen-tables.ts";
import { Reclaimer } from "./reclaimer.ts";

/** Entries fetched from LevelDB at a time, and the bytes at which it stops sooner. */
const PAGE_ENTRIES = 512;
const PAGE_BYTES = 256 * 1024;
/**
 * LevelDB maps each table it has open, and what was read of it counts as this process's memory: of its default of 1,000, 2 GB.
 * It takes no less than this, 64 tables and ten more. Reading 1 GB in order took no longer, at random twice the processor time.
 */
const OPEN_FILES_MAX = 74;

type Database = ClassicLevel<string, Uint8Array>;

/** LevelDB through classic-level, with its defaults: Snappy, 8 MiB of block cache. */
class LevelDisk implements Disk {
  readonly #database: Database;
  readonly #location: string;
  readonly #reclaimer: Reclaimer;
  #isWritten = false;

  constructor(database: Database, location: string) {
    this.#database = database;
    this.#location = location;
    this.#reclaimer = new Reclaimer(database);
  }

  /** Past LevelDB, which keeps what was written since it was opened elsewhere. */
  async visit(range: DiskRange, visit: DiskVisitor): Promise<boolean> {
    const tables = this.#isWritten ? undefined : await FrozenTables.open(this.#location);
    if (tables === undefined) return false;
    try {
      await tables.visit(range, visit);
      return true;
    } catch (cause) {
      if (!(cause instanceof MalformedError)) throw cause;
      throw new StoreError("STORE_DAMAGED", `${this.#location}: a table is damaged: ${cause.message}`, {
        cause,
      });
    } finally {
      await tables.close();
    }
  }

  async write(operations: readonly DiskOperation[], sync: boolean): Promise<void> {
    this.#isWritten = true;
    if (sync) await withDescriptor(() => syncLogs(this.#location));
    await this.#write(operations, sync);
    // LevelDB may have begun a log for it.
    if (sync) await withDescriptor(() => syncDirectory(this.#location));
  }

  async #write(operations: readonly DiskOperation[], sync: boolean): Promise<void> {
    // One by one: this thread is half as long at it as with an array, of whose objects classic-level asks each field by name.
    // The batch's own memory goes with the next collection.
    const batch = this.#database.batch();
    for (const operation of operations) {
      if (operation.type === "put") batch.put(operation.key, operation.value);
      else {
        batch.del(operation.key);
        this.#reclaimer.note(operation.key);
      }
    }
    await batch.write({ sync });
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return await this.#database.get(key);
  }

  async getMany(keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]> {
    return await this.#database.getMany([...keys]);
  }

  pages(range: DiskRange): AsyncIterable<DiskPage> {
    // classic-level takes the snapshot when the iterator is made, so it is made here, not lazily.
    const iterator = this.#database.iterator({
      gte: range.first,
      lt: range.end,
      fillCache: false,
      highWaterMarkBytes: PAGE_BYTES,
    });
    return (async function* pages(): AsyncGenerator<DiskPage> {
      try {
        for (;;) {
          const page = await iterator.nextv(PAGE_ENTRIES);
          if (page.length === 0) return;
          yield page;
        }
      } finally {
        await iterator.close();
      }
    })();
  }

  async reclaim(): Promise<void> {
    await this.#reclaimer.reclaim();
  }

  async close(): Promise<void> {
    await this.#reclaimer.stop();
    await this.#database.close();
  }
}

/**
 * Opens LevelDB after checking all its tables, about a second for each GB; fails with
 * `STORE_LOCKED`, `STORE_DAMAGED` or `STORE_IO`.
 */
export const openLevelDisk = async (location: string, createIfMissing: boolean): Promise<Disk> => {
  const fault = await findTableFault(location);
  const database: Database = new ClassicLevel(location, {
    keyEncoding: "utf8",
    valueEncoding: "view",
    createIfMissing,
    // Twice the default: a fifth more throughput, measured with batches of 512 operations.
    writeBufferSize: LEVEL_LOG_BYTES,
    maxOpenFiles: OPEN_FILES_MAX,
  });
  try {
    await database.open();
  } catch (error) {
    await database.close();
    throw openError(location, error);
  }
  if (fault === undefined) {
    // What was found counts from here on, and files of the journal are written over for it: so the names LevelDB
    // gave must last too, which it leaves to chance.
    await syncDirectory(location);
    return new LevelDisk(database, location);
  }
  // Opened all the same: tables of a database that another process is compacting look damaged, and
  // only the lock tells. A store in use must never be quarantined.
  await database.close();
  throw new StoreError("STORE_DAMAGED", `${location}: ${fault}`);
};

/**
 * A synced write syncs the log that it goes into and no other. LevelDB leaves the one before with what was written to
 * it unsynced, until its table is made: a power cut then would take the middle of what happened.
 */
async function syncLogs(location: string): Promise<void> {
  for (const name of await readdir(location)) {
    if (!name.endsWith(".log")) continue;
    const log = await open(join(location, name), "r+").catch(undefinedIfMissing);
    try {
      await log?.datasync();
    } finally {
      await log?.close();
    }
  }
}

function openError(location: string, error: unknown): StoreError {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (cause instanceof Error && "code" in cause && cause.code === "LEVEL_LOCKED") {
    const message = `${location} is in use: one process may open a store once; stop the other one`;
    return new StoreError("STORE_LOCKED", message, { cause });
  }
  return diskError(`cannot open ${location}`, cause);
}
