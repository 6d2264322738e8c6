import type { CallOptions } from "../contract.ts";
import { DEADLINE_MS_MAX, GRACE_MS, NAME_LENGTH_MAX } from "../core/limits.ts";
import { rpcError } from "../errors.ts";
import { checkKnown } from "../known.ts";
import type { StopOptions } from "../types.ts";

/** @throws RpcError `INVALID_OPTIONS` unless it is `undefined` or a number above 0, up to `DEADLINE_MS_MAX`. */
export function checkDeadline(deadlineMs: unknown): void {
  if (deadlineMs === undefined || isDuration(deadlineMs)) return;
  throw rpcError("INVALID_OPTIONS", `deadlineMs: must be a number above 0 and up to ${DEADLINE_MS_MAX}`);
}

/** Of milliseconds, that a timer can wait. */
export function isDuration(value: unknown): boolean {
  return typeof value === "number" && value > 0 && value <= DEADLINE_MS_MAX;
}

const STOP_OPTIONS: readonly (keyof StopOptions)[] = ["timeoutMs"];

/** In milliseconds. @throws RpcError `INVALID_OPTIONS`. */
export function graceOf(options: StopOptions | undefined): number {
  checkKnown(options, STOP_OPTIONS);
  const { timeoutMs = GRACE_MS } = options ?? {};
  if (timeoutMs === 0 || isDuration(timeoutMs)) return timeoutMs;
  throw rpcError("INVALID_OPTIONS", `timeoutMs: must be a number from 0 up to ${DEADLINE_MS_MAX}`);
}

/** @throws RpcError `INVALID_OPTIONS`. */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw rpcError("INVALID_OPTIONS", "signal: must be an AbortSignal");
}

const CALL_OPTIONS: readonly (keyof CallOptions)[] = ["deadlineMs", "signal", "idempotencyKey"];

/** What has to hold before a call waits for its turn, or begins. @throws RpcError `INVALID_OPTIONS`. */
export function checkCall(options: CallOptions | undefined): void {
  checkKnown(options, CALL_OPTIONS);
  checkDeadline(options?.deadlineMs);
  checkSignal(options?.signal);
  if (options?.idempotencyKey !== undefined) checkName(options.idempotencyKey, "idempotencyKey");
}

/** Half a character is left out, as it would arrive as any other half. @throws RpcError `INVALID_OPTIONS`. */
export function checkName(value: unknown, field: string): void {
  if (
    typeof value === "string" &&
    value.length > 0 &&
    value.length <= NAME_LENGTH_MAX &&
    value.isWellFormed()
  )
    return;
  throw rpcError(
    "INVALID_OPTIONS",
    `${field}: must have 1 to ${NAME_LENGTH_MAX} characters, all of them whole`,
  );
}

/** @throws RpcError `INVALID_OPTIONS`. */
export function checkText(value: unknown, field: string): void {
  if (typeof value !== "string") throw rpcError("INVALID_OPTIONS", `${field}: must be a text`);
}

/** @throws RpcError `INVALID_OPTIONS`. */
export function checkFunction(value: unknown, field: string): void {
  if (typeof value !== "function") throw rpcError("INVALID_OPTIONS", `${field}: must be a function`);
}

/** @throws RpcError `INVALID_OPTIONS` unless it can be the input of a stream. */
export function checkSource(source: unknown): void {
  const iterable = source as Partial<Iterable<unknown> & AsyncIterable<unknown>> | null | undefined;
  if (typeof iterable?.[Symbol.asyncIterator] === "function") return;
  if (typeof iterable?.[Symbol.iterator] === "function") return;
  throw rpcError("INVALID_OPTIONS", "input: must be an iterable, since it is a stream");
}
