/** Classes of traffic, most urgent first. Control goes like high. */
export type RouteClass = "control" | "high" | "normal" | "bulk";

/** Peer ids from the sender to the target, both included. */
export type Route = readonly string[];

/** Connections a tunnel may pass: an explicit route is no longer than this. */
export const HOPS_MAX = 16;

export const HOP_REFUSALS: readonly HopRefusalCode[] = [
  "NOT_DIRECT",
  "RELAY_FULL",
  "FORBIDDEN",
  "NO_ROUTE",
  "BAD_ROUTE",
  "TIMED_OUT",
  "STOPPED",
];

/** One end of a link, as the node at this end lists it. */
export interface OwnLink {
  readonly peer: string;
  /** Smoothed round trip: at most 2^class × 0.25 ms. See `rttClassOf`. */
  readonly rttClass: number;
}

/** What a node says of itself that routes depend on. */
export interface NodeLinks {
  readonly peer: string;
  readonly cloud: string;
  /** It carries traffic between clouds. */
  readonly gateway: boolean;
  /** It carries the traffic of others at all. */
  readonly router: boolean;
  /** Busy with itself: routes avoid it where they can. */
  readonly overloaded: boolean;
  /** Clouds that its own may exchange traffic with, besides itself; `undefined`: all. */
  readonly reaches: readonly string[] | undefined;
  /** `all`: every member there is. */
  readonly links: readonly OwnLink[] | "all";
}

/** Asks the receiver, `route[index]`, to carry a tunnel on, or to be its end. */
export interface TunnelRequest {
  readonly class: RouteClass;
  readonly route: Route;
  readonly index: number;
  /** How long the tunnel may take to open from here on, in milliseconds. */
  readonly deadlineMs: number;
}

/** A sign of life along a route and back. */
export interface RouteProbe {
  readonly type: "probe";
  readonly nonce: number;
  /** On its way back: up to whoever answered. */
  readonly route: Route;
  /** Of the receiver. */
  readonly index: number;
  readonly back: boolean;
  /** Why whoever answered did not pass it on; `undefined` at the end of the route. */
  readonly code: HopRefusalCode | undefined;
}

/**
 * Why a hop refused. `NOT_DIRECT`: it has no direct link to the next. `RELAY_FULL`: it carries as many tunnels
 * as it may. `FORBIDDEN`: a cloud policy is against it. `NO_ROUTE`: it carries no tunnels at all. `BAD_ROUTE`:
 * the route repeats a peer, is too long, or is not the hop's. `TIMED_OUT`: nothing came from beyond it in time.
 * `STOPPED`: it is going.
 */
export type HopRefusalCode =
  | "NOT_DIRECT"
  | "RELAY_FULL"
  | "FORBIDDEN"
  | "NO_ROUTE"
  | "BAD_ROUTE"
  | "TIMED_OUT"
  | "STOPPED";

/** First word back through a tunnel: it is open, or the hop at `route[hop]` refused. */
export type TunnelAnswer =
  | { readonly type: "opened" }
  | { readonly type: "refused"; readonly hop: number; readonly code: HopRefusalCode };
