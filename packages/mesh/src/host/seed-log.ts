import { textOf } from "@klatsch/kit";
import type { Clock, Logger } from "@klatsch/kit";

/** An address that keeps failing is told of again after this long, in milliseconds. */
const AGAIN_MS = 60_000;

export interface SeedLogInit {
  /** Bootstrap addresses by peer id. */
  readonly seeds: ReadonlyMap<string, readonly string[]>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether the peer is no member, or nobody at all is linked. */
  readonly isMissed: (peer: string) => boolean;
}

/** Logs why bootstrap addresses lead nowhere: else a wrong one looks like a mesh of one node. */
export class SeedLog {
  readonly #init: SeedLogInit;
  /** When an address was told of last; only those of the options, so there is an end to them. */
  readonly #toldAt = new Map<string, number>();

  constructor(init: SeedLogInit) {
    this.#init = init;
  }

  /** A dial of any peer failed. */
  failed(peer: string, address: string, error: unknown): void {
    const { seeds, isMissed } = this.#init;
    if (seeds.get(peer)?.includes(address) === true && isMissed(peer)) this.tell(address, error);
  }

  /** An address of the options is missed and leads nowhere. */
  tell(address: string, error: unknown): void {
    const { clock, logger } = this.#init;
    const reason = reasonOf(error);
    const nowMs = clock.now().monoMs;
    if (reason === undefined || nowMs - (this.#toldAt.get(address) ?? -Infinity) < AGAIN_MS) return;
    this.#toldAt.set(address, nowMs);
    logger.warn("a bootstrap address does not work", { address, reason });
  }
}

/** For people; `undefined` if the peer turned us away, which is logged as that. */
function reasonOf(error: unknown): string | undefined {
  const text = textOf(error);
  if (text.startsWith("not admitted")) return undefined;
  // libp2p's names and wording; tests hold it to them.
  const other = /Payload identity key (\w+) does not match/u.exec(text)?.[1];
  if (other !== undefined) return `another peer answers there: ${other}`;
  const name = error instanceof Error ? error.name : "";
  if (name === "AbortError" || name === "TimeoutError") return "no answer in time";
  return name === "EncryptionFailedError" ? `no member answers there: ${text}` : text;
}
