import type { Logger, MetricSource } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type {
  Access,
  CallContext,
  CallOptions,
  Client,
  ClientMethod,
  Contract,
  Implementation,
  Methods,
} from "./contract.ts";
import type { Reduce, Reducer } from "./core/reducers.ts";
import type { MethodProfile } from "./host/profile.ts";
import type { InputOf, OutputOf, Schema } from "./schema.ts";

/** One call as client middleware sees it. */
export interface ClientCall {
  readonly peer: string;
  readonly method: string;
  readonly input: unknown;
  readonly options: CallOptions | undefined;
}

/**
 * Around calls. `next` makes the call and ends with it, of an output stream once all items were read. What is returned
 * is the caller's result, where there is a single one; what is thrown, the caller gets.
 */
export type ClientMiddleware = (call: ClientCall, next: () => Promise<unknown>) => Promise<unknown>;

/** One call as server middleware sees it; its caller was let in already. */
export interface ServerCall {
  readonly method: string;
  readonly context: CallContext;
}

/** Around handlers. `next` runs the handler, and ends with it; of an output stream, once all items have left. */
export type ServerMiddleware = (call: ServerCall, next: () => Promise<unknown>) => Promise<unknown>;

/** How spans follow calls over the wire. `@klatsch/rpc/opentelemetry` makes one. */
export interface Tracing {
  /** A call of this node begins, or a cast. What is returned travels with it. */
  outgoing(method: string, peer: string): OutgoingSpan;
  /** Runs a handler for a call that came with `traceparent`; spans that begin in it belong to it. */
  incoming<T>(
    method: string,
    peer: string,
    traceparent: string | undefined,
    run: () => Promise<T>,
  ): Promise<T>;
}

/** The span of one call, as its caller sees it. */
export interface OutgoingSpan {
  /** As W3C defines it, at most 128 characters. */
  readonly traceparent: string | undefined;
  /** Called once. */
  end(error?: Error): void;
}

/** Options of `createRpc`. */
export interface RpcInit {
  /** The mesh this node is a member of, for one `createRpc` (a second one: `CHANNEL_EXISTS`). It is used and not stopped. */
  readonly mesh: Mesh;
  /** Calls of this node that may wait for an answer. Default 65,536; more are refused with `OVERLOADED`. */
  readonly pendingMax?: number | undefined;
  /** Handlers that may run at once on this node. Default 16,384; more are refused with `OVERLOADED`. */
  readonly servingMax?: number | undefined;
  /** The first is outermost. */
  readonly middleware?:
    | {
        readonly client?: readonly ClientMiddleware[] | undefined;
        readonly server?: readonly ServerMiddleware[] | undefined;
      }
    | undefined;
  /** What {@link Rpc.once} stands on. Default: nothing, and it throws. */
  readonly once?: OnceOptions | undefined;
  /** Default: no spans. */
  readonly tracing?: Tracing | undefined;
  /** Default: nothing is written. */
  readonly logger?: Logger | undefined;
}

/** Whom a cast or gather is for: an expression over facts (README), or a list of peer ids or names. */
export type TargetInit = string | readonly string[];

/** Names of the methods with one input and one output. */
export type SingleMethod<M extends Methods> = {
  [Name in keyof M & string]: M[Name]["stream"] extends "none" ? Name : never;
}[keyof M & string];

/** Whom a cast was sent to, as peer ids; whether it ran there is not told. */
export interface CastResult {
  readonly addressed: readonly string[];
  /** Meant, but without a link, or with too much waiting for them; no neighbours, and too large or often for gossip. */
  readonly unreachable: readonly string[];
}

/** When a gather is over. `quorum`: more than half have answered. `stallMs`: nothing new came for so long. */
export type Until = "all" | "first" | "quorum" | number | { readonly stallMs: number };

/** Options of {@link Rpc.gather}. */
export interface GatherOptions {
  /** Default `{ by: "concat" }`. */
  readonly reduce?: Reduce | undefined;
  /** Default `all`. */
  readonly until?: Until | undefined;
  /** Children of one node in the tree; 1 to 64. Default 8. */
  readonly fanout?: number | undefined;
  /** Default 10 s. */
  readonly deadlineMs?: number | undefined;
  /** Firing it ends the gather with what has come so far. */
  readonly signal?: AbortSignal | undefined;
  /** Called as answers come in, with the result so far. */
  readonly onProgress?:
    | ((progress: { readonly value: unknown; readonly answered: number }) => void)
    | undefined;
}

/** A member in the account of a gather. */
export interface Covered {
  readonly peerId: string;
  readonly name: string;
}

/** What came of a gather. Every member addressed is in exactly one of the three lists. */
export interface GatherResult {
  readonly value: unknown;
  readonly answered: readonly Covered[];
  /** `code`: of an {@link RpcErrorCode}, or of the error the handler threw. */
  readonly failed: readonly (Covered & { readonly code: string })[];
  /** Nothing was heard of them in time; they may have run. */
  readonly missing: readonly Covered[];
}

/** Options of {@link Rpc.subscribe}. */
export interface SubscribeOptions {
  /** How many earlier values of each node to be given first; 0 to 64. Default 0. */
  readonly last?: number | undefined;
  /** Whose values are heard; the others' are counted and dropped. Default `members`. */
  readonly access?: Access | undefined;
}

/** Where a topic's value came from. */
export interface TopicInfo {
  readonly peerId: string;
  /** It is from before the subscription. */
  readonly replayed: boolean;
}

/** Port: durable queues that the application wires in. The queues of `@klatsch/queue` fit as they are. */
export interface OnceQueues {
  /** Tasks that failed too often are kept for `deadTtlMs`. */
  declare(
    name: string,
    options: { readonly replicas?: number; readonly deadTtlMs: number },
  ): Promise<OnceQueue>;
  inspect(id: string): Promise<{ readonly replicas: readonly OnceReplica[] }>;
  /** Somebody deleted a queue: its tasks are gone, and its scope gets a new one. */
  on(event: "queue:deleted", listener: (event: { readonly name: string }) => void): () => void;
}

/** A queue of {@link OnceQueues}. */
export interface OnceQueue {
  enqueue(body: Uint8Array, options: { readonly delayMs: number }): Promise<{ readonly id: string }>;
  /** Returning acknowledges; what is thrown is remembered, and the message comes again. */
  consume(handler: (message: OnceMessage) => Promise<void>): OnceConsumer;
}

/** What takes tasks here. */
export interface OnceConsumer {
  stop(): Promise<void>;
}

/** A message of an {@link OnceQueue}, held by this node. */
export interface OnceMessage {
  readonly id: string;
  readonly body: Uint8Array;
  /** Fires when somebody else may have it. */
  readonly signal: AbortSignal;
  /** Dead, with this reason. */
  reject(reason: string): Promise<void>;
}

/** What one replica knows of a task. */
export interface OnceReplica {
  /** It knows the task to be over. */
  readonly finished: boolean;
  readonly message:
    | {
        readonly state: "ready" | "delayed" | "leased" | "dead" | "done";
        readonly epoch: number;
        readonly holder: { readonly peer: string } | undefined;
        readonly reason: string | undefined;
        readonly failures: readonly OnceFailure[];
      }
    | undefined;
}

/** A run that failed. */
export interface OnceFailure {
  readonly peer: string;
  readonly atWallMs: number;
  readonly reason: string;
}

/** What {@link Rpc.once} stands on. */
export interface OnceOptions {
  readonly queues: OnceQueues;
  /** Copies of each task, the same on all nodes. Default: the queues' own. */
  readonly replicas?: number | undefined;
}

/** `mesh`: one run. `cloud`, `node`: one in each. A tag: one for each value of it that a live member has. */
export type OnceScope = "mesh" | "cloud" | "node" | { readonly tag: string };

/** A method and its input. Only a method whose access is `members`: a queue does not prove who asks. */
export interface OnceRun<M extends Methods, Name extends SingleMethod<M>> {
  readonly contract: Contract<M>;
  readonly method: Name;
  readonly input: InputOf<M[Name]["input"]>;
}

/** A task that was entered for one scope. */
export interface OnceTask {
  readonly id: string;
  /** `mesh`, `cloud=north`, `node=<peer id>`, `tag zone=a`. */
  readonly scope: string;
}

/** What has become of a task. */
export interface OnceStatus {
  /** `dead`: it failed too often, within the last 7 days; `unknown`: no replica that answered knows it, or any more. */
  readonly state: "waiting" | "running" | "done" | "dead" | "unknown";
  /** Who runs it. */
  readonly peerId: string | undefined;
  /** Why it is dead. */
  readonly reason: string | undefined;
  /** The last runs that failed. */
  readonly failures: readonly OnceFailure[];
}

/** Methods of whichever member answers. */
export type AnyClient<M extends Methods> = { readonly [Name in SingleMethod<M>]: ClientMethod<M[Name]> };

/** Options of {@link Rpc.stop}. */
export interface StopOptions {
  /** How long what is under way may take to end, in milliseconds; 0: it ends at once. Default 10,000. */
  readonly timeoutMs?: number | undefined;
}

/** Counters of one node since its start, for tests and metrics. */
export interface RpcStats {
  /** Calls of this node that wait for an answer. */
  readonly pending: number;
  /** Handlers that run here. */
  readonly running: number;
  /** Sessions with other nodes: one for each class and linked peer that has rpc too. */
  readonly links: number;
  /** Frames of peers that were refused; each ended its session. */
  readonly badFrames: number;
  /** Asks for methods that are not served here. */
  readonly notFound: number;
  /** Asks that an access rule refused. */
  readonly denied: number;
  /** Casts of others that were not run here: not meant, refused, or too many at once. */
  readonly castsDropped: number;
  /** Values of topics that a subscription's access rule refused. */
  readonly valuesDenied: number;
  /** Values of topics that came while too many handlers of a subscription ran. */
  readonly valuesDropped: number;
}

/** Calls between this node and the others. */
export interface Rpc extends AsyncDisposable, MetricSource {
  /** Offers methods until the returned function is called. @throws RpcError `CONFLICT`, `INVALID_OPTIONS`, `STOPPED`. */
  serve<M extends Methods>(contract: Contract<M>, implementation: Implementation<M>): () => void;
  /**
   * The methods of one peer, this node included, by its peer id (`mesh.resolve` gives that of a name). Its calls reject with
   * {@link RpcError}.
   */
  peer<M extends Methods>(peerId: string, contract: Contract<M>): Client<M>;
  /**
   * The methods of one of the members meant: those with a link first, in turn; the next where one did nothing, or the
   * method is idempotent. See {@link CallGuard}. Its calls reject with {@link RpcError}.
   */
  any<M extends Methods>(target: TargetInit, contract: Contract<M>): AnyClient<M>;
  /**
   * Has all members meant run a method; nothing comes back. They check again that they are meant.
   * @throws RpcError `INVALID_TARGET`, `INVALID_INPUT`, `INVALID_OPTIONS`, `STOPPED`.
   */
  cast<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
  ): Promise<CastResult>;
  /**
   * Asks all members meant, through each other as a tree, and folds what they answer.
   * @throws RpcError `INVALID_TARGET`, `INVALID_INPUT`, `INVALID_OPTIONS`, `STOPPED`, `INVALID_OUTPUT` where a reducer's `done`
   * throws.
   */
  gather<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
    options?: GatherOptions,
  ): Promise<GatherResult>;
  /** Registers a reducer for `{ by: "own", name }`; every node of a gather needs it. @throws RpcError `CONFLICT`, `INVALID_OPTIONS`. */
  reducer(name: string, reducer: Reducer): void;
  /**
   * Hears a topic until the returned function is called. A value that does not fit, or a handler that throws, is logged.
   * Async handlers are not waited for: up to 16,384 run at once, and 128 MiB of values above 32 KiB; what comes beyond is
   * dropped, and counted in {@link RpcStats}.
   * @throws RpcError `INVALID_OPTIONS`.
   */
  subscribe<S extends Schema>(
    topic: string,
    schema: S,
    handler: (value: OutputOf<S>, info: TopicInfo) => unknown,
    options?: SubscribeOptions,
  ): () => void;
  /**
   * Tells all members that are subscribed, this node included. Resolves once it is on its way, with the peers that
   * could not be sent to. Members that are no neighbours are told over gossip: up to 64 KiB, 100 values a second.
   * @throws RpcError `INVALID_OPTIONS`, `INVALID_INPUT` for what cannot be encoded, `TOO_LARGE`, `STOPPED`.
   */
  emit(topic: string, value: unknown): Promise<readonly string[]>;
  /**
   * Has a method run once in each scope, wherever in it, from `at` on (default: now). Resolves once queues have the
   * tasks. A run whose node dies is repeated elsewhere; handlers see the task's id as `idempotencyKey`.
   * @throws RpcError `NO_QUEUE`, `DENIED`, `INVALID_INPUT`, `INVALID_TARGET`, `INVALID_OPTIONS`, and what the queues throw.
   */
  once<M extends Methods, Name extends SingleMethod<M>>(init: {
    readonly scope: OnceScope;
    readonly task: OnceRun<M, Name>;
    readonly at?: Date | undefined;
  }): Promise<readonly OnceTask[]>;
  /** Whether a task is done, and why it is not. @throws RpcError `NO_QUEUE`, and what the queues throw. */
  onceStatus(id: string): Promise<OnceStatus>;
  /** Count, time and errors by method, as caller and as server. */
  profile(): { readonly client: readonly MethodProfile[]; readonly server: readonly MethodProfile[] };
  stats(): RpcStats;
  /** A histogram of seconds by method, calls in progress and faults, in the text format of Prometheus. */
  metrics(): string;
  /**
   * Takes no more calls, casts and tasks: callers get `UNAVAILABLE` with `outcome: "none"`, and others stop choosing this node.
   * Waits up to `timeoutMs` for handlers that run, until their answers have left, and for calls and gathers of this node that are
   * under way (not for streams without a deadline). Then fires the handlers' signals, whose callers get `UNAVAILABLE` with
   * `outcome: "unknown"`, ends what this node has called with `STOPPED`, and leaves the links. Until then handlers can call.
   * May be called again, also to wait less. @throws RpcError `INVALID_OPTIONS`.
   */
  stop(options?: StopOptions): Promise<void>;
}
