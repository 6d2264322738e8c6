import { z } from "zod";
import { checked, directorySchema } from "./store/given.ts";
import type { StoreVisitor } from "./store/load.ts";
import { openJournalStore } from "./store/open.ts";
import type { CommitDone, StoreOperation } from "./store/record.ts";

export { makeDirectory, quarantineStore } from "./store/directory.ts";
export { StoreError } from "./store/errors.ts";
export { lockDirectory } from "./store/lock.ts";
export type { StoreErrorCode, StoreErrorInit } from "./store/errors.ts";
export type { StoreVisitor } from "./store/load.ts";
export type { CommitDone, StoreOperation } from "./store/record.ts";

/** Where a store is. */
export interface StoreOptions {
  /** Directory of its own, created with mode 0700 if it does not exist. */
  readonly directory: string;
  /**
   * Shown all that the store holds, each key once: first what its table has, by key, then what is recent, by key as well.
   * Much faster than {@link Store.scan}. What it throws ends the opening, and `openStore` rejects with it.
   */
  readonly visitor?: StoreVisitor | undefined;
}

/**
 * Keys and values on one disk, with every commit synced before it is confirmed, unless it is relaxed. All batches form a
 * hash chain that is checked at open, and so are LevelDB's tables, because LevelDB alone opens
 * damaged files without a word. PROTOCOL.md has the layout.
 *
 * A failed write or sync ends the store: every later call rejects with `STORE_FAILED` until it is
 * opened again. Errors are {@link StoreError}.
 */
export interface Store extends AsyncDisposable {
  /** 32 hexadecimal digits: 128 random bits, made when the directory was created. */
  readonly storeId: string;
  /** Counts the opens of this directory, from 1. Synced before `openStore` resolved. */
  readonly boot: number;
  /**
   * Number of the last synced batch. It grows by one per batch and per open, and is all that tells
   * a lost tail: remember it elsewhere; a store that comes back with less has lost what lies between.
   */
  readonly batchNo: number;

  /**
   * A number below 2 to the power of 48 that only this store can tell, the same for the same batch for ever: kept elsewhere beside the
   * number of a batch, it shows that the number came from here. A secret of the store's is hashed with it.
   */
  proofOf(batchNo: number): number;

  /**
   * Writes all of `operations` or none and resolves with the number of the batch once it is synced.
   * Commits take effect in call order, and reads see them from the call on, before the sync. A commit starts
   * when the previous sync returns; those that wait meanwhile share the next one, and its number.
   * At most 32 MiB. Later operations on the same key win.
   *
   * Rejects with `STORE_LIMIT`, `STORE_KEY`, `STORE_VALUE` or `STORE_OPTIONS` (bad arguments), `STORE_BUSY` (64 MiB
   * wait already), `STORE_CLOSED`, or `STORE_FAILED`, whose `outcome` is `unknown` if the write had begun.
   */
  commit(operations: readonly StoreOperation[]): Promise<number>;

  /**
   * `commit` without a promise: calls `done` once, never before returning. Throws `STORE_LIMIT`, `STORE_KEY`,
   * `STORE_VALUE` and `STORE_OPTIONS` at once: nothing has changed then, `done` is not called, and the store goes on.
   * Everything else goes to `done`. An exception of `done` is rethrown in a microtask of its own.
   *
   * `relaxed` (default false): does not wait for a sync. The operations outlive this process from then on, and a
   * power cut once a second has passed; one that comes sooner may take this commit and what follows it, up to the next
   * that is not relaxed, and the store opens without them. `done` gets the number of the last batch that _is_ synced.
   */
  commitWith(operations: readonly StoreOperation[], done: CommitDone, relaxed?: boolean): void;

  /**
   * The newest value of `key` if it is still in memory. `undefined` says nothing: the key may be
   * deleted, absent, or older than the last few thousand batches. Do not change the bytes.
   * Throws `STORE_KEY` (no string), `STORE_CLOSED` or `STORE_FAILED`.
   */
  peek(key: string): Uint8Array | undefined;

  /**
   * The newest value of `key`, or `undefined` if there is none. Do not change the bytes.
   * Rejects with `STORE_DAMAGED` where the stored CRC does not fit, `STORE_IO`, `STORE_KEY` (no string),
   * `STORE_CLOSED` or `STORE_FAILED`.
   */
  get(key: string): Promise<Uint8Array | undefined>;

  /**
   * The newest value of each of `keys`, in their order: as {@link Store.get}, and much cheaper than one by one.
   * Rejects with `STORE_OPTIONS` for what is no array.
   */
  getMany(keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]>;

  /**
   * Every key that begins with `prefix` (empty: all) and its value, in key order, as of the first
   * `next()`; later commits do not show. Ends with the errors of {@link Store.get}. Keeps a few
   * hundred entries in memory beside the recent ones; breaking out of the loop frees them.
   */
  scan(prefix: string): AsyncIterable<readonly [key: string, value: Uint8Array]>;

  /** Waits for the commits under way and frees the directory. May be called twice. */
  close(): Promise<void>;
}

const schema: z.ZodType<StoreOptions> = z.strictObject({
  directory: directorySchema,
  visitor: z.custom<StoreVisitor>(isVisitor, "must have row() and text()").optional(),
});

/**
 * Opens the store in `options.directory`, or creates it. Reads every table once (about a second for
 * each GB) and the whole journal; nothing is written if either is damaged.
 *
 * Rejects with {@link StoreError}: `STORE_OPTIONS`, `STORE_LOCKED`, `STORE_CORRUPT`, `STORE_FORMAT`,
 * `STORE_DAMAGED`, `STORE_IO`, `STORE_FAILED`.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { directory, visitor } = checked(schema, "options", options);
  return await openJournalStore(directory, { visitor });
}

function isVisitor(value: unknown): boolean {
  const { row, text } = (value ?? {}) as Partial<StoreVisitor>;
  return typeof row === "function" && typeof text === "function";
}
