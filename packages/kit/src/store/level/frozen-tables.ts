import { Buffer } from "node:buffer";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { DiskRange, DiskVisitor } from "../disk.ts";
import { undefinedIfMissing } from "../directory.ts";
import { MalformedError } from "./byte-reader.ts";
import { readLiveTables, tableName } from "./find-table-fault.ts";
import type { LiveTable } from "./manifest.ts";
import { TableCursor } from "./table-cursor.ts";

/** Files held open at a time: a database with more of them is read through LevelDB. */
const TABLES_MAX = 1_024;
/** A compaction may remove a file between the list of them and its opening. */
const TRIES_MAX = 3;

interface FrozenTable extends LiveTable {
  readonly handle: FileHandle;
}

/**
 * The tables of a database at one moment, read past LevelDB. An entry costs a tenth of what it does through
 * classic-level, which makes an array, a text and a buffer of each: that was most of the time to open a store with
 * millions. Only for a database to which nothing was written since it was opened: then all it holds lies in tables.
 */
export class FrozenTables {
  /** By first key. */
  readonly #tables: readonly FrozenTable[];
  /** Memory of files that were read to their end. */
  readonly #spare: Buffer[] = [];

  private constructor(tables: readonly FrozenTable[]) {
    this.#tables = tables.toSorted((a, b) => Buffer.compare(a.first, b.first));
  }

  /** Holds the files, whatever compactions do; `undefined` if they are too many, or move too fast. */
  static async open(location: string): Promise<FrozenTables | undefined> {
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const live = await readLiveTables(location);
      if (live === undefined || live.size > TABLES_MAX) return undefined;
      const opened = await Promise.allSettled(
        [...live].map(async ([number, table]) => {
          const path = join(location, tableName(number));
          const handle = (await openIfThere(`${path}.ldb`)) ?? (await openIfThere(`${path}.sst`));
          return handle && { ...table, handle };
        }),
      );
      const results = opened.map((one) => (one.status === "fulfilled" ? one.value : undefined));
      const tables = results.filter((table) => table !== undefined);
      const frozen = new FrozenTables(tables);
      if (tables.length === opened.length) return frozen;
      await frozen.close();
      // As a rule this process has too many files open already: LevelDB needs fewer.
      if (opened.some(({ status }) => status === "rejected")) return undefined;
    }
    return undefined;
  }

  /** The newest version of each key in `range`, by key, but deleted ones. Throws {@link MalformedError}. */
  async visit({ first, end }: DiskRange, visit: DiskVisitor): Promise<void> {
    const firstKey = Buffer.from(first, "latin1");
    const endKey = Buffer.from(end, "latin1");
    const waiting = [...this.#tables];
    const cursors: TableCursor[] = [];
    let last: Buffer = Buffer.alloc(0);
    let lastLength = -1;
    for (;;) {
      const cursor = lowest(cursors);
      const [next] = waiting;
      if (next !== undefined && (cursor === undefined || compareKey(cursor, next.first) >= 0)) {
        waiting.shift();
        await this.#begin(cursors, next);
        continue;
      }
      if (cursor === undefined || compareKey(cursor, endKey) >= 0) return;
      const { key, keyLength } = cursor;
      if (!isSame(key, keyLength, last, lastLength)) {
        if (keyLength > last.length) last = Buffer.alloc(2 * keyLength);
        for (let at = 0; at < keyLength; at += 1) last[at] = key[at] ?? 0;
        lastLength = keyLength;
        const isWanted = !cursor.isDelete && compareKey(cursor, firstKey) >= 0;
        if (isWanted) visit(key, keyLength, cursor.block, cursor.from, cursor.to);
      }
      if (!cursor.next()) this.#end(cursors, cursor);
    }
  }

  async #begin(cursors: TableCursor[], { handle, size }: FrozenTable): Promise<void> {
    const spare = this.#spare.findIndex(({ length }) => length >= size);
    const [file = Buffer.allocUnsafeSlow(size)] = spare < 0 ? [] : this.#spare.splice(spare, 1);
    for (let at = 0; at < size;) {
      const { bytesRead } = await handle.read(file, at, size - at, at);
      if (bytesRead === 0) throw new MalformedError("a table is shorter than the manifest says");
      at += bytesRead;
    }
    const cursor = new TableCursor(file, size);
    cursors.push(cursor);
    if (!cursor.next()) this.#end(cursors, cursor);
  }

  #end(cursors: TableCursor[], cursor: TableCursor): void {
    cursors.splice(cursors.indexOf(cursor), 1);
    if (this.#spare.length === 0) this.#spare.push(cursor.file);
  }

  async close(): Promise<void> {
    await Promise.all(this.#tables.map(({ handle }) => handle.close()));
  }
}

/** The cursor that is behind the others: lowest key, then newest version. */
function lowest(cursors: readonly TableCursor[]): TableCursor | undefined {
  let [found] = cursors;
  if (found === undefined || cursors.length === 1) return found;
  for (const cursor of cursors) {
    if (cursor === found) continue;
    const order = compareKey(cursor, found.key, found.keyLength);
    if (order < 0 || (order === 0 && cursor.sequence > found.sequence)) found = cursor;
  }
  return found;
}

function compareKey({ key, keyLength }: TableCursor, other: Buffer, otherLength = other.length): number {
  const length = Math.min(keyLength, otherLength);
  for (let at = 0; at < length; at += 1) {
    const difference = (key[at] ?? 0) - (other[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return keyLength - otherLength;
}

/** From their ends, where neighbours differ. */
function isSame(a: Buffer, aLength: number, b: Buffer, bLength: number): boolean {
  if (aLength !== bLength) return false;
  for (let at = aLength - 1; at >= 0; at -= 1) if (a[at] !== b[at]) return false;
  return true;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  return await open(path, "r").catch(undefinedIfMissing);
}
