import { hash64 } from "@klatsch/kit/core";
import type { MemberRecord, View } from "./messages.ts";

/** Statuses of the table, a suspicion included. */
export type Status = "alive" | "suspect" | "dead" | "stopped" | "left";

/** Later ones win at the same boot and incarnation; a member's own word (`stopped`, `left`) wins over others' views. */
const RANK: Readonly<Record<Status, number>> = { alive: 0, suspect: 1, dead: 2, stopped: 3, left: 4 };

interface Standing {
  readonly boot: number;
  readonly inc: number;
  readonly status: Status;
}

/** Orders views of one member: by boot, then incarnation, then status. Positive: `a` is the later one. */
export function compareViews(a: Standing, b: Standing): number {
  return a.boot - b.boot || a.inc - b.inc || RANK[a.status] - RANK[b.status];
}

/** `dead`, `stopped` and `left`: not taking part. */
export function isEnded(status: Status): status is "dead" | "stopped" | "left" {
  return RANK[status] >= RANK.dead;
}

/** 32 bits to spread choices with, the same on every node. */
export function hash32(text: string): number {
  return hash64(text).low;
}

/** Mixes two hashes that are already well mixed: H(a‖b). */
export function mix32(a: number, b: number): number {
  let hash = Math.imul(a ^ Math.imul(b, 0x9e3779b1), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * One member's share of a table digest; `peerHash` is its id's. A suspicion counts as alive: it is a doubt, not
 * a state.
 */
export function viewHash(peerHash: number, standing: Standing): number {
  const { boot, inc, status } = standing;
  const low = mix32(boot >>> 0, Math.floor(boot / 0x1_0000_0000));
  return mix32(mix32(peerHash, low), mix32(inc, status === "suspect" ? RANK.alive : RANK[status]));
}

/** What the member said of itself, without how we see it. */
export function recordOf(view: View): MemberRecord {
  const { peer, boot, inc, name, cloud, tags, addresses, gateway, dialOnly, reach, signature } = view;
  return { peer, boot, inc, name, cloud, tags, addresses, gateway, dialOnly, reach, signature };
}
