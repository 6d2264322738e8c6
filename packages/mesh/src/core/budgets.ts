import { TokenBucket } from "./state/token-bucket.ts";
import type { Budget } from "./state/token-bucket.ts";

/** Signatures that one peer makes us check: a whole table at once, then one each millisecond. Checking one costs more than making us check it. */
export const CHECK_BUDGET: Budget = { burst: 4_096, refillMs: 1 };
/** Peers of whom it is counted: as many as there are members. */
const PEERS_MAX = 4_096;

/** The same budget for each peer. */
export class Budgets {
  readonly #budget: Budget;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Whether the peer may do so much now; of several, the rest may come before it may do more. */
  take(peer: string, nowMs: number, count = 1): boolean {
    let bucket = this.#buckets.get(peer);
    if (bucket === undefined) {
      if (this.#buckets.size >= PEERS_MAX) this.#buckets.clear();
      this.#buckets.set(peer, (bucket = new TokenBucket(this.#budget, nowMs)));
    }
    if (!bucket.take(nowMs)) return false;
    bucket.charge(count - 1, nowMs);
    return true;
  }

  /** The peer is no member any more. */
  forget(peer: string): void {
    this.#buckets.delete(peer);
  }
}
