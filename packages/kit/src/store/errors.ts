import { KlatschError } from "../core/errors.ts";
import type { Outcome } from "../core/errors.ts";

/**
 * What went wrong with a store.
 * - `STORE_OPTIONS`: an option or argument is missing or has the wrong type; the message names it.
 * - `STORE_LOCKED`: another process, or this one, has the directory open.
 * - `STORE_CORRUPT`: the directory is not a Klatsch store; it was left untouched.
 * - `STORE_FORMAT`: written by a version whose format this one does not read.
 * - `STORE_DAMAGED`: this was a store, but acknowledged records are missing or altered. Quarantine it.
 * - `STORE_IO`: the operating system refused to open or read (permissions, disk full, descriptors).
 * - `STORE_FAILED`: a write or sync failed; nothing is answered until the store is opened again.
 * - `STORE_CLOSED`: used after `close`.
 * - `STORE_BUSY`: more bytes wait for the disk than the limit allows; try again later.
 * - `STORE_LIMIT`: one commit, key or value is larger than allowed.
 * - `STORE_KEY`: a key is empty, not printable ASCII, or no text at all.
 * - `STORE_VALUE`: a value or its prefix is no `Uint8Array`, or its buffer was detached or shrunk.
 */
export type StoreErrorCode =
  | "STORE_OPTIONS"
  | "STORE_LOCKED"
  | "STORE_CORRUPT"
  | "STORE_FORMAT"
  | "STORE_DAMAGED"
  | "STORE_IO"
  | "STORE_FAILED"
  | "STORE_CLOSED"
  | "STORE_BUSY"
  | "STORE_LIMIT"
  | "STORE_KEY"
  | "STORE_VALUE";

/** What a {@link StoreError} carries beside code and message. */
export interface StoreErrorInit {
  /** The store concerned, where its identity could be read. */
  readonly storeId?: string | undefined;
  /** Default `none`. `unknown` only for a commit whose write had started. */
  readonly outcome?: Outcome | undefined;
  readonly cause?: unknown;
}

const RETRYABLE: ReadonlySet<StoreErrorCode> = new Set(["STORE_LOCKED", "STORE_IO", "STORE_BUSY"]);

/** Thrown by everything behind `@klatsch/kit/store`. Branch on `code`; `message` is for people. */
export class StoreError extends KlatschError {
  override readonly name: string = "StoreError";
  declare readonly code: StoreErrorCode;
  /** 32 hexadecimal digits, or `undefined` where the identity could not be read. */
  readonly storeId: string | undefined;

  constructor(code: StoreErrorCode, message: string, init: StoreErrorInit = {}) {
    super(message, {
      code,
      outcome: init.outcome,
      retryable: RETRYABLE.has(code),
      cause: init.cause,
    });
    this.storeId = init.storeId;
  }
}

/** What LevelDB says of files that are there but wrong, or should be there and are not. */
const DAMAGE =
  /corrupt|missing|no such file|does not exist|not end with newline|not found|bad block|truncated/i;

/** A failed open or read as a {@link StoreError}: `STORE_DAMAGED` where LevelDB says so, else `STORE_IO`. */
export function diskError(what: string, cause: unknown, storeId?: string): StoreError {
  if (cause instanceof StoreError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const code = isSystemError(cause) || !DAMAGE.test(reason) ? "STORE_IO" : "STORE_DAMAGED";
  return new StoreError(code, `${what}: ${reason}`, { storeId, cause });
}

/** Raised by Node's own file functions: ENOENT there is no verdict on LevelDB's files. */
function isSystemError(cause: unknown): boolean {
  return cause instanceof Error && "syscall" in cause;
}
