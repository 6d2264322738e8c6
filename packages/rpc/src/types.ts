import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type { CallContext, CallOptions, Client, Contract, Implementation, Methods } from "./contract.ts";
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

/** Around calls with a single output. `next` makes the call; what is returned is the caller's result. */
export type ClientMiddleware = (call: ClientCall, next: () => Promise<unknown>) => Promise<unknown>;

/** One call as server middleware sees it; its caller was let in already. */
export interface ServerCall {
  readonly method: string;
  readonly context: CallContext;
}

/** Around handlers. `next` runs the handler, and ends with it; of an output stream, once all items have left. */
export type ServerMiddleware = (call: ServerCall, next: () => Promise<unknown>) => Promise<unknown>;

/** Options of `createRpc`. */
export interface RpcInit {
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
  /** Meant, but without a link, or with too much waiting for them already. */
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
}

/** Where a topic's value came from. */
export interface TopicInfo {
  readonly peerId: string;
  /** It is from before the subscription. */
  readonly replayed: boolean;
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
}

/** Calls between this node and the others. */
export interface Rpc extends AsyncDisposable {
  /** Offers methods until the returned function is called. @throws RpcError `CONFLICT`, `INVALID_OPTIONS`, `STOPPED`. */
  serve<M extends Methods>(contract: Contract<M>, implementation: Implementation<M>): () => void;
  /** The methods of one peer, this node included. Its calls reject with {@link RpcError}. */
  peer<M extends Methods>(peerId: string, contract: Contract<M>): Client<M>;
  /**
   * Has all members meant run a method; nothing comes back. They check again that they are meant.
   * @throws RpcError `INVALID_TARGET`, `INVALID_INPUT`.
   */
  cast<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
  ): Promise<CastResult>;
  /**
   * Asks all members meant, through each other as a tree, and folds what they answer.
   * @throws RpcError `INVALID_TARGET`, `INVALID_INPUT`, `INVALID_OPTIONS`.
   */
  gather<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
    options?: GatherOptions,
  ): Promise<GatherResult>;
  /** Registers a reducer for `{ by: "own", name }`; every node of a gather needs it. @throws RpcError `CONFLICT`. */
  reducer(name: string, reducer: Reducer): void;
  /** Hears a topic until the returned function is called. A value that does not fit, or a handler that throws, is logged. */
  subscribe<S extends Schema>(
    topic: string,
    schema: S,
    handler: (value: OutputOf<S>, info: TopicInfo) => unknown,
    options?: SubscribeOptions,
  ): () => void;
  /** Tells all linked members that are subscribed, this node included. Peers that could not be sent to are returned. */
  emit(topic: string, value: unknown): readonly string[];
  /** Count, time and errors by method, as caller and as server. */
  profile(): { readonly client: readonly MethodProfile[]; readonly server: readonly MethodProfile[] };
  stats(): RpcStats;
  /** Ends all calls, tells all handlers to stop, and leaves the links. May be called twice. */
  stop(): Promise<void>;
}
