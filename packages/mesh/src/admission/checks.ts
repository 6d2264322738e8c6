import type { Budget } from "../core/state/token-bucket.ts";
import { TokenBucket } from "../core/state/token-bucket.ts";

/** Signatures that one peer makes us check: a whole table at once, then one each millisecond. */
export const CHECK_BUDGET: Budget = { burst: 4_096, refillMs: 1 };
/** Peers of whom it is counted. */
const PEERS_MAX = 4_096;

/** What members may cost by signatures: checking one costs more than making us check it. */
export class Checks {
  readonly #monoMs: () => number;
  readonly #buckets = new Map<string, TokenBucket>();

  constructor(monoMs: () => number) {
    this.#monoMs = monoMs;
  }

  /** Whether so many signatures that came from this peer may be checked now. */
  take(peer: string, count = 1): boolean {
    const nowMs = this.#monoMs();
    let bucket = this.#buckets.get(peer);
    if (bucket === undefined) {
      if (this.#buckets.size >= PEERS_MAX) this.#buckets.clear();
      this.#buckets.set(peer, (bucket = new TokenBucket(CHECK_BUDGET, nowMs)));
    }
    if (!bucket.take(nowMs)) return false;
    bucket.charge(count - 1, nowMs);
    return true;
  }
}
