import type { CallClass } from "../contract.ts";
import type { Route } from "../core/messages.ts";

/** The session with a peer in one class. */
export function routeOf(peer: string, trafficClass: CallClass): Route {
  return `${trafficClass}/${peer}`;
}

export function peerOf(route: Route): string {
  return route.slice(route.indexOf("/") + 1);
}

export function classOf(route: Route): CallClass {
  return route.slice(0, route.indexOf("/")) as CallClass;
}
