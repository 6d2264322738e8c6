import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { keyText as textOf } from "@klatsch/kit/core";
import type { StoreOperation } from "../../src/store.ts";
import type { StoreLimits } from "../../src/store/limits.ts";

/** Limits so small that a handful of commits crosses every one of them. */
export const TINY_LIMITS: StoreLimits = {
  journalBatchesMax: 6,
  journalBytesMax: 4_096,
  sliceOperations: 3,
  sliceBytes: 256,
  groupBytesMax: 160,
  slabBytes: 4_096,
  journalFileBytes: 4_096,
  relaxedMs: 20,
  idleMs: 20,
  pendingBytesMax: 1_048_576,
};

let made = 0;

/** Runs `use` with a directory that is removed afterwards. */
export async function withDirectory<Result>(use: (directory: string) => Promise<Result>): Promise<Result> {
  const parent = await mkdtemp(join(tmpdir(), "klatsch-store-"));
  try {
    // Stores that a test abandons keep their claim, so no name may come twice.
    made += 1;
    return await use(join(parent, `store-${made}`));
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
}

export function put(key: string, text: string): StoreOperation {
  return { key, value: Buffer.from(text) };
}

export function del(key: string): StoreOperation {
  return { key, value: undefined };
}

/** An operation's key as text, whatever form it has. */
export function keyText({ key }: StoreOperation): string {
  return textOf(key);
}

interface Scannable {
  scan(prefix: string): AsyncIterable<readonly [string, Uint8Array]>;
}

/** Everything with that prefix, values as text. */
export async function contentOf(store: Scannable, prefix = ""): Promise<[string, string][]> {
  const content: [string, string][] = [];
  for await (const [key, value] of store.scan(prefix)) content.push([key, Buffer.from(value).toString()]);
  return content;
}

/** What a plain map becomes by `operations`. */
export function applied(
  content: ReadonlyMap<string, string>,
  operations: readonly StoreOperation[],
): Map<string, string> {
  const next = new Map(content);
  for (const operation of operations) {
    const { value } = operation;
    if (value === undefined) next.delete(keyText(operation));
    else next.set(keyText(operation), Buffer.from(value).toString());
  }
  return next;
}

/** Entries in key order, as a scan gives them. */
export function sorted(content: ReadonlyMap<string, string>): [string, string][] {
  return [...content].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The code of the error `promise` rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => "resolved",
    (error: unknown) => (error instanceof Error && "code" in error ? error.code : error),
  );
}
