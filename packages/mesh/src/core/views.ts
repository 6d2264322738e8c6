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

/** One member's share of a table digest. A suspicion counts as alive: it is a doubt, not a state. */
export function viewHash(standing: Standing & { readonly peer: string }): number {
  const status = standing.status === "suspect" ? "alive" : standing.status;
  return hash32(`${standing.peer}/${standing.boot}/${standing.inc}/${status}`);
}

/** What the member said of itself, without how we see it. */
export function recordOf(view: View): MemberRecord {
  const { peer, boot, inc, name, cloud, tags, addresses } = view;
  return { peer, boot, inc, name, cloud, tags, addresses };
}
