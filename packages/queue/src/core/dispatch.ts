import type { Context } from "./context.ts";
import type { Register } from "./lane-register.ts";
import type { LaneWriter } from "./lane-writer.ts";
import { deadViewOf, isInDeadView } from "./dead-queue.ts";
import type { CreditItem } from "./messages.ts";
import { ReadyList } from "./ready.ts";
import type { Timer } from "./timers.ts";
import type { Holder, PeerId, QueueId, Ranges } from "./types.ts";

/** Credits one queue keeps at a time: consumers beyond it wait for others to leave. */
const CREDITS_MAX = 65_536;

/** Shorter lists of what waits are not looked through. */
const COMPACT_MIN = 8_192;

interface Credit {
  readonly holder: Holder;
  total: number;
  spent: number;
  usedMs: number;
}

interface QueueSide {
  readonly queue: QueueId;
  readonly ready: ReadyList<LaneWriter>;
  /** Length at which it is looked through for what waits no more. */
  compactAt: number;
  readonly credits: Map<string, Credit>;
  /** Sessions in turn, and those that have ended among them until there are too many. */
  turns: Credit[];
  turn: number;
  ended: number;
  offeredMs: number;
  offering: Timer | undefined;
  /** When that one is due. */
  offeringMs: number;
}

/** What the dispatcher asks of its node. */
export interface DispatchHost {
  /** Peers that host consumers of the queue. */
  consumersOf(queue: QueueId): Iterable<PeerId>;
  /** The mesh says that the peer is gone, though its link may stand for a while. */
  isOut(peer: PeerId): boolean;
  leaseMs(queue: QueueId): number;
}

/**
 * Flow 2 and the lane writers' part of flow 9: brings this node's claimable messages and the credit of
 * consumers together. Consumers take turns, those on the lane's replicas first.
 */
export class Dispatch {
  readonly #context: Context;
  readonly #host: DispatchHost;
  readonly #queues = new Map<QueueId, QueueSide>();
  /** Queues whose messages nobody is handed for now. */
  readonly #paused = new Set<QueueId>();
  #sweeping = false;

  constructor(context: Context, host: DispatchHost) {
    this.#context = context;
    this.#host = host;
  }

  /** The queue was deleted, and its lanes with it. */
  forget(queue: QueueId): void {
    for (const view of [queue, deadViewOf(queue)]) {
      this.#context.timers.cancel(this.#queues.get(view)?.offering);
      this.#queues.delete(view);
      this.#paused.delete(view);
    }
  }

  /** Messages of this node that wait for a consumer. */
  depth(queue: QueueId): number {
    return this.#queues.get(queue)?.ready.size ?? 0;
  }

  #side(queue: QueueId): QueueSide {
    let side = this.#queues.get(queue);
    if (side === undefined) {
      side = {
        queue,
        ready: new ReadyList(),
        compactAt: COMPACT_MIN,
        credits: new Map(),
        turns: [],
        turn: 0,
        ended: 0,
        offeredMs: Number.NEGATIVE_INFINITY,
        offering: undefined,
        offeringMs: 0,
      };
      this.#queues.set(queue, side);
    }
    return side;
  }

  /** For fusion: a consumer for a message that does not exist yet, if none waits before it. */
  claim(lane: LaneWriter): Holder | undefined {
    const side = this.#side(lane.descriptor.queue);
    const waits = side.ready.size > 0 || this.#paused.has(side.queue);
    return waits ? undefined : this.#nominate(side, lane);
  }

  add(lane: LaneWriter, register: Register): void {
    const { queue } = lane.descriptor;
    const side = this.#side(isInDeadView(register.value) ? deadViewOf(queue) : queue);
    side.ready.push(lane, register.seq, register.value.attributes?.priority ?? 0);
    this.#compact(side);
    this.#run(side);
  }

  /** Messages that rest: they are alive and have no priority. */
  addRested(lane: LaneWriter, runs: Ranges): void {
    if (runs.length === 0) return;
    const side = this.#side(lane.descriptor.queue);
    for (const [from, to] of runs) side.ready.pushRun(lane, from, to);
    this.#compact(side);
    this.#run(side);
  }

  /** What is held stays held; what waits goes on waiting until the queue is resumed. */
  pause(queue: QueueId, paused: boolean): void {
    if (paused) this.#paused.add(queue);
    else if (this.#paused.delete(queue)) this.wake([queue]);
  }

  #run(side: QueueSide): void {
    if (this.#paused.has(side.queue)) return;
    for (let next = side.ready.peek(); next !== undefined; next = side.ready.peek()) {
      const [lane, seq] = next;
      if (isClaimable(lane, seq, this.#context.now.wallMs, lane.descriptor.queue === side.queue)) {
        const holder = this.#nominate(side, lane);
        if (holder === undefined) return this.#offer(side);
        side.ready.drop();
        const register = lane.registers.get(seq);
        if (register === undefined) this.refund(side.queue, holder);
        else lane.lease(register, holder, this.#host.leaseMs(lane.descriptor.queue));
      } else {
        side.ready.drop();
        // A clock that was set back: its time has still to come.
        lane.reconsider(seq);
      }
    }
  }

  /** What expired or was taken away behind a head that waits leaves the list when that has doubled. */
  #compact(side: QueueSide): void {
    if (side.ready.size < side.compactAt) return;
    const { wallMs } = this.#context.now;
    side.ready.keep((lane, seq) => {
      const keeps = isClaimable(lane, seq, wallMs, lane.descriptor.queue === side.queue);
      if (!keeps) lane.reconsider(seq);
      return keeps;
    });
    side.compactAt = Math.max(COMPACT_MIN, 2 * side.ready.size);
  }

  #nominate(side: QueueSide, lane: LaneWriter): Holder | undefined {
    const { turns } = side;
    const { replicas } = lane.descriptor;
    const wanted = this.#chosenByHook(side);
    if (wanted !== undefined) return this.#spend(side, wanted);
    let elsewhere: number | undefined;
    for (let tried = 0; tried < turns.length; tried += 1) {
      const at = (side.turn + tried) % turns.length;
      const credit = turns[at];
      if (credit === undefined || !this.#hasRoom(credit)) continue;
      if (replicas.some(({ peer }) => peer === credit.holder.peer)) return this.#spend(side, at);
      elsewhere ??= at;
    }
    return elsewhere === undefined ? undefined : this.#spend(side, elsewhere);
  }

  /** Whom the application wants, of those with credit, beginning with whose turn it is. */
  #chosenByHook({ queue, turns, turn }: QueueSide): number | undefined {
    const { nominate } = this.#context.hooks;
    if (nominate === undefined) return undefined;
    const order = turns.map((_, tried) => (turn + tried) % turns.length);
    const free = order.filter((at) => this.#hasRoom(turns[at]));
    const candidates = free.flatMap((at) => turns[at]?.holder ?? []);
    const chosen = candidates.length === 0 ? undefined : nominate(queue, candidates);
    return chosen === undefined ? undefined : free[chosen];
  }

  /** Whoever is gone by the mesh's word would lose each lease at once. */
  #hasRoom(credit: Credit | undefined): boolean {
    return credit !== undefined && credit.spent < credit.total && !this.#host.isOut(credit.holder.peer);
  }

  #spend(side: QueueSide, at: number): Holder | undefined {
    const credit = side.turns[at];
    if (credit === undefined) return undefined;
    side.turn = at + 1;
    credit.spent += 1;
    credit.usedMs = this.#context.now.monoMs;
    return credit.holder;
  }

  /** A nomination came to nothing. */
  refund(queue: QueueId, holder: Holder): void {
    const [side, credit] = this.#creditOf(queue, holder);
    if (side === undefined || credit === undefined || credit.spent === 0) return;
    credit.spent -= 1;
    this.#run(side);
  }

  /** Too few vote for it: the credit goes back, so that a consumer elsewhere is offered what waits. */
  decline(queue: QueueId, holder: Holder): void {
    const [side, credit] = this.#creditOf(queue, holder);
    if (side === undefined || credit === undefined) return;
    this.#context.send(holder.peer, { type: "returned", session: holder.session, count: 1 });
    this.#run(side);
  }

  #creditOf(queue: QueueId, { session }: Holder): readonly [QueueSide | undefined, Credit | undefined] {
    const own = this.#queues.get(queue);
    const side = own?.credits.has(session) === true ? own : this.#queues.get(deadViewOf(queue));
    return [side, side?.credits.get(session)];
  }

  /** CREDIT: `total` is cumulative within the link session; −1 ends the consumer. */
  credit(peer: PeerId, item: CreditItem): void {
    if (item.total < 0) return this.#endCredit(peer, item);
    const side = this.#side(item.queue);
    let credit = side.credits.get(item.session);
    if (credit !== undefined && credit.holder.peer !== peer) return;
    if (credit === undefined) {
      if (side.credits.size >= CREDITS_MAX) return;
      const holder = { peer, session: item.session };
      credit = { holder, total: 0, spent: 0, usedMs: this.#context.now.monoMs };
      side.credits.set(item.session, credit);
      side.turns.push(credit);
    }
    if (item.total > credit.total) credit.usedMs = this.#context.now.monoMs;
    credit.total = Math.max(credit.total, item.total);
    this.#run(side);
    if (item.recall) this.#giveBack(credit, 0);
    else this.#sweepLater();
  }

  #endCredit(peer: PeerId, { queue, session }: CreditItem): void {
    const side = this.#queues.get(queue);
    const credit = side?.credits.get(session);
    if (side === undefined || credit === undefined || credit.holder.peer !== peer) return;
    side.credits.delete(session);
    credit.spent = credit.total; // It is passed over; to look for it each time would be quadratic.
    side.ended += 1;
    if (side.ended * 2 > side.turns.length) this.#rebuild(side);
  }

  #rebuild(side: QueueSide): void {
    side.turns = [...side.credits.values()];
    side.ended = 0;
  }

  /** The peer's link session ended: its consumers grant anew. */
  dropPeer(peer: PeerId): void {
    for (const side of this.#queues.values()) {
      for (const [session, { holder }] of side.credits) {
        if (holder.peer === peer) side.credits.delete(session);
      }
      this.#rebuild(side);
    }
  }

  /** The mesh took its word back: what the peer's consumers granted counts again. */
  peerBack(peer: PeerId): void {
    for (const side of this.#queues.values()) {
      if (side.turns.some(({ holder }) => holder.peer === peer)) this.#run(side);
    }
  }

  /** Consumers came: what waits is offered to them. */
  wake(queues: Iterable<QueueId>): void {
    for (const queue of queues) {
      const side = this.#queues.get(queue);
      if (side !== undefined) this.#run(side);
    }
  }

  /** A writer with messages and no credit says so, and again while that lasts. */
  #offer(side: QueueSide): void {
    const { offerMs, creditIdleMs } = this.#context.tuning;
    const nextMs = side.offeredMs + offerMs;
    const now = nextMs <= this.#context.now.monoMs;
    let count = 0;
    for (const peer of this.#host.consumersOf(side.queue)) {
      count += 1;
      if (now) this.#context.send(peer, { type: "offer", queue: side.queue, count: side.ready.size });
    }
    if (count === 0) return; // A consumer that comes wakes this queue.
    if (now) side.offeredMs = this.#context.now.monoMs;
    const dueMs = now ? side.offeredMs + creditIdleMs : nextMs;
    if (side.offering !== undefined && side.offeringMs === dueMs) return;
    this.#context.timers.cancel(side.offering);
    side.offeringMs = dueMs;
    side.offering = this.#context.timers.set(dueMs, () => {
      side.offering = undefined;
      this.#run(side);
    });
  }

  /** An idle writer keeps one credit of each consumer and gives the others back. */
  #sweepLater(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    const { creditIdleMs } = this.#context.tuning;
    this.#context.timers.set(this.#context.now.monoMs + creditIdleMs, () => {
      this.#sweeping = false;
      let left = false;
      for (const side of this.#queues.values()) {
        for (const credit of side.credits.values()) {
          if (this.#context.now.monoMs - credit.usedMs >= creditIdleMs) this.#giveBack(credit, 1);
          else left = true;
        }
      }
      if (left) this.#sweepLater();
    });
  }

  #giveBack(credit: Credit, keep: number): void {
    const count = credit.total - credit.spent - keep;
    if (count <= 0) return;
    credit.spent += count;
    const { peer, session } = credit.holder;
    this.#context.send(peer, { type: "returned", session, count });
  }
}

function isClaimable(lane: LaneWriter, seq: number, wallMs: number, alive: boolean): boolean {
  if (!lane.isServing) return false;
  if (lane.order === undefined && lane.registers.rests(seq)) return alive;
  const register = lane.registers.peek(seq);
  return (
    register?.chosen === true &&
    lane.isNext(register) &&
    register.value.state === (alive ? "READY" : "DEAD") &&
    register.value.notBeforeWallMs <= wallMs
  );
}
