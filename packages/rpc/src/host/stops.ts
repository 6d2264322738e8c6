import { textOf } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

/** Own entry of gossip state of a member that takes no calls, until its process ends or has an rpc again. */
const STOPS_KEY = "klatsch.rpc/stops";

/** Who takes no more calls, as all say of themselves: they are not chosen, and not waited for. */
export class Stops {
  readonly #mesh: Mesh;
  readonly #logger: Logger;

  constructor(mesh: Mesh, logger: Logger) {
    this.#mesh = mesh;
    this.#logger = logger;
  }

  has(peer: string): boolean {
    return this.#mesh.state.get(peer, STOPS_KEY) !== undefined;
  }

  /** Calls `then` for each that says so from now on, until the result is called. */
  watch(then: (peer: string) => void): () => void {
    return this.#mesh.state.watch({ key: STOPS_KEY }, ({ peerId, value }) => {
      if (value !== undefined) then(peerId);
    });
  }

  say(): void {
    try {
      this.#mesh.state.set(STOPS_KEY, 1);
    } catch (error) {
      // The mesh has stopped, so they know; or there is no room, and they learn it call by call.
      this.#logger.debug("others are not told that this node takes no more calls", { reason: textOf(error) });
    }
  }

  /** What an earlier rpc of this process said holds no more. */
  takeBack(): void {
    if (this.has(this.#mesh.peerId)) this.#mesh.state.delete(STOPS_KEY);
  }
}
