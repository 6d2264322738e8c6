import { randomBytes } from "node:crypto";
import { link, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { makeDirectory as makeWithParents } from "@klatsch/kit/store";
import { fileFailed } from "../errors.ts";

const BESIDE = ".new";
/** What a file is called while it is written. */
export const HALF_WRITTEN: RegExp = /\.[0-9a-f]{8}\.new$/;

/** The bytes of a file; `undefined` if there is none. @throws MeshError `STORE_FAILED` with the reason. */
export async function readIfPresent(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw fileFailed(`cannot read ${file}`, error);
  }
}

/** Makes a directory for this user alone, and those it is in. @throws MeshError `STORE_FAILED` with the reason. */
export async function makeDirectory(directory: string): Promise<void> {
  await makeWithParents(directory).catch((error: unknown) => {
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

/**
 * Makes a file as {@link writeDurably} does, if there is none: of two that make one at once, one does. Mode 0600.
 * @returns whether it was made. @throws MeshError `STORE_FAILED` with the reason.
 */
export async function createDurably(directory: string, name: string, bytes: Uint8Array): Promise<boolean> {
  try {
    await replace(directory, name, bytes, claim);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw fileFailed(`cannot write ${join(directory, name)}`, error);
  }
}

/** Unlike a rename, a link takes nobody's place. Not all file systems have them. */
async function claim(beside: string, file: string): Promise<void> {
  try {
    await link(beside, file);
  } catch (error) {
    if (codeOf(error) === "EEXIST") throw error;
    await rename(beside, file);
  }
}

async function replace(
  directory: string,
  name: string,
  bytes: Uint8Array,
  put: (beside: string, file: string) => Promise<void> = rename,
): Promise<void> {
  const beside = join(directory, `${name}.${randomBytes(4).toString("hex")}${BESIDE}`);
  try {
    await write(beside, bytes);
    await put(beside, join(directory, name));
  } finally {
    // Else each start on a full disk would leave one more.
    await rm(beside, { force: true }).catch(() => undefined);
  }
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function write(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
