import { KlatschError, textOf } from "@klatsch/kit";

import { NAME_LENGTH_MAX } from "./core/limits.ts";
import { fault, RPC_ERROR_CODES } from "./core/messages.ts";
import type { Fault, RpcErrorCode } from "./core/messages.ts";

/** Thrown by the public calls of this package. Branch on `code`; `message` is for people. */
export class RpcError extends KlatschError {
  override readonly name: string = "RpcError";
  declare readonly code: RpcErrorCode;
  /** With `HANDLER_FAILED`: the code of the error that the remote handler threw, if it had one. */
  readonly remoteCode: string | undefined;

  constructor(reason: Fault, cause?: unknown) {
    super(reason.message, { ...reason, cause });
    this.remoteCode = reason.remoteCode;
  }
}

/** Errors of calls that this node made. */
const OF_CALLS = new WeakSet<RpcError>();

/** Marks an error as that of a call: what it says of that holds for no handler that passes it on. */
export function ofCall(error: RpcError): RpcError {
  OF_CALLS.add(error);
  return error;
}

/** An error made here; nothing has happened. */
export function rpcError(code: RpcErrorCode, message: string, cause?: unknown): RpcError {
  return new RpcError(fault(code, message), cause);
}

/**
 * What a peer is told of an error here: a handler may throw an {@link RpcError} of its own choosing. Total: whatever was
 * thrown, the result can travel.
 */
export function faultOf(error: unknown): Fault {
  const failed = fault("HANDLER_FAILED", textOf(error), "unknown");
  try {
    return error instanceof Error ? { ...failed, ...detailsOf(error) } : failed;
  } catch {
    return failed; // One of its fields throws when it is read, or it is a proxy of nothing.
  }
}

/** What an error says beside its text, as far as it can travel: anybody may write into its fields. */
function detailsOf(error: Error): Partial<Fault> {
  const code: unknown = "code" in error ? error.code : undefined;
  if (!(error instanceof KlatschError)) return { remoteCode: codeOf(code) };
  const isOwn = !(error instanceof RpcError && OF_CALLS.has(error));
  const outcome = error.outcome === "none" && isOwn ? "none" : "unknown";
  const retryable = (error.retryable as unknown) === true;
  if (!(error instanceof RpcError)) return { outcome, retryable, remoteCode: codeOf(code) };
  const known = RPC_ERROR_CODES.find((one) => one === code);
  if (known === undefined) return { outcome, retryable, remoteCode: codeOf(code) };
  return { code: known, outcome, retryable, remoteCode: codeOf(error.remoteCode) };
}

function codeOf(code: unknown): string | undefined {
  return typeof code === "string" ? code.slice(0, NAME_LENGTH_MAX) : undefined;
}
