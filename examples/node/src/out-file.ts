/** A file that a message goes to: whole, or not at all. */
import { randomBytes } from "node:crypto";
import { access, constants, open, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { NodeError } from "./errors.ts";

/** Writes `bytes` in place of what the file holds; on disk when it resolves. The file is as it was otherwise, or whole. */
export type WriteOut = (bytes: Uint8Array) => Promise<void>;

/**
 * Looks whether `path` can be written, and leaves it as it is; what it gives writes it.
 * @throws NodeError `USAGE` if it cannot.
 */
export async function outFile(path: string): Promise<WriteOut> {
  try {
    // A link stays one: what it leads to is replaced.
    const target = await realpath(path).catch(() => resolve(path));
    const found = await stat(target).catch(undefinedIfMissing);
    if (found?.isDirectory() === true) throw new Error(`${path} is a directory`);
    if (found !== undefined) await access(target, constants.W_OK);
    // A pipe or a device cannot be replaced.
    if (found?.isFile() === false) return (bytes) => writeFile(target, bytes);
    await access(dirname(target), constants.W_OK | constants.X_OK);
    return (bytes) => replace(target, found?.mode, bytes);
  } catch (error) {
    throw new NodeError("USAGE", `out: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function replace(target: string, mode: number | undefined, bytes: Uint8Array): Promise<void> {
  const directory = dirname(target);
  const draft = join(directory, `.klatsch-${randomBytes(8).toString("hex")}`);
  try {
    await using file = await open(draft, "wx");
    if (mode !== undefined) await file.chmod(mode);
    await file.writeFile(bytes);
    await file.sync();
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
  // The new name survives a power cut only once the directory is synced.
  await using names = await open(directory, "r");
  await names.sync();
}

function undefinedIfMissing(error: unknown): undefined {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
  throw error;
}
