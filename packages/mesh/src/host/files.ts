import { randomBytes } from "node:crypto";
import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";

/** The bytes of a file; `undefined` if there is none. */
export async function readIfPresent(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Writes beside, syncs, renames, syncs the directory: after a crash there is the old file or the new one. Mode 0600. */
export async function writeDurably(directory: string, name: string, bytes: Uint8Array): Promise<void> {
  const beside = join(directory, `${name}.${randomBytes(4).toString("hex")}.new`);
  const file = await open(beside, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(beside, join(directory, name));
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
