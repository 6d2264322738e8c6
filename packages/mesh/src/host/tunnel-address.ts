import { CODE_P2P, multiaddr, registry } from "@multiformats/multiaddr";
import type { Multiaddr } from "@multiformats/multiaddr";
import type { Route, RouteClass } from "../core/routing/types.ts";

/** In the private range of the multicodec table. */
const CODE_VIA = 0x30_4b_4c;
registry.addProtocol({ code: CODE_VIA, name: "via", size: -1 });

/** `/via/<class>/p2p/<relay>…/p2p/<target>`: the route without its first peer, which is whoever dials. */
export function tunnelAddress(trafficClass: RouteClass, hops: Route): Multiaddr {
  return multiaddr(`/via/${trafficClass}${hops.map((peer) => `/p2p/${peer}`).join("")}`);
}

/** What an address of a tunnel says; `undefined` for any other. */
export function parseTunnelAddress(
  address: Multiaddr,
): { readonly class: RouteClass; readonly hops: Route } | undefined {
  const [via, ...peers] = address.getComponents();
  if (via?.code !== CODE_VIA || !isClass(via.value)) return undefined;
  const hops = peers.flatMap(({ code, value }) => (code === CODE_P2P && value !== undefined ? [value] : []));
  return hops.length === peers.length && hops.length > 0 ? { class: via.value, hops } : undefined;
}

function isClass(value: string | undefined): value is RouteClass {
  return value === "control" || value === "high" || value === "normal" || value === "bulk";
}
