import type { Clock } from "@klatsch/kit";
import { RTT_CLASS_UNKNOWN } from "../core/routing/link-map.ts";
import { RoundTrips } from "../core/routing/round-trips.ts";
import type { NodeLinks, OwnLink } from "../core/routing/types.ts";

/** Links come and go in bursts: what they come to is told when they rest for this long … */
const QUIET_MS = 250;
/** … or after this at the latest, in milliseconds. */
const WAIT_MS_MAX = 1_000;
/** How often round trips are looked at. */
const LOOK_MS = 10_000;

/** A member as far as links go. */
export interface LinkedMember {
  readonly peer: string;
  readonly cloud: string;
  readonly gateway?: boolean | undefined;
  readonly reach?: readonly string[] | undefined;
  readonly linked: boolean;
  readonly roundTripMs: number | undefined;
}

interface LinkPublisherPorts {
  /** Everybody else who is there. */
  members(): readonly LinkedMember[];
  publish(links: NodeLinks["links"]): void;
  /** Time to look at what changes slowly. */
  onLook(): void;
}

/** Tells the mesh of this node's own links, seldom. */
export class LinkPublisher {
  readonly #clock: Clock;
  readonly #ports: LinkPublisherPorts;
  readonly #roundTrips = new RoundTrips();
  #look: NodeJS.Timeout | undefined;
  #timer: NodeJS.Timeout | undefined;
  #dirtySinceMs: number | undefined;

  constructor(clock: Clock, ports: LinkPublisherPorts) {
    this.#clock = clock;
    this.#ports = ports;
  }

  start(): void {
    this.#look = setInterval(() => {
      this.#ports.onLook();
      this.#publish();
    }, LOOK_MS).unref();
  }

  /** This node's links as they are now. */
  links(): NodeLinks["links"] {
    const now = this.#clock.now();
    const members = this.#ports.members();
    if (members.length > 0 && members.every(({ linked }) => linked)) return "all";
    return members.flatMap(({ peer, linked, roundTripMs }): OwnLink[] => {
      if (!linked) {
        this.#roundTrips.gone(peer);
        return [];
      }
      const isKnown = roundTripMs !== undefined;
      return [
        { peer, rttClass: isKnown ? this.#roundTrips.measured(peer, roundTripMs, now) : RTT_CLASS_UNKNOWN },
      ];
    });
  }

  /** A link has come or gone, or a member. */
  changed(): void {
    const nowMs = this.#clock.now().monoMs;
    this.#dirtySinceMs ??= nowMs;
    clearTimeout(this.#timer);
    const delayMs = Math.max(0, Math.min(QUIET_MS, this.#dirtySinceMs + WAIT_MS_MAX - nowMs));
    this.#timer = setTimeout(() => this.#publish(), delayMs).unref();
  }

  stop(): void {
    clearInterval(this.#look);
    clearTimeout(this.#timer);
  }

  #publish(): void {
    this.#dirtySinceMs = undefined;
    const links = this.links();
    // Without a link nobody hears it, and what is said then would delay word of the next ones.
    if (links.length > 0) this.#ports.publish(links);
  }
}
