import type { Failure } from "./core/types.ts";

/** A message on its way into a queue. */
export interface OutgoingMessage {
  readonly queue: string;
  readonly body: Uint8Array;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly priority: number;
  readonly delayMs: number;
  readonly ttlMs: number | undefined;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
}

/** A consumer that may be handed one more message now. */
export interface NominatedConsumer {
  readonly peer: string;
  readonly session: string;
}

/** A lease that the writer of a lane proposes. */
export interface LeaseVote {
  readonly queue: string;
  readonly id: string;
  readonly epoch: number;
  /** Who would hold it. */
  readonly peer: string;
  readonly session: string;
}

/** A message whose acknowledgement a quorum has. */
export interface AckedMessage {
  readonly queue: string;
  readonly id: string;
  readonly epoch: number;
  readonly attempt: number;
}

/** A message that is dead from now on. */
export interface DeadMessage {
  readonly queue: string;
  readonly id: string;
  readonly epoch: number;
  readonly reason: string;
  /** Failed deliveries, ever. */
  readonly deliveries: number;
  readonly failures: readonly Failure[];
}

/**
 * What an application may have a say in, on this node: an object with some of these, or an instance of a class of yours.
 * A hook that throws, returns what it may not, or takes too long is counted (`klatsch_queue_hook_faults_total`) and logged, and
 * decides nothing; whatever it does, what is promised of messages holds. Elections' own queues have no hooks.
 *
 * `nominate` and `vote` are called between two steps of the protocol: they must return at once (50 ms are reported as
 * too long; nothing can interrupt them). The others may be asynchronous, and are given up after 5 s.
 */
export interface QueueHooks {
  /**
   * Before a message enters here, by `enqueue`, `enqueueMany` or `publish`. Returns what shall enter instead, in part, or nothing.
   * If it throws or takes too long, the caller gets `REFUSED` with the error as its cause, and nothing was enqueued.
   */
  beforeEnqueue?(
    message: OutgoingMessage,
  ): Partial<OutgoingMessage> | undefined | Promise<Partial<OutgoingMessage> | undefined>;
  /**
   * Who of those with credit is proposed for the next message of a lane that this node writes; the first is the one whose
   * turn it is. Returns one of them, or `undefined` for that one.
   */
  nominate?(queue: string, candidates: readonly NominatedConsumer[]): NominatedConsumer | undefined;
  /**
   * Whether this replica votes for a lease. `false` only means no vote, and no copy of a message that came with it: a lease that q
   * others vote for is granted. Where fewer than q may vote, it is taken back and somebody nominated a second later; so what a
   * majority of replicas refuses, whoever it is for, is handed to nobody. Not asked about what a take-over proposes first.
   */
  vote?(lease: LeaseVote): boolean;
  /** On the node whose consumer acknowledged, once that is confirmed. Not called if the node ends before. */
  afterAck?(message: AckedMessage): void | Promise<void>;
  /** On the node that wrote the message's lane as it died. Called at most once; not at all if that node ends just then. */
  onDead?(message: DeadMessage): void | Promise<void>;
}
