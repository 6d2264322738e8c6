import type { Hash64, Random } from "@klatsch/kit/core";
import { randomBelow } from "@klatsch/kit/core";
import { LAG_MS } from "./buckets.ts";
import type { Buckets } from "./buckets.ts";
import type { StateContext, StateLink } from "./state-context.ts";
import { BUCKETS_COUNT, equal64 } from "./sum64.ts";

/** Two who differ for good (in what they let others write, say) compare every minute in the end. */
const FRUITLESS_MAX = 5;

/**
 * Finds what floods missed (S3): hashes of all travel with probes; a difference that lasts leads to the hashes of
 * the buckets, and those that differ to a list of what they hold.
 */
export class Comparing {
  readonly #context: StateContext;
  readonly #buckets: Buckets;
  readonly #random: Random;
  readonly #sendHeads: (bucket: number, to: string) => void;
  #collisionAt: number;

  constructor(
    context: StateContext,
    buckets: Buckets,
    random: Random,
    sendHeads: (bucket: number, to: string) => void,
  ) {
    this.#context = context;
    this.#buckets = buckets;
    this.#random = random;
    this.#sendHeads = sendHeads;
    this.#collisionAt = context.nowMs + context.times.collisionMs;
  }

  linkUp(peer: string): void {
    const { nowMs, times } = this.#context;
    // One of the two is enough: whoever answers a comparison compares as well.
    if (this.#context.self < peer) this.#context.compareBy(peer, nowMs + times.compareNewMs);
  }

  onHash(link: StateLink, hash: Hash64): void {
    const { nowMs, times, self } = this.#context;
    if (equal64(hash, this.#buckets.total)) {
      link.compareAt = undefined;
      link.fruitless = 0;
    } else if (this.#buckets.wasTotal(hash, this.#lagSinceMs(link))) {
      link.compareAt = undefined;
    } else if (link.compareAt === undefined) {
      const politeMs = self < link.peer ? 0 : times.politeMs;
      const waitMs = times.doubtMs * 2 ** Math.min(link.fruitless, FRUITLESS_MAX);
      this.#context.compareBy(
        link.peer,
        Math.max(nowMs + times.doubtMs + politeMs, link.comparedAt + waitMs),
      );
    }
  }

  onBuckets(link: StateLink, hashes: readonly Hash64[]): void {
    const { nowMs, times } = this.#context;
    const differing = this.#buckets.differing(hashes, this.#lagSinceMs(link));
    this.#compared(link);
    for (let count = 0; count < times.bucketsMax && differing.length > 0; count += 1) {
      const [bucket] = differing.splice(randomBelow(this.#random, differing.length), 1);
      if (bucket !== undefined) this.#sendHeads(bucket, link.peer);
    }
    if (differing.length > 0) this.#context.compareBy(link.peer, nowMs + times.continueMs);
  }

  /** Starts the comparisons that are due. */
  work(): void {
    const { nowMs, times, links } = this.#context;
    for (const link of links.values()) {
      if (link.compareAt === undefined || link.compareAt > nowMs) continue;
      this.#compared(link);
      this.#context.send(link.peer, { type: "buckets", hashes: this.#buckets.hashes.slice() });
    }
    if (nowMs < this.#collisionAt) return;
    this.#collisionAt = nowMs + times.collisionMs;
    const peers = [...links.keys()];
    const peer = peers[randomBelow(this.#random, Math.max(1, peers.length))];
    if (peer !== undefined) this.#sendHeads(randomBelow(this.#random, BUCKETS_COUNT), peer);
  }

  /** What changed since then may be on its way; not what changed before there was a link. */
  #lagSinceMs(link: StateLink): number {
    return Math.max(link.upAtMs, this.#context.nowMs - LAG_MS);
  }

  #compared(link: StateLink): void {
    link.compareAt = undefined;
    link.comparedAt = this.#context.nowMs;
    link.fruitless += 1;
  }

  nextDeadline(): number {
    let atMs = this.#collisionAt;
    for (const { compareAt } of this.#context.links.values()) {
      if (compareAt !== undefined) atMs = Math.min(atMs, compareAt);
    }
    return atMs;
  }
}
