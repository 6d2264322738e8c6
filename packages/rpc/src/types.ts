import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type { CallContext, CallOptions, Client, Contract, Implementation, Methods } from "./contract.ts";
import type { MethodProfile } from "./host/profile.ts";

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
}

/** Calls between this node and the others. */
export interface Rpc extends AsyncDisposable {
  /** Offers methods until the returned function is called. @throws RpcError `CONFLICT`, `INVALID_OPTIONS`, `STOPPED`. */
  serve<M extends Methods>(contract: Contract<M>, implementation: Implementation<M>): () => void;
  /** The methods of one peer, this node included. Its calls reject with {@link RpcError}. */
  peer<M extends Methods>(peerId: string, contract: Contract<M>): Client<M>;
  /** Count, time and errors by method, as caller and as server. */
  profile(): { readonly client: readonly MethodProfile[]; readonly server: readonly MethodProfile[] };
  stats(): RpcStats;
  /** Ends all calls, tells all handlers to stop, and leaves the links. May be called twice. */
  stop(): Promise<void>;
}
