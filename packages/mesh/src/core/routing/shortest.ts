import { HELD_COST, linkCost, REFUSED_COST, relayCost } from "./costs.ts";
import type { LinkMap } from "./link-map.ts";
import { mayReach } from "./policy.ts";
import { HOPS_MAX } from "./types.ts";
import type { NodeLinks, Route, RouteClass } from "./types.ts";

export interface Search {
  readonly from: string;
  readonly to: string;
  readonly class: RouteClass;
  /** Relays to be taken only where nobody else is left. */
  isHeld(peer: string): boolean;
  /** Links to be taken only where there is no other way at all. */
  isRefused(from: string, to: string): boolean;
  /** Links not to be taken at all. */
  isDenied(from: string, to: string): boolean;
}

export interface FoundRoute {
  readonly route: Route;
  readonly cost: number;
}

/** One node reached, with its cost and from where, by at most so many links. */
interface Reached {
  readonly cost: number;
  readonly from: Reached | undefined;
  readonly node: NodeLinks;
}

/**
 * The cheapest route of at most `HOPS_MAX` links. Grown link by link (Bellman and Ford), because the cheapest
 * route there is may be too long where a dearer one is not, which Dijkstra's order cannot tell. All costs are
 * positive, so no route repeats a node.
 */
export function shortestRoute(map: LinkMap, search: Search): FoundRoute | undefined {
  const source = map.node(search.from);
  const target = map.node(search.to);
  if (source === undefined || target === undefined || source === target) return undefined;
  const ends = { source, target };
  const best = new Map<string, Reached>();
  let frontier: Reached[] = [{ cost: 0, from: undefined, node: source }];
  for (let hops = 1; hops <= HOPS_MAX && frontier.length > 0; hops += 1) {
    const reached = new Map<string, Reached>();
    for (const from of frontier) extend(map, search, ends, from, { best, reached });
    for (const [peer, found] of reached) best.set(peer, found);
    frontier = [...reached.values()];
  }
  const found = best.get(search.to);
  return found === undefined ? undefined : { route: routeOf(found), cost: found.cost };
}

/** The cost of a route as it is now; `undefined` if it cannot be taken any more. */
export function costOf(map: LinkMap, search: Search, route: Route): number | undefined {
  const source = map.node(search.from);
  const target = map.node(search.to);
  if (source === undefined || target === undefined) return undefined;
  let from: Reached = { cost: 0, from: undefined, node: source };
  for (const peer of route.slice(1)) {
    const rttClass = map.rttClass(from.node.peer, peer);
    const node = map.node(peer);
    if (rttClass === undefined || node === undefined) return undefined;
    const next = step(search, { source, target }, from, node, rttClass);
    if (next === undefined) return undefined;
    from = next;
  }
  return from.cost;
}

interface Ends {
  readonly source: NodeLinks;
  readonly target: NodeLinks;
}

/**
 * Follows the links of a node that may make a route cheaper; `reached` is what this round has found better than all before. What cannot is left out
 * before it is looked up: where thousands say that they are linked with all, one search took 20 s.
 */
function extend(
  map: LinkMap,
  search: Search,
  ends: Ends,
  from: Reached,
  found: { readonly best: ReadonlyMap<string, Reached>; readonly reached: Map<string, Reached> },
): void {
  if (from.node === ends.target) return;
  const least = from.cost + linkCost(search.class, 0);
  const knownOf = (peer: string): number =>
    (found.reached.get(peer) ?? found.best.get(peer))?.cost ?? Infinity;
  if (least >= knownOf(search.to)) return;
  for (const peer of map.listed(from.node.peer)) {
    const known = knownOf(peer);
    if (least >= known || peer === from.node.peer) continue;
    const node = map.node(peer);
    const rttClass = map.rttClass(from.node.peer, peer);
    if (node === undefined || rttClass === undefined || node === ends.source) continue;
    const next = step(search, ends, from, node, rttClass);
    if (next !== undefined && next.cost < known) found.reached.set(peer, next);
  }
}

/** One link further, if policy and refusals let it. */
function step(
  search: Search,
  { source, target }: Ends,
  from: Reached,
  node: NodeLinks,
  rttClass: number,
): Reached | undefined {
  const isEnd = node === target;
  if (search.isDenied(from.node.peer, node.peer) || (!isEnd && !node.router)) return undefined;
  if (!isEnd && (!mayReach(node, source.cloud) || !mayReach(node, target.cloud))) return undefined;
  // Between clouds gateways carry; the two ends may use what links they have.
  const crosses = node.cloud !== from.node.cloud;
  if (crosses && ((from.node !== source && !from.node.gateway) || (!isEnd && !node.gateway)))
    return undefined;
  const held = !isEnd && search.isHeld(node.peer) ? HELD_COST : 0;
  const relay = isEnd ? 0 : relayCost(search.class, node) + held;
  const refused = search.isRefused(from.node.peer, node.peer) ? REFUSED_COST : 0;
  return { cost: from.cost + linkCost(search.class, rttClass) + relay + refused, from, node };
}

function routeOf(found: Reached): string[] {
  const route: string[] = [];
  for (let at: Reached | undefined = found; at !== undefined; at = at.from) route.unshift(at.node.peer);
  return route;
}
