import type { Hash64 } from "@klatsch/kit/core";

/** One entry of a member's own state as it travels. */
export interface OwnEntry {
  readonly key: string;
  readonly version: number;
  /** `undefined`: deleted. */
  readonly value: Uint8Array | undefined;
}

/** What changed in a member's own state from version `from`, exclusive, to `to`, inclusive. */
export interface OwnDelta {
  readonly peer: string;
  readonly boot: number;
  /** Marks of deletion up to this version have been forgotten by their owner. */
  readonly floor: number;
  readonly from: number;
  readonly to: number;
  /** By rising version, none outside `from` to `to`. */
  readonly entries: readonly OwnEntry[];
}

/** How far somebody knows a member's own state. */
export interface OwnHead {
  readonly peer: string;
  readonly boot: number;
  readonly version: number;
}

/** A part of a bucket: the ids after `after` up to `upTo`, or to the end if that is `undefined`. */
export interface HeadsRange {
  readonly bucket: number;
  readonly after: string;
  readonly upTo: string | undefined;
}

/** Between linked members, about gossip state. */
export type StateMessage =
  /** Of everything the sender holds; travels behind each PING and ACK. */
  | { readonly type: "hash"; readonly hash: Hash64 }
  /** The sender found that the two differ, and says where it stands. */
  | { readonly type: "buckets"; readonly hashes: readonly Hash64[] }
  | ({ readonly type: "ownHeads"; readonly heads: readonly OwnHead[] } & HeadsRange)
  /** Please send me what you have beyond this. */
  | { readonly type: "ownPull"; readonly heads: readonly OwnHead[] }
  | { readonly type: "delta"; readonly delta: OwnDelta }
  /** The whole of a member's own state: takes the place of anything earlier. `from` is 0. */
  | { readonly type: "reset"; readonly delta: OwnDelta };
