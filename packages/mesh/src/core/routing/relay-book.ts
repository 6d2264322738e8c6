import { mayCarry, mayReach } from "./policy.ts";
import { HOPS_MAX } from "./types.ts";
import type { HopRefusalCode, NodeLinks, Route, TunnelRequest } from "./types.ts";

/** How many tunnels a node carries for others. */
export interface RelayLimits {
  readonly tunnelsMax: number;
  readonly tunnelsPerSourceMax: number;
}

export const RELAY_LIMITS: RelayLimits = { tunnelsMax: 256, tunnelsPerSourceMax: 32 };

/** What a relay knows of the world when it is asked. */
export interface RelayPorts {
  /** This node. */
  self(): NodeLinks;
  /** Whether a direct link with the peer is up. */
  isLinked(peer: string): boolean;
  /** The peer's cloud, as far as it is known. */
  cloudOf(peer: string): string | undefined;
}

export type RelayVerdict =
  /** The tunnel ends here. */
  | { readonly type: "end"; readonly source: string }
  | { readonly type: "carry"; readonly next: string; readonly source: string }
  | { readonly type: "refuse"; readonly code: HopRefusalCode };

/** Whether a route could be one at all: as long as it may be, and no peer twice, so it cannot loop. */
function isRoute(route: Route): boolean {
  return route.length >= 2 && route.length <= HOPS_MAX + 1 && new Set(route).size === route.length;
}

/** Which tunnels of others a node carries, and which it refuses. */
export class RelayBook {
  readonly #limits: RelayLimits;
  readonly #ports: RelayPorts;
  readonly #bySource = new Map<string, number>();
  #count = 0;

  constructor(limits: RelayLimits, ports: RelayPorts) {
    this.#limits = limits;
    this.#ports = ports;
  }

  /** Tunnels carried for others now. */
  get count(): number {
    return this.#count;
  }

  /** `from` asked over a direct link with us. A tunnel to be carried is counted until `release`. */
  judge(request: Pick<TunnelRequest, "route" | "index">, from: string): RelayVerdict {
    const verdict = this.examine(request, from);
    if (verdict.type !== "carry") return verdict;
    const ofSource = this.#bySource.get(verdict.source) ?? 0;
    if (this.#count >= this.#limits.tunnelsMax || ofSource >= this.#limits.tunnelsPerSourceMax)
      return refuse("RELAY_FULL");
    this.#count += 1;
    this.#bySource.set(verdict.source, ofSource + 1);
    return verdict;
  }

  /** What this node says to a route that passes or ends here, room aside. */
  examine(request: Pick<TunnelRequest, "route" | "index">, from: string): RelayVerdict {
    const { route, index } = request;
    const self = this.#ports.self();
    const source = route[0];
    const target = route.at(-1);
    if (source === undefined || target === undefined || !isRoute(route)) return refuse("BAD_ROUTE");
    // A hop can ask for itself only: whoever it names before itself, it has asked for it.
    if (index < 1 || route[index] !== self.peer || route[index - 1] !== from) return refuse("BAD_ROUTE");
    if (!this.#ports.isLinked(from)) return refuse("NOT_DIRECT");
    const sourceCloud = this.#ports.cloudOf(source);
    if (sourceCloud !== undefined && !mayReach(self, sourceCloud)) return refuse("FORBIDDEN");
    const next = route[index + 1];
    if (next === undefined) return { type: "end", source };
    return this.#examineCarrying({ self, from, next, source, target });
  }

  /** A tunnel of that source that was carried has ended. */
  release(source: string): void {
    const count = this.#bySource.get(source) ?? 0;
    if (count <= 1) this.#bySource.delete(source);
    else this.#bySource.set(source, count - 1);
    this.#count -= 1;
  }

  #examineCarrying(hop: {
    readonly self: NodeLinks;
    readonly from: string;
    readonly next: string;
    readonly source: string;
    readonly target: string;
  }): RelayVerdict {
    const { self, from, next, source, target } = hop;
    if (!self.router) return refuse("NO_ROUTE");
    if (!this.#ports.isLinked(next)) return refuse("NOT_DIRECT");
    // Both are linked, so their clouds are known.
    const cloudOf = (peer: string): string => this.#ports.cloudOf(peer) ?? self.cloud;
    if (!mayReach(self, cloudOf(target)) || !mayCarry(self, cloudOf(from), cloudOf(next)))
      return refuse("FORBIDDEN");
    return { type: "carry", next, source };
  }
}

function refuse(code: HopRefusalCode): RelayVerdict {
  return { type: "refuse", code };
}
