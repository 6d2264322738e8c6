import { Sluice } from "@klatsch/kit";
import type { Clock } from "@klatsch/kit";
import type { RPC } from "@libp2p/gossipsub/message";
import type { PeerId } from "@libp2p/interface";
import { peerIdFromMultihash } from "@libp2p/peer-id";
import { Budgets } from "../core/budgets.ts";
import { TOPIC_PASSED_BUDGET } from "../core/topic-rules.ts";

/** Messages of one peer that are verified in one turn of the event loop, a tenth of a millisecond each, and that wait for it. */
const TURN_MAX = 32;
const WAITING_MAX = 1_024;
/** A multihash that is an Ed25519 key itself, as those of all members are: its code and length, and the key's. */
const KEY_PREFIX = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20] as const;
const AUTHOR_BYTES = 38;
const NOBODY = new Uint8Array(0);

export interface UnverifiedInit {
  readonly isThere: (author: string) => boolean;
  readonly verify: (from: PeerId, message: RPC.Message) => void;
  readonly onRefused: () => void;
  readonly clock: Clock;
}

interface Passed {
  readonly sluice: Sluice<RPC.Message>;
  readonly budgets: Budgets;
}

/**
 * What peers pass on of topics before it is verified: gossipsub itself verifies thousands in a row, whosever they are said to be.
 * Only what members may have said goes on, no more of each than it may publish, and a little in each turn of the event loop.
 */
export class Unverified {
  readonly #init: UnverifiedInit;
  readonly #peers = new Map<string, Passed>();

  constructor(init: UnverifiedInit) {
    this.#init = init;
  }

  enter(from: PeerId, messages: readonly RPC.Message[]): void {
    if (messages.length === 0) return;
    const { sluice } = this.#passedBy(from);
    for (const message of messages) if (!sluice.enter(message)) this.#init.onRefused();
  }

  /** The peer's link is gone. */
  drop(peer: string): void {
    this.#peers.get(peer)?.sluice.stop();
    this.#peers.delete(peer);
  }

  /** The author is no member any more. */
  forget(author: string): void {
    for (const { budgets } of this.#peers.values()) budgets.forget(author);
  }

  stop(): void {
    for (const peer of this.#peers.keys()) this.drop(peer);
  }

  #passedBy(from: PeerId): Passed {
    const { isThere, verify, onRefused, clock } = this.#init;
    const peer = from.toString();
    const known = this.#peers.get(peer);
    if (known !== undefined) return known;
    const budgets = new Budgets(TOPIC_PASSED_BUDGET);
    const sluice = new Sluice<RPC.Message>({ turnMax: TURN_MAX, waitingMax: WAITING_MAX }, (message) => {
      const author = authorOf(message);
      if (author !== undefined && isThere(author) && budgets.take(author, clock.now().monoMs))
        verify(from, message);
      else onRefused();
    });
    const passed = { sluice, budgets };
    this.#peers.set(peer, passed);
    return passed;
  }
}

function authorOf({ from = NOBODY }: RPC.Message): string | undefined {
  if (from.length !== AUTHOR_BYTES || KEY_PREFIX.some((byte, at) => from[at] !== byte)) return undefined;
  const bytes = new Uint8Array(from);
  return peerIdFromMultihash({
    code: 0,
    size: AUTHOR_BYTES - 2,
    digest: bytes.subarray(2),
    bytes,
  }).toString();
}
