import { systemClock } from "@klatsch/kit";
import type { Outcome } from "@klatsch/kit";

import { DEADLINE_MS, DEADLINE_MS_MAX } from "../core/limits.ts";
import { fault } from "../core/messages.ts";
import type { Fault } from "../core/messages.ts";
import { ofCall, RpcError } from "../errors.ts";
import { ambient } from "./ambient.ts";

/** How long a caller waits. */
export interface Patience {
  /** What is waited for, for messages. */
  readonly name: string;
  /** Monotonic instant in milliseconds; `undefined`: no end. */
  readonly deadlineAt: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly outcome: Outcome;
}

/** Never later than what the calling handler has left. `endless`: by itself it has no end. */
export function deadlineOf(deadlineMs: number | undefined, endless: boolean): number | undefined {
  const inherited = ambient.getStore()?.deadlineAt;
  const wanted = deadlineMs ?? (endless || inherited !== undefined ? undefined : DEADLINE_MS);
  if (wanted === undefined) return inherited;
  return Math.min(inherited ?? Infinity, systemClock.now().monoMs + wanted);
}

/**
 * What `work` comes to. Rejects with `DEADLINE_EXCEEDED` at the deadline, with `CANCELLED` once the signal fires: code of the
 * application, such as a schema, may never come to an end.
 */
export async function within<T>(
  work: Promise<T>,
  { name, deadlineAt, signal, outcome }: Patience,
): Promise<T> {
  const over = Promise.withResolvers<never>();
  const refuse = (reason: Fault, cause?: unknown): void => over.reject(ofCall(new RpcError(reason, cause)));
  const onAbort = (): void =>
    refuse(fault("CANCELLED", `the call of ${name} was cancelled`, outcome), signal?.reason);
  const onTime = (): void =>
    refuse(fault("DEADLINE_EXCEEDED", `${name}: its time was over while it waited`, outcome));
  const leftMs = Math.max(0, (deadlineAt ?? Infinity) - systemClock.now().monoMs);
  const timer = deadlineAt === undefined ? undefined : setTimeout(onTime, Math.min(leftMs, DEADLINE_MS_MAX));
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
