import type { Acceptor, AcceptorLane } from "./acceptor.ts";
import { makePid, pidStore } from "./ballot.ts";
import type { Context } from "./context.ts";
import type { LaneWriter } from "./lane-writer.ts";
import type { Message } from "./messages.ts";
import type { Candidate } from "./placement.ts";
import { chooseHeir } from "./placement.ts";
import type {
  Descriptor,
  EndValue,
  LaneId,
  Parentage,
  PeerId,
  QueueId,
  Replica,
  Shard,
  StoreId,
} from "./types.ts";

/** A look that comes later than this names no heir, in milliseconds. */
const LATE_MS = 100;

/** An heir whose stores do not answer keeps no other lane waiting after so many looks. */
const LOOKS = 3;

/** A lane of this node on its way to its heir. */
interface Move {
  readonly lane: LaneWriter;
  readonly heir: LaneId;
  readonly descriptor: Descriptor;
  /** Nothing that is known of it has to reach the disk first. */
  kept: boolean;
  /** The heir's stores that answered since it was planned. */
  readonly seen: Set<StoreId>;
  /** How often its stores were asked for in vain. */
  looks: number;
  /** END names the heir, for ever. */
  frozen: boolean;
}

/** What the moves of a node ask of it. */
export interface MovesHost {
  lanes(): Iterable<LaneWriter>;
  writer(lane: LaneId): LaneWriter | undefined;
  candidates(queue: QueueId): { readonly self: Candidate; readonly others: readonly Candidate[] };
  isLost(replica: Replica): boolean;
  storeOf(peer: PeerId): StoreId | undefined;
  /** Keeps a new lane's state; `onSynced` follows when it is on disk. */
  openHeir(make: (laneNo: number) => Descriptor): Descriptor;
  /** Takes over an heir that nobody else has. */
  take(heir: LaneId): void;
  /** Another replica has an END of it, and can do nothing about it. */
  hearEnded(lane: LaneId): void;
  /** Somebody else is to write the lane. */
  giveUp(lane: LaneWriter): void;
  /** An ordered lane's messages go there, for good. */
  onHeir(heir: Descriptor): void;
  /** The lane's messages are in its heir. */
  onMoved(lane: LaneWriter, heir: LaneId): void;
}

/**
 * Flow 10. The writer of a lane whose R lost a store, or was weak from the start, freezes it: END names an heir, a
 * lane with the same message ids on a sound R. Only then the heir is written, by whoever writes the frozen lane, and
 * only by an ordinary steal; so there is never an heir that is none. It imports, ends as the lane before it ended,
 * and then hands out messages; the frozen lane closes.
 */
export class Moves {
  readonly #context: Context;
  readonly #acceptor: Acceptor;
  readonly #host: MovesHost;
  /** By the lane that moves. */
  readonly #moves = new Map<LaneId, Move>();
  /** Lanes whose origin asked for an heir. */
  readonly #asked = new Set<LaneId>();
  /** Frozen lanes of others, by the heir that was asked after. */
  readonly #wanted = new Map<LaneId, LaneId>();
  /** Heirs of ordered lanes planned in this boot. */
  #planned = 0;
  #isWatching = false;
  /** This look came late, and the one before did not. */
  #isLate = false;

  constructor(context: Context, acceptor: Acceptor, host: MovesHost) {
    this.#context = context;
    this.#acceptor = acceptor;
    this.#host = host;
  }

  /** Lanes of this node that are on their way. */
  get count(): number {
    return this.#moves.size;
  }

  /** Where they go. */
  heirs(): readonly Descriptor[] {
    return [...this.#moves.values()].map(({ descriptor }) => descriptor);
  }

  /** The lane is forgotten, and what was planned for it. */
  drop(lane: LaneId): void {
    this.#moves.delete(lane);
    this.#asked.delete(lane);
    for (const [heir, from] of this.#wanted) if (from === lane) this.#wanted.delete(heir);
  }

  /** There are lanes to be looked at. */
  watch(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    const atMs = this.#context.now.monoMs + this.#context.tuning.heirLookMs;
    this.#context.timers.set(atMs, () => {
      this.#isWatching = false;
      // Awake from a stall: what happened meanwhile is still to be read, and an heir once named is so for ever.
      this.#isLate = this.#context.now.monoMs - atMs > LATE_MS && !this.#isLate;
      this.#look();
    });
  }

  #look(): void {
    for (const move of [...this.#moves.values()]) {
      if (move.lane.isLost) this.#moves.delete(move.lane.lane);
      else if (move.frozen) this.#pursue(move);
      else if (!this.#hasQuorum(move.descriptor)) this.#drop(move);
      else if (!move.lane.course.isMoving) {
        move.looks += 1;
        this.#ask(move);
      }
    }
    const before = [...this.#host.lanes()];
    const stranded = before.filter((lane) => this.#isStranded(lane));
    for (const lane of stranded) this.#host.giveUp(lane);
    const lanes = stranded.length === 0 ? before : [...this.#host.lanes()];
    if (lanes.length > 0) this.watch();
    else this.#asked.clear();
    if (this.#isLate) return;
    // One that waits for its quorum keeps no other waiting.
    let under = 0;
    for (const { lane, looks } of this.#moves.values()) if (looks <= LOOKS && canDecide(lane)) under += 1;
    for (const lane of lanes) {
      if (under >= this.#context.tuning.heirsMax) return;
      const isOver = lane.end?.closed === true || this.#moves.has(lane.lane);
      const mayMove = lane.isServing && lane.isOpen && !isOver;
      if (mayMove && canDecide(lane) && this.#review(lane)) under += 1;
    }
  }

  /** Some follow another writer, and without those that are lost too few are left that could follow this one. */
  #isStranded({ refused, quorum, descriptor, end }: LaneWriter): boolean {
    if (refused === 0 || end?.closed === true) return false;
    const left = descriptor.replicas.filter(
      (one, at) => !this.#host.isLost(one) && (refused & (1 << at)) === 0,
    );
    return left.length < quorum;
  }

  /** An heir that is named is so for ever: a quorum of its stores must say that they are there. */
  #ask({ heir, descriptor: { replicas } }: Move): void {
    for (const { peer, store } of replicas) {
      if (this.#context.reachable(store)) this.#context.send(peer, { type: "askLane", lane: heir });
    }
  }

  answered(from: PeerId, heir: LaneId): void {
    for (const move of this.#moves.values()) {
      const store = this.#host.storeOf(from);
      const isOnIt = move.descriptor.replicas.some((one) => one.store === store && one.peer === from);
      if (move.heir !== heir || store === undefined || !isOnIt) continue;
      move.seen.add(store);
      this.#begin(move);
    }
  }

  #begin(move: Move): void {
    const { replicas } = move.descriptor;
    const isSeen = move.seen.size > replicas.length / 2;
    if (isSeen && move.kept && !move.lane.course.isMoving) move.lane.move(move.descriptor);
  }

  #drop(move: Move): void {
    if (!move.lane.course.isMoving || move.lane.stay()) this.#moves.delete(move.lane.lane);
  }

  /** What was planned may be of no use by the time that nothing is under way in the lane any more. */
  #hasQuorum({ replicas }: Descriptor): boolean {
    return replicas.filter((one) => !this.#host.isLost(one)).length > replicas.length / 2;
  }

  /** Whether a replica of the lane is lost, or was missing from the start. */
  isWeak({ descriptor: { replicas, wanted } }: LaneWriter): boolean {
    return replicas.length < wanted || replicas.some((replica) => this.#host.isLost(replica));
  }

  /** `true`: it gets an heir. */
  #review(lane: LaneWriter): boolean {
    const asked = this.#asked.has(lane.lane);
    if (!asked && !this.isWeak(lane)) return false;
    const { descriptor } = lane;
    const { queue, replicas, wanted, relaxed, shard } = descriptor;
    const { self, others } = this.#host.candidates(queue);
    const old = { replicas, wanted, isLost: (replica: Replica) => this.#host.isLost(replica) };
    const chosen = chooseHeir(self, others, old, lane.lane, asked);
    if (chosen === undefined) return false;
    // With nothing in it, it only has to end: the next message opens a better one. An ordered one goes on.
    if (lane.registers.size === 0 && shard === undefined) {
      lane.seal();
      return false;
    }
    const { originPid, laneNo } = descriptor;
    const heirOf = { root: lane.root, lane: lane.lane, originPid, laneNo };
    const rest = { wanted, heirOf, ...(relaxed === undefined ? {} : { relaxed }) };
    const made =
      shard === undefined
        ? this.#host.openHeir((no) => {
            return { queue, originPid: this.#context.pid, laneNo: no, ...chosen, ...rest };
          })
        : { queue, ...this.#orderedOrigin(), ...chosen, shard: movedOn(shard), ...rest };
    this.#asked.delete(lane.lane);
    this.#ask(this.#put(lane, made, { kept: shard !== undefined, frozen: false }));
    return true;
  }

  #put(lane: LaneWriter, descriptor: Descriptor, how: Pick<Move, "kept" | "frozen">): Move {
    const heir = this.#context.laneIdOf(descriptor);
    const move = { lane, heir, descriptor, seen: new Set<StoreId>(), looks: 0, ...how };
    this.#moves.set(lane.lane, move);
    return move;
  }

  /** A boot that never was, as of every ordered lane: floors do not know it, and END alone says that it is there. */
  #orderedOrigin(): Pick<Descriptor, "originPid" | "laneNo"> {
    this.#planned += 1;
    const { store, pid } = this.#context;
    return { originPid: makePid(store, 0, pid.slice(-16)), laneNo: this.#planned };
  }

  /** The heir's descriptor is on disk: the lane may name it. */
  onSynced(heir: LaneId): void {
    for (const move of this.#moves.values()) {
      if (move.heir !== heir) continue;
      move.kept = true;
      this.#begin(move);
    }
  }

  askHeir(from: PeerId, lane: LaneId): void {
    const writer = this.#host.writer(lane);
    if (writer === undefined || writer.order !== undefined) return;
    const { originPid } = writer.descriptor;
    if (this.#host.storeOf(from) === pidStore(originPid)) this.#asked.add(lane);
  }

  /** END of one of this node's lanes is chosen. */
  onEnd(lane: LaneWriter, end: EndValue): void {
    const { heirOf } = lane.descriptor;
    if (end.closed) this.#moves.delete(lane.lane);
    else if (end.heir !== undefined) this.#freeze(lane, end.heir);
    else if (heirOf !== undefined) {
      const move = this.#moves.get(heirOf.lane);
      if (move !== undefined) this.#pursue(move);
    }
  }

  #freeze(lane: LaneWriter, descriptor: Descriptor): void {
    const move = this.#put(lane, descriptor, { kept: true, frozen: true });
    if (descriptor.shard !== undefined) this.#host.onHeir(descriptor);
    if (!descriptor.replicas.some(({ store }) => store === this.#context.store)) {
      this.#moves.delete(lane.lane);
      return this.#host.giveUp(lane);
    }
    this.#pursue(move);
    this.watch();
  }

  #pursue({ lane, heir, descriptor }: Move): void {
    if (this.#isThere(heir, descriptor)) return this.#onThere(lane, heir);
    if (this.#acceptor.lane(heir) === undefined) this.#acceptor.open(heir, descriptor);
    const writer = this.#host.writer(heir);
    if (writer !== undefined) return this.onStolen(writer, false);
    this.#askMoved(heir, descriptor);
    this.#host.take(heir);
  }

  /** Whether the heir's END is known to be chosen: everything was imported. */
  #isThere(heir: LaneId, descriptor: Descriptor): boolean {
    const closed = this.#acceptor.lane(heir)?.closed === true || this.#acceptor.isBelowFloor(descriptor);
    return closed || this.#host.writer(heir)?.end !== undefined;
  }

  #onThere(lane: LaneWriter, heir: LaneId): void {
    if (lane.course.isMoved) return;
    lane.onMoved();
    this.#host.onMoved(lane, heir);
  }

  /** Whoever knows that the lane closed, or has everything, says so. */
  onSilent({ lane, descriptor, end }: AcceptorLane): void {
    this.#askMoved(lane, descriptor, true, end !== undefined);
  }

  #askMoved(lane: LaneId, descriptor: Descriptor, kept = false, ended = false): void {
    for (const { peer, store } of descriptor.replicas) {
      if (store === this.#context.store || !this.#context.reachable(store)) continue;
      this.#context.send(peer, { type: "askMoved", lane, descriptor, kept, ended });
    }
  }

  askMoved(from: PeerId, { lane, descriptor, kept, ended }: Message & { type: "askMoved" }): void {
    if (!this.#isThere(lane, descriptor)) {
      if (kept) this.#acceptor.hear(from, lane, descriptor);
      if (kept && ended) this.#host.hearEnded(lane);
      return;
    }
    this.#context.sendAfter(from, { type: "moved", lane });
    const known = this.#acceptor.lane(lane);
    const isClosed = known?.closed === true || this.#acceptor.isBelowFloor(descriptor);
    if (isClosed) this.#context.sendAfter(from, { type: "closed", lane, end: known?.end?.value });
  }

  /**
   * A frozen lane that its writer is silent about. It may have lost its quorum meanwhile, and its heir goes on without it:
   * an heir that has ended once shows that this lane's END was chosen.
   */
  onFrozen({ lane, end }: AcceptorLane): void {
    const descriptor = end?.value.heir;
    if (descriptor === undefined) return;
    // Who ends it here is on the way, and tells all of R when that is done.
    const writer = this.#host.writer(lane);
    if (writer?.end?.heir !== undefined || (writer?.course.isMoving === true && canDecide(writer))) return;
    const heir = this.#context.laneIdOf(descriptor);
    if (this.#isThere(heir, descriptor)) return this.#close(lane);
    this.#wanted.set(heir, lane);
    this.#askMoved(heir, descriptor);
  }

  #close(lane: LaneId): void {
    const known = this.#acceptor.lane(lane);
    const end = known?.end?.value;
    if (known === undefined || end?.heir === undefined) return;
    this.#wanted.delete(this.#context.laneIdOf(end.heir));
    this.#acceptor.learnClosed(known, { ...end, closed: true });
  }

  moved(from: PeerId, heir: LaneId): void {
    const wanted = this.#wanted.get(heir);
    if (wanted !== undefined) {
      const { replicas = [] } = this.#acceptor.lane(wanted)?.end?.value.heir ?? {};
      if (replicas.some(({ peer }) => peer === from)) return this.#close(wanted);
    }
    for (const { lane, heir: known, descriptor, frozen } of this.#moves.values()) {
      const isReplica = descriptor.replicas.some(({ peer }) => peer === from);
      if (known === heir && frozen && isReplica) return this.#onThere(lane, heir);
    }
  }

  /** This node took an heir over, and perhaps found no END: it imports, or somebody else has to. */
  onStolen(heir: LaneWriter, parentOver: boolean): void {
    const { heirOf } = heir.descriptor;
    if (heirOf === undefined || !heir.course.wantsImport) return;
    const move = this.#moves.get(heirOf.lane);
    if (move?.frozen === true && move.heir === heir.lane && move.lane.end !== undefined) {
      const { registers, end, order } = move.lane;
      heir.import([...registers.values()], end, order?.kept(this.#context) ?? []);
    } else if (parentOver && heir.order === undefined) heir.import([], NOBODYS_END, []);
    else this.#host.giveUp(heir);
  }

  /** Whether this node writes the frozen lane that the heir comes from. */
  isParent(heir: LaneId, { lane }: Parentage): boolean {
    const move = this.#moves.get(lane);
    return move?.frozen === true && move.heir === heir && !move.lane.isLost;
  }

  /** Closed here, or forgotten: its heir, if it has one, has ended. */
  isOver({ lane, ...place }: Parentage): boolean {
    return this.#acceptor.lane(lane)?.closed === true || this.#acceptor.isBelowFloor(place);
  }
}

/** Of a lane that is nobody's heir after all: no message is in it. */
const NOBODYS_END: EndValue = { n: 0, voids: [], closed: false };

function movedOn(shard: Shard): Shard {
  return { ...shard, moves: (shard.moves ?? 0) + 1 };
}

function canDecide(lane: LaneWriter): boolean {
  return lane.reachable >= lane.quorum;
}
