import type { Acceptor, AcceptorLane } from "./acceptor.ts";
import type { Message } from "./messages.ts";
import type { LaneId, PeerId } from "./types.ts";

type Asking = Message & { readonly type: "ops" | "prepare" };

/**
 * "Disk" (d): a store that was opened from disk may have lost its tail. It answers for a lane only once
 * f of the lane's other replicas said hello: one of them counted on what was lost, and says so.
 */
export class RestoredLanes {
  readonly #acceptor: Acceptor;
  readonly #isGreeted: (peer: PeerId) => boolean;
  readonly #waiting = new Set<LaneId>();
  /** What a peer asked too early, in order; bounded by that peer's window. */
  readonly #early = new Map<PeerId, Asking[]>();

  constructor(acceptor: Acceptor, self: PeerId, isGreeted: (peer: PeerId) => boolean) {
    this.#acceptor = acceptor;
    this.#isGreeted = (peer) => peer !== self && isGreeted(peer);
    for (const { lane, closed } of acceptor.lanes()) if (!closed) this.#waiting.add(lane);
  }

  /** Whether this store may say what it promised in the lane: some of that may be lost. */
  isReady(lane: LaneId): boolean {
    if (!this.#waiting.has(lane)) return true;
    const known: AcceptorLane | undefined = this.#acceptor.lane(lane);
    const replicas = known?.descriptor.replicas ?? [];
    const faults = Math.ceil(replicas.length / 2) - 1;
    const ready = replicas.filter(({ peer }) => this.#isGreeted(peer)).length >= faults;
    if (ready) this.#waiting.delete(lane);
    return ready;
  }

  /** `true`: the message waits for another replica's hello. */
  holds(from: PeerId, message: Asking): boolean {
    if (this.#waiting.size === 0) return false;
    const early = this.#early.get(from);
    const lanes = message.type === "prepare" ? [message.lane] : message.sections.map(({ lane }) => lane);
    if (early === undefined && lanes.every((lane) => this.isReady(lane))) return false;
    if (early === undefined) this.#early.set(from, [message]);
    else early.push(message);
    return true;
  }

  /** A replica said hello: what may be answered now, peer by peer. */
  release(handle: (from: PeerId, message: Asking) => void): void {
    const early = [...this.#early];
    this.#early.clear();
    for (const [from, messages] of early) for (const message of messages) handle(from, message);
  }

  /** The peer's session ended: it will ask again. */
  drop(from: PeerId): void {
    this.#early.delete(from);
  }
}
