import type { Clock, Logger } from "@klatsch/kit";
import { RELAY_LIMITS } from "../core/routing/relay-book.ts";
import type { NodeLinks } from "../core/routing/types.ts";
import type { Links, TunnelUp } from "./links.ts";
import { TUNNEL_TIMES, Tunnels } from "./tunnels.ts";

/** What routing asks of the service around it. */
interface RoutingPorts {
  /** What this node says of itself, but for its links. */
  self(): Omit<NodeLinks, "links">;
  links(): Links | undefined;
  /** The cloud of a member, as far as it is known. */
  cloudOf(peer: string): string | undefined;
  onBad(peer: string, reason: string): void;
}

interface RoutingInit {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ports: RoutingPorts;
}

/** Reaches peers this node has no direct link with, and carries the tunnels of others. */
export class Routing {
  readonly tunnels: Tunnels;
  readonly #init: RoutingInit;
  #carriedBytes = 0;

  constructor(init: RoutingInit) {
    this.#init = init;
    const { clock, logger, ports } = init;
    const direct = (peer: string): ReturnType<Links["direct"]> => ports.links()?.direct(peer);
    this.tunnels = new Tunnels({
      clock,
      logger,
      limits: RELAY_LIMITS,
      times: TUNNEL_TIMES,
      ports: {
        self: () => ({ ...ports.self(), links: [] }),
        isLinked: (peer) => direct(peer) !== undefined,
        cloudOf: (peer) => ports.cloudOf(peer),
        direct,
        onCarried: (_class, bytes) => (this.#carriedBytes += bytes.length),
        onBad: (peer, reason) => ports.onBad(peer, reason),
      },
    });
  }

  /** Bytes carried for others since the start. */
  get carriedBytes(): number {
    return this.#carriedBytes;
  }

  onTunnelUp(tunnel: TunnelUp): void {
    this.#init.ports.links()?.activate(tunnel.peer, tunnel.link);
  }

  onTunnelDown(tunnel: TunnelUp, reason: string): void {
    this.#init.logger.debug("tunnel down", { peerId: tunnel.peer, reason });
  }

  stop(): void {
    this.tunnels.stop();
  }
}
