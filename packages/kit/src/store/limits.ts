/** What one open store may hold in memory. Tests pass tiny ones; applications cannot change them. */
export interface StoreLimits {
  /** Batches in the journal, and so `c/` records to verify at open. Commits wait at this number. */
  readonly journalBatchesMax: number;
  /** Journal size in bytes, with what its operations take in memory beside. Commits wait here too. */
  readonly journalBytesMax: number;
  /** Operations after which a slice of the journal is long enough to be materialised. */
  readonly sliceOperations: number;
  /** Bytes after which it is. */
  readonly sliceBytes: number;
  /** Commits that wait for the disk are merged up to this many bytes. */
  readonly groupBytesMax: number;
  /** Memory for batches is taken from the system in pieces of this size, in bytes. */
  readonly slabBytes: number;
  /** Size of a file of the journal: those are written again once what they held was folded into the table. */
  readonly journalFileBytes: number;
  /** A relaxed commit is synced this many milliseconds later at the latest, and before as much is written as half the journal holds. */
  readonly relaxedMs: number;
  /** Nothing was written for so many milliseconds: the journal is folded into the table. */
  readonly idleMs: number;
  /** Bytes that may wait for the disk before `commit` is refused with `STORE_BUSY`. */
  readonly pendingBytesMax: number;
}

/** Roughly what the overlay keeps in memory for an operation beside its encoded bytes. */
export const OPERATION_OVERHEAD_BYTES: number = 128;
/** The same for a row. */
export const ROW_OVERHEAD_BYTES: number = 64;

/** Longest key, in characters (keys are ASCII, so bytes as well). */
export const KEY_CHARS_MAX: number = 1024;

/** Largest single commit, in encoded bytes. */
export const COMMIT_BYTES_MAX: number = 32 * 1024 * 1024;

/** LevelDB's own log, in bytes, before it goes into a table; two such logs may exist at once. */
export const LEVEL_LOG_BYTES: number = 8 * 1024 * 1024;

/**
 * Base records kept for the check at open: more than the slices between two syncs of the table, which a power cut
 * may take. A slice that rots in LevelDB's log later on shows as well, for it takes along the deletion of the base
 * record this many before it; only the first ones of a store have none to delete.
 */
export const BASE_RECORDS_KEPT: number = 1_024;

/** The limits of every store that is not under test. */
export const DEFAULT_LIMITS: StoreLimits = {
  journalBatchesMax: 4_096,
  journalBytesMax: 16 * 1024 * 1024,
  sliceOperations: 1_024,
  sliceBytes: 1024 * 1024,
  groupBytesMax: 1024 * 1024,
  slabBytes: 1024 * 1024,
  journalFileBytes: 2 * 1024 * 1024,
  relaxedMs: 1_000,
  idleMs: 10_000,
  pendingBytesMax: 64 * 1024 * 1024,
};
