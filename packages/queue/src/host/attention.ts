import type { Mesh } from "@klatsch/mesh";

import type { Descriptor, PeerId } from "../core/types.ts";

/** How often it is looked whom this node shares messages with, in milliseconds. */
const LOOK_MS = 1_000;

/** What counts of a lane here: whether anything is in it, and who has it too. */
interface SharedLane {
  readonly registers: { readonly size: number };
  readonly descriptor: Pick<Descriptor, "replicas">;
}

/**
 * Keeps direct links with the other replicas of every lane that holds messages, and has the mesh watch them
 * closely: in a mesh that is not full a link that nobody needs is closed, and a backlog would need it again.
 */
export class Attention {
  readonly #mesh: Pick<Mesh, "peerId" | "attend">;
  readonly #lanes: () => Iterable<SharedLane>;
  readonly #attended = new Map<PeerId, () => void>();
  readonly #timer: NodeJS.Timeout;

  constructor(mesh: Pick<Mesh, "peerId" | "attend">, lanes: () => Iterable<SharedLane>) {
    this.#mesh = mesh;
    this.#lanes = lanes;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  #look(): void {
    const wanted = new Set<PeerId>();
    for (const { registers, descriptor } of this.#lanes()) {
      if (registers.size > 0) for (const { peer } of descriptor.replicas) wanted.add(peer);
    }
    wanted.delete(this.#mesh.peerId);
    for (const [peer, release] of this.#attended) {
      if (wanted.has(peer)) continue;
      release();
      this.#attended.delete(peer);
    }
    for (const peer of wanted) {
      if (!this.#attended.has(peer)) this.#attended.set(peer, this.#mesh.attend(peer));
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const release of this.#attended.values()) release();
    this.#attended.clear();
  }
}
