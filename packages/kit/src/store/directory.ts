import { mkdir, open, readdir, readFile, rename, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { StoreError } from "./errors.ts";
import { checked, directorySchema } from "./given.ts";

/** Raised when older versions cannot read what this one writes. */
const FORMAT = 3;
const IDENTITY_FILE = "klatsch-store.json";
const IDENTITY_DRAFT = "klatsch-store.json.new";
const LEVEL_DIRECTORY = "level";
const JOURNAL_DIRECTORY = "journal";
/** What a directory without a finished store may hold; the last is what a fresh file system has. */
const EXPECTED: ReadonlySet<string> = new Set([
  LEVEL_DIRECTORY,
  JOURNAL_DIRECTORY,
  IDENTITY_DRAFT,
  "lost+found",
]);
/** Quarantined copies of one directory before a person has to look at them. */
const QUARANTINE_MAX = 1_000;

/** Directories this process has open or is opening: they may not be moved. */
const inUse = new Set<string>();

/** Where LevelDB's own files are. */
export function levelLocation(directory: string): string {
  return join(directory, LEVEL_DIRECTORY);
}

/** Where the journal's files are, beside those. */
export function journalLocation(level: string): string {
  return join(dirname(level), JOURNAL_DIRECTORY);
}

/** Notes that this process uses `directory`; the returned function ends that. Throws `STORE_LOCKED`. */
export function claimDirectory(directory: string): () => void {
  const path = resolve(directory);
  if (inUse.has(path)) {
    throw new StoreError(
      "STORE_LOCKED",
      `${directory} is in use by this process; close the other store first`,
    );
  }
  inUse.add(path);
  return () => inUse.delete(path);
}

/**
 * Makes a directory for this user alone, and those it is in; resolves with the first that was not there. Node's own way never
 * ends where the system says that there is no such place, as it does below /proc. Rejects with the system's error.
 */
export async function makeDirectory(directory: string): Promise<string | undefined> {
  const path = resolve(directory);
  const made = await makeOne(path).catch(undefinedIfMissing);
  if (made !== undefined || dirname(path) === path) return made === true ? path : undefined;
  const first = await makeDirectory(dirname(path));
  const isMade = await makeOne(path);
  return first ?? (isMade ? path : undefined);
}

/** `false`: it was there. */
async function makeOne(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 });
    return true;
  } catch (error) {
    const isThere = await stat(path).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (!isThere) throw error;
    return false;
  }
}

/**
 * The storeId of an existing store, or `undefined` for a directory that is new, empty or was never
 * finished. Creates the directory. Throws `STORE_CORRUPT` where something else lives in it,
 * `STORE_FORMAT` for another format version, and `STORE_DAMAGED` where the identity file is no such file; touches none.
 */
export async function readIdentity(directory: string): Promise<string | undefined> {
  const created = await makeDirectory(directory);
  if (created !== undefined) await syncAncestors(resolve(directory), resolve(created));
  const text = await readFile(join(directory, IDENTITY_FILE), "utf8").catch(undefinedIfMissing);
  if (text !== undefined) return parseIdentity(directory, text);
  const foreign = (await readdir(directory)).find((name) => !EXPECTED.has(name));
  if (foreign === undefined) return undefined;
  throw new StoreError(
    "STORE_CORRUPT",
    `${directory} is not a Klatsch store (it holds ${foreign}); choose another`,
  );
}

/** Makes a finished store out of a directory whose database is ready. Durable when it resolves. */
export async function writeIdentity(directory: string, storeId: string): Promise<void> {
  const draft = join(directory, IDENTITY_DRAFT);
  const file = await open(draft, "w", 0o600);
  try {
    await file.writeFile(`${JSON.stringify({ format: FORMAT, storeId })}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(draft, join(directory, IDENTITY_FILE));
  await syncDirectory(directory);
}

/**
 * Moves a damaged store aside as `<directory>.quarantined-<n>` and resolves with that path, so that
 * a new store with a new id can be opened in its place. Nothing in it is changed: it is evidence.
 * Rejects with {@link StoreError} `STORE_LOCKED` while this process has it open; that no other
 * process does is up to the caller. Also with `STORE_OPTIONS` and `STORE_IO`.
 */
export async function quarantineStore(directory: string): Promise<string> {
  checked(directorySchema, "directory", directory);
  const release = claimDirectory(directory);
  try {
    for (let number = 1; number <= QUARANTINE_MAX; number += 1) {
      const target = `${resolve(directory)}.quarantined-${number}`;
      if (await exists(target)) continue;
      await rename(directory, target);
      await syncDirectory(dirname(target));
      return target;
    }
    throw new StoreError(
      "STORE_IO",
      `${QUARANTINE_MAX} quarantined copies of ${directory} exist; remove some`,
    );
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError("STORE_IO", `cannot move ${directory} aside`, { cause: error });
  } finally {
    release();
  }
}

function parseIdentity(directory: string, text: string): string {
  const identity = parseJson(text);
  if (typeof identity !== "object" || identity === null || !("format" in identity)) {
    throw new StoreError(
      "STORE_DAMAGED",
      `${join(directory, IDENTITY_FILE)} is unreadable; restore it or quarantine`,
    );
  }
  if (identity.format !== FORMAT) {
    const message = `${directory} has format ${String(identity.format)}, this version reads ${FORMAT}`;
    throw new StoreError("STORE_FORMAT", message);
  }
  const storeId = "storeId" in identity ? identity.storeId : undefined;
  if (typeof storeId !== "string" || !/^[0-9a-f]{32}$/.test(storeId)) {
    throw new StoreError("STORE_DAMAGED", `${join(directory, IDENTITY_FILE)} holds no storeId`);
  }
  return storeId;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function exists(path: string): Promise<boolean> {
  return (await readdir(path).catch(undefinedIfMissing)) !== undefined;
}

/** Syncs every directory that got a new name when `created` and those below it down to `directory` were made. */
async function syncAncestors(directory: string, created: string): Promise<void> {
  for (let path = directory; path.length >= created.length; path = dirname(path)) {
    await syncDirectory(dirname(path));
  }
}

/** A new name in a directory survives a power cut only once the directory itself is synced. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** For a file that need not be there. */
export function undefinedIfMissing(error: unknown): undefined {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
  throw error;
}
