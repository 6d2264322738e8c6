import type { Instant } from "@klatsch/kit/core";
import { LinkMap } from "./link-map.ts";
import { mayTalk } from "./policy.ts";
import { costOf, shortestRoute } from "./shortest.ts";
import type { Search } from "./shortest.ts";
import type { HopRefusalCode, NodeLinks, Route, RouteClass } from "./types.ts";

/** Relays of a route that did not work, and refused links, are avoided for this long, in milliseconds. */
export const HOLD_MS = 10_000;
/** A route is kept as long as the best one is not cheaper by this factor … */
const BETTER_FACTOR = 1.25;
/** … and by this much. */
const BETTER_BY = 1;
/** Routes, relays and links that are remembered; the oldest are forgotten. */
const REMEMBERED_MAX = 4_096;

export type RouteAnswer =
  | { readonly type: "route"; readonly route: Route }
  /** No path in the map (`NO_ROUTE`), or none that policy allows (`FORBIDDEN`). */
  | { readonly type: "none"; readonly code: "NO_ROUTE" | "FORBIDDEN" };

/** Which way to send, as one node sees it: the map, and what its own attempts have shown. Pure. */
export class Router {
  #map: LinkMap;
  readonly #self: string;
  /** Relays held down, and until when; monotonic milliseconds. */
  readonly #held = new Map<string, number>();
  /** Links refused by their own end, and until when. */
  readonly #refused = new Map<string, number>();
  /** Relays that carry nothing for us, and until when. */
  readonly #denied = new Map<string, number>();
  readonly #current = new Map<string, Route>();

  constructor(self: string) {
    this.#self = self;
    this.#map = new LinkMap(self);
  }

  /** Takes a new map: what every node says of itself. */
  learn(nodes: Iterable<NodeLinks>): void {
    this.#map = new LinkMap(this.#self);
    for (const node of nodes) this.#map.learn(node);
  }

  /** Who has a link with a peer, as both say. */
  neighbours(peer: string): readonly string[] {
    return this.#map.links(peer).map((link) => link.peer);
  }

  /** The route to take to a peer now. */
  route(target: string, trafficClass: RouteClass, now: Instant): RouteAnswer {
    const [self, other] = [this.#map.node(this.#self), this.#map.node(target)];
    if (self === undefined || other === undefined) return { type: "none", code: "NO_ROUTE" };
    if (!mayTalk(self, other)) return { type: "none", code: "FORBIDDEN" };
    const search = this.#search(target, trafficClass, now);
    const best = shortestRoute(this.#map, search);
    const key = `${trafficClass} ${target}`;
    if (best === undefined) {
      this.#current.delete(key);
      return { type: "none", code: "NO_ROUTE" };
    }
    const current = this.#current.get(key);
    const cost = current === undefined ? undefined : costOf(this.#map, search, current);
    if (current !== undefined && cost !== undefined && cost <= best.cost * BETTER_FACTOR + BETTER_BY)
      return { type: "route", route: current };
    remember(this.#current, key, best.route);
    return { type: "route", route: best.route };
  }

  /**
   * The hop at `route[hop]` refused. It is believed about itself and its own link only: for a while it, or that
   * link, is asked last, or it is not asked at all. A link may be back before its end has told of anything new.
   */
  refused(route: Route, hop: number, code: HopRefusalCode, now: Instant): void {
    const namer = route[hop];
    const next = route[hop + 1];
    if (namer === undefined) return;
    const until = now.monoMs + HOLD_MS;
    if (code === "RELAY_FULL") remember(this.#held, namer, until);
    else if (code !== "NOT_DIRECT" && code !== "TIMED_OUT") remember(this.#denied, namer, until);
    else if (next !== undefined) remember(this.#refused, linkKey(namer, next), until);
  }

  /** A tunnel over the route did not open in time, or broke: nobody knows at which hop. */
  lost(route: Route, now: Instant): void {
    for (const relay of route.slice(1, -1)) remember(this.#held, relay, now.monoMs + HOLD_MS);
  }

  /** A node has told of its links anew: what it refused before may work now. */
  forgive(peer: string): void {
    this.#denied.delete(peer);
    for (const key of this.#refused.keys()) if (key.startsWith(linkKey(peer, ""))) this.#refused.delete(key);
  }

  #search(target: string, trafficClass: RouteClass, now: Instant): Search {
    const isLive = (until: number | undefined): boolean => until !== undefined && until > now.monoMs;
    return {
      from: this.#self,
      to: target,
      class: trafficClass,
      isHeld: (peer) => isLive(this.#held.get(peer)),
      isRefused: (from, to) => isLive(this.#refused.get(linkKey(from, to))),
      isDenied: (from, to) =>
        isLive(this.#denied.get(from)) || (to !== target && isLive(this.#denied.get(to))),
    };
  }
}

function linkKey(from: string, to: string): string {
  return `${from} ${to}`;
}

function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= REMEMBERED_MAX) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}
