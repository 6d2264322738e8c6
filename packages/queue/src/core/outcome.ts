import type { Instant, Random } from "@klatsch/kit/core";

import { done, failed, failedCount, FAILURE_REASON_MAX, redriven, rejected, released } from "./register.ts";
import { DEFAULT_RETRY, retryDelayMs } from "./retry.ts";
import type { Definition, Failure, Value, Verdict } from "./types.ts";

/** What a verdict makes of the message its consumer holds; `undefined` for a renewal, which makes nothing of it. */
export function outcomeOf(
  value: Value,
  verdict: Verdict,
  definition: Definition,
  { now, random }: { readonly now: Instant; readonly random: Random },
): Value | undefined {
  switch (verdict.kind) {
    case "ack":
      return done(value);
    case "nack": {
      const { retry = DEFAULT_RETRY } = definition;
      const { delayMs = retryDelayMs(retry, failedCount(value) + 1, random) } = verdict;
      return failedDelivery(value, definition, verdict.reason ?? "nack", delayMs, now.wallMs);
    }
    case "redrive":
      return redriven(value);
    case "release":
      return released(value);
    case "reject":
      return rejected(value, verdict.reason, failureOf(verdict.reason, now.wallMs));
    case "renew":
      return undefined;
  }
}

/** Flows 4 and 5: a delivery came to nothing; the message is due again after `delayMs`. */
export function failedDelivery(
  value: Value,
  definition: Definition,
  reason: string,
  delayMs: number,
  wallMs: number,
): Value {
  // Whole: a value is the same on the wire and on this node's own disk.
  const due = delayMs > 0 ? Math.ceil(wallMs + delayMs) : 0;
  return failed(value, definition, failureOf(reason, wallMs), due);
}

function failureOf(reason: string, wallMs: number): Pick<Failure, "atWallMs" | "reason"> {
  // What is cut may end in half a character.
  return { atWallMs: Math.floor(wallMs), reason: reason.slice(0, FAILURE_REASON_MAX).toWellFormed() };
}
