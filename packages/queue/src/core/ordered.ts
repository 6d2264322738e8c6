import { hash64, rendezvousOrder } from "@klatsch/kit/core";

import { makePid } from "./ballot.ts";
import type { Attributes, Definition, Descriptor, Ordered, Ranges } from "./types.ts";

/**
 * The lanes of an ordered queue, one a shard: what its definition says and nothing else, so that all nodes name the
 * same. Their origin is a boot that never was: no round 0 is written, and the first writer is a stealer like any other.
 */
export function shardDescriptors({ queue, replicas, ordered, relaxed }: Definition): readonly Descriptor[] {
  if (ordered === undefined) return [];
  const { shards, stores, dedupMs } = ordered;
  const byStore = new Map(stores.map((replica) => [replica.store, replica]));
  return Array.from({ length: shards }, (_, no) => {
    const order = rendezvousOrder(`${queue}${no}`, [...byStore.keys()]).slice(0, replicas);
    const placed = order.flatMap((store) => byStore.get(store) ?? []);
    const originPid = makePid(order[0] ?? "", 0, "0".repeat(16));
    const fixed = { queue, originPid, laneNo: no, replicas: placed, voters: 0, consumersSeen: 0 };
    const more = relaxed === undefined ? {} : { relaxed };
    return { ...fixed, wanted: replicas, shard: { no, dedupMs }, ...more };
  });
}

/** Voids of earlier cuts that a cut still names, as ranges and as seqs. */
const VOIDS_MAX = 4_096;
const VOID_SEQS_MAX: number = 2 ** 22;

/** The newest of a cut's voids: all are learnt as finished, so that of older ones only their fate is forgotten. */
export function newestVoids(voids: Ranges): Ranges {
  let seqs = 0;
  const last = voids.findLastIndex(([from, to]) => (seqs += to - from) > VOID_SEQS_MAX);
  return voids.slice(Math.max(last + 1, voids.length - VOIDS_MAX));
}

/** Whether a finished seq may be one of the voids that are named no more. */
export function isForgotten(voids: Ranges, seq: number): boolean {
  const seqs = voids.reduce((sum, [from, to]) => sum + to - from, 0);
  const isFull = voids.length >= VOIDS_MAX || seqs >= VOID_SEQS_MAX / 2;
  return isFull && seq < (voids[0]?.[0] ?? 0);
}

/** The shard of a message: a group has one, or else a key; what has neither goes anywhere (`spread`). */
export function shardOf({ shards }: Ordered, attributes: Attributes | undefined, spread: number): number {
  const { group, dedupKey } = attributes ?? {};
  if (group !== undefined) return hash64(`g${group}`).low % shards;
  return (dedupKey === undefined ? spread : hash64(`k${dedupKey}`).low) % shards;
}
