import { TokenBucket } from "./state/token-bucket.ts";
import type { Budget } from "./state/token-bucket.ts";

/** Messages of one author: as many at once after quiet, then this often. */
const TOPIC_BUDGET: Budget = { burst: 200, refillMs: 10 };

/** How often each author may publish: its own node holds it to that, and everybody else drops what exceeds it. */
export class TopicBudgets {
  readonly #authors = new Map<string, TokenBucket>();

  /** `false`: too many from this author. */
  take(author: string, nowMs: number): boolean {
    const known = this.#authors.get(author);
    if (known !== undefined) return known.take(nowMs);
    const budget = new TokenBucket(TOPIC_BUDGET, nowMs);
    this.#authors.set(author, budget);
    return budget.take(nowMs);
  }

  /** The author is no member any more. */
  forget(author: string): void {
    this.#authors.delete(author);
  }
}
