import { randomBelow } from "@klatsch/kit/core";

import type { Acceptor, AcceptorLane } from "./acceptor.ts";
import { pidStore } from "./ballot.ts";
import { Confirms } from "./confirms.ts";
import type { Context } from "./context.ts";
import { Dispatch } from "./dispatch.ts";
import { Entrances } from "./entrance.ts";
import type { PendingEnqueue, Register, Waiter } from "./lane-register.ts";
import { bitCount } from "./lane-register.ts";
import type { LaneHost } from "./lane-host.ts";
import { LaneWriter } from "./lane-writer.ts";
import type { Delivery, HeldItem, Message, SettledItem, VerdictItem } from "./messages.ts";
import { Fifo } from "./fifo.ts";
import { isForgotten } from "./ordered.ts";
import { isIn, isVoid } from "./register.ts";
import type { Usage } from "./quota.ts";
import type { ReplicaLink } from "./replica-link.ts";
import type { Recovery, Steals } from "./steal.ts";
import type {
  Definition,
  Descriptor,
  EndValue,
  Holder,
  LaneId,
  PeerId,
  QueueId,
  Replica,
  Resolution,
  SettledCode,
  Value,
} from "./types.ts";

/** Body fetches of a steal under way at a time. */
const FETCHES_MAX = 256;
/** After this many unanswered fetches of one body the lane is prepared again, higher. */
const FETCH_TRIES_MAX = 10;
/** Closed lanes remembered for their finished epochs. */
const CLOSED_MAX = 64;
/** A wall clock that moves by this much against the monotonic one was set, in milliseconds. */
const CLOCK_STEP_MS = 500;
/** Lanes remembered as told to one peer within a link session. */
const TOLD_LANES_MAX = 4_096;

/** What the lanes of a node ask of it. */
export interface LanesHost {
  definition(queue: QueueId): Definition | undefined;
  link(replica: Replica): ReplicaLink;
  isGreeted(peer: PeerId): boolean;
  isOut(peer: PeerId): boolean;
  peerOf(store: string): PeerId | undefined;
  consumersOf(queue: QueueId): Iterable<PeerId>;
  usage(queue: QueueId): Usage;
  /** END of a lane was chosen. */
  onEnd(lane: LaneWriter, end: EndValue): void;
  /** A lane was opened or taken over; of an heir: whether the lane it comes from was over before. */
  onWritten(lane: LaneWriter, parentOver: boolean): void;
  /** Enqueues of a lane that somebody else took over: what became of them decides. */
  onOrphans(lane: LaneWriter, orphans: readonly (readonly [seq: number, PendingEnqueue])[]): void;
  onEnqueued(pending: PendingEnqueue, lane: LaneId, seq: number): void;
  onElected(queue: QueueId, holder: Holder): void;
  onDied(lane: LaneWriter, seq: number, value: Value): void;
}

interface Fetch {
  readonly key: string;
  readonly lane: LaneWriter;
  readonly seq: number;
  tries: number;
  readonly asked: Set<PeerId>;
  /** Of them, those who will answer: the body may be long, and its link slow. */
  readonly awaited: Set<PeerId>;
}

/**
 * Every lane this node writes, whether it opened or stole it: elections, verdicts, confirmations,
 * and the outboxes to consumers.
 */
export class Lanes {
  readonly dispatch: Dispatch;
  readonly #context: Context;
  readonly #acceptor: Acceptor;
  readonly #host: LanesHost;
  readonly #writers = new Map<LaneId, LaneWriter>();
  /** The heirs among them, by the lane in their messages' ids. */
  readonly #heirs = new Map<LaneId, LaneWriter>();
  /** Lanes this node closed a while ago, for what they remember. */
  readonly #closed = new Map<LaneId, LaneWriter>();
  readonly #confirms: Confirms;
  /** Doors of the ordered lanes. */
  readonly entrances: Entrances;
  readonly #laneHost: LaneHost<LaneWriter>;
  readonly #deliveries = new Map<PeerId, Delivery[]>();
  readonly #settled = new Map<PeerId, SettledItem[]>();
  readonly #told = new Map<PeerId, Set<LaneId>>();
  /** Each peer's newest stamp, and when it came. */
  readonly #stamps = new Map<PeerId, { readonly stampMs: number; readonly atMs: number }>();
  readonly #fetches = new Map<string, Fetch>();
  /** Those of them that asked somebody. */
  readonly #running = new Set<Fetch>();
  /** Between the wall clock and the monotonic one, when it was last looked at. */
  #clockOffsetMs: number;
  readonly #fetchQueue = new Fifo<Fetch>();
  #steals: Steals | undefined;

  constructor(context: Context, acceptor: Acceptor, host: LanesHost) {
    this.#context = context;
    this.#clockOffsetMs = context.now.wallMs - context.now.monoMs;
    this.#acceptor = acceptor;
    this.#host = host;
    this.#confirms = new Confirms(context);
    this.dispatch = new Dispatch(context, {
      consumersOf: (queue) => host.consumersOf(queue),
      isOut: (peer) => host.isOut(peer),
      leaseMs: (queue) => this.#definition(queue).leaseMs,
    });
    this.entrances = new Entrances(context, {
      claim: (lane) => this.dispatch.claim(lane),
      leaseMs: (lane) => this.#definition(lane.descriptor.queue).leaseMs,
      hint: (root) => {
        const known = this.#acceptor.newest(root);
        const heir = known?.end?.value.heir;
        if (heir !== undefined) return this.#anyOf(heir);
        return known === undefined ? undefined : host.peerOf(pidStore(known.promise.pid));
      },
    });
    this.#laneHost = this.#makeLaneHost();
  }

  set steals(steals: Steals) {
    this.#steals = steals;
  }

  get(lane: LaneId): LaneWriter | undefined {
    return this.#writers.get(lane);
  }

  /** Who writes messages with this lane in their ids here. */
  ofRoot(root: LaneId): LaneWriter | undefined {
    return this.#heirs.get(root) ?? this.#writers.get(root);
  }

  all(): Iterable<LaneWriter> {
    return this.#writers.values();
  }

  isServing(lane: LaneId): boolean {
    return this.#writers.has(lane);
  }

  /** Queues nobody here declared yet (their lanes were stolen) get the defaults. */
  #definition(queue: QueueId): Definition {
    const known = this.#host.definition(queue);
    return known ?? { queue, name: "", replicas: 3, leaseMs: 30_000, maxDeliveries: 20 };
  }

  #makeLaneHost(): LaneHost<LaneWriter> {
    return {
      stored: (lane) => this.#acceptor.lane(lane)?.registers,
      definition: (lane) => this.#definition(lane.descriptor.queue),
      link: (replica) => this.#host.link(replica),
      isHolderGone: ({ peer }) => this.#host.isOut(peer),
      onEnqueued: (lane, register, pending) => {
        if (lane.order === undefined) this.#host.onEnqueued(pending, lane.lane, register.seq);
        else this.entrances.exists(lane, register.seq);
      },
      onClaimable: (lane, register) => this.dispatch.add(lane, register),
      onRested: (lane, runs) => this.dispatch.addRested(lane, runs),
      usage: (lane) => this.#host.usage(lane.descriptor.queue),
      onLeased: (lane, register) => this.#deliver(lane, register),
      onUnused: (lane, holder) => this.dispatch.refund(lane.descriptor.queue, holder),
      onVetoed: (lane, holder) => this.dispatch.decline(lane.descriptor.queue, holder),
      onSettled: (lane, seq, waiter, code) => this.#answerWaiter(lane, seq, waiter, code),
      onFinished: () => undefined,
      onDied: (lane, { seq, value }) => this.#host.onDied(lane, seq, value),
      onBodyWanted: (lane, register) => this.#wantBody(lane, register),
      onEnd: (lane, end) => {
        if (end.closed) this.#confirms.drop(lane);
        if (end.heir !== undefined) this.entrances.giveUp(lane);
        this.#host.onEnd(lane, end);
      },
      onSpread: (lane) => {
        this.#remove(lane);
        if (lane.end?.heir === undefined) this.#remember(lane);
      },
      onRoleLost: (lane, end) => this.#onRoleLost(lane, end),
    };
  }

  // Coming and going of writers.

  /** Opens a lane of this node's own; its frames leave once `descriptor` is on disk. */
  open(lane: LaneId, descriptor: Descriptor): LaneWriter {
    const right = { round: 0, pid: descriptor.originPid };
    const init = { lane, descriptor, right, synced: false };
    const writer = new LaneWriter(this.#context, this.#laneHost, init);
    this.#writers.set(lane, writer);
    this.#acceptor.open(lane, descriptor);
    this.#host.onWritten(writer, false);
    return writer;
  }

  steal(lane: AcceptorLane, recovery: Recovery): void {
    const before = this.#writers.get(lane.lane);
    before?.retire();
    if (before !== undefined) this.entrances.giveUp(before);
    const { right, end, parentOver } = recovery;
    const init = { lane: lane.lane, descriptor: lane.descriptor, right, synced: true };
    const writer = new LaneWriter(this.#context, this.#laneHost, init);
    this.#writers.set(lane.lane, writer);
    const { heirOf, shard } = lane.descriptor;
    const isEmpty = shard === undefined && (end === undefined ? parentOver : end.n === 0);
    if (heirOf !== undefined && end?.heir === undefined && !isEmpty) this.#heirs.set(heirOf.root, writer);
    writer.recover(recovery);
    this.#host.onWritten(writer, parentOver);
  }

  #remove(lane: LaneWriter): void {
    if (this.#writers.get(lane.lane) === lane) this.#writers.delete(lane.lane);
    if (this.#heirs.get(lane.root) === lane) this.#heirs.delete(lane.root);
    this.#confirms.drop(lane);
    lane.retire();
  }

  /** This store promised the lane to somebody else, or learnt that somebody closed it. */
  onOvertaken(lane: AcceptorLane): void {
    const writer = this.#writers.get(lane.lane);
    if (writer === undefined) return;
    if (lane.closed) writer.onClosedElsewhere(lane.end?.value);
    else writer.onOvertaken(lane.promise);
  }

  /** The origin's floor passed the lane, or its queue was deleted. */
  drop(lane: LaneId): void {
    const writer = this.#writers.get(lane);
    if (writer === undefined) return;
    this.entrances.giveUp(writer);
    this.#remove(writer);
  }

  /** Finished epochs are known for two leases more: a confirmation that got lost is asked for again. */
  #remember(lane: LaneWriter): void {
    if (this.#closed.size >= CLOSED_MAX) {
      const [oldest] = this.#closed.keys();
      if (oldest !== undefined) this.#closed.delete(oldest);
    }
    this.#closed.set(lane.root, lane);
    const untilMs = this.#context.now.monoMs + 2 * this.#definition(lane.descriptor.queue).leaseMs;
    this.#context.timers.set(untilMs, () => this.#closed.delete(lane.root));
  }

  /** Somebody else can do more for the lane. */
  giveUp(lane: LaneWriter): void {
    this.#onRoleLost(lane, undefined);
  }

  #onRoleLost(lane: LaneWriter, end: EndValue | undefined): void {
    this.#remove(lane);
    this.entrances.giveUp(lane);
    const orphans: (readonly [number, PendingEnqueue])[] = [];
    for (const register of lane.registers.awake()) {
      const { enqueue, waiter, seq } = register;
      if (enqueue !== undefined && lane.order === undefined) orphans.push([seq, enqueue]);
      if (waiter !== undefined) this.#answerWaiter(lane, seq, waiter, "RETRY");
    }
    const known = this.#acceptor.lane(lane.lane);
    if (end !== undefined && known !== undefined) this.#acceptor.learnClosed(known, end);
    this.#host.onOrphans(lane, orphans);
    this.#steals?.onRoleLost(lane.lane);
  }

  // Deliveries.

  #deliver(lane: LaneWriter, register: Register): void {
    const { holder, epoch, leaseMs, deliveries, enqueuedWallMs, attributes, reason, bodyBytes } =
      register.value;
    if (holder === undefined) return;
    this.#host.onElected(lane.descriptor.queue, holder);
    // Without a link HELD brings it up again.
    if (!this.#host.isGreeted(holder.peer)) return;
    const { body, seq } = register;
    if (body === undefined && this.#acceptor.bodySlot(lane.lane, seq) === undefined) {
      // Found by a steal, proved by others: the body comes first, and this again.
      this.#wantBody(lane, register);
      return;
    }
    const ageMs = Math.max(0, this.#context.now.monoMs - register.leasedMs);
    const { session, peer } = holder;
    const item: Delivery = {
      lane: lane.root,
      seq,
      epoch,
      session,
      leaseMs,
      ageMs,
      deliveries,
      enqueuedWallMs,
      attributes,
      reason,
      body,
      attach: body === undefined,
      bodyBytes,
    };
    const items = this.#deliveries.get(peer);
    if (items === undefined) this.#deliveries.set(peer, [item]);
    else items.push(item);
  }

  #tell(peer: PeerId, items: readonly Delivery[]): void {
    let told = this.#told.get(peer);
    if (told === undefined) this.#told.set(peer, (told = new Set()));
    const descriptors: (readonly [LaneId, Descriptor])[] = [];
    for (const { lane } of items) {
      const writer = this.ofRoot(lane);
      if (writer === undefined || told.has(writer.lane)) continue;
      if (told.size >= TOLD_LANES_MAX) told.clear();
      told.add(writer.lane);
      descriptors.push([lane, writer.descriptor]);
    }
    // Advanced by its age: what an idle consumer said minutes ago must not end its next lease at once.
    const stamp = this.#stamps.get(peer);
    const stampMs = stamp === undefined ? 0 : stamp.stampMs + this.#context.now.monoMs - stamp.atMs;
    this.#context.send(peer, { type: "deliver", items, descriptors, stampMs });
  }

  flush(): void {
    this.#watchClock();
    this.entrances.flush();
    if (this.#settled.size > 0) {
      for (const [peer, items] of this.#settled) this.#context.send(peer, { type: "settled", items });
      this.#settled.clear();
    }
    if (this.#deliveries.size > 0) {
      for (const [peer, items] of this.#deliveries) this.#tell(peer, items);
      this.#deliveries.clear();
    }
  }

  /**
   * Who waits for a time has a timer on the monotonic clock, set by what the wall clock said then. When that was wrong
   * and is set right, it may be due long before its timer. What is dead is not looked at: nobody waits for its end, which by a clock that is
   * wrong just now would be proposed, and refused until its time has come; meanwhile nobody could redrive it.
   */
  #watchClock(): void {
    const { monoMs, wallMs } = this.#context.now;
    const offsetMs = wallMs - monoMs;
    if (Math.abs(offsetMs - this.#clockOffsetMs) < CLOCK_STEP_MS) return;
    this.#clockOffsetMs = offsetMs;
    for (const writer of this.#writers.values()) {
      for (const { seq, value, timer } of [...writer.registers.awake()]) {
        if (timer === undefined) continue;
        if (value.notBeforeWallMs > 0) writer.offer(seq);
        else if (value.state === "READY") writer.review(seq);
      }
    }
  }

  linkDown(peer: PeerId): void {
    this.dispatch.dropPeer(peer);
    this.#told.delete(peer);
    this.#stamps.delete(peer);
    this.#deliveries.delete(peer);
    this.#settled.delete(peer);
    this.entrances.linkDown(peer);
    for (const { awaited } of this.#running) awaited.delete(peer);
  }

  stamp(peer: PeerId, stampMs: number): void {
    this.#stamps.set(peer, { stampMs, atMs: this.#context.now.monoMs });
  }

  /** The queue keeps dead messages for another time from now on. */
  reviewDead(queue: QueueId): void {
    for (const writer of this.#writers.values()) {
      if (writer.descriptor.queue !== queue) continue;
      for (const { seq, value } of [...writer.registers.awake()]) {
        if (value.state === "DEAD") writer.review(seq);
      }
    }
  }

  /** The peer is out of the mesh: what its consumers held is claimable again. */
  peerOut(peer: PeerId): void {
    for (const lane of this.#writers.values()) {
      for (const register of [...lane.registers.awake()]) {
        if (register.value.holder?.peer === peer) lane.expire(register, "holder gone");
      }
    }
  }

  /** HELD: what the peer's consumers hold of this writer, on a new link. */
  held(from: PeerId, items: readonly HeldItem[]): void {
    const held = new Set(items.map(({ lane, seq, epoch }) => `${lane}-${seq}-${epoch}`));
    for (const lane of this.#writers.values()) {
      if (!lane.isServing) continue;
      for (const register of lane.registers.awake()) {
        const { chosen, value, seq } = register;
        if (!chosen || value.state !== "LEASED" || value.holder?.peer !== from) continue;
        if (!held.has(`${lane.root}-${seq}-${value.epoch}`)) this.#deliver(lane, register);
      }
    }
    for (const item of items) this.verdict(from, { ...item, verdict: { kind: "renew" } });
  }

  // Verdicts: flows 3 and 4.

  verdict(from: PeerId, item: VerdictItem): void {
    const lane = this.ofRoot(item.lane);
    const isRenewable = item.verdict.kind === "renew" && lane?.isLost === false && lane.course.isHere;
    if (lane === undefined || !(lane.isServing || isRenewable)) return this.#misdirected(from, item);
    if (!lane.isOpen && item.verdict.kind !== "renew") return this.#answer(from, item, "RETRY");
    const register = lane.registers.peek(item.seq);
    if (register === undefined) return this.#onFinished(from, item, lane);
    const { value, chosen, waiter, settled } = register;
    const waiting: Waiter = {
      peer: from,
      session: item.session,
      epoch: item.epoch,
      kind: item.verdict.kind,
    };
    const isHolder =
      value.state === "LEASED" &&
      value.epoch === item.epoch &&
      value.holder?.peer === from &&
      value.holder.session === item.session;
    if (chosen && isHolder) {
      if (item.verdict.kind === "renew") this.#renew(lane, register, item, from);
      else lane.settle(register, item.verdict, waiting);
    } else if (!chosen && waiter?.epoch === item.epoch && waiter.kind === item.verdict.kind) {
      register.waiter = waiting; // The same question again: its answer comes with the choice.
    } else if (settled?.epoch === item.epoch && settled.kind === item.verdict.kind) {
      this.#answer(from, item, "DONE");
    } else if (chosen) {
      this.#confirms.ask(lane, () => {
        // Still so: the lease named is over, and q replicas follow this writer.
        const now = lane.registers.peek(item.seq)?.value;
        const same = now?.state === "LEASED" && now.epoch === item.epoch;
        this.#answer(from, item, same ? "RETRY" : "STALE");
      });
    } else this.#answer(from, item, "RETRY");
  }

  #onFinished(from: PeerId, item: VerdictItem, lane: LaneWriter): void {
    const epoch = lane.finishedEpoch(item.seq);
    if (epoch === 0) this.#answer(from, item, lane.finished.has(item.seq) ? "FINISHED" : "RETRY");
    else this.#answer(from, item, epoch === item.epoch ? "DONE" : "STALE");
  }

  #renew(lane: LaneWriter, register: Register, item: VerdictItem, from: PeerId): void {
    const askedMs = this.#context.now.monoMs;
    this.#confirms.ask(lane, () => {
      const { value, chosen } = register;
      const held = chosen && value.state === "LEASED" && value.epoch === item.epoch && lane.course.isHere;
      if (held) lane.renew(register, askedMs);
      this.#answer(from, item, held ? "DONE" : "RETRY");
    });
  }

  #misdirected(from: PeerId, item: VerdictItem): void {
    const known = this.#acceptor.newest(item.lane);
    const closed = this.#closed.get(item.lane);
    if (closed !== undefined) return this.#onFinished(from, item, closed);
    // Closed, but as nobody here remembers: all of it is finished, or has moved.
    const isForgotten = known?.closed === true && known.end === undefined;
    if (known === undefined || isForgotten) return this.#answer(from, item, "RETRY");
    const heir = known.end?.value.heir;
    if (known.closed && heir === undefined) return this.#answer(from, item, "FINISHED");
    if (known.closed && heir !== undefined) {
      // Moved, not finished: the heir is asked.
      return this.#answer(from, item, "RETRY", this.#anyOf(heir));
    }
    this.#steals?.kick(known.lane);
    this.#answer(from, item, "RETRY", this.#host.peerOf(pidStore(known.promise.pid)));
  }

  /** A replica that can be reached. */
  #anyOf({ replicas }: Descriptor): PeerId | undefined {
    const reachable = replicas.filter(({ store }) => this.#context.reachable(store));
    return reachable[randomBelow(this.#context.random, Math.max(1, reachable.length))]?.peer;
  }

  #answerWaiter(lane: LaneWriter, seq: number, waiter: Waiter, code: SettledCode): void {
    const { peer, session, epoch, kind } = waiter;
    this.#tellVerdict(peer, { lane: lane.root, seq, epoch, session, kind, code, hint: undefined });
  }

  #answer(to: PeerId, item: VerdictItem, code: SettledCode, hint?: PeerId): void {
    const { lane, seq, epoch, session } = item;
    this.#tellVerdict(to, { lane, seq, epoch, session, kind: item.verdict.kind, code, hint });
  }

  #tellVerdict(to: PeerId, settled: SettledItem): void {
    if (!this.#host.isGreeted(to)) return;
    const items = this.#settled.get(to);
    if (items === undefined) this.#settled.set(to, [settled]);
    else items.push(settled);
  }

  confirmed(from: PeerId, message: Message & { type: "confirmed" }): void {
    this.#confirms.confirmed(from, this.#writers.get(message.lane), message);
  }

  /** Messages for an ordered lane, named by its root, whose writer this node is, or may know. */
  enter(from: PeerId, { lane, items }: Message & { type: "enter" }): void {
    const writer = this.ofRoot(lane);
    if (writer === undefined) this.#steals?.kick(this.#acceptor.newest(lane)?.lane ?? lane);
    this.entrances.enter(from, writer?.order === undefined ? undefined : writer, lane, items);
  }

  /** What became of a message id, as far as this node may say [M8]. */
  resolution(lane: LaneId, seq: number): Resolution {
    const writer = this.ofRoot(lane);
    if (writer?.order !== undefined) return orderedResolution(writer, seq);
    if (writer !== undefined) {
      if (writer.end !== undefined) return isVoid(writer.end, seq) ? "NEVER" : "ACKED";
      if (writer.right.round > 0) return "PENDING";
      const register = writer.registers.peek(seq);
      if (register === undefined) return writer.finished.has(seq) ? "ACKED" : "UNKNOWN";
      return bitCount(register.heldBy) >= writer.quorum ? "ACKED" : "PENDING";
    }
    const known = this.#acceptor.newest(lane);
    if (known === undefined) return "UNKNOWN";
    if (known.closed) {
      if (known.end === undefined) return "UNKNOWN";
      const { n, voids } = known.end.value;
      const isOrdered = known.descriptor.shard !== undefined;
      if (isOrdered && seq >= n) return "PENDING"; // Its heir appends.
      if (isOrdered && isForgotten(voids, seq)) return "UNKNOWN";
      return isVoid(known.end.value, seq) ? "NEVER" : "ACKED";
    }
    this.#steals?.kick(known.lane);
    return "PENDING";
  }

  // Bodies a steal found elsewhere.

  #wantBody(lane: LaneWriter, register: Register): void {
    const { seq } = register;
    const key = `${lane.root}-${seq}`;
    const known = this.#fetches.get(key);
    if (known?.lane === lane) return;
    // One of an earlier writer of this lane ends without a word: this writer has its own.
    if (known !== undefined) this.#running.delete(known);
    const fetch: Fetch = { key, lane, seq, tries: 0, asked: new Set(), awaited: new Set() };
    this.#fetches.set(key, fetch);
    if (this.#running.size < FETCHES_MAX) this.#fetch(fetch);
    else this.#fetchQueue.push(fetch);
  }

  #fetch(fetch: Fetch): void {
    const { key, lane, seq } = fetch;
    const register = lane.registers.get(seq);
    if (lane.isLost || register === undefined) return this.#endFetch(fetch);
    if (fetch.tries >= FETCH_TRIES_MAX) {
      // Its only holder is away: perhaps the rest never had it. Prepare again, higher.
      this.#endFetch(fetch);
      this.#onRoleLost(lane, undefined);
      return;
    }
    this.#running.add(fetch);
    const sources = this.#holders(lane, register).filter(
      ({ store, peer }) => this.#context.reachable(store) && !fetch.awaited.has(peer),
    );
    const source = sources[fetch.tries % Math.max(1, sources.length)];
    if (source !== undefined || fetch.awaited.size === 0) fetch.tries += 1;
    if (source !== undefined) {
      fetch.asked.add(source.peer);
      fetch.awaited.add(source.peer);
      this.#context.send(source.peer, { type: "getBody", lane: lane.root, seq });
    }
    const at = this.#context.now.monoMs + this.#context.tuning.askTimeoutMs;
    this.#context.timers.set(at, () => {
      if (this.#fetches.get(key) === fetch) this.#fetch(fetch);
    });
  }

  /** Who may have a body; what an heir imports, replicas of the lane before it have, this one first. */
  #holders({ lane, descriptor }: LaneWriter, { seq, heldBy }: Register): readonly Replica[] {
    const holders = descriptor.replicas.filter((_, index) => (heldBy & (1 << index)) !== 0);
    if (descriptor.heirOf === undefined) return holders;
    const { peer, store } = this.#context;
    const own = this.#acceptor.bodySlot(lane, seq) === undefined ? [] : [{ peer, store }];
    return [...own, ...holders, ...(this.#acceptor.lane(descriptor.heirOf.lane)?.descriptor.replicas ?? [])];
  }

  #endFetch(fetch: Fetch): void {
    this.#running.delete(fetch);
    this.#fetches.delete(fetch.key);
    while (this.#running.size < FETCHES_MAX) {
      const next = this.#fetchQueue.shift();
      if (next === undefined) return;
      if (this.#fetches.get(next.key) !== next) continue;
      // `#fetch` would come back here with each that is not needed any more, and tens of thousands may wait.
      if (next.lane.isLost || !next.lane.registers.has(next.seq)) this.#fetches.delete(next.key);
      else this.#fetch(next);
    }
  }

  body(from: PeerId, message: Message & { type: "body" }): void {
    const key = `${message.lane}-${message.seq}`;
    const fetch = this.#fetches.get(key);
    if (fetch?.asked.has(from) !== true) return;
    fetch.awaited.delete(from);
    if (message.body === undefined) return;
    this.#endFetch(fetch);
    fetch.lane.onBody(message.seq, message.body);
  }
}

/** In an ordered lane what no cut excludes is there, or finished. */
function orderedResolution({ end, registers, finished, quorum }: LaneWriter, seq: number): Resolution {
  if (end === undefined) return "PENDING";
  if (isIn(end.voids, seq)) return "NEVER";
  if (isForgotten(end.voids, seq)) return "UNKNOWN";
  const register = registers.peek(seq);
  if (register === undefined) return finished.has(seq) ? "ACKED" : "UNKNOWN";
  return register.enqueue === undefined || bitCount(register.heldBy) >= quorum ? "ACKED" : "PENDING";
}
