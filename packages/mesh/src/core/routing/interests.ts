import type { Instant } from "@klatsch/kit/core";
import type { RouteClass } from "./types.ts";

export interface InterestTimes {
  /** A peer that nobody exchanged frames with for this long is not wanted any more. */
  readonly idleMs: number;
  /** Between two tries to reach a wanted peer, doubling from the first to the last. */
  readonly retryMs: readonly [number, number];
  /** Checks of a tunnel, one each `tick`, that may go unanswered before it counts as silent. */
  readonly unansweredMax: number;
}

export const INTEREST_TIMES: InterestTimes = {
  idleMs: 60_000,
  retryMs: [200, 5_000],
  unansweredMax: 3,
};

/** The connection with a peer that channels use now. */
export interface LinkUse {
  readonly kind: "direct" | "tunnel";
  /** Whether this node opened it. */
  readonly dialer: boolean;
  /** When a channel's frame last went either way; monotonic milliseconds. */
  readonly usedMs: number;
  /** When anything last came from the peer. */
  readonly heardMs: number;
}

export type InterestInput =
  | { readonly type: "wanted"; readonly peer: string; readonly class: RouteClass }
  | { readonly type: "unwanted"; readonly peer: string }
  /** An `establish` ended. */
  | { readonly type: "established"; readonly peer: string }
  | { readonly type: "failed"; readonly peer: string }
  | { readonly type: "tick"; readonly links: ReadonlyMap<string, LinkUse> };

export type InterestEffect =
  | { readonly type: "establish"; readonly peer: string; readonly class: RouteClass }
  /** A tunnel of ours that nobody uses. */
  | { readonly type: "close"; readonly peer: string }
  /** Ask for a sign of life through the tunnel. */
  | { readonly type: "test"; readonly peer: string }
  /** The tunnel stands and carries nothing back. */
  | { readonly type: "silent"; readonly peer: string };

interface Interest {
  class: RouteClass;
  usedMs: number;
  establishing: boolean;
  retryAtMs: number;
  retryMs: number;
  heardMs: number;
  unanswered: number;
}

/**
 * Which peers this node wants to reach although they are no neighbours: their connection is made again when it is
 * lost, tested while it stands, and given up when nobody used it for long. Ticked once a second and at each loss.
 */
export class Interests {
  readonly #times: InterestTimes;
  readonly #interests = new Map<string, Interest>();

  constructor(times: InterestTimes) {
    this.#times = times;
  }

  get count(): number {
    return this.#interests.size;
  }

  has(peer: string): boolean {
    return this.#interests.has(peer);
  }

  step(input: InterestInput, now: Instant): readonly InterestEffect[] {
    switch (input.type) {
      case "wanted":
        this.#want(input.peer, input.class, now);
        return [];
      case "unwanted":
        this.#interests.delete(input.peer);
        return [];
      case "established":
      case "failed":
        this.#ended(input.peer, input.type === "failed", now);
        return [];
      case "tick":
        return this.#tick(input.links, now);
    }
  }

  #want(peer: string, trafficClass: RouteClass, now: Instant): void {
    const known = this.#interests.get(peer);
    if (known === undefined) {
      this.#interests.set(peer, {
        class: trafficClass,
        usedMs: now.monoMs,
        establishing: false,
        retryAtMs: now.monoMs,
        retryMs: this.#times.retryMs[0],
        heardMs: -Infinity,
        unanswered: 0,
      });
      return;
    }
    known.class = trafficClass;
    known.usedMs = now.monoMs;
  }

  #ended(peer: string, failed: boolean, now: Instant): void {
    const interest = this.#interests.get(peer);
    if (interest === undefined) return;
    interest.establishing = false;
    if (!failed) {
      interest.retryMs = this.#times.retryMs[0];
      interest.unanswered = 0;
      return;
    }
    interest.retryAtMs = now.monoMs + interest.retryMs;
    interest.retryMs = Math.min(interest.retryMs * 2, this.#times.retryMs[1]);
  }

  #tick(links: ReadonlyMap<string, LinkUse>, now: Instant): InterestEffect[] {
    const effects: InterestEffect[] = [];
    for (const [peer, interest] of this.#interests) {
      const link = links.get(peer);
      interest.usedMs = Math.max(interest.usedMs, link?.usedMs ?? 0);
      if (now.monoMs - interest.usedMs >= this.#times.idleMs) this.#interests.delete(peer);
      else if (link !== undefined) effects.push(...this.#check(peer, interest, link));
      else if (!interest.establishing && now.monoMs >= interest.retryAtMs) {
        interest.establishing = true;
        effects.push({ type: "establish", peer, class: interest.class });
      }
    }
    for (const [peer, link] of links) {
      if (link.kind === "tunnel" && link.dialer && !this.#interests.has(peer))
        effects.push({ type: "close", peer });
    }
    return effects;
  }

  /**
   * A tunnel may stand although nothing passes it: a relay that is stopped keeps its connections. Counted in
   * ticks, not in time: a process that slept has missed the ticks too.
   */
  #check(peer: string, interest: Interest, link: LinkUse): InterestEffect[] {
    if (link.kind === "direct" || !link.dialer) return [];
    const heard = link.heardMs > interest.heardMs;
    interest.heardMs = link.heardMs;
    interest.unanswered = heard ? 0 : interest.unanswered + 1;
    if (interest.unanswered === 0) return [];
    if (interest.unanswered > this.#times.unansweredMax) {
      interest.unanswered = 0;
      return [{ type: "silent", peer }];
    }
    return [{ type: "test", peer }];
  }
}
