import type { Mesh } from "@klatsch/mesh";
import { MeshError } from "@klatsch/mesh";

import type { Descriptor, PeerId } from "../core/types.ts";

/** How often it is looked who is needed, in milliseconds. */
const LOOK_MS = 1_000;
/** Own entry of the mesh's state: the member has queues. */
const HAS_QUEUES = "klatsch.queue/open";
/** Members with queues that a node keeps in touch with, whatever they share. */
const FELLOWS_MAX = 256;
/** Looks without a link until another way is sought; then after twice as many each time, up to so many. */
const PATIENCE = 3;
const PATIENCE_MAX = 192;
/** Ways over others that a node seeks at most: each takes room at the members in between. */
const WAYS_MAX = 32;
/** Looks without an entry and a session until a member's queues have ended; longer where it was never heard that there are any. */
const ENDED_LOOKS = 2;
const UNKNOWN_LOOKS = 10;
/** Looks after which a way that is no direct link is asked for again: the mesh gives up what is quiet for 60 s. */
const RENEW = 20;

/** What counts of a lane here: whether anything is in it, and who has it too. */
interface SharedLane {
  readonly registers: { readonly size: number };
  readonly descriptor: Pick<Descriptor, "replicas">;
}

export interface AttentionInit {
  readonly mesh: Pick<Mesh, "peerId" | "attend" | "connect" | "member" | "members" | "state">;
  readonly lanes: () => Iterable<SharedLane>;
  /** Peers with a session. */
  readonly sessions: () => readonly PeerId[];
  /** A member's queues have ended, by `stop` or because they failed, and its mesh goes on; or they are there again. Told at each look. */
  readonly onQueues: (peer: PeerId, areThere: boolean) => void;
}

function isDue(looks: number, isUp: boolean): boolean {
  if (isUp || looks > PATIENCE_MAX) return looks % (isUp ? RENEW : PATIENCE_MAX) === 0;
  return looks >= PATIENCE && Number.isInteger(Math.log2(looks / PATIENCE));
}

/**
 * Keeps in touch with all members that have queues, by direct links or where there can be none over others, and has the
 * mesh watch closely who shares messages with this node. In a mesh that is not full a link that nobody needs is closed.
 */
export class Attention {
  readonly #init: AttentionInit;
  readonly #kept = new Map<PeerId, () => void>();
  readonly #attended = new Map<PeerId, () => void>();
  /** Members that had queues once. */
  readonly #known = new Set<PeerId>();
  /** Looks for which a member has been there without queues. */
  readonly #without = new Map<PeerId, number>();
  /** Looks since there was a direct link. */
  readonly #apart = new Map<PeerId, number>();
  readonly #timer: NodeJS.Timeout;
  readonly #unwatch: () => void;

  constructor(init: AttentionInit) {
    const { mesh } = init;
    this.#init = init;
    mesh.state.set(HAS_QUEUES, true);
    this.#unwatch = mesh.state.watch({ key: HAS_QUEUES }, () => this.#keepFellows());
    this.#keepFellows();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  /** Members that are there and have queues, as far as it is known. */
  fellows(): readonly PeerId[] {
    return [...this.#kept.keys()];
  }

  #look(): void {
    const sharing = new Set<PeerId>();
    for (const { registers, descriptor } of this.#init.lanes()) {
      if (registers.size > 0) for (const { peer } of descriptor.replicas) sharing.add(peer);
    }
    this.#hold(this.#attended, sharing, true);
    this.#keepFellows();
    this.#seekWays();
    this.#seeEnded();
  }

  /** An entry that is gone may come again, as with a member's new boot; a session that is gone as well says that there are no queues. */
  #seeEnded(): void {
    const { mesh, sessions, onQueues } = this.#init;
    const open = new Set([...mesh.state.entries({ key: HAS_QUEUES })].map(({ peerId }) => peerId));
    const up = new Set(sessions());
    const members = new Map(mesh.members().map(({ peerId, status }) => [peerId, status]));
    members.delete(mesh.peerId);
    for (const peer of [...this.#known, ...this.#without.keys()]) {
      if (members.has(peer)) continue;
      this.#known.delete(peer);
      this.#without.delete(peer);
    }
    for (const [peer, status] of members) {
      if (status === "alive" && !open.has(peer) && !up.has(peer)) {
        const looks = (this.#without.get(peer) ?? 0) + 1;
        this.#without.set(peer, looks);
        if (looks >= (this.#known.has(peer) ? ENDED_LOOKS : UNKNOWN_LOOKS)) onQueues(peer, false);
      } else if (this.#without.delete(peer) && status === "alive") onQueues(peer, true);
    }
  }

  #keepFellows(): void {
    const { mesh } = this.#init;
    const fellows = new Set<PeerId>();
    for (const { peerId } of mesh.state.entries({ key: HAS_QUEUES })) {
      this.#known.add(peerId);
      const status = mesh.member(peerId)?.status;
      // One that is suspected is to be dialled all the more.
      if ((status === "alive" || status === "suspect") && fellows.size < FELLOWS_MAX) fellows.add(peerId);
    }
    this.#hold(this.#kept, fellows, false);
  }

  #hold(held: Map<PeerId, () => void>, wanted: Set<PeerId>, closely: boolean): void {
    const { mesh } = this.#init;
    wanted.delete(mesh.peerId);
    for (const [peer, release] of held) {
      if (wanted.has(peer)) continue;
      release();
      held.delete(peer);
    }
    for (const peer of wanted) {
      if (!held.has(peer)) held.set(peer, mesh.attend(peer, { closely }));
    }
  }

  /** Over others, where a direct link does not come or carries nothing. */
  #seekWays(): void {
    const { mesh, sessions } = this.#init;
    const up = new Set(sessions());
    for (const peer of this.#apart.keys()) if (!this.#kept.has(peer)) this.#apart.delete(peer);
    for (const peer of this.#kept.keys()) {
      if (mesh.member(peer)?.linked !== false) this.#apart.delete(peer);
      else if (this.#apart.has(peer) || this.#apart.size < WAYS_MAX) {
        const looks = (this.#apart.get(peer) ?? 0) + 1;
        this.#apart.set(peer, looks);
        // Where there is none it is sought again.
        if (isDue(looks, up.has(peer))) mesh.connect(peer).catch(() => undefined);
      }
    }
  }

  stop(): void {
    const { mesh } = this.#init;
    clearInterval(this.#timer);
    this.#unwatch();
    try {
      mesh.state.delete(HAS_QUEUES);
    } catch (error) {
      // A mesh that stopped first took its entries along.
      if (!(error instanceof MeshError) || error.code !== "STOPPED") throw error;
    }
    for (const release of [...this.#attended.values(), ...this.#kept.values()]) release();
    this.#attended.clear();
    this.#kept.clear();
  }
}
