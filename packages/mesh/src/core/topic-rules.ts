import type { Budget } from "./state/token-bucket.ts";

/** Messages of one author: as many at once after quiet, then this often. Its own node holds it to that. */
export const TOPIC_BUDGET: Budget = { burst: 200, refillMs: 10 };
/** Everybody else drops what exceeds this, twice as many at once: what left in turn may come in a heap. */
export const TOPIC_PASSED_BUDGET: Budget = { ...TOPIC_BUDGET, burst: 2 * TOPIC_BUDGET.burst };
