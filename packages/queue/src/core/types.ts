import type { Pid, Right } from "./ballot.ts";

/** libp2p peer id, as text. */
export type PeerId = string;
/** 128 random bits of one LevelDB directory, 32 hexadecimal digits. */
export type StoreId = string;
/** SHA-256 over the encoded descriptor, 64 hexadecimal digits. Opaque to the core. */
export type LaneId = string;
/** SHA-256 over the encoded definition, 64 hexadecimal digits. Opaque to the core. */
export type QueueId = string;

/** One member of a lane's replica set. An emptied or quarantined disk is another replica. */
export interface Replica {
  readonly peer: PeerId;
  readonly store: StoreId;
}

/** What a lane is, for ever: the unit of placement and fencing. */
export interface Descriptor {
  readonly queue: QueueId;
  readonly originPid: Pid;
  /** Counts the lanes of this origin pid from 0. */
  readonly laneNo: number;
  readonly replicas: readonly Replica[];
  /** Bit i: replica i hosted a consumer when the origin chose it. */
  readonly voters: number;
  /** How many nodes hosted consumers, as the origin saw it. */
  readonly consumersSeen: number;
  /** `replicas` of the queue; fewer in fact make the lane weak. */
  readonly wanted: number;
  /** Of a lane that keeps order: whoever writes it appends, and it ends only where an heir takes over. */
  readonly shard?: Shard | undefined;
  /** Flow 10: of a lane that takes over the messages of another, with their ids. */
  readonly heirOf?: Parentage | undefined;
  /** Its replicas answer before a sync: a power cut may take what they accepted. */
  readonly relaxed?: boolean | undefined;
}

/** Where the messages of an heir come from. */
export interface Parentage {
  /** The lane in their ids: the first of the line. */
  readonly root: LaneId;
  /** The lane whose END names this heir, and what its origin's floor goes by. */
  readonly lane: LaneId;
  readonly originPid: Pid;
  readonly laneNo: number;
}

/** Which part of an ordered queue a lane is. */
export interface Shard {
  readonly no: number;
  /** How long a deduplication key counts, in milliseconds; 0: there are none. */
  readonly dedupMs: number;
  /** How many lanes had its messages before this one; absent for none. */
  readonly moves?: number | undefined;
}

/** What makes a queue ordered: it keeps groups in order, or deduplicates, or both. */
export interface Ordered {
  readonly groups: boolean;
  /** How long a deduplication key counts, in milliseconds; 0: there are none. */
  readonly dedupMs: number;
  /** Lanes the queue has: groups, and keys without a group, are spread over them. */
  readonly shards: number;
  /** Stores its lanes are placed on, as whoever declared it chose them. */
  readonly stores: readonly Replica[];
}

/** How long a message waits after a failed delivery. `jitter`: the fraction of it that is left to chance. */
export interface RetryPolicy {
  readonly kind: "fixed" | "linear" | "exponential";
  readonly delayMs: number;
  readonly maxMs: number;
  readonly jitter: number;
}

/** The agreed options of a queue: the same on every node. What is absent takes no part in its id. */
export interface Definition {
  readonly queue: QueueId;
  readonly name: string;
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
  readonly retry?: RetryPolicy | undefined;
  /** Its consumers elect the one that is active. */
  readonly exclusive?: boolean | undefined;
  /** Messages, and bytes of their bodies, that are neither done nor dead. */
  readonly maxLength?: number | undefined;
  readonly maxBytes?: number | undefined;
  /** Longest body, in bytes; absent for the default. */
  readonly bodyBytesMax?: number | undefined;
  /** How long a dead message is kept, in milliseconds; absent: for ever. */
  readonly deadTtlMs?: number | undefined;
  readonly ordered?: Ordered | undefined;
  /** Its lanes are relaxed. */
  readonly relaxed?: boolean | undefined;
  /** How many queues with this name and these options were deleted before; absent for none. */
  readonly generation?: number | undefined;
}

/** What may be changed of a queue that is there; its id stays that of the options it was declared with. Absent ones have their defaults. */
export type Policy = Pick<
  Definition,
  "leaseMs" | "maxDeliveries" | "retry" | "maxLength" | "maxBytes" | "bodyBytesMax" | "deadTtlMs"
>;

/** Who holds a lease. The session is never the same after a restart. */
export interface Holder {
  readonly peer: PeerId;
  readonly session: string;
}

/** A delivery that failed: what a dead letter's history is made of. */
export interface Failure {
  readonly epoch: number;
  readonly atWallMs: number;
  /** Who held the message. */
  readonly peer: PeerId;
  readonly reason: string;
}

/** What only some messages have, in one object that all values of the message share. */
export interface Attributes {
  /** Higher goes first. */
  readonly priority: number;
  /** Leading bytes of the body that are its headers. */
  readonly headerBytes: number;
  /** Not to be leased any more from then on; a wall-clock hint, 0 for never. */
  readonly expiresAtWallMs: number;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
  /** In ordered queues, names the enqueue itself: its entry node may ask again. */
  readonly token: string | undefined;
  /** The newest failed deliveries, oldest first. */
  readonly failures: readonly Failure[];
  /** How often it was dead and put back. */
  readonly redrives: number;
  /** Failed deliveries before the last of these: they no longer count towards the limit. */
  readonly forgiven: number;
}

type MessageState = "READY" | "LEASED" | "DONE" | "DEAD";

/** A message's register: what its replicas agree on. The body lies beside it. */
export interface Value {
  readonly state: MessageState;
  /** Grows with each lease; with the message id it is the fencing token. */
  readonly epoch: number;
  readonly holder: Holder | undefined;
  readonly leaseMs: number;
  /** Failed deliveries: expiry, nack, death of the holder. */
  readonly deliveries: number;
  /** Leases given back unused. */
  readonly acquired: number;
  /** Not to be leased before; a wall-clock hint, 0 for at once. */
  readonly notBeforeWallMs: number;
  /** SHA-256 of the body, opaque here. */
  readonly bodyHash: string;
  readonly bodyBytes: number;
  readonly reason: string | undefined;
  /** The producer's node's wall clock, 0 if unknown. */
  readonly enqueuedWallMs: number;
  readonly attributes: Attributes | undefined;
  /** The codec's bytes of this very object, so that they are made once; every transition drops them. */
  encoded: Uint8Array | undefined;
}

/** By what the enqueue of a message is known again: its token, and its deduplication key with its group. */
export interface Keys {
  readonly token: string;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
  /** When it was appended, by its writer's wall clock. */
  readonly atWallMs: number;
}

/** Half-open ranges of seqs. */
export type Ranges = readonly (readonly [from: number, to: number])[];

/**
 * Value of a lane's END register. Fields are only ever added; but in an ordered lane it is the *cut* its newest writer
 * made before it appended, which speaks of the seqs below `n` alone until it names an heir.
 */
export interface EndValue {
  /** Seqs ≥ n never existed. */
  readonly n: number;
  /** Seqs below n that never existed. */
  readonly voids: Ranges;
  /** Flow 10: the lane that takes these messages over. Nothing is proposed here any more; closed then means moved. */
  readonly heir?: Descriptor | undefined;
  readonly closed: boolean;
  /** By which right an ordered lane was frozen: all leases in it were chosen anew by that before. */
  readonly frozenBy?: Right | undefined;
  /** Of the cut of an ordered lane that is an heir: below it, what is absent and not void was finished before. */
  readonly base?: number | undefined;
}

/** What `resolve` says about a message id. */
export type Resolution = "ACKED" | "NEVER" | "PENDING" | "UNKNOWN";

/** What a consumer makes of a message. */
export type Verdict =
  | { readonly kind: "ack" }
  /** Without `delayMs` the queue's policy says how long. */
  | { readonly kind: "nack"; readonly delayMs?: number | undefined; readonly reason?: string | undefined }
  | { readonly kind: "release" }
  | { readonly kind: "reject"; readonly reason: string }
  | { readonly kind: "renew" }
  /** Of a dead message: back into its queue. */
  | { readonly kind: "redrive" };

/** What an operator wants: see messages, count them, put dead ones back, do away with some, or with the queue; or see consumers. */
export type ManageAct = "list" | "count" | "redrive" | "discard" | "consumers" | "groups" | "delete";

/** Of a message among those of a queue: by the lane in its id, then by seq. */
export interface Place {
  readonly lane: LaneId;
  readonly seq: number;
}

/** Which of them: `alive` ones wait or are held; `ready` ones only wait. */
export type ManageScope = "any" | "alive" | "ready" | "dead";

/** `DONE`: chosen. `STALE`: another epoch is. `FINISHED`: over, by whom is forgotten. `RETRY`: ask again, perhaps `hint`. */
export type SettledCode = "DONE" | "STALE" | "FINISHED" | "RETRY";
