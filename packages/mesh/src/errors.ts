import { excerpt, KlatschError, textOf } from "@klatsch/kit/core";
import type { KlatschErrorInit } from "@klatsch/kit/core";
import { z } from "zod";

/**
 * Codes of {@link MeshError}; removing one is a breaking change.
 * `INVALID_OPTIONS`: the message names the field. `IDENTITY_DAMAGED`: `identity.key` or `boot` cannot be
 * read; the message names the file. `IDENTITY_CONFLICT`: a newer process runs with the same identity.
 * `LISTEN_FAILED`: an address could not be bound. `UNKNOWN_NAME`, `AMBIGUOUS_NAME`: see `Mesh.resolve`.
 * `CERTIFICATE_INVALID`: this node's certificate is missing, damaged, not valid now or not for it. `REVOKED`: this node's
 * key or certificate was revoked; it has stopped. `AUTHORITY_INVALID`: a directory holds no key that may do this.
 * `ENROL_REFUSED`: an adoption failed; the message says which end and why. `ALREADY_ADOPTED`: somebody else was first.
 * `CHANNEL_EXISTS`: the name is taken in this process. `LIMIT_REACHED`: too many channels.
 * `STATE_INVALID`: a key or value of gossip state that cannot be one. `STATE_TOO_LARGE`: the message names the
 * limit. `FORBIDDEN`: the key is not this writer's, or a cloud policy is against reaching the peer. `CLOCK_SKEW`:
 * this machine's clock is too far off its neighbours'. `STORE_LOCKED`: another process uses the same `dataDir`, or changes
 * the same authority.
 * `STORE_FAILED`: the disk did not take or give what it should; the cause says more. `NO_ROUTE`: no way to the peer
 * is known, or none works. `TOPICS_REFUSED`: topics are not to be had inside the application's libp2p node. `RELAY_FULL`: the relays on the way carry as many tunnels as they may. `TIMED_OUT`: see
 * `Mesh.waitFor`. `STOPPED`: the mesh has stopped.
 */
export type MeshErrorCode =
  | "INVALID_OPTIONS"
  | "IDENTITY_DAMAGED"
  | "IDENTITY_CONFLICT"
  | "LISTEN_FAILED"
  | "UNKNOWN_NAME"
  | "AMBIGUOUS_NAME"
  | "CERTIFICATE_INVALID"
  | "REVOKED"
  | "AUTHORITY_INVALID"
  | "ENROL_REFUSED"
  | "ALREADY_ADOPTED"
  | "CHANNEL_EXISTS"
  | "LIMIT_REACHED"
  | "TOPICS_REFUSED"
  | "STATE_INVALID"
  | "STATE_TOO_LARGE"
  | "FORBIDDEN"
  | "CLOCK_SKEW"
  | "STORE_LOCKED"
  | "STORE_FAILED"
  | "NO_ROUTE"
  | "RELAY_FULL"
  | "TIMED_OUT"
  | "STOPPED";

/** Thrown by the public calls of this package. Branch on `code`; `message` is for people. */
export class MeshError extends KlatschError {
  override readonly name: string = "MeshError";
  declare readonly code: MeshErrorCode;

  constructor(code: MeshErrorCode, message: string, init?: Omit<KlatschErrorInit, "code">) {
    super(message, { ...init, code });
  }
}

/** Faults that a message tells of. */
const FAULTS_MAX = 8;

/** What is wrong with options, each with the path of its field, or `whole` if it is none of its fields, in one line. */
export function invalidOptions(error: z.ZodError, whole = "options"): MeshError {
  // Of one field the first is enough: zod counts the characters, too, of a text that should be a list.
  const firsts = new Map(error.issues.toReversed().map((issue) => [z.core.toDotPath(issue.path), issue]));
  const wrong = error.issues.filter((issue) => firsts.get(z.core.toDotPath(issue.path)) === issue);
  const told = wrong.slice(0, FAULTS_MAX).map(({ path, message }) => {
    return `${excerpt(z.core.toDotPath(path)) || whole}: ${excerpt(message)}`;
  });
  return new MeshError("INVALID_OPTIONS", told.join("; "), { cause: error });
}

/**
 * What `read` returns, a check of `field` too. An application's own getters and proxies may throw anything there: that is
 * `INVALID_OPTIONS`, as well.
 */
export function readable<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    throw new MeshError("INVALID_OPTIONS", `${field}: cannot be read: ${textOf(cause)}`, { cause });
  }
}

/** The system would not do something with a file or directory. */
export function fileFailed(what: string, cause: unknown): MeshError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MeshError("STORE_FAILED", `${what}: ${reason}`, { cause });
}
