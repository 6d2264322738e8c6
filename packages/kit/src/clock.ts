import type { Clock } from "./core/clock.ts";

/** This process's clock: `performance.now()` and `Date.now()`. */
export const systemClock: Clock = {
  now: () => ({ monoMs: performance.now(), wallMs: Date.now() }),
};
