import type { Logger, MetricSource } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type { Binding, ExchangeKind } from "./core/exchange.ts";
import type { Failure, Resolution } from "./core/types.ts";
import type { QueueError } from "./errors.ts";
import type { QueueHooks } from "./hooks.ts";

/** What `resolve` says: it exists; it never did; not decided yet; too long ago, or not known here. */
export type { Resolution };

/** A queue bound to an exchange, and the kinds of those. */
export type { Binding, ExchangeKind };

/** A delivery that failed: the newest 8 of a message make its history. */
export type { Failure };

/** How long a message waits after its n-th failed delivery: `fixed` d, `linear` n·d, `exponential` 2ⁿ⁻¹·d. */
export interface RetryOptions {
  /** Default `exponential`. */
  readonly kind?: "fixed" | "linear" | "exponential" | undefined;
  /** d, in milliseconds. Default 100. */
  readonly delayMs?: number | undefined;
  /** At most this long, in milliseconds. Default 30,000. */
  readonly maxMs?: number | undefined;
  /** 0 to 1: the fraction of the wait that is left to chance. Default 0.2. */
  readonly jitter?: number | undefined;
}

/** Options of `nack`. */
export interface NackOptions {
  /** In milliseconds. Default: what the queue's policy says. */
  readonly delayMs?: number | undefined;
  /** A policy for this once, instead of `delayMs`. */
  readonly retry?: RetryOptions | undefined;
  /** Goes into the message's history, its first 200 characters. */
  readonly reason?: string | undefined;
}

/** Options of `browse`, `peek` and a list of dead letters. */
export interface BrowseOptions {
  /** `alive` messages wait or are held, `ready` ones wait. Default `alive`. */
  readonly state?: "any" | "alive" | "ready" | "dead" | undefined;
  /** 1 to 1,000. Default 100. */
  readonly limit?: number | undefined;
  /** `next` of the page before, on whatever node: what lies behind it. Default: from the beginning. */
  readonly after?: string | undefined;
  /** Default 10,000. */
  readonly timeoutMs?: number | undefined;
}

/** Options of `purge` and `redrive`. */
export interface ChangeOptions {
  /** These messages only, at most 1,000. */
  readonly ids?: readonly string[] | undefined;
  /** About as many at most, from each node. Default: all. */
  readonly limit?: number | undefined;
  /** Default 60,000. */
  readonly timeoutMs?: number | undefined;
}

/** What a purge, redrive or delete did; what `missing` nodes have was not touched, or they did not say. */
export interface Changed {
  readonly count: number;
  readonly missing: readonly string[];
}

/** One message, seen from outside. */
export interface MessageInfo {
  readonly id: string;
  readonly state: "ready" | "delayed" | "leased" | "dead" | "done";
  readonly epoch: number;
  /** Failed deliveries, ever. */
  readonly deliveries: number;
  /** Times it was given back unused. */
  readonly releases: number;
  /** Times it was dead and put back. */
  readonly redrives: number;
  readonly priority: number;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
  readonly ageMs: number;
  /** Until it may be handed out, in milliseconds. */
  readonly dueMs: number;
  readonly bodyBytes: number;
  readonly holder: { readonly peer: string; readonly session: string } | undefined;
  /** Why it is dead. */
  readonly reason: string | undefined;
  readonly failures: readonly Failure[];
  /** The node that says so. */
  readonly peer: string;
}

/** A message with what it holds. Seeing it changes nothing. */
export interface PeekedMessage extends MessageInfo {
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
}

/** A group whose messages are neither done nor dead. All but the first wait for it, however long that is held or delayed. */
export interface GroupInfo {
  readonly group: string;
  readonly count: number;
  /** The one that is held, or next. */
  readonly head: MessageInfo;
}

/** Groups by the age of their heads, at most 256 from each node. */
export interface Groups {
  readonly groups: readonly GroupInfo[];
  /** Shards that nobody who answers writes: whatever is in them is blocked until a majority of its replicas is back. */
  readonly unreachable: readonly number[];
  readonly missing: readonly string[];
}

/**
 * A page of messages, the oldest of it first. Pages go through the queue lane by lane, whoever writes them now: what is there all the
 * while is in one of them, once, except for what is in `missing` and `unserved`; so ask once more with the same `after`, or
 * go on without it. What comes or goes meanwhile may be in or not.
 */
export interface Browsed {
  readonly messages: readonly MessageInfo[];
  /** `after` of the next page; `undefined`: this was the last. */
  readonly next: string | undefined;
  /** Nodes that did not answer: what is in the lanes that they write is not here. */
  readonly missing: readonly string[];
  /** Messages of any state, and some that are over, in lanes on this page that just now nobody who answers writes. */
  readonly unserved: number;
}

/** How many messages a queue has, by state. */
export interface QueueCounts {
  readonly ready: number;
  readonly delayed: number;
  readonly leased: number;
  readonly dead: number;
  /**
   * In lanes whose writer is away, dead ones and some that are over included, until another node takes these lanes over:
   * at least as many.
   */
  readonly unserved: number;
  /** Of the messages that are not dead. */
  readonly oldestAgeMs: number | undefined;
  /** Lanes, the units in which messages are replicated, that hold any. */
  readonly lanes: number;
  /** Of them, those short of a replica, and those whose messages are being copied to a full set. */
  readonly weakLanes: number;
  readonly movingLanes: number;
  readonly missing: readonly string[];
}

/** One consumer of a queue. */
export interface ConsumerInfo {
  readonly peer: string;
  readonly session: string;
  readonly prefetch: number;
  readonly held: number;
}

/** What one replica has of a message. */
export interface ReplicaInfo {
  readonly peer: string;
  readonly store: string;
  /** The store whose proposals it accepts in the message's lane. */
  readonly follows: string | undefined;
  /** It knows the message to be over. */
  readonly finished: boolean;
  /** Of the proposal it accepted last: that was its vote. */
  readonly ballot: { readonly round: number; readonly step: number; readonly proposer: string } | undefined;
  readonly message: MessageInfo | undefined;
}

/** A message's life as its replicas have it. */
export interface Inspection {
  readonly id: string;
  /** Who proposes in its lane now. */
  readonly writer: string | undefined;
  readonly replicas: readonly ReplicaInfo[];
  readonly missing: readonly string[];
}

/** Options of `createQueues`. */
export interface QueuesInit {
  /** The mesh this node is a member of, for one `createQueues` (a second one: `CHANNEL_EXISTS`). The queues use it and do not stop it. */
  readonly mesh: Mesh;
  /** Directory of this node; the queues keep theirs in `queue/` below it. Two processes must not share it. */
  readonly dataDir: string;
  /** Default: silent. */
  readonly logger?: Logger | undefined;
  /** What the application has a say in. Default: nothing. */
  readonly hooks?: QueueHooks | undefined;
  /**
   * How long a member must be dead before its copies are made elsewhere, in milliseconds, from 1,000. Default 600,000. One
   * that left for good, or came back without its disk, is not waited for.
   */
  readonly healAfterMs?: number | undefined;
}

/** Options of a queue: the same on every node that declares it. */
export interface QueueInit {
  /** Stores that keep each message, odd, 1 to 15. Default 3: one may be lost for good. */
  readonly replicas?: number | undefined;
  /** How long a consumer holds a message unless it renews, in milliseconds, from 1,000. Default 30,000. */
  readonly leaseMs?: number | undefined;
  /** Failed deliveries after which a message is dead, from 1. Default 20. */
  readonly maxDeliveries?: number | undefined;
  /** How long a message waits after a nack or a handler that threw. Default: exponential, 100 ms to 30 s. */
  readonly retry?: RetryOptions | undefined;
  /**
   * One active consumer in the whole mesh at a time: the others wait until it stops, or its node is gone. Default `false`.
   * Such a queue is consumed by `consume` only.
   */
  readonly exclusive?: boolean | undefined;
  /**
   * Messages of one `group` are handled in the order they were enqueued, one at a time. Default `false`. A queue with groups or
   * `dedupMs` is *ordered*: it is made only while all its `replicas` can be reached, and stays where it was placed.
   */
  readonly groups?: boolean | undefined;
  /** How long a `dedupKey` counts, in milliseconds, 1,000 to 7 days, and up to 5 s more. Default: messages have no keys. */
  readonly dedupMs?: number | undefined;
  /** Of an ordered queue: parts that are written side by side, 1 to 64. Default 4. */
  readonly shards?: number | undefined;
  /**
   * Messages, and bytes of their bodies and headers, that may be neither done nor dead; then `QUEUE_FULL`. All nodes together may
   * pass it by what they enter within a second. Default: no limit.
   */
  readonly maxLength?: number | undefined;
  readonly maxBytes?: number | undefined;
  /** Longest body, in bytes, from 1 to `BODY_BYTES_LIMIT` (8 MiB less 16 KiB for headers). Default 1 MiB. */
  readonly bodyBytesMax?: number | undefined;
  /**
   * How long a dead message is kept after it died, or failed once more, in milliseconds, 1,000 to 366 days; by the wall clocks of a
   * majority of its replicas, give or take 5 s. Default: until somebody purges, redrives or acknowledges it.
   */
  readonly deadTtlMs?: number | undefined;
  /** What a replica's word for a message rests on. Default `fsync`. */
  readonly durability?: Durability | undefined;
}

/**
 * `fsync`: it is on the replica's disk. `relaxed`: its operating system has it, and the disk a second later. That survives the
 * end of any process, not a machine that loses power or crashes: even one may then take messages acknowledged within the
 * last second with it, or have some delivered again, with epochs that were given before.
 */
export type Durability = "fsync" | "relaxed";

/** Names and values of a message: at most 64, names of 128 characters, 16 KiB in all. */
export type MessageHeaders = Readonly<Record<string, string>>;

/** Of the options of a queue, those that `alter` changes. */
export type AlterableInit = Pick<
  QueueInit,
  "leaseMs" | "maxDeliveries" | "retry" | "maxLength" | "maxBytes" | "bodyBytesMax" | "deadTtlMs"
>;

/** What `alter` changes: an option that is left out stays as it is, with `null` it is the default again. */
export type QueueChanges = { readonly [Name in keyof AlterableInit]?: AlterableInit[Name] | null };

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
  /**
   * Of a queue with `groups`, 1 to 128 characters: messages of one group are handled one after the other. One that is delayed or
   * fails holds up those behind it, until it is done or dead.
   */
  readonly group?: string | undefined;
  /**
   * Of a queue with `dedupMs`, 1 to 128 characters: within that time further messages with the same key, in the same group, are
   * not enqueued, whether the first is done or not; their enqueue resolves with the id of the first.
   */
  readonly dedupKey?: string | undefined;
  /** How long to wait for a quorum, in milliseconds. Default 10,000. */
  readonly timeoutMs?: number | undefined;
}

/** One message of `enqueueMany`: its body and what else there is to say. */
export interface EnqueueItem extends Omit<EnqueueOptions, "timeoutMs"> {
  readonly body: Uint8Array;
}

/** The message that is in the queue; `duplicate`: one with the same `dedupKey`, which came before. */
export interface Enqueued {
  readonly id: string;
  readonly duplicate: boolean;
}

/** What became of one message of `enqueueMany`. */
export type EnqueueOutcome =
  | (Enqueued & { readonly error?: undefined })
  /** `id` is there if the message may exist all the same (`INDETERMINATE`). */
  | { readonly id: string | undefined; readonly error: QueueError };

/** Options of `consume`. */
export interface ConsumeOptions {
  /** Messages in hand and on their way at most, 1 to 4,096. Default 64. Handlers run side by side up to it. */
  readonly prefetch?: number | undefined;
  /** Handlers side by side at most, from 1; one that returned makes room, its outcome confirmed or not. Default: the prefetch. */
  readonly concurrency?: number | undefined;
  /** Handlers begun in a second at most, above 0 to 1,000,000; after a pause a second's worth at once. Default: no limit. */
  readonly rate?: number | undefined;
}

/** Options of `messages`. */
export interface MessagesOptions extends TakeOptions {
  /** As of `consume`. Default 16. */
  readonly prefetch?: number | undefined;
}

/** Messages for `for await`. Each is settled by whoever got it; leaving the loop gives back the others. */
export interface Messages extends AsyncIterableIterator<Message, undefined>, AsyncDisposable {
  return(): Promise<IteratorResult<Message, undefined>>;
  [Symbol.asyncIterator](): this;
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
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
  readonly headers: MessageHeaders;
  /** Why it is dead: of messages that come from `dead` only. */
  readonly reason: string | undefined;
  /** The newest failed deliveries, oldest first. */
  readonly failures: readonly Failure[];
  /** The holder's own: changing it changes nothing. A view of a larger buffer if short, which cannot be transferred. */
  readonly body: Uint8Array;
  /** Aborts when the lease is lost: whatever follows may happen twice. */
  readonly signal: AbortSignal;
  /**
   * Done: resolves once a quorum has it, and nobody is ever handed the message again.
   * All four throw {@link QueueError} `STALE`, `FINISHED`, `UNCONFIRMED`, `SETTLED`, `STOPPED`.
   */
  ack(): Promise<void>;
  /** Failed: back in the queue, to be delivered again when its time has come, and counted. */
  nack(options?: NackOptions): Promise<void>;
  /** Not wanted: back in the queue at once, and not counted. */
  release(): Promise<void>;
  /** Poison: dead, with this reason (at most 1,024 characters). */
  reject(reason: string): Promise<void>;
  /** Of a dead message: back into its queue, with all its deliveries before it. */
  redrive(): Promise<void>;
}

/** The dead messages of a queue, where they lie: nothing is copied. What is nacked or released here stays dead. */
export interface DeadLetters {
  /** `<queue>.dead` */
  readonly name: string;
  list(options?: Omit<BrowseOptions, "state">): Promise<Browsed>;
  /** Like {@link Queue.take}; the message has a `reason` and its history. */
  take(options?: TakeOptions): Promise<Message>;
  consume(handler: Handler, options?: ConsumeOptions): Consumer;
  /** Puts dead messages that nobody holds back into the queue: once through all there are, however fast they die again. */
  redrive(options?: ChangeOptions): Promise<Changed>;
  /** Does away with dead messages that nobody holds. */
  purge(options?: ChangeOptions): Promise<Changed>;
}

/** Options of a consumer's `stop`. */
export interface StopOptions {
  /** How long handlers may go on, in milliseconds. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  /** They may go on until it aborts. */
  readonly signal?: AbortSignal | undefined;
}

/** A running `consume`. */
export interface Consumer extends AsyncDisposable {
  /** Unique in the mesh, and never the same after a restart. */
  readonly session: string;
  readonly stats: ConsumerStats;
  /**
   * Takes no more messages and waits for the handlers that run: up to `timeoutMs`, and until `signal` aborts, then aborts the
   * handlers' signals and releases what is held (1 s more, if nobody answers). Without either it waits however long;
   * {@link Queues.stop} has a limit, and ends this wait with its own. May be called twice: the limit that comes first counts.
   * @throws {@link QueueError} `INVALID_OPTIONS`.
   */
  stop(options?: StopOptions): Promise<void>;
}

/** Counters of one consumer since it began. */
export interface ConsumerStats {
  readonly delivered: number;
  /** Of these, how many had been delivered before. */
  readonly redelivered: number;
  /** Handlers that returned, and that threw; what a handler settles itself is neither. */
  readonly acked: number;
  readonly failed: number;
  /** Outcomes that came too late or were never confirmed. */
  readonly unconfirmed: number;
}

/** What a handler gets and does: returning acknowledges, throwing fails the delivery. */
export type Handler = (message: Message) => Promise<void> | void;

/** One queue, on this node. Once it is deleted, this is whatever queue has the name. */
export interface Queue {
  readonly name: string;
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
  readonly durability: Durability;
  /**
   * Resolves once a majority of the message's replicas, f+1, have it on disk. `body` is copied: it is the
   * caller's again at once.
   * @throws {@link QueueError} `MESSAGE_TOO_LARGE`, `QUEUE_FULL`, `QUORUM_UNAVAILABLE`, `INDETERMINATE` (with
   * `id`, unless nobody had said yet which it has in an ordered queue: there a `dedupKey` makes asking again safe), `OVERLOADED`,
   * `INVALID_OPTIONS`, `QUEUE_NOT_FOUND`, `QUEUE_DELETED`; `FAILED`, `STOPPED` (with `outcome: "unknown"` and the `id`, likewise, if it
   * was under way).
   */
  enqueue(body: Uint8Array, options?: EnqueueOptions): Promise<Enqueued>;
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
  /** Message after message, to be acknowledged by hand: `for await (const message of queue.messages())`. */
  messages(options?: MessagesOptions): Messages;
  readonly dead: DeadLetters;
  /** Nobody is handed a message on any node until `resume`; what is held stays held, and enqueues go on. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  readonly isPaused: boolean;
  /**
   * Changes some of the options, for all nodes, while the queue goes on: of what is enqueued, leased and failed from then on. A node
   * that cannot be reached hears of it later. Of two such changes at once one stays. Whoever declares the queue may say the options
   * it was declared with first, or those it has now.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `QUEUE_NOT_FOUND`, `FAILED`, `STOPPED`; `MeshError` as `mesh.state.shared.set` does.
   */
  alter(changes: QueueChanges): Promise<void>;
  /**
   * Waits until no message is left that is not dead.
   * @throws {@link QueueError} `NOT_DRAINED` after `timeoutMs` (default 60,000).
   */
  drain(options?: { readonly timeoutMs?: number | undefined }): Promise<void>;
  /** What the groups of an ordered queue wait for. */
  groups(options?: { readonly timeoutMs?: number | undefined }): Promise<Groups>;
  /** How many messages there are, counted by the nodes that have them. */
  counts(options?: { readonly timeoutMs?: number | undefined }): Promise<QueueCounts>;
  /** Messages as they are now, lane by lane, so that a page misses none. Nobody's lease changes by it. */
  browse(options?: BrowseOptions): Promise<Browsed>;
  /** Those that were enqueued first (fewer where an answer of one node cannot hold as many), or behind `after` a page, with their bodies. */
  peek(options?: BrowseOptions): Promise<readonly PeekedMessage[]>;
  /** Does away with messages that wait: not with those that are held or dead. Once through the queue: what comes meanwhile may stay. */
  purge(options?: ChangeOptions): Promise<Changed>;
  /** Messages that this node would hand out and has nobody to hand to. */
  readonly depth: number;
}

/** Options of `declareExchange`. */
export interface ExchangeInit {
  /**
   * `direct`: queues bound with the message's key. `topic`: with a pattern that fits it. `fanout`: all. `headers`: whose
   * headers the message has. `hash`: one of all, the same for the same key while the bindings stay. Default `direct`.
   */
  readonly kind?: ExchangeKind | undefined;
  /** The exchange that gets what finds no queue here. It may come to be later. */
  readonly alternate?: string | undefined;
}

/** Options of `bind` and `unbind`. */
export interface BindOptions {
  /** `direct`: the routing key; `topic`: a pattern, words between dots, `*` one word, `#` any number. Default empty. */
  readonly key?: string | undefined;
  /** `headers`: at most 16. */
  readonly headers?: MessageHeaders | undefined;
  /** `headers`: default `all`. */
  readonly match?: "all" | "any" | undefined;
}

/** Options of `publish`. Only queues that have groups or keys get `group` and `dedupKey`; by default the key is the publish's own. */
export interface PublishOptions extends EnqueueOptions {
  /** Routing key, at most 255 characters. Default empty. */
  readonly key?: string | undefined;
  /** Of an attempt that was incomplete: only what is not confirmed is sent again. */
  readonly retry?: Published | undefined;
}

/** What became of a message in one queue it was routed to. */
export interface PublishOutcome {
  readonly queue: string;
  /** Of the message there; with an error, of one that may exist (`INDETERMINATE`). */
  readonly id: string | undefined;
  readonly error?: QueueError | undefined;
}

/** A message and the queues it went to. */
export interface Published {
  readonly publishId: string;
  readonly outcomes: readonly PublishOutcome[];
}

/** An exchange, on this node: what is published is routed here, by bindings that all members share. */
export interface Exchange {
  readonly name: string;
  readonly kind: ExchangeKind;
  readonly alternate: string | undefined;
  /**
   * Resolves once it is on this node's disk; other nodes hear of it by gossip. Binding twice is binding once.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `EXCHANGE_NOT_FOUND`, `FAILED`, `STOPPED`; `LIMIT_REACHED` beyond 10,000 of all
   * exchanges; MeshError as `mesh.state.shared.set`.
   */
  bind(queue: string, options?: BindOptions): Promise<void>;
  /** `false`: it was not bound so. */
  unbind(queue: string, options?: BindOptions): Promise<boolean>;
  bindings(): readonly Binding[];
  /**
   * Enqueues the message in every queue it is routed to; resolves once all have confirmed it. Each gets a message of
   * its own.
   * @throws {@link QueueError} `UNROUTABLE`; `PUBLISH_INCOMPLETE` (with `published`, for `retry`); `INVALID_OPTIONS`,
   * `MESSAGE_TOO_LARGE`, `FAILED`, `STOPPED`.
   */
  publish(body: Uint8Array, options?: PublishOptions): Promise<Published>;
}

/** A message that is enqueued at certain times. */
export interface ScheduleInit {
  /** A queue declared with `dedupMs` of 180,000 or more. */
  readonly queue: string;
  /** Five or six fields (the first of six are seconds), or `@daily` and the like, as croner reads them. */
  readonly cron?: string | undefined;
  /** Instead of `cron`: at each multiple of this since 1970, in milliseconds, from 1,000. */
  readonly everyMs?: number | undefined;
  /** Of `cron`, an IANA name. Default `UTC`. */
  readonly timezone?: string | undefined;
  /** At most 16 KiB. */
  readonly body: Uint8Array;
  /** The messages get two more: `schedule`, its name, and `due`, the instant as ISO 8601. */
  readonly headers?: MessageHeaders | undefined;
  readonly priority?: number | undefined;
  readonly ttlMs?: number | undefined;
  readonly group?: string | undefined;
}

/** A schedule that all members follow. */
export interface ScheduleInfo {
  readonly name: string;
  readonly queue: string;
  readonly cron: string | undefined;
  readonly everyMs: number | undefined;
  readonly timezone: string;
  readonly nextAt: Date | undefined;
}

/** Options of `elect`. */
export interface ElectOptions extends TakeOptions {
  /** How long a leader that vanished is waited for, in milliseconds, from 1,000; the first candidate decides. Default 10,000. */
  readonly leaseMs?: number | undefined;
}

/** This node leads, until it resigns or `signal` aborts. */
export interface Leadership extends AsyncDisposable {
  readonly name: string;
  /** 24 hexadecimal digits that grow, as text, with each leader: whoever is acted upon refuses a smaller one. */
  readonly token: string;
  /** Aborts when the leadership is lost: before another node can have it, unless this process stood still. */
  readonly signal: AbortSignal;
  /** Gives it to whoever is next. May be called twice. */
  resign(): Promise<void>;
}

/** A queue and its options. */
export interface QueueDescription {
  readonly name: string;
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
  readonly retry: Required<RetryOptions> | undefined;
  readonly exclusive: boolean;
  readonly groups: boolean;
  readonly dedupMs: number | undefined;
  /** 0 for a queue that is not ordered. */
  readonly shards: number;
  readonly maxLength: number | undefined;
  readonly maxBytes: number | undefined;
  readonly bodyBytesMax: number;
  /** `undefined`: dead messages are kept for ever. */
  readonly deadTtlMs: number | undefined;
  readonly durability: Durability;
  readonly isPaused: boolean;
}

/** Events of {@link Queues} and what their listeners get. */
export interface QueuesEvents {
  /** A damaged store was moved to `path` and replaced by an empty one with another identity. */
  "store:quarantined": { readonly path: string; readonly reason: string };
  /** The store failed: this node votes and serves no more until it is opened again. */
  "queues:failed": { readonly error: Error };
  /** This node took a lane over whose writer was gone. */
  "lane:stolen": { readonly lane: string; readonly queue: string };
  /** Somebody deleted a queue that was known here: its consumers on this node have ended. */
  "queue:deleted": { readonly name: string };
  /** This node could not enqueue what was due within a minute; others may have. */
  "schedule:missed": { readonly name: string; readonly dueAt: Date; readonly error: unknown };
  /** The messages of a lane are on a full set of replicas again. */
  "lane:moved": { readonly lane: string; readonly queue: string; readonly heir: string };
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
  /** Of them, those short of a replica, and those whose messages are being copied to a full set. */
  readonly lanesWeak: number;
  readonly lanesMoving: number;
  /** Lanes this node brought back to a full set. */
  readonly lanesMoved: number;
  readonly lanesKept: number;
  /** Messages in lanes this node writes, neither done nor dead. */
  readonly alive: number;
  readonly held: number;
  readonly waitingEnqueues: number;
}

/** The queues of this node. */
export interface Queues extends AsyncDisposable, MetricSource {
  /**
   * Makes a queue known, here and on every node this one reaches. Names: 1 to 128 of `A-Z a-z 0-9 . _ -`. With other options than
   * it has on nodes that this one has not met, it is a second queue of the name, which a warning tells when they meet.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `QUEUE_CONFLICT`, `LIMIT_REACHED`, `FAILED`, `STOPPED`; `QUORUM_UNAVAILABLE`: an
   * ordered queue is new, and fewer stores than its `replicas` were reached within 10 s; `QUEUE_DELETED`: somebody deleted it at once.
   */
  declare(name: string, options?: QueueInit): Promise<Queue>;
  /** What became of a message id; waits up to `timeoutMs` (default 10,000) for a decision. */
  resolve(id: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Resolution>;
  /** Which replicas have the message, at which proposal, and who writes its lane. */
  inspect(id: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Inspection>;
  /** Who consumes the queue, on any node that answers. */
  consumers(name: string): Promise<readonly ConsumerInfo[]>;
  /** Queues known here, by name. */
  list(): readonly QueueDescription[];
  /**
   * A queue that somebody declared.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `QUEUE_NOT_FOUND`.
   */
  open(name: string): Queue;
  /**
   * Does away with a queue, its messages, dead ones included, and its bindings. `count` tells how many messages the nodes that
   * answered had; those `missing` hear of it when they come back, for 30 days. Consumers end, and get `queue:deleted`; their
   * messages are `STALE`. Its schedules stay. The same name may be declared again at once, with any options: that is a new queue.
   * @throws {@link QueueError} `QUEUE_NOT_FOUND`, `INVALID_OPTIONS`, `FAILED`, `STOPPED`.
   */
  delete(name: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Changed>;
  /**
   * Makes an exchange known to all members. Names: 1 to 64 of `A-Z a-z 0-9 . _ -`.
   * @throws {@link QueueError} `INVALID_OPTIONS`, `EXCHANGE_CONFLICT`; MeshError as `mesh.state.shared.set`.
   */
  declareExchange(name: string, options?: ExchangeInit): Promise<Exchange>;
  /** @throws {@link QueueError} `EXCHANGE_NOT_FOUND`. */
  exchange(name: string): Exchange;
  /** Names of the exchanges known here. */
  exchanges(): readonly string[];
  /** Forgets an exchange with its bindings. */
  deleteExchange(name: string): Promise<void>;
  /**
   * Waits to be the one leader of `name` (1 to 64 of `A-Z a-z 0-9 . _ -`) among all members that ask. In its first 5 s a node waits to
   * meet the others; those that have not met elect apart, and all but one lose it when they meet. An election begun with fewer than three nodes waits for each of these that
   * dies, until about a minute after the third came: in the first 10 s of a node with a `bootstrap` it begins only once there are three. Later, or
   * without one, ask once `stats().peers` is 2 or more.
   * @throws {@link QueueError} as `enqueue` and `take`; the reason of `signal`.
   */
  elect(name: string, options?: ElectOptions): Promise<Leadership>;
  /**
   * Enqueues a message at certain times: exactly one for each due time, whichever nodes are up, if one of them reaches
   * the queue within a minute of it. Replaces a schedule of the same name (as those of exchanges).
   * @throws {@link QueueError} `INVALID_OPTIONS`, `QUEUE_NOT_FOUND`, `LIMIT_REACHED`; MeshError as `mesh.state.shared.set`.
   */
  schedule(name: string, options: ScheduleInit): Promise<void>;
  /** `false`: there was none. */
  unschedule(name: string): Promise<boolean>;
  /** Schedules known here, by name. */
  schedules(): readonly ScheduleInfo[];
  stats(): QueuesStats;
  on<Name extends keyof QueuesEvents>(event: Name, listener: (event: QueuesEvents[Name]) => void): () => void;
  /**
   * Takes no more messages, waits up to `timeoutMs` (default 30,000) for the handlers that run and the enqueues under way, then
   * aborts the handlers' signals, releases what is held (1 s more, if nobody answers), and closes the store; others take the lanes
   * over. What `take` gave is not waited for: it is released like the rest, and `SETTLED` then. May be called twice.
   * @throws {@link QueueError} `INVALID_OPTIONS`.
   */
  stop(options?: { readonly timeoutMs?: number | undefined }): Promise<void>;
}
