import { KlatschError } from "@klatsch/kit/core";
import type { KlatschErrorInit } from "@klatsch/kit/core";

/**
 * Codes of {@link MeshError}; removing one is a breaking change.
 * `INVALID_OPTIONS`: the message names the field. `IDENTITY_DAMAGED`: `identity.key` or `boot` cannot be
 * read; the message names the file. `IDENTITY_CONFLICT`: a newer process runs with the same identity.
 * `LISTEN_FAILED`: an address could not be bound. `UNKNOWN_NAME`, `AMBIGUOUS_NAME`: see `Mesh.resolve`.
 * `CHANNEL_EXISTS`: the name is taken in this process. `LIMIT_REACHED`: too many channels.
 * `STOPPED`: the mesh has stopped.
 */
export type MeshErrorCode =
  | "INVALID_OPTIONS"
  | "IDENTITY_DAMAGED"
  | "IDENTITY_CONFLICT"
  | "LISTEN_FAILED"
  | "UNKNOWN_NAME"
  | "AMBIGUOUS_NAME"
  | "CHANNEL_EXISTS"
  | "LIMIT_REACHED"
  | "STOPPED";

/** Thrown by the public calls of this package. Branch on `code`; `message` is for people. */
export class MeshError extends KlatschError {
  override readonly name: string = "MeshError";
  declare readonly code: MeshErrorCode;

  constructor(code: MeshErrorCode, message: string, init?: Omit<KlatschErrorInit, "code">) {
    super(message, { ...init, code });
  }
}
