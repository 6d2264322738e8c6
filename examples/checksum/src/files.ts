import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import type { Outcome } from "./protocol.ts";

/** Directories that tools fill as they run: their files come and go. */
const CACHE = /^\.(.*cache|vite.*|turbo)$/;

export interface Listing {
  /** Paths relative to the directory, sorted, one character per byte (see `Job.path`). */
  readonly files: readonly string[];
  /** Directories below it that could not be listed, and why. */
  readonly problems: readonly string[];
}

/**
 * The regular files below `directory`. Symbolic links are not followed, caches are left out.
 * @throws if `directory` itself cannot be listed.
 */
export async function listFiles(directory: string): Promise<Listing> {
  const files: string[] = [];
  const problems: string[] = [];
  const waiting = [""];
  for (let below = waiting.pop(); below !== undefined; below = waiting.pop()) {
    const prefix = below === "" ? "" : `${below}/`;
    try {
      for (const entry of await readdir(bytesOf(directory, below), {
        withFileTypes: true,
        encoding: "buffer",
      })) {
        const name = entry.name.toString("latin1");
        if (entry.isFile()) files.push(prefix + name);
        else if (entry.isDirectory() && !CACHE.test(name)) waiting.push(prefix + name);
      }
    } catch (error) {
      if (below === "") throw error;
      problems.push(`${readable(below)}: ${codeOf(error)}`);
    }
  }
  return { files: files.sort(), problems };
}

/** SHA-256 of a file, read in pieces. `onBytes` hears of each. */
export async function digestOf(
  directory: string,
  path: string,
  onBytes: (count: number) => void,
): Promise<Outcome> {
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    for await (const piece of createReadStream(bytesOf(directory, path)) as AsyncIterable<Buffer>) {
      hash.update(piece);
      bytes += piece.length;
      onBytes(piece.length);
    }
  } catch (error) {
    return { error: codeOf(error) };
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** A path as people can read it, on one line whatever it holds. */
export function readable(path: string): string {
  const text = Buffer.from(path, "latin1").toString();
  return /^[\P{C}]+$/u.test(text) && !text.includes("\uFFFD") ? text : JSON.stringify(path);
}

function bytesOf(directory: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(path, "latin1")]);
}

/** `ENOENT` and the like. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}

/** Runs `work` for each item, at most `limit` at a time; ends with the first failure. */
export async function forEachLimited<Item>(
  items: Iterable<Item>,
  limit: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const shared = items[Symbol.iterator]();
  const lane = async (): Promise<void> => {
    for (let next = shared.next(); next.done !== true; next = shared.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: limit }, lane));
}
