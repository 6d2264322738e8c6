import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { fileFailed } from "../errors.ts";

/** The bytes of a file; `undefined` if there is none. @throws MeshError `STORE_FAILED` with the reason. */
export async function readIfPresent(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw fileFailed(`cannot read ${file}`, error);
  }
}

/** Makes a directory for this user alone, and those it is in. @throws MeshError `STORE_FAILED` with the reason. */
export async function makeDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw fileFailed(`cannot make the directory ${directory}`, error);
  });
}

/**
 * Writes beside, syncs, renames, syncs the directory: after a crash there is the old file or the new one. Mode 0600.
 * @throws MeshError `STORE_FAILED` with the reason.
 */
export async function writeDurably(directory: string, name: string, bytes: Uint8Array): Promise<void> {
  await replace(directory, name, bytes).catch((error: unknown) => {
    throw fileFailed(`cannot write ${join(directory, name)}`, error);
  });
}

async function replace(directory: string, name: string, bytes: Uint8Array): Promise<void> {
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
