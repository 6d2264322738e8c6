import type { Buffer } from "node:buffer";

/** A native change; keys are ASCII. Bytes are read until the write is done: nobody changes them before. */
export type DiskOperation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** Keys from `first` up to, not including, `end`. */
export interface DiskRange {
  readonly first: string;
  readonly end: string;
}

/** Entries of a range in key order, a few hundred at a time. */
export type DiskPage = readonly (readonly [key: string, value: Uint8Array])[];

/**
 * Shown an entry: its key in the first `keyLength` bytes of `key`, its value from `from` up to `to`. All of it is good until the
 * call returns.
 */
export type DiskVisitor = (key: Buffer, keyLength: number, bytes: Buffer, from: number, to: number) => void;

/**
 * Port: what the store needs from LevelDB, so that tests can lose tails, fail writes and delay syncs.
 * Batches are atomic and reach the log in call order; a synced one carries all earlier ones with it.
 */
export interface Disk {
  write(operations: readonly DiskOperation[], sync: boolean): Promise<void>;
  get(key: string): Promise<Uint8Array | undefined>;
  /** Each of them, in their order. */
  getMany(keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]>;
  /** The range as it is at the moment of this call, whatever is written later. */
  pages(range: DiskRange): AsyncIterable<DiskPage>;
  /** Shows the range, by key, as long as nothing was written; `false`, and nothing shown: {@link pages} has to. */
  visit?(range: DiskRange, visit: DiskVisitor): Promise<boolean>;
  /** Nothing is written for a while: gives back what deleted entries take. Never fails. */
  reclaim?(): Promise<void>;
  /** After it the directory may be opened again. */
  close(): Promise<void>;
}

/** A disk for a store. */
export interface SealedDisk extends Disk {
  /** 16 random bytes, made with the database, and told to nobody. */
  readonly seal: Uint8Array;
}

/** Opens the database in `location`, or fails with a `StoreError`. `journalFileBytes`: size of a file of the journal. */
export type OpenDisk = (
  location: string,
  createIfMissing: boolean,
  journalFileBytes: number,
) => Promise<SealedDisk>;

/** The range of all keys beginning with `prefix`, which must not end in `0x7f`. */
export function prefixRange(prefix: string): DiskRange {
  const last = prefix.length - 1;
  const end = prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1);
  return { first: prefix, end };
}
