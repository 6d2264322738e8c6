import type { Random } from "@klatsch/kit/core";

import type { RetryPolicy } from "./types.ts";

/** What a queue does that says nothing else: 100 ms, doubling to 30 s. */
export const DEFAULT_RETRY: RetryPolicy = { kind: "exponential", delayMs: 100, maxMs: 30_000, jitter: 0 };

/** How long a message waits after its `failed`-th failed delivery, in whole milliseconds. */
export function retryDelayMs(policy: RetryPolicy, failed: number, random: Random): number {
  const { kind, delayMs, maxMs, jitter } = policy;
  const times = Math.max(1, failed);
  const factor = kind === "fixed" ? 1 : kind === "linear" ? times : 2 ** Math.min(times - 1, 40);
  const whole = Math.min(maxMs, delayMs * factor);
  return Math.ceil(whole * (1 - (jitter * random.uint32()) / 0x1_0000_0000));
}
