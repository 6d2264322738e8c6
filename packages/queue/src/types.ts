import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type { Resolution } from "./core/types.ts";
import type { QueueError } from "./errors.ts";

/** What `resolve` says: it exists; it never did; not decided yet; too long ago, or not known here. */
export type { Resolution };

/** Options of `createQueues`. */
export interface QueuesInit {
  /** The mesh this node is a member of. The queues use it and do not stop it. */
  readonly mesh: Mesh;
  /** Directory of this node; the queues keep theirs in `queue/` below it. Two processes must not share it. */
  readonly dataDir: string;
  /** Default: silent. */
  readonly logger?: Logger | undefined;
}

/** Options of a queue: the same on every node that declares it. */
export interface QueueInit {
  /** Stores that keep each message, odd, 1 to 15. Default 3: one may be lost for good. */
  readonly replicas?: number | undefined;
  /** How long a consumer holds a message unless it renews, in milliseconds, from 1,000. Default 30,000. */
  readonly leaseMs?: number | undefined;
  /** Failed deliveries after which a message is dead, from 1. Default 20. */
  readonly maxDeliveries?: number | undefined;
}

/** Names and values of a message: at most 64, names of 128 characters, 16 KiB in all. */
export type MessageHeaders = Readonly<Record<string, string>>;

/** Options of `enqueue`. */
export interface EnqueueOptions {
  /** Travel in front of the body and are handed to the consumer with it. */
  readonly headers?: MessageHeaders | undefined;
  /** 0 to 9, default 0. Of the messages that wait at one node, higher ones are handed out first. */
  readonly priority?: number | undefined;
  /** Nobody is handed the message earlier, in milliseconds up to 366 days. Default 0. */
  readonly delayMs?: number | undefined;
  /**
   * A message nobody holds is dead after this long, with the reason `expired`; in milliseconds, 1 to 366 days.
   * Default: never. Like `delayMs` it goes by the wall clocks of a majority of the replicas.
   */
  readonly ttlMs?: number | undefined;
  /** How long to wait for a quorum, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number | undefined;
}

/** One message of `enqueueMany`: its body and what else there is to say. */
export interface EnqueueItem extends Omit<EnqueueOptions, "timeoutMs"> {
  readonly body: Uint8Array;
}

/** What became of one message of `enqueueMany`. */
export type EnqueueOutcome =
  | { readonly id: string; readonly error?: undefined }
  /** `id` is there if the message may exist all the same (`INDETERMINATE`). */
  | { readonly id: string | undefined; readonly error: QueueError };

/** Options of `consume`. */
export interface ConsumeOptions {
  /** Messages in hand and on their way at most, 1 to 4,096. Default 64. Handlers run side by side up to it. */
  readonly prefetch?: number | undefined;
}

/** Options of `take`. */
export interface TakeOptions {
  /** Ends the wait; the promise rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** A message in this process's hands. One of `ack`, `nack`, `release`, `reject` ends that, once. */
export interface Message {
  readonly id: string;
  /** Grows with each lease: `(id, epoch)` is the fencing token for the resource the work touches. */
  readonly epoch: number;
  /** 1 for the first delivery; counts failed ones (nack, expiry, death of the holder). */
  readonly attempt: number;
  /** Time from its enqueue to this delivery, in milliseconds, by the wall clocks of the two nodes. */
  readonly ageMs: number;
  readonly priority: number;
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
  /** Aborts when the lease is lost: whatever follows may happen twice. */
  readonly signal: AbortSignal;
  /**
   * Done: resolves once a quorum has it, and nobody is ever handed the message again.
   * All four throw {@link QueueError} `STALE`, `FINISHED`, `UNCONFIRMED`, `SETTLED`, `STOPPED`.
   */
  ack(): Promise<void>;
  /** Failed: back in the queue, to be delivered again no sooner than `delayMs` (default 0), and counted. */
  nack(options?: { readonly delayMs?: number | undefined }): Promise<void>;
  /** Not wanted: back in the queue at once, and not counted. */
  release(): Promise<void>;
  /** Poison: dead, with this reason (at most 1,024 characters). */
  reject(reason: string): Promise<void>;
}

/** A running `consume`. */
export interface Consumer extends AsyncDisposable {
  /** Unique in the mesh, and never the same after a restart. */
  readonly session: string;
  readonly stats: ConsumerStats;
  /** Takes no more messages and waits for the handlers that run. May be called twice. */
  stop(): Promise<void>;
}

/** Counters of one consumer since it began. */
export interface ConsumerStats {
  readonly delivered: number;
  /** Of these, how many had been delivered before. */
  readonly redelivered: number;
  readonly acked: number;
  readonly failed: number;
  /** Outcomes that came too late or were never confirmed. */
  readonly unconfirmed: number;
}

/** What a handler gets and does: returning acknowledges, throwing fails the delivery. */
export type Handler = (message: Message) => Promise<void> | void;

/** One queue, on this node. */
export interface Queue {
  readonly name: string;
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
  /**
   * Resolves once a majority of the message's replicas, f+1, have it on disk. `body` is not copied: do not
   * change it before that. Limit: 1 MiB.
   * @throws {@link QueueError} `MESSAGE_TOO_LARGE`, `QUORUM_UNAVAILABLE`, `INDETERMINATE` (with `id`),
   * `OVERLOADED`, `INVALID_OPTIONS`, `FAILED`, `STOPPED`.
   */
  enqueue(body: Uint8Array, options?: EnqueueOptions): Promise<{ readonly id: string }>;
  /**
   * Several at once, each a message of its own: one may fail and others not, so look at every outcome. In their
   * order, at most 10,000.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `MESSAGE_TOO_LARGE`, `FAILED`, `STOPPED`; then none was enqueued.
   */
  enqueueMany(
    items: readonly EnqueueItem[],
    options?: { readonly timeoutMs?: number | undefined },
  ): Promise<readonly EnqueueOutcome[]>;
  /** Runs `handler` for each message; failed deliveries come back after 100 ms, doubling to 30 s. */
  consume(handler: Handler, options?: ConsumeOptions): Consumer;
  /** Waits for one message, to be acknowledged by hand. */
  take(options?: TakeOptions): Promise<Message>;
  /** Messages that this node would hand out and has nobody to hand to. */
  readonly depth: number;
}

/** Events of {@link Queues} and what their listeners get. */
export interface QueuesEvents {
  /** A damaged store was moved to `path` and replaced by an empty one with another identity. */
  "store:quarantined": { readonly path: string; readonly reason: string };
  /** The store failed: this node votes and serves no more until it is opened again. */
  "queues:failed": { readonly error: Error };
  /** This node took a lane over whose writer was gone. */
  "lane:stolen": { readonly lane: string; readonly queue: string };
  /** A peer, or this node, broke the protocol; `what` says how. */
  "protocol:fault": { readonly peer: string; readonly what: string };
}

/** Counters of one node since its start. */
export interface QueuesStats {
  readonly storeId: string;
  /** Other nodes whose queues can be reached now. */
  readonly peers: number;
  readonly enqueued: number;
  readonly delivered: number;
  readonly settled: number;
  /** Leases this node granted as lane writer. */
  readonly elections: number;
  readonly steals: number;
  readonly faults: number;
  readonly badFrames: number;
  readonly batches: number;
  readonly lanesWritten: number;
  readonly lanesKept: number;
  readonly held: number;
  readonly waitingEnqueues: number;
}

/** The queues of this node. */
export interface Queues extends AsyncDisposable {
  /**
   * Makes a queue known, here and on every node this one reaches. Names: 1 to 128 of `A-Z a-z 0-9 . _ -`.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `QUEUE_CONFLICT`, `LIMIT_REACHED`, `FAILED`, `STOPPED`.
   */
  declare(name: string, options?: QueueInit): Promise<Queue>;
  /** What became of a message id; waits up to `timeoutMs` (default 10,000) for a decision. */
  resolve(id: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Resolution>;
  stats(): QueuesStats;
  on<Name extends keyof QueuesEvents>(event: Name, listener: (event: QueuesEvents[Name]) => void): () => void;
  /** Releases what is held, closes the store; others take the lanes over. May be called twice. */
  stop(): Promise<void>;
}
