import { KlatschError } from "@klatsch/kit";

import { fault } from "./core/messages.ts";
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

/** An error made here; nothing has happened. */
export function rpcError(code: RpcErrorCode, message: string, cause?: unknown): RpcError {
  return new RpcError(fault(code, message), cause);
}

/** What a peer is told of an error here: a handler may throw an {@link RpcError} of its own choosing. */
export function faultOf(error: unknown): Fault {
  if (error instanceof RpcError) {
    const { code, message, outcome, retryable, remoteCode } = error;
    return { code, message, outcome, retryable, remoteCode };
  }
  const message = error instanceof Error ? error.message : String(error);
  const failed = fault("HANDLER_FAILED", message, "unknown");
  if (error instanceof KlatschError) {
    return {
      ...failed,
      outcome: error.outcome,
      retryable: error.retryable,
      remoteCode: error.code.slice(0, 200),
    };
  }
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? { ...failed, remoteCode: code.slice(0, 200) } : failed;
}
