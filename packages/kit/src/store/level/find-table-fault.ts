import type { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MalformedError } from "./byte-reader.ts";
import type { LiveTables } from "./manifest.ts";
import { liveTables } from "./manifest.ts";
import { checkTable } from "./table-file.ts";

/**
 * Reads every table of the database in `location` and says what is wrong with the first bad one;
 * `undefined` if all are good, or if LevelDB itself will refuse the manifest.
 *
 * LevelDB checks the CRCs of tables only when asked to, and classic-level does not let us ask. A
 * flipped bit then loses keys, brings old values back, is copied into the next table with a good CRC,
 * or fails an assertion in LevelDB, which ends the process. So this runs before LevelDB sees them.
 */
export async function findTableFault(location: string): Promise<string | undefined> {
  const live = await readLiveTables(location);
  for (const [number, { size }] of live ?? []) {
    const name = tableName(number);
    const file =
      (await readIfThere(join(location, `${name}.ldb`))) ??
      (await readIfThere(join(location, `${name}.sst`)));
    const fault = file === undefined ? "is missing" : tableFault(file, size);
    if (fault !== undefined) return `table ${name} ${fault}`;
  }
  return undefined;
}

/** The tables of the database in `location`; `undefined` if its manifest cannot be read. */
export async function readLiveTables(location: string): Promise<LiveTables | undefined> {
  const current = await readIfThere(join(location, "CURRENT"));
  const name = /^(MANIFEST-\d+)\n$/.exec(current?.toString("latin1") ?? "")?.[1];
  const manifest = name === undefined ? undefined : await readIfThere(join(location, name));
  return manifest && orUndefined(() => liveTables(manifest));
}

/** The name of a table's file, without its ending. */
export function tableName(number: number): string {
  return String(number).padStart(6, "0");
}

function tableFault(file: Buffer, size: number): string | undefined {
  if (file.length !== size) return `has ${file.length} bytes instead of ${size}`;
  try {
    checkTable(file);
    return undefined;
  } catch (error) {
    if (error instanceof MalformedError) return `is damaged: ${error.message}`;
    throw error;
  }
}

function orUndefined<Result>(read: () => Result): Result | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedError) return undefined;
    throw error;
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  return await readFile(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
}
