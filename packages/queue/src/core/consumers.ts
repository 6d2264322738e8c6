import type { Context } from "./context.ts";
import { deadViewOf } from "./dead-queue.ts";
import { FinishedSet } from "./finished.ts";
import type {
  CreditItem,
  Delivery,
  HeldItem,
  Message,
  RosterEntry,
  SettledItem,
  VerdictItem,
} from "./messages.ts";
import type { Timer } from "./timers.ts";
import type { Descriptor, LaneId, PeerId, QueueId, SettledCode, Verdict } from "./types.ts";

/** A message in the hands of one of this node's consumers. */
export interface Held {
  readonly lane: LaneId;
  readonly seq: number;
  readonly epoch: number;
  readonly session: string;
  readonly leaseMs: number;
  /** Newest lane writer that delivered or answered. */
  writer: PeerId;
  /** Monotonic instant after which the lease may be somebody else's. */
  stopMs: number;
  timer: Timer | undefined;
  renewSentMs: number | undefined;
  /** How often that renewal followed a hint. */
  renewRedirects: number;
  lost: boolean;
  /** The outcome that waits to be confirmed. */
  settling:
    | {
        readonly verdict: Verdict;
        readonly requestId: number;
        readonly deadlineMs: number;
        delayMs: number;
        redirects: number;
        /** Somebody said whom to ask, and that one has not been asked yet. */
        isHinted: boolean;
      }
    | undefined;
}

interface Grant {
  /** Cumulative within the link session, as CREDIT says it. */
  total: number;
  /** Granted, neither delivered nor returned. */
  outstanding: number;
  /** It delivered or offered since it last gave credit back. */
  active: boolean;
  /** When it did so last, monotonic. */
  usedMs: number;
  sentTotal: number;
  recall: boolean;
}

interface Consumer {
  readonly session: string;
  readonly queue: QueueId;
  readonly prefetch: number;
  held: number;
  readonly grants: Map<PeerId, Grant>;
  turn: number;
  ending: boolean;
}

/** What this node knows of a lane's messages it consumed. */
interface Seen {
  descriptor: Descriptor | undefined;
  done: FinishedSet;
  epochs: Map<number, number>;
  /** What was so two leases ago and more: a lane may go on for ever. */
  past: Pick<Seen, "done" | "epochs"> | undefined;
  turnedMs: number;
  /** Longest lease so far. */
  leaseMs: number;
  readonly held: Map<number, Held>;
  /** Sessions that gave up on a verdict: a new writer may deliver that lease to them once more. */
  readonly unsettled: Map<number, string>;
  keepUntilMs: number;
}

/** What the consumers' side asks of its node. */
export interface ConsumersHost {
  /** Peers that may write lanes and can be reached now, this node included. */
  writers(): readonly PeerId[];
  descriptor(lane: LaneId): Descriptor | undefined;
  isReachable(peer: PeerId): boolean;
  /** Hands a message to the application. */
  onDelivery(item: Delivery): void;
  /** The lease is over although nobody asked for that: the handler's signal fires. */
  onLeaseLost(held: Held): void;
  onVerdict(requestId: number, code: SettledCode | "TIMEOUT"): void;
  onRosterChanged(): void;
}

const SWEEP_MS = 5_000;
/** How often a verdict follows a hint at once; after that, at its next turn. */
const REDIRECTS_MAX = 3;
/** Lanes remembered at most; further ones are delivered when others are forgotten. */
const SEEN_LANES_MAX = 65_536;
/** Verdicts of one lane that timed out and are remembered; the oldest is forgotten first. */
const UNSETTLED_MAX = 4_096;

/**
 * The consumers' side of flows 3, 4, 5 and 9: credit to lane writers, leases held and renewed, verdicts
 * asked until they are confirmed. A message's handler starts at most once per epoch.
 */
export class Consumers {
  readonly #context: Context;
  readonly #host: ConsumersHost;
  readonly #consumers = new Map<string, Consumer>();
  /** An offer asks those of one queue; a node has up to 65,536, and as many offers once all its queues are entered. */
  readonly #byQueue = new Map<QueueId, Set<Consumer>>();
  readonly #seen = new Map<LaneId, Seen>();
  readonly #outbox = new Map<PeerId, VerdictItem[]>();
  readonly #dirty = new Set<Consumer>();
  /** Who delivered or offered messages of a queue last, and when, whichever consumer it was for. */
  readonly #used = new Map<QueueId, Map<PeerId, number>>();
  /** Peers whose link came up since the last flush: HELD is due. */
  readonly #greeted = new Set<PeerId>();
  /** When this node's hello went out on the present link, monotonic: whatever comes over it was sent later. */
  readonly #helloMs = new Map<PeerId, number>();
  #sweeping = false;
  /** With which writer the next consumer begins. */
  #nextTurn = 0;

  constructor(context: Context, host: ConsumersHost) {
    this.#context = context;
    this.#host = host;
  }

  queues(): readonly QueueId[] {
    return [...new Set([...this.#consumers.values()].filter((c) => !c.ending).map((c) => c.queue))];
  }

  /** Who consumes the queue here. */
  roster(queue: QueueId): readonly RosterEntry[] {
    const here = this.#byQueue.get(queue) ?? [];
    return [...here].map(({ session, prefetch, held }) => ({ session, prefetch, held }));
  }

  /** Messages held, in all. */
  get heldCount(): number {
    let count = 0;
    for (const consumer of this.#consumers.values()) count += consumer.held;
    return count;
  }

  add(session: string, queue: QueueId, prefetch: number): void {
    const consumer: Consumer = {
      session,
      queue,
      prefetch,
      held: 0,
      grants: new Map(),
      turn: this.#nextTurn,
      ending: false,
    };
    this.#nextTurn = (this.#nextTurn + 1) % 0x1_0000;
    this.#consumers.set(session, consumer);
    const others = this.#byQueue.get(queue);
    if (others === undefined) this.#byQueue.set(queue, new Set([consumer]));
    else others.add(consumer);
    this.#dirty.add(consumer);
    this.#host.onRosterChanged();
  }

  #forget(consumer: Consumer): void {
    const { session, queue } = consumer;
    const others = this.#byQueue.get(queue);
    this.#consumers.delete(session);
    others?.delete(consumer);
    if (others?.size === 0) this.#byQueue.delete(queue);
  }

  /** Grants nothing any more; what it holds stays held until a verdict comes. */
  end(session: string): void {
    const consumer = this.#consumers.get(session);
    if (consumer === undefined || consumer.ending) return;
    consumer.ending = true;
    for (const peer of consumer.grants.keys()) {
      const items = [{ session, queue: consumer.queue, total: -1, recall: false }];
      this.#context.send(peer, { type: "credit", items, stampMs: this.#context.now.monoMs });
    }
    consumer.grants.clear();
    if (consumer.held === 0) this.#forget(consumer);
    this.#host.onRosterChanged();
  }

  /** The queues were deleted: their consumers end, and what they hold is nobody's. */
  forget(queues: ReadonlySet<QueueId>): void {
    const gone = new Set<string>();
    for (const { session, queue } of this.#consumers.values()) {
      if (queues.has(queue) || queues.has(deadViewOf(queue))) gone.add(session);
    }
    if (gone.size === 0) return;
    for (const session of gone) this.end(session);
    for (const { held } of this.#seen.values()) {
      for (const one of held.values()) if (gone.has(one.session)) this.#drop(one, "STALE");
    }
  }

  onHelloSent(peer: PeerId): void {
    this.#helloMs.set(peer, this.#context.now.monoMs);
  }

  linkUp(peer: PeerId): void {
    this.#greeted.add(peer);
    for (const held of this.#heldFrom(peer)) if (held.settling !== undefined) this.#ask(held);
    for (const consumer of this.#consumers.values()) this.#dirty.add(consumer);
  }

  /** Credit lives as long as the link session: what was granted there is free again. */
  linkDown(peer: PeerId): void {
    this.#helloMs.delete(peer);
    for (const used of this.#used.values()) used.delete(peer);
    for (const consumer of this.#consumers.values()) {
      if (consumer.grants.delete(peer)) this.#dirty.add(consumer);
    }
  }

  #heldFrom(peer: PeerId): readonly Held[] {
    return [...this.#seen.values()].flatMap(({ held }) =>
      [...held.values()].filter(({ writer }) => writer === peer),
    );
  }

  // Deliveries.

  deliver(from: PeerId, message: Message & { type: "deliver" }): void {
    for (const item of message.items) {
      this.#count(from, item);
      if (this.#seen.size < SEEN_LANES_MAX || this.#seen.has(item.lane)) {
        this.#deliverOne(from, item, message.stampMs);
      }
    }
    for (const [lane, descriptor] of message.descriptors) {
      const seen = this.#seen.get(lane);
      if (seen !== undefined) seen.descriptor = descriptor;
    }
  }

  /**
   * Whatever comes was paid for with the credit of who sends it, or counts as if. A late copy of what another writer
   * delivered meanwhile is no exception: its credit would be missed for as long as the link lasts. Who is thought to
   * have less credit than it has loses the rest with the deliveries that are too many.
   */
  #count(from: PeerId, { session }: Delivery): void {
    const consumer = this.#consumers.get(session);
    const grant = consumer?.grants.get(from);
    if (consumer === undefined || grant === undefined || grant.outstanding === 0) return;
    grant.outstanding -= 1;
    this.#use(consumer, from, grant);
    this.#dirty.add(consumer);
  }

  #use({ queue }: Consumer, peer: PeerId, grant: Grant): void {
    const { monoMs } = this.#context.now;
    grant.active = true;
    grant.usedMs = monoMs;
    const used = this.#used.get(queue);
    if (used !== undefined) return void used.set(peer, monoMs);
    this.#used.set(queue, new Map([[peer, monoMs]]));
    this.#sweepLater();
  }

  #seenOf(lane: LaneId): Seen {
    let seen = this.#seen.get(lane);
    if (seen === undefined) {
      seen = {
        descriptor: undefined,
        done: new FinishedSet(),
        epochs: new Map(),
        held: new Map(),
        past: undefined,
        turnedMs: this.#context.now.monoMs,
        leaseMs: 0,
        unsettled: new Map(),
        keepUntilMs: 0,
      };
      this.#seen.set(lane, seen);
      this.#sweepLater();
    }
    return seen;
  }

  #deliverOne(from: PeerId, item: Delivery, stampMs: number): void {
    const { lane, seq, epoch, session, leaseMs } = item;
    const seen = this.#seenOf(lane);
    const { monoMs } = this.#context.now;
    seen.leaseMs = Math.max(seen.leaseMs, leaseMs);
    seen.keepUntilMs = Math.max(seen.keepUntilMs, monoMs + 2 * leaseMs);
    if (seen.done.has(seq) || seen.past?.done.has(seq) === true) return;
    const known = seen.epochs.get(seq) ?? seen.past?.epochs.get(seq) ?? 0;
    if (known >= epoch) {
      const held = seen.held.get(seq);
      // A release is not asked for until it is confirmed, so it is repeated; the lease may be over by now.
      if (held === undefined && known === epoch && !seen.unsettled.has(seq)) this.#giveBack(from, item);
      else this.#again(from, held, item, stampMs);
      return;
    }
    const consumer = this.#consumers.get(session);
    const older = seen.held.get(seq);
    if (older !== undefined) this.#drop(older, "STALE");
    const stopMs = this.#stopOf(from, item, stampMs);
    const unwanted = consumer === undefined || consumer.ending || consumer.held >= consumer.prefetch;
    // A delivery of this node to itself has its body read by the host, as it is handed over.
    const bodiless = item.body === undefined && item.attach !== true;
    if (unwanted || bodiless || stopMs <= monoMs) {
      // Nobody is there, over the bound, finished before its body was read, or over: given back, not counted.
      seen.epochs.set(seq, epoch);
      this.#giveBack(from, item);
      return;
    }
    seen.epochs.set(seq, epoch);
    seen.unsettled.delete(seq);
    const held: Held = {
      lane,
      seq,
      epoch,
      session,
      leaseMs,
      writer: from,
      stopMs,
      timer: undefined,
      renewSentMs: undefined,
      renewRedirects: 0,
      lost: false,
      settling: undefined,
    };
    seen.held.set(seq, held);
    consumer.held += 1;
    this.#dirty.add(consumer);
    this.#armLease(held, leaseMs / 3);
    this.#host.onDelivery(item);
  }

  #giveBack(from: PeerId, { lane, seq, epoch, session }: Delivery): void {
    this.#push(from, { lane, seq, epoch, session, verdict: { kind: "release" } });
  }

  /** The same epoch once more, perhaps from a new writer: no handler starts, but the lease is a new one. */
  #again(from: PeerId, held: Held | undefined, item: Delivery, stampMs: number): void {
    if (held?.epoch !== item.epoch) return;
    held.writer = from;
    if (held.settling !== undefined) return this.#ask(held);
    const stopMs = this.#stopOf(from, item, stampMs);
    if (held.lost || stopMs <= held.stopMs) return;
    // A lane on its way to its heir, or to who took it over, answers no renewal meanwhile.
    held.stopMs = stopMs;
    held.renewSentMs = undefined;
    this.#armLease(held, held.leaseMs / 3);
  }

  #stopOf(from: PeerId, { leaseMs, ageMs }: Delivery, stampMs: number): number {
    const byReceipt = this.#context.now.monoMs + leaseMs - ageMs;
    // What HELD asks for may leave before any stamp came over the new link.
    const sinceMs = stampMs > 0 ? stampMs : this.#helloMs.get(from);
    if (sinceMs === undefined) return byReceipt;
    // The lease began `ageMs` before this left, and this left after `sinceMs`: however long it was
    // under way, `slackMs` after that the writer's lease is over and its grace is not.
    const slackMs = this.#context.tuning.graceMinMs / 2;
    return Math.min(byReceipt, sinceMs + leaseMs - ageMs + slackMs);
  }

  // Leases: renewed at a third, over at `stopMs` whatever the writer thinks.

  #armLease(held: Held, delayMs: number): void {
    const at = Math.min(this.#context.now.monoMs + delayMs, held.stopMs);
    this.#context.timers.cancel(held.timer);
    held.timer = this.#context.timers.set(at, () => this.#onLease(held));
  }

  #onLease(held: Held): void {
    held.timer = undefined;
    if (held.settling !== undefined || held.lost) return;
    if (this.#context.now.monoMs >= held.stopMs) return this.#lose(held);
    held.renewSentMs = this.#context.now.monoMs;
    held.renewRedirects = 0;
    this.#push(this.#target(held), { ...refOf(held), verdict: { kind: "renew" } });
    this.#armLease(held, Math.max(250, held.leaseMs / 10));
  }

  #lose(held: Held): void {
    if (held.lost) return;
    held.lost = true;
    this.#context.timers.cancel(held.timer);
    this.#host.onLeaseLost(held);
  }

  /** Others declared this node dead: its leases count only once their writers say so again. */
  doubtAll(): void {
    for (const { held } of this.#seen.values()) {
      for (const one of held.values()) if (one.settling === undefined) this.#lose(one);
    }
  }

  // Verdicts.

  /** Asks for `verdict` until it is confirmed or `deadlineMs` has passed. */
  verdict(
    ref: { lane: LaneId; seq: number; epoch: number },
    verdict: Verdict,
    requestId: number,
    deadlineMs: number,
  ): void {
    const held = this.#seen.get(ref.lane)?.held.get(ref.seq);
    if (held?.epoch !== ref.epoch) return this.#host.onVerdict(requestId, "STALE");
    if (held.settling !== undefined) return this.#host.onVerdict(requestId, "RETRY");
    const delayMs = this.#context.tuning.verdictRetryMs / 2;
    held.settling = { verdict, requestId, deadlineMs, delayMs, redirects: 0, isHinted: false };
    this.#ask(held);
  }

  #ask(held: Held): void {
    const { settling } = held;
    if (settling === undefined) return;
    const { monoMs } = this.#context.now;
    if (monoMs >= settling.deadlineMs) return this.#drop(held, "TIMEOUT");
    this.#push(this.#target(held), { ...refOf(held), verdict: settling.verdict });
    settling.delayMs = Math.min(settling.delayMs * 2, this.#context.tuning.verdictRetryMaxMs);
    this.#context.timers.cancel(held.timer);
    const at = Math.min(monoMs + settling.delayMs, settling.deadlineMs);
    held.timer = this.#context.timers.set(at, () => {
      held.timer = undefined;
      // A writer under load may take a while. Only one that stays silent is passed over: it may have lost the lane.
      const isSlow = settling.delayMs * 2 > this.#context.tuning.verdictRetryMaxMs;
      if (isSlow && !settling.isHinted) this.#tryOther(held);
      settling.isHinted = false;
      this.#ask(held);
    });
  }

  /** The writer known, or while it cannot be reached, any replica: it says who writes now. */
  #target(held: Held): PeerId {
    if (!this.#host.isReachable(held.writer)) this.#tryOther(held);
    return held.writer;
  }

  #tryOther(held: Held): void {
    const known = this.#seen.get(held.lane)?.descriptor ?? this.#host.descriptor(held.lane);
    const peers = (known?.replicas ?? []).map(({ peer }) => peer);
    const at = peers.indexOf(held.writer);
    for (let step = 1; step <= peers.length; step += 1) {
      const peer = peers[(at + step) % peers.length];
      if (peer !== undefined && this.#host.isReachable(peer)) {
        held.writer = peer;
        return;
      }
    }
  }

  #push(to: PeerId, item: VerdictItem): void {
    const items = this.#outbox.get(to);
    if (items === undefined) this.#outbox.set(to, [item]);
    else items.push(item);
  }

  settled(from: PeerId, items: readonly SettledItem[]): void {
    for (const item of items) {
      const held = this.#seen.get(item.lane)?.held.get(item.seq);
      if (held?.epoch !== item.epoch || held.session !== item.session) continue;
      if (item.kind === "renew") this.#renewed(from, held, item);
      else if (item.code === "RETRY") this.#redirect(from, held, item);
      // A release of this node's own for the same epoch must not pass for the ack that waits.
      else if (held.settling?.verdict.kind === item.kind) this.#drop(held, item.code);
    }
  }

  #redirect(from: PeerId, held: Held, item: SettledItem): void {
    const { settling } = held;
    if (item.hint === undefined || !this.#host.isReachable(item.hint)) return;
    held.writer = item.hint;
    if (settling === undefined) return this.#renewThere(held);
    // Who names itself is about to write the lane. It is asked at the next turn, as is whoever was named too often.
    settling.isHinted = item.hint === from || settling.redirects >= REDIRECTS_MAX;
    if (settling.isHinted) return;
    settling.redirects += 1;
    this.#ask(held);
  }

  /** Asked of who did not write the lane any more: what is left of the lease may be short. */
  #renewThere(held: Held): void {
    if (held.renewSentMs === undefined || held.lost || held.renewRedirects >= REDIRECTS_MAX) return;
    held.renewRedirects += 1;
    this.#push(held.writer, { ...refOf(held), verdict: { kind: "renew" } });
  }

  #renewed(from: PeerId, held: Held, item: SettledItem): void {
    if (held.settling !== undefined) return;
    if (item.code === "RETRY") this.#redirect(from, held, item);
    else if (item.code !== "DONE") this.#lose(held);
    else if (held.renewSentMs !== undefined && !held.lost) {
      held.writer = from;
      // From the instant of asking: the writer's own timer restarted later than that.
      held.stopMs = Math.max(held.stopMs, held.renewSentMs + held.leaseMs);
      held.renewSentMs = undefined;
      this.#armLease(held, held.leaseMs / 3);
    }
  }

  #drop(held: Held, code: SettledCode | "TIMEOUT"): void {
    const { settling } = held;
    const seen = this.#seen.get(held.lane);
    this.#context.timers.cancel(held.timer);
    held.timer = undefined;
    seen?.held.delete(held.seq);
    if (code === "DONE" && settling?.verdict.kind === "ack") {
      seen?.done.add(held.seq);
      seen?.epochs.delete(held.seq);
    }
    if (seen !== undefined) {
      if (code === "TIMEOUT") remember(seen.unsettled, held);
      seen.keepUntilMs = Math.max(seen.keepUntilMs, this.#context.now.monoMs + 2 * held.leaseMs);
    }
    if (settling !== undefined) this.#host.onVerdict(settling.requestId, code);
    else this.#lose(held);
    const consumer = this.#consumers.get(held.session);
    if (consumer === undefined) return;
    consumer.held -= 1;
    this.#dirty.add(consumer);
    if (consumer.ending && consumer.held === 0) this.#forget(consumer);
  }

  // Credit.

  offer(from: PeerId, queue: QueueId): void {
    for (const consumer of this.#byQueue.get(queue) ?? []) {
      if (consumer.ending) continue;
      this.#use(consumer, from, this.#grantOf(consumer, from));
      this.#dirty.add(consumer);
    }
  }

  returned(from: PeerId, message: Message & { type: "returned" }): void {
    const consumer = this.#consumers.get(message.session);
    const grant = consumer?.grants.get(from);
    if (consumer === undefined || grant === undefined) return;
    grant.outstanding = Math.max(0, grant.outstanding - message.count);
    grant.active = false;
    grant.recall = false;
    this.#dirty.add(consumer);
  }

  #grantOf(consumer: Consumer, peer: PeerId): Grant {
    let grant = consumer.grants.get(peer);
    if (grant === undefined) {
      // Who had messages for the one before has more of them, and one who takes them singly has one credit to give.
      const usedMs = this.#used.get(consumer.queue)?.get(peer) ?? Number.NEGATIVE_INFINITY;
      const active = this.#context.now.monoMs - usedMs < this.#context.tuning.creditIdleMs;
      // Not used by this consumer: who offers something is given it first.
      grant = { total: 0, outstanding: 0, active, usedMs: 0, sentTotal: 0, recall: false };
      consumer.grants.set(peer, grant);
    }
    return grant;
  }

  /** What was gathered for others: credit and verdicts, one message each per peer. */
  flush(): void {
    if (this.#dirty.size > 0) this.#tellCredit();
    // After the first credit, whose stamp bounds how late a delivery that HELD asks for may be.
    if (this.#greeted.size > 0) this.#tellHeld();
    if (this.#outbox.size > 0) this.#tellVerdicts();
  }

  #tellCredit(): void {
    const credits = new Map<PeerId, CreditItem[]>();
    for (const consumer of this.#dirty) this.#grant(consumer, credits);
    this.#dirty.clear();
    const { monoMs: stampMs } = this.#context.now;
    for (const [peer, items] of credits) this.#context.send(peer, { type: "credit", items, stampMs });
  }

  #tellHeld(): void {
    for (const peer of this.#greeted) {
      if (!this.#host.isReachable(peer)) continue;
      this.#context.send(peer, { type: "held", items: this.#heldFrom(peer).map(refOf) });
    }
    this.#greeted.clear();
  }

  #tellVerdicts(): void {
    const { monoMs: stampMs } = this.#context.now;
    for (const [peer, items] of this.#outbox) {
      this.#context.send(peer, { type: "verdicts", items, stampMs });
    }
    this.#outbox.clear();
  }

  /** One credit per writer first, in turn; the rest to writers that have messages, the emptiest first. */
  #grant(consumer: Consumer, credits: Map<PeerId, CreditItem[]>): void {
    if (consumer.ending) return;
    const writers = this.#host.writers();
    const grants = writers.map((peer) => this.#grantOf(consumer, peer));
    let free = consumer.prefetch - consumer.held;
    for (const grant of grants) free -= grant.outstanding;
    // With fewer credits than writers, those known to have messages come first.
    const scarce = consumer.prefetch < writers.length && grants.some((grant) => grant.active);
    const first = consumer.turn;
    for (let tried = 0; tried < grants.length && free > 0; tried += 1) {
      const at = (first + tried) % grants.length;
      const grant = grants[at];
      if (grant === undefined || grant.outstanding > 0 || (scarce && !grant.active)) continue;
      give(grant, 1);
      free -= 1;
      consumer.turn = at + 1;
    }
    const active = grants.filter((grant) => grant.active);
    while (free > 0 && active.length > 0) {
      const least = active.reduce((a, b) => (b.outstanding < a.outstanding ? b : a));
      const share = Math.max(1, Math.floor(free / active.length / 2));
      give(least, Math.min(free, share));
      free -= Math.min(free, share);
    }
    // A writer with messages has no credit: who has some and does not use it gives it back.
    const starved = free <= 0 && active.some(({ outstanding }) => outstanding === 0);
    const idleMs = this.#context.now.monoMs - this.#context.tuning.creditIdleMs;
    for (const grant of grants) {
      grant.recall = starved && grant.outstanding > 0 && (!grant.active || grant.usedMs <= idleMs);
    }
    const { session, queue } = consumer;
    writers.forEach((peer, at) => {
      const grant = grants[at];
      if (grant === undefined || (grant.total === grant.sentTotal && !grant.recall)) return;
      grant.sentTotal = grant.total;
      const item = { session, queue, total: grant.total, recall: grant.recall };
      const items = credits.get(peer);
      if (items === undefined) credits.set(peer, [item]);
      else items.push(item);
    });
  }

  /** Forgets lanes whose last message is settled for two leases: nothing old can come any more. */
  #sweepLater(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    this.#context.timers.set(this.#context.now.monoMs + SWEEP_MS, () => {
      this.#sweeping = false;
      for (const [lane, seen] of this.#seen) {
        for (const [seq, session] of seen.unsettled) {
          if (!this.#consumers.has(session)) seen.unsettled.delete(seq);
        }
        const over = seen.held.size === 0 && seen.unsettled.size === 0;
        if (over && seen.keepUntilMs <= this.#context.now.monoMs) this.#seen.delete(lane);
        else turn(seen, this.#context.now.monoMs);
      }
      const idleMs = this.#context.now.monoMs - this.#context.tuning.creditIdleMs;
      for (const [queue, used] of this.#used) {
        if ([...used.values()].every((usedMs) => usedMs < idleMs)) this.#used.delete(queue);
      }
      if (this.#seen.size + this.#used.size > 0) this.#sweepLater();
    });
  }
}

/** Forgets what was settled two leases ago and more. */
function turn(seen: Seen, monoMs: number): void {
  if (monoMs - seen.turnedMs < 2 * seen.leaseMs) return;
  const { done, epochs, held, unsettled, past } = seen;
  seen.turnedMs = monoMs;
  seen.past = { done, epochs };
  seen.done = new FinishedSet();
  seen.epochs = new Map();
  for (const seq of [...held.keys(), ...unsettled.keys()]) {
    const epoch = epochs.get(seq) ?? past?.epochs.get(seq);
    if (epoch !== undefined) seen.epochs.set(seq, epoch);
  }
}

/** Until the outcome is confirmed, the epoch is kept as long as the session that was handed it. */
function remember(unsettled: Map<number, string>, { seq, session }: Held): void {
  unsettled.set(seq, session);
  if (unsettled.size <= UNSETTLED_MAX) return;
  for (const oldest of unsettled.keys()) return void unsettled.delete(oldest);
}

function give(grant: Grant, count: number): void {
  grant.total += count;
  grant.outstanding += count;
}

function refOf({ lane, seq, epoch, session }: Held): HeldItem {
  return { lane, seq, epoch, session };
}
