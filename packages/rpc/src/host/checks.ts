import type { CallOptions } from "../contract.ts";
import { DEADLINE_MS_MAX, GRACE_MS, NAME_LENGTH_MAX } from "../core/limits.ts";
import { rpcError } from "../errors.ts";
import { checkKnown, readable } from "../known.ts";
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
  const { timeoutMs = GRACE_MS } = readable("options", () => {
    checkKnown(options, STOP_OPTIONS);
    return { timeoutMs: options?.timeoutMs };
  });
  if (timeoutMs === 0 || isDuration(timeoutMs)) return timeoutMs;
  throw rpcError("INVALID_OPTIONS", `timeoutMs: must be a number from 0 up to ${DEADLINE_MS_MAX}`);
}

/** @throws RpcError `INVALID_OPTIONS`. */
export function checkSignal(signal: unknown): void {
  if (signal === undefined) return;
  // Its prototype alone makes no signal: that throws here.
  const isSignal = readable(
    "signal",
    () => signal instanceof AbortSignal && typeof signal.aborted === "boolean",
  );
  if (!isSignal) throw rpcError("INVALID_OPTIONS", "signal: must be an AbortSignal");
}

const CALL_OPTIONS: readonly (keyof CallOptions)[] = ["deadlineMs", "signal", "idempotencyKey"];

/** What has to hold before a call waits for its turn, or begins. @throws RpcError `INVALID_OPTIONS`. */
export function checkCall(options: CallOptions | undefined): void {
  if (options === undefined) return;
  readable("options", () => {
    checkKnown(options, CALL_OPTIONS);
    const { deadlineMs, signal, idempotencyKey } = (options as CallOptions | null) ?? {};
    checkDeadline(deadlineMs);
    checkSignal(signal);
    if (idempotencyKey !== undefined) checkName(idempotencyKey, "idempotencyKey");
  });
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
  const isIterable = readable("input", () =>
    [iterable?.[Symbol.asyncIterator], iterable?.[Symbol.iterator]].some((one) => typeof one === "function"),
  );
  if (isIterable) return;
  throw rpcError("INVALID_OPTIONS", "input: must be an iterable, since it is a stream");
}
