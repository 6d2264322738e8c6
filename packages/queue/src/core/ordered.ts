import { hash64, rendezvousOrder } from "@klatsch/kit/core";

import { makePid } from "./ballot.ts";
import type { Attributes, Definition, Descriptor, Ordered } from "./types.ts";

/**
 * The lanes of an ordered queue, one a shard: what its definition says and nothing else, so that all nodes name the
 * same. Their origin is a boot that never was: no round 0 is written, and the first writer is a stealer like any other.
 */
export function shardDescriptors({ queue, replicas, ordered }: Definition): readonly Descriptor[] {
  if (ordered === undefined) return [];
  const { shards, stores, dedupMs } = ordered;
  const byStore = new Map(stores.map((replica) => [replica.store, replica]));
  return Array.from({ length: shards }, (_, no) => {
    const order = rendezvousOrder(`${queue}${no}`, [...byStore.keys()]).slice(0, replicas);
    const placed = order.flatMap((store) => byStore.get(store) ?? []);
    const originPid = makePid(order[0] ?? "", 0, "0".repeat(16));
    const fixed = { queue, originPid, laneNo: no, replicas: placed, voters: 0, consumersSeen: 0 };
    return { ...fixed, wanted: replicas, shard: { no, dedupMs } };
  });
}

/** The shard of a message: a group has one, or else a key; what has neither goes anywhere (`spread`). */
export function shardOf({ shards }: Ordered, attributes: Attributes | undefined, spread: number): number {
  const { group, dedupKey } = attributes ?? {};
  if (group !== undefined) return hash64(`g${group}`).low % shards;
  return (dedupKey === undefined ? spread : hash64(`k${dedupKey}`).low) % shards;
}
