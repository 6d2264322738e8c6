import type { Mesh } from "@klatsch/mesh";

/** How long a peer is watched closely after it left a call unanswered, in milliseconds: until a mute link is given up. */
const WATCH_MS = 15_000;
/** Peers watched at a time. */
const WATCHED_MAX = 64;

/** Has the mesh look closely at peers that leave calls unanswered: a link may be there and carry nothing. */
export class Attention {
  readonly #mesh: Pick<Mesh, "attend" | "peerId">;
  readonly #watched = new Map<string, { readonly release: () => void; readonly timer: NodeJS.Timeout }>();

  constructor(mesh: Pick<Mesh, "attend" | "peerId">) {
    this.#mesh = mesh;
  }

  /** A call had no answer by its deadline. */
  missed(peer: string): void {
    if (peer === this.#mesh.peerId || this.#watched.has(peer) || this.#watched.size >= WATCHED_MAX) return;
    const release = this.#mesh.attend(peer);
    const timer = setTimeout(() => {
      this.#watched.delete(peer);
      release();
    }, WATCH_MS);
    this.#watched.set(peer, { release, timer });
  }

  stop(): void {
    for (const { release, timer } of this.#watched.values()) {
      clearTimeout(timer);
      release();
    }
    this.#watched.clear();
  }
}
