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

/** An entry that all members share: the latest write of any of them, in the order of {@link compareStamps}. */
export interface SharedEntry {
  readonly key: string;
  /** `undefined`: deleted. */
  readonly value: Uint8Array | undefined;
  /** Of the value; empty where there is none. */
  readonly valueHash: string;
  /** Wins over any entry without; for administrators. */
  readonly override: boolean;
  /** Hybrid logical time of the write: milliseconds of a wall clock, and a count within them. */
  readonly l: number;
  readonly c: number;
  /** Peer id of the member that wrote it. */
  readonly writer: string;
  /** The writer's, over all of the above. */
  readonly signature: Uint8Array;
  /** What shows that the writer may write this key, where somebody asks for it. */
  readonly credential: Uint8Array | undefined;
}

/** What is needed to tell which of two entries of a key is the later one. */
export interface SharedHead {
  readonly key: string;
  readonly override: boolean;
  readonly l: number;
  readonly c: number;
  /** Of the whole entry. */
  readonly hash: Hash64;
}

/** Between linked members, about gossip state. `toAll`: the sender has told all members, so nobody need pass it on. */
export type StateMessage =
  /** Of everything the sender holds; travels behind each PING and ACK. */
  /** `wallMs`: the sender's wall clock, which may have been set since its link came up. Older peers do not tell. */
  | { readonly type: "hash"; readonly hash: Hash64; readonly wallMs: number | undefined }
  /** The sender found that the two differ, and says where it stands. */
  | { readonly type: "buckets"; readonly hashes: readonly Hash64[] }
  | ({ readonly type: "ownHeads"; readonly heads: readonly OwnHead[] } & HeadsRange)
  /** Please send me what you have beyond this. */
  | { readonly type: "ownPull"; readonly heads: readonly OwnHead[] }
  | { readonly type: "delta"; readonly delta: OwnDelta; readonly toAll: boolean }
  /** The whole of a member's own state: takes the place of anything earlier. `from` is 0. */
  | { readonly type: "reset"; readonly delta: OwnDelta; readonly toAll: boolean }
  | ({ readonly type: "sharedHeads"; readonly heads: readonly SharedHead[] } & HeadsRange)
  /** Please send me what you have under these keys. */
  | { readonly type: "sharedPull"; readonly keys: readonly string[] }
  /** Please list all shared entries of this bucket: the sender was away for long. */
  | { readonly type: "sharedAsk"; readonly bucket: number }
  /** The asked one was away for long itself. */
  | { readonly type: "sharedAway" }
  | { readonly type: "shared"; readonly entries: readonly SharedEntry[]; readonly toAll: boolean };
