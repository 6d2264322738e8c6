import { hash64 } from "@klatsch/kit/core";
import type { Hash64 } from "@klatsch/kit/core";

/** The sum of nothing. */
export const ZERO64: Hash64 = { high: 0, low: 0 };

/** `a` + `b` modulo 2⁶⁴. */
export function add64(a: Hash64, b: Hash64): Hash64 {
  const low = a.low + b.low;
  const carry = low > 0xffff_ffff ? 1 : 0;
  return { high: (a.high + b.high + carry) >>> 0, low: low >>> 0 };
}

/** `a` − `b` modulo 2⁶⁴. */
export function subtract64(a: Hash64, b: Hash64): Hash64 {
  const borrow = a.low < b.low ? 1 : 0;
  return { high: (a.high - b.high - borrow) >>> 0, low: (a.low - b.low) >>> 0 };
}

export function equal64(a: Hash64, b: Hash64): boolean {
  return a.low === b.low && a.high === b.high;
}

/** Buckets that the whole state is split into. Every node must use the same. */
export const BUCKETS_COUNT = 64;

/** The bucket that what is called `id` belongs to. */
export function bucketOf(id: string): number {
  return hash64(id).low % BUCKETS_COUNT;
}
