import type { Clock, Random } from "@klatsch/kit";
import { firstDialMs, jittered } from "../core/dialing.ts";
import { MEMBERSHIP_TIMES } from "../core/times.ts";
import { placeOf } from "./conduits.ts";

/** As seeds that say whose they are. */
const {
  rotationMs: LOOK_MS,
  retryMs: [RETRY_MS, RETRY_MS_MAX],
} = MEMBERSHIP_TIMES;

/** A member that is alive, as far as it matters here. */
interface Holder {
  readonly peer: string;
  readonly addresses: readonly string[];
}

export interface UnnamedSeedsInit {
  /** Bootstrap addresses without a peer id. */
  readonly addresses: readonly string[];
  /** Peer id of this node. */
  readonly self: string;
  readonly clock: Clock;
  readonly random: Random;
  /** All members that are alive, this node included. */
  alive(): readonly Holder[];
  /** Dials the address. Resolves with who answered, this node perhaps. */
  find(address: string): Promise<string>;
  onFailed(address: string, error: unknown): void;
}

interface Seed {
  readonly address: string;
  /** Who answered there last. */
  peer: string | undefined;
  inFlight: boolean;
  /** Monotonic milliseconds of the next look. */
  at: number;
  retryMs: number;
}

/**
 * Bootstrap addresses that do not say whose they are: a name and a port of a static configuration, or one name for all pods of a
 * service. Each is dialled until it leads to a member that is alive, for ever, and again once that one is not; whoever is known
 * to be found there needs no dial. What comes of the connection is for the links to say.
 */
export class UnnamedSeeds {
  readonly #init: UnnamedSeedsInit;
  readonly #seeds: readonly Seed[];
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(init: UnnamedSeedsInit) {
    this.#init = init;
    const { addresses, clock, random } = init;
    const { monoMs } = clock.now();
    this.#seeds = addresses.map((address) => ({
      address,
      peer: undefined,
      inFlight: false,
      at: monoMs + firstDialMs(addresses.length, MEMBERSHIP_TIMES, random),
      retryMs: RETRY_MS,
    }));
  }

  /** The first dials, and from then on those that are needed. */
  start(): void {
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    if (this.#stopped || this.#seeds.length === 0) return;
    const { monoMs } = this.#init.clock.now();
    const alive = this.#init.alive();
    const peers = new Set(alive.map(({ peer }) => peer));
    const holders = new Map(
      alive.flatMap(({ peer, addresses }) => addresses.map((to) => [placeOf(to), peer])),
    );
    for (const seed of this.#seeds) {
      if (seed.inFlight || monoMs < seed.at) continue;
      if (this.#leads(seed, peers, holders)) {
        seed.at = monoMs + LOOK_MS;
        seed.retryMs = RETRY_MS;
      } else void this.#dial(seed);
    }
    this.#arm(monoMs);
  }

  /** Whether the address is known to lead to a member. Our own is as good, unless a name may lead to others, too. */
  #leads({ address, peer }: Seed, alive: ReadonlySet<string>, holders: ReadonlyMap<string, string>): boolean {
    if (holders.has(address)) return true;
    if (peer === undefined || !alive.has(peer)) return false;
    return peer !== this.#init.self || alive.size > 1;
  }

  async #dial(seed: Seed): Promise<void> {
    seed.inFlight = true;
    try {
      seed.peer = await this.#init.find(seed.address);
    } catch (error) {
      seed.peer = undefined;
      if (!this.#stopped) this.#init.onFailed(seed.address, error);
    }
    seed.inFlight = false;
    const { monoMs } = this.#init.clock.now();
    const waitMs = jittered(this.#init.random, seed.retryMs);
    // Who answered may need a moment to become a member.
    seed.at = monoMs + (seed.peer === undefined ? waitMs : Math.max(waitMs, LOOK_MS));
    seed.retryMs = Math.min(seed.retryMs * 2, RETRY_MS_MAX);
    this.#arm(monoMs);
  }

  #arm(now: number): void {
    clearTimeout(this.#timer);
    const waiting = this.#seeds.filter(({ inFlight }) => !inFlight);
    if (this.#stopped || waiting.length === 0) return;
    const at = Math.min(...waiting.map((seed) => seed.at));
    this.#timer = setTimeout(() => this.#look(), Math.max(0, at - now));
  }
}
