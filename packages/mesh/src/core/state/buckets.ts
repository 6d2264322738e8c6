import type { Hash64 } from "@klatsch/kit/core";
import { add64, BUCKETS_COUNT, equal64, subtract64, ZERO64 } from "./sum64.ts";

/** What a bucket was before it changed. */
interface Former {
  readonly bucket: number;
  readonly hash: Hash64;
  /** When it changed. */
  readonly atMs: number;
}

/** A mismatch with what we were this long ago is a message on its way, in milliseconds. */
export const LAG_MS = 2_000;
/** So many former hashes are kept; more changes than that in `LAG_MS` make some lag look like a difference. */
const FORMER_MAX = 1_024;
/** Stands for the sum of all buckets. */
const ALL = -1;

/** Hashes of the whole state: sums modulo 2⁶⁴, so that each change costs one addition, whatever there is. */
export class Buckets {
  readonly #hashes: Hash64[] = Array.from({ length: BUCKETS_COUNT }, () => ZERO64);
  #total: Hash64 = ZERO64;
  #former: Former[] = [];

  get hashes(): readonly Hash64[] {
    return this.#hashes;
  }

  get total(): Hash64 {
    return this.#total;
  }

  /** Something in `bucket` that hashed to `before` (nothing: `undefined`) now hashes to `after`. */
  replace(bucket: number, before: Hash64 | undefined, after: Hash64 | undefined, nowMs: number): void {
    const was = this.#hashes[bucket] ?? ZERO64;
    this.#former.push({ bucket, hash: was, atMs: nowMs }, { bucket: ALL, hash: this.#total, atMs: nowMs });
    if (this.#former.length > FORMER_MAX) this.#former = this.#former.slice(-FORMER_MAX / 2);
    const change = (sum: Hash64): Hash64 => add64(subtract64(sum, before ?? ZERO64), after ?? ZERO64);
    this.#hashes[bucket] = change(was);
    this.#total = change(this.#total);
  }

  /** Whether the sum of all was this until some time after `sinceMs`. */
  wasTotal(hash: Hash64, sinceMs: number): boolean {
    return this.#was(ALL, hash, sinceMs);
  }

  /** Buckets in which somebody with these hashes has something else; not those where ours was the same until some time after `sinceMs`. */
  differing(hashes: readonly Hash64[], sinceMs: number): number[] {
    const found: number[] = [];
    for (const [bucket, ours] of this.#hashes.entries()) {
      const theirs = hashes[bucket] ?? ZERO64;
      if (equal64(ours, theirs) || this.#was(bucket, theirs, sinceMs)) continue;
      found.push(bucket);
    }
    return found;
  }

  #was(bucket: number, hash: Hash64, sinceMs: number): boolean {
    return this.#former.some(
      (former) => former.bucket === bucket && former.atMs > sinceMs && equal64(former.hash, hash),
    );
  }
}
