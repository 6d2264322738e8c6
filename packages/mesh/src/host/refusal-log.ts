import type { Logger } from "@klatsch/kit";
import type { LinkRefusal } from "../types.ts";

/** Why there is no link, and which end wanted none. */
export interface TurnedAway {
  readonly code: LinkRefusal;
  readonly detail: string;
  readonly byUs: boolean;
}

/** Refusals that are remembered as logged. */
const LOGGED_MAX = 1_024;

/** Logs refusals once per peer and code: a wrong mesh name would fill the log for as long as both run. */
export class RefusalLog {
  readonly #logger: Logger;
  readonly #logged = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  told(peerId: string | undefined, code: LinkRefusal, reason: string): void {
    const key = `${peerId ?? ""}/${code}`;
    if (this.#logged.has(key)) return;
    if (this.#logged.size >= LOGGED_MAX) this.#logged.clear();
    this.#logged.add(key);
    this.#logger.warn("link refused", { peerId, code, reason });
  }
}

/** Reasons that will not go by themselves: the peer is left alone for a while. */
export function isLasting(code: LinkRefusal): boolean {
  return (
    code === "FORBIDDEN" ||
    code === "MESH_NAME" ||
    code === "PROTOCOL_VERSION" ||
    code === "MEMBERS_MAX" ||
    code === "UNCERTIFIED"
  );
}
