import type { Outcome } from "@klatsch/kit/core";

/** A link to a peer in one class: what a session belongs to. Opaque here. */
export type Route = string;

/**
 * What went wrong. Removing one is a breaking change.
 * - `INVALID_OPTIONS`: an option or argument is missing or wrong; the message names the field.
 * - `INVALID_INPUT`, `INVALID_OUTPUT`: the value does not fit the contract; the message names the field's path.
 * - `INVALID_TARGET`: the target expression does not parse; the message names the position.
 * - `NOT_FOUND`: the peer serves no such method; the message names the nearest.
 * - `DENIED`: the method's access rule does not admit this caller.
 * - `DEADLINE_EXCEEDED`: no answer in time.
 * - `CANCELLED`: the caller's signal fired.
 * - `UNAVAILABLE`: the peer is gone, cannot be reached, or its link broke in the middle.
 * - `OVERLOADED`: a limit is reached here or there; the call did not begin.
 * - `TOO_LARGE`: one value exceeds the longest item.
 * - `HANDLER_FAILED`: the handler threw; `remoteCode` has its error's code.
 * - `CONFLICT`: a method of that name is served already.
 * - `STOPPED`: used after `stop`.
 * - `NO_QUEUE`: `once` was used, and the application wired no queues in.
 */
export type RpcErrorCode = (typeof RPC_ERROR_CODES)[number];

/** Their order is part of the protocol: new ones go to the end. */
export const RPC_ERROR_CODES = [
  "INVALID_OPTIONS",
  "INVALID_INPUT",
  "INVALID_OUTPUT",
  "INVALID_TARGET",
  "NOT_FOUND",
  "DENIED",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "UNAVAILABLE",
  "OVERLOADED",
  "TOO_LARGE",
  "HANDLER_FAILED",
  "CONFLICT",
  "STOPPED",
  "NO_QUEUE",
] as const;

/** A failure as it travels. */
export interface Fault {
  readonly code: RpcErrorCode;
  readonly message: string;
  readonly outcome: Outcome;
  readonly retryable: boolean;
  /** Code of the error that the handler threw, if it had one. */
  readonly remoteCode: string | undefined;
}

/** The call under an id chosen by the caller, unique in its session's lifetime. */
export interface AskMessage {
  readonly type: "ask";
  readonly id: number;
  readonly method: string;
  /** Whole milliseconds left when it was sent; `undefined` for a stream without deadline. */
  readonly remainingMs: number | undefined;
  readonly input: unknown;
  readonly key: string | undefined;
  /** W3C `traceparent` of the span that asks. */
  readonly trace: string | undefined;
  /** Of one that came in chunks. */
  readonly bytes?: number;
}

/** Has whoever is meant run a method. */
export interface CastMessage {
  readonly type: "cast";
  readonly method: string;
  readonly input: unknown;
  /** An expression, or peer ids. */
  readonly target: string | readonly string[];
  /** Number of this value if it is told over gossip too: whoever gets both runs one. */
  readonly no: number | undefined;
  readonly trace: string | undefined;
  /** Of one that came in chunks. */
  readonly bytes?: number;
}

/** A value of a topic. */
export interface EmitMessage {
  readonly type: "emit";
  readonly topic: string;
  /** Grows with every value that the sender's process casts or emits. */
  readonly no: number;
  readonly value: unknown;
  /** From the history, for who asked for it. */
  readonly replayed: boolean;
  /** It is told over gossip too: whoever gets both hears one. */
  readonly spread: boolean;
  /** Of one that came in chunks. */
  readonly bytes?: number;
}

interface ItemMessage {
  readonly type: "item";
  readonly id: number;
  readonly up: boolean;
  readonly value: unknown;
  /** It came in chunks. */
  readonly large?: true;
}

/** What travels. `up`: from the caller to the handler. */
export type Message =
  | AskMessage
  | { readonly type: "reply"; readonly id: number; readonly value: unknown }
  | { readonly type: "fail"; readonly id: number; readonly fault: Fault }
  | { readonly type: "cancel"; readonly id: number }
  | ItemMessage
  | { readonly type: "end"; readonly id: number }
  | { readonly type: "credit"; readonly id: number; readonly up: boolean; readonly count: number }
  | CastMessage
  | { readonly type: "chunk"; readonly flow: number; readonly last: boolean; readonly bytes: Uint8Array }
  | { readonly type: "took"; readonly bytes: number }
  | EmitMessage
  | { readonly type: "recall"; readonly topic: string; readonly count: number };

/** A fault made here. */
export function fault(code: RpcErrorCode, message: string, outcome: Outcome = "none"): Fault {
  return { code, message, outcome, retryable: RETRYABLE.has(code), remoteCode: undefined };
}

const RETRYABLE: ReadonlySet<RpcErrorCode> = new Set(["DEADLINE_EXCEEDED", "UNAVAILABLE", "OVERLOADED"]);
