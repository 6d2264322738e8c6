import { TokenBucket } from "./state/token-bucket.ts";
import type { Budget } from "./state/token-bucket.ts";

/** Messages of one author: as many at once after quiet, then this often. */
export const TOPIC_BUDGET: Budget = { burst: 200, refillMs: 10 };
/** Others let twice as many pass at once: what left in turn may come in a heap. */
const PASSED_BUDGET: Budget = { ...TOPIC_BUDGET, burst: 2 * TOPIC_BUDGET.burst };

/** How often each author may publish: its own node holds it to that, and everybody else drops what exceeds it. */
export class TopicBudgets {
  readonly #authors = new Map<string, TokenBucket>();

  /** `false`: too many from this author. */
  take(author: string, nowMs: number): boolean {
    const known = this.#authors.get(author);
    if (known !== undefined) return known.take(nowMs);
    const budget = new TokenBucket(PASSED_BUDGET, nowMs);
    this.#authors.set(author, budget);
    return budget.take(nowMs);
  }

  /** The author is no member any more. */
  forget(author: string): void {
    this.#authors.delete(author);
  }
}
