import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";
import { MeshError } from "@klatsch/mesh";

import type { Route } from "../core/messages.ts";
import { peerOf, classOf } from "./route.ts";

/** One attempt to find a way takes at most this long, in milliseconds; the next follows while a call waits. */
const ATTEMPT_MS = 5_000;
/** Between two attempts, and how often ways that calls depend on are asked for again, in milliseconds. */
const RETRY_MS = 250;
const RENEW_MS = 20_000;

export interface ReachingInit {
  readonly mesh: Mesh;
  readonly logger: Logger;
  /** Whether a call waits for a session on this route (`sent` false), or for its answer. */
  readonly has: (route: Route, sent: boolean) => boolean;
  readonly onUnreachable: (route: Route, reason: string) => void;
}

/**
 * Ways to members that are no neighbours, for as long as calls need them: one attempt for each route at a time. A way
 * that only carries an unanswered call is quiet, and the mesh would give it up.
 */
export class Reaching {
  readonly #init: ReachingInit;
  readonly #sought = new Set<Route>();
  /** Found, and to be kept while a call needs them. */
  readonly #kept = new Set<Route>();
  readonly #stopping = new AbortController();
  #renewing: NodeJS.Timeout | undefined;

  constructor(init: ReachingInit) {
    this.#init = init;
  }

  /** Looks for a way until there is one, nobody waits for it any more, or there is none to be expected. */
  reach(route: Route): void {
    if (this.#sought.has(route) || this.#stopping.signal.aborted) return;
    this.#sought.add(route);
    void this.#seek(route).finally(() => this.#sought.delete(route));
  }

  stop(): void {
    this.#stopping.abort();
    clearInterval(this.#renewing);
  }

  async #seek(route: Route): Promise<void> {
    const { mesh, logger, has, onUnreachable } = this.#init;
    const { signal } = this.#stopping;
    while (has(route, false) && !signal.aborted) {
      try {
        await mesh.connect(peerOf(route), { class: classOf(route), waitMs: ATTEMPT_MS, signal });
        this.#keep(route);
        return;
      } catch (error) {
        if (signal.aborted) return;
        logger.debug("no way to a peer that is called", { err: error, peer: peerOf(route) });
        // Who is forbidden stays so; what the map lacks now may come.
        if (!(error instanceof MeshError) || !error.retryable) {
          onUnreachable(route, error instanceof Error ? error.message : String(error));
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref());
    }
  }

  #keep(route: Route): void {
    this.#kept.add(route);
    this.#renewing ??= setInterval(() => this.#renew(), RENEW_MS).unref();
  }

  #renew(): void {
    const { mesh, has } = this.#init;
    for (const route of this.#kept) {
      if (!has(route, true) && !has(route, false)) this.#kept.delete(route);
      else mesh.connect(peerOf(route), { class: classOf(route) }).catch(() => undefined); // Its end is seen as `down`.
    }
    if (this.#kept.size > 0) return;
    clearInterval(this.#renewing);
    this.#renewing = undefined;
  }
}
