import { rttOfClass } from "./round-trips.ts";
import { HOPS_MAX } from "./types.ts";
import type { NodeLinks, RouteClass } from "./types.ts";

/** What makes a route dear to a class, in milliseconds that it would rather wait. */
interface ClassCosts {
  /** Share of the round trip that counts. */
  readonly latency: number;
  readonly hop: number;
  readonly overloaded: number;
  readonly gateway: number;
}

const HIGH: ClassCosts = { latency: 1, hop: 1, overloaded: 50, gateway: 0 };
const COSTS: Readonly<Record<RouteClass, ClassCosts>> = {
  control: HIGH,
  high: HIGH,
  normal: { latency: 1, hop: 2, overloaded: 200, gateway: 5 },
  // Bulk goes around gateways and busy nodes, however far: it has time.
  bulk: { latency: 0.25, hop: 1, overloaded: 500, gateway: 100 },
};

/** More than any route costs: one relay less that is held down outweighs everything else. */
export const HELD_COST = 1_000_000;

/** More than a route whose relays are all held down: its own end has said that this link is not there. */
export const REFUSED_COST: number = 2 * HOPS_MAX * HELD_COST;

export function linkCost(trafficClass: RouteClass, rttClass: number): number {
  const costs = COSTS[trafficClass];
  return costs.hop + costs.latency * rttOfClass(rttClass);
}

export function relayCost(
  trafficClass: RouteClass,
  relay: Pick<NodeLinks, "overloaded" | "gateway">,
): number {
  const costs = COSTS[trafficClass];
  return (relay.overloaded ? costs.overloaded : 0) + (relay.gateway ? costs.gateway : 0);
}
