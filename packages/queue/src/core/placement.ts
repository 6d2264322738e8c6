import { rendezvousOrder } from "@klatsch/kit/core";

import type { PeerId, Replica, StoreId } from "./types.ts";

/** A store that may be on a lane's replica set: of any member that has not left. */
export interface Candidate {
  readonly peer: PeerId;
  readonly store: StoreId;
  readonly status: "alive" | "suspect" | "dead";
  readonly reachable: boolean;
  /** Its node is alive and hosts consumers of the queue: it belongs to C. */
  readonly consumes: boolean;
  /** It was reachable for a while now. */
  readonly steady: boolean;
}

export interface Placement {
  readonly replicas: readonly Replica[];
  readonly voters: number;
  readonly consumersSeen: number;
  /** Replicas that can be reached now, this node included. */
  readonly reachable: number;
  readonly quorum: number;
}

/** How many of C must be on R, so that every quorum of R holds a consumer's node. */
export function votersNeeded(replicas: number, consumers: number): number {
  const quorum = Math.floor(replicas / 2) + 1;
  return Math.min(replicas - quorum + 1, consumers);
}

/**
 * R for a new lane: the origin, then rendezvous order over `key`, alive before suspect before dead, with
 * enough of C that the consumers' nodes vote on every message. |R| is never lowered because of who is
 * reachable: a node cut off from others it knows does not acknowledge alone.
 */
export function choosePlacement(
  origin: Candidate,
  others: readonly Candidate[],
  wanted: number,
  key: string,
): Placement {
  const size = Math.min(wanted, others.length + 1);
  const byStore = new Map(others.map((candidate) => [candidate.store, candidate]));
  const ordered = rendezvousOrder(key, [...byStore.keys()])
    .map((store) => byStore.get(store))
    .filter((candidate) => candidate !== undefined);
  const ranked = [0, 1, 2, 3].flatMap((rank) => ordered.filter((c) => rankOf(c) === rank));
  const consumers = ranked.filter((candidate) => candidate.consumes);
  const consumersSeen = consumers.length + (origin.consumes ? 1 : 0);
  const missing = votersNeeded(size, consumersSeen) - (origin.consumes ? 1 : 0);
  const chosen = new Set<Candidate>([origin, ...consumers.slice(0, Math.max(0, missing))]);
  for (const candidate of ranked) if (chosen.size < size) chosen.add(candidate);
  const members = [...chosen];
  return {
    replicas: members.map(({ peer, store }) => ({ peer, store })),
    voters: members.reduce((bits, { consumes }, at) => (consumes ? bits | (1 << at) : bits), 0),
    consumersSeen,
    reachable: members.filter(({ reachable }) => reachable).length,
    quorum: Math.floor(size / 2) + 1,
  };
}

/**
 * Flow 10: R of an heir keeps what is left of the old R, so that every quorum of the heir holds a replica of the lane it
 * comes from, and takes live ones, consumers first, in the place of what is lost. It need not meet the rule about
 * voters. `undefined`: it would be no better than the old one, unless it is wanted anyway.
 */
export function chooseHeir(
  origin: Candidate,
  others: readonly Candidate[],
  old: { readonly replicas: readonly Replica[]; readonly wanted: number; isLost(replica: Replica): boolean },
  key: string,
  anyway: boolean,
): Omit<Placement, "reachable" | "quorum"> | undefined {
  const kept = old.replicas.filter((replica) => !old.isLost(replica));
  const onR = new Set(old.replicas.map(({ store }) => store));
  const candidates = new Map([origin, ...others].map((candidate) => [candidate.store, candidate]));
  const isWeak = kept.length === old.replicas.length;
  const eligible = [...candidates.values()].filter(
    ({ store, reachable, steady }) => !onR.has(store) && reachable && (steady || !isWeak),
  );
  const fresh = rendezvousOrder(
    key,
    eligible.map(({ store }) => store),
  )
    .map((store) => candidates.get(store))
    .filter((one) => one !== undefined)
    .toSorted((a, b) => Number(b.consumes) - Number(a.consumes))
    .slice(0, Math.max(0, old.wanted - kept.length));
  const better = fresh.length > 0 && (!isWeak || kept.length + fresh.length === old.wanted);
  // With a second, but no third, a lane that one replica kept would end with either of them.
  const replicas = [...kept, ...(better ? fresh.map(({ peer, store }) => ({ peer, store })) : [])];
  if ((!better && !anyway) || !kept.some(({ store }) => store === origin.store)) return undefined;
  if (kept.length <= old.replicas.length / 2) return undefined; // Else a quorum of the new R could be without any of the old.
  const consumes = replicas.map(({ store }) => candidates.get(store)?.consumes === true);
  return {
    replicas,
    voters: consumes.reduce((bits, one, at) => (one ? bits | (1 << at) : bits), 0),
    consumersSeen: consumes.filter((one) => one).length,
  };
}

function rankOf(candidate: Candidate): number {
  if (candidate.status === "dead") return 3;
  if (candidate.status === "suspect") return 2;
  return candidate.reachable ? 0 : 1;
}
