import { assert } from "@klatsch/kit/core";

import type { Right } from "./ballot.ts";
import { comparePromises, pidStore } from "./ballot.ts";
import type { Context } from "./context.ts";
import { absentBelow, FinishedEpochs, FinishedSet, gapsBelow, without } from "./finished.ts";
import { dropBody, trim } from "./lane-bodies.ts";
import { LaneDebts } from "./lane-debts.ts";
import { LaneEnd } from "./lane-end.ts";
import { sorted } from "./found.ts";
import type { LaneHost } from "./lane-host.ts";
import type { LaneOrder } from "./lane-order.ts";
import { makeOrder } from "./lane-order.ts";
import type { PendingEnqueue, Recovered, RecoveredRegister, Register, Waiter } from "./lane-register.ts";
import { bitCount, isLight, restingRegister } from "./lane-register.ts";
import type { Exception, KeptKeys, LaneException, OpException, Section } from "./messages.ts";
import { failedDelivery, outcomeOf } from "./outcome.ts";
import {
  discarded,
  done,
  ended,
  endsAtWallMs,
  enqueued,
  leased,
  redriven,
  remembered,
  sameValue,
  superseded,
} from "./register.ts";
import type { LaneSender, ReplicaLink } from "./replica-link.ts";
import { LaneUsage } from "./quota.ts";
import type { Descriptor, EndValue, Holder, LaneId, Ranges, Value, Verdict } from "./types.ts";
import { WriterRegisters } from "./writer-registers.ts";

/** Messages an ordered lane may ever hold. */
const SHARD_SEQS = 0x7fff_0000;

/** What an heir has still to import: keys of finished messages, and the END that its own is to be. */
interface Importing {
  readonly end: EndValue;
  readonly kept: IterableIterator<KeptKeys>;
}

/**
 * The proposer of one lane at one (round, pid): every change of a message is its next step, bound to
 * its value once sent (P1) and reported only when q replicas of the lane have it on disk (P2, P4).
 */
export class LaneWriter implements LaneSender {
  readonly lane: LaneId;
  readonly descriptor: Descriptor;
  readonly right: Right;
  readonly quorum: number;
  readonly registers: WriterRegisters;
  readonly finished: FinishedSet = new FinishedSet();
  /** Replicas that follow another writer, one bit each. Only this writer changes it. */
  refused = 0;
  /** Of an ordered lane. */
  readonly order: LaneOrder | undefined;
  readonly #context: Context;
  readonly #host: LaneHost<LaneWriter>;
  readonly #debts: LaneDebts;
  readonly #links: readonly ReplicaLink[];
  readonly #self: number;
  readonly #usage: LaneUsage;
  readonly #epochs = new FinishedEpochs();
  #nextSeq = 0;
  #appending: boolean;
  #synced: boolean;
  #lost = false;
  /** Registers whose latest value is not chosen. */
  #unchosen = 0;
  /** Of a steal's registers, those not chosen yet. */
  #recovering = 0;
  #importing: Importing | undefined;
  readonly #end: LaneEnd;
  #closing = false;

  constructor(
    context: Context,
    host: LaneHost<LaneWriter>,
    init: { lane: LaneId; descriptor: Descriptor; right: Right; synced: boolean },
  ) {
    this.#context = context;
    this.#host = host;
    this.lane = init.lane;
    this.descriptor = init.descriptor;
    this.right = init.right;
    this.#synced = init.synced;
    this.registers = new WriterRegisters({
      right: init.right,
      looseMax: context.tuning.looseRegisters,
      stored: () => host.stored(init.lane),
      onMissing: () => this.#loseRole(undefined),
    });
    this.order = makeOrder(context.tuning, init.descriptor);
    this.#appending = init.right.round === 0 && this.order === undefined;
    const { replicas } = init.descriptor;
    this.quorum = Math.floor(replicas.length / 2) + 1;
    this.#end = new LaneEnd(this.quorum, init.descriptor);
    this.#links = replicas.map((replica) => host.link(replica));
    this.#usage = new LaneUsage(host.usage(this));
    this.#self = replicas.findIndex((replica) => replica.store === context.store);
    assert(this.#self >= 0, "a lane is written by one of its replicas");
    this.#debts = new LaneDebts(context, this, this.#links);
  }

  get isAppending(): boolean {
    return this.#appending && !this.#lost;
  }

  get isLost(): boolean {
    return this.#lost;
  }

  /** Chosen END, if any. */
  get end(): EndValue | undefined {
    return this.#end.chosen;
  }

  /** The lane in its messages' ids. */
  get root(): LaneId {
    return this.descriptor.heirOf?.root ?? this.lane;
  }

  /** It may change its messages: they are all here, and are not on their way to an heir. */
  get isServing(): boolean {
    return !this.#lost && !this.#end.isMoving && !this.#end.isImporting;
  }

  /** Where it is on the way from a lane to its heir. */
  get course(): Pick<LaneEnd, "isHere" | "isImporting" | "wantsImport" | "isMoving" | "isMoved"> {
    return this.#end;
  }

  get isFull(): boolean {
    const { tuning } = this.#context;
    return this.#nextSeq >= (this.order === undefined ? tuning.laneMessages : SHARD_SEQS);
  }

  /** What the next message gets. */
  get nextSeq(): number {
    return this.#nextSeq;
  }

  /** How many replicas can be reached now. */
  get reachable(): number {
    let count = 0;
    for (const link of this.#links) if (link.isUp) count += 1;
    return count;
  }

  /** The lane's descriptor is on this node's disk: frames may leave. */
  onSynced(): void {
    this.#synced = true;
    this.#links.forEach((link) => link.owe(this));
  }

  // Flows 1 to 5: the life of a message.

  append(pending: PendingEnqueue, leaseMs: number, holder: Holder | undefined): Register {
    assert(this.isAppending, "only an open lane appends");
    const seq = this.#nextSeq;
    this.#nextSeq += 1;
    const ready = enqueued(pending, leaseMs);
    const register = restingRegister(seq, ready, -1, 0);
    register.body = pending.body;
    register.enqueue = pending;
    this.registers.add(register);
    this.#usage.add(ready);
    // Fusion: with credit waiting, enqueue and election are one proposal.
    if (holder === undefined) this.#propose(register, ready);
    else this.lease(register, holder, leaseMs);
    return register;
  }

  /** Flow 2: proposes `holder` for the next epoch. */
  lease(register: Register, holder: Holder, leaseMs: number): void {
    this.#propose(register, leased(register.value, holder, leaseMs));
  }

  /**
   * A lease is superseded if it is not chosen in half its time, counted from its first send: one that waits
   * for a window would otherwise be given up before anybody saw it, again and again.
   */
  #armSupersede(register: Register): void {
    const { value, chosen, recovering, timer } = register;
    if (value.state !== "LEASED" || chosen || recovering || timer !== undefined) return;
    register.leasedMs = this.#context.now.monoMs;
    const lateMs = register.leasedMs + value.leaseMs / 2;
    register.timer = this.#context.timers.set(lateMs, () => this.#supersede(register));
  }

  #supersede(register: Register): void {
    const { holder } = register.value;
    if (register.chosen || this.#lost || holder === undefined) return;
    this.#takeBack(register, holder);
  }

  /** The holder never heard of its lease. */
  #takeBack(register: Register, holder: Holder): void {
    this.#propose(register, superseded(register.value));
    this.#host.onUnused(this, holder);
  }

  /** The lease ends without a verdict: its time is over, or its holder is gone. */
  expire(register: Register, reason = "lease expired"): void {
    if (!this.isServing || !register.chosen || register.value.state !== "LEASED") return;
    this.#returnCredit(register);
    const { wallMs } = this.#context.now;
    this.#propose(register, failedDelivery(register.value, this.#host.definition(this), reason, 0, wallMs));
  }

  /** Whether a delivery of the chosen lease could leave: its body is here. A credit too many is spent before long. */
  #hasLeft({ seq, body }: Register): boolean {
    return body !== undefined || this.#host.stored(this.lane)?.get(seq)?.hasBody === true;
  }

  /** Of a lease that nobody heard of, and nobody will. */
  #returnCredit(register: Register): void {
    const { value, chosen, recovering } = register;
    if (recovering || value.holder === undefined) return;
    if (!chosen || !this.#hasLeft(register)) this.#host.onUnused(this, value.holder);
  }

  /** An operator's act on a message that nobody holds: back into its queue, or away. `undefined`: it is not so. */
  manage(seq: number, act: "redrive" | "discard"): Register | undefined {
    const register = this.isServing && this.isOpen ? this.registers.get(seq) : undefined;
    if (register?.chosen !== true) return undefined;
    const { state } = register.value;
    if (state !== "DEAD" && (state !== "READY" || act === "redrive")) return undefined;
    this.#propose(register, act === "redrive" ? redriven(register.value) : discarded(register.value));
    return register;
  }

  /** A verdict on the chosen lease of `waiter.epoch`. */
  settle(register: Register, verdict: Verdict, waiter: Waiter): void {
    const outcome = outcomeOf(register.value, verdict, this.#host.definition(this), this.#context);
    if (outcome === undefined) return;
    register.waiter = waiter;
    this.#propose(register, outcome);
  }

  /** RENEW, once q confirmed the lane: the timer runs from `fromMs`, when the request came. */
  renew(register: Register, fromMs: number): void {
    register.leasedMs = fromMs;
    this.#armExpiry(register);
  }

  #armExpiry(register: Register): void {
    const { leaseMs } = register.value;
    const graceMs = Math.max(leaseMs / 4, this.#context.tuning.graceMinMs);
    this.#context.timers.cancel(register.timer);
    register.timer = this.#context.timers.set(register.leasedMs + leaseMs + graceMs, () =>
      this.expire(register),
    );
  }

  /** Epoch at which `seq` was finished, 0 if this writer does not remember. */
  finishedEpoch(seq: number): number {
    return this.#epochs.get(seq);
  }

  #propose(register: Register, value: Value): void {
    if (register.chosen) this.#unchosen += 1;
    register.step += 1;
    this.#usage.remove(register.value);
    this.#usage.add(value);
    this.order?.follow(register.seq, value, false);
    register.dying = value.state === "DEAD" && register.value.reason === undefined;
    register.vetoes = 0;
    register.value = value;
    register.acks = 0;
    register.chosen = false;
    this.#context.timers.cancel(register.timer);
    register.timer = undefined;
    this.#send(register);
  }

  #send(register: Register): void {
    this.#links.forEach((link, index) => {
      const mayGo = this.#debts.mayGo(index, register.seq, isLight(register, index));
      if (this.#synced && mayGo) this.#add(link, index, register);
      else this.#debts.add(index, register.seq);
    });
  }

  #add(link: ReplicaLink, index: number, register: Register): void {
    const { seq, step, value } = register;
    const has = isLight(register, index);
    const attach = !has && register.body === undefined;
    if (attach && (register.heldBy & (1 << this.#self)) === 0) {
      this.#host.onBodyWanted(this, register);
      return;
    }
    this.#armSupersede(register);
    const body = has ? undefined : register.body;
    const op = attach ? { seq, step, value, body, attach } : { seq, step, value, body };
    link.accept(this, register.imported && step === 0 ? { ...op, imported: true } : op);
  }

  // Answers of the replicas.

  onOk(link: ReplicaLink, section: Section, exceptions: readonly Exception[]): void {
    if (this.#lost) return;
    const index = this.#links.indexOf(link);
    const bit = 1 << index;
    const excepted = new Map<number, OpException>();
    for (const exception of exceptions) {
      if (!("seq" in exception)) return this.#onRefusal(link, index, section, exception);
      excepted.set(exception.seq, exception);
    }
    for (const { seq, step } of section.accepts) {
      const exception = excepted.size === 0 ? undefined : excepted.get(seq);
      if (exception === undefined && this.registers.rests(seq)) {
        this.registers.hold(seq, bit);
        continue;
      }
      const register = this.registers.get(seq);
      if (register === undefined) continue;
      if (exception === undefined) this.#count(register, bit, step);
      else if (exception.code === "VETO") this.#onVeto(register, bit, step);
      else this.#onException(index, register, exception);
    }
    if (section.end !== undefined && !excepted.has(-1)) this.#countEnd(bit, section.end.step);
    if (section.closed !== undefined) this.#onClosedLearnt(index);
  }

  #onRefusal(link: ReplicaLink, index: number, section: Section, exception: LaneException): void {
    switch (exception.code) {
      case "REFUSED":
        if (exception.promise !== undefined) this.#onFollowerLost(index, exception.promise);
        return;
      case "CLOSED":
        // After this writer's own close that is what LEARN_CLOSED meets; before, another closed it.
        if (this.#closing) this.#onClosedLearnt(index);
        else this.#loseRole(exception.end);
        return;
      case "NEED_LANE":
        link.unknow(this.lane);
        this.onLost(link, section);
        return;
      case "BAD_LANE":
        this.#context.fault(`lane ${this.lane} is refused as malformed`, link.peer);
        this.#onFollowerLost(index, undefined);
    }
  }

  /** This node's own store promised the lane to a higher right. */
  onOvertaken(promise: Right): void {
    if (this.#lost) return;
    // What rests has its value in that store alone, where the next writer changes it.
    if (this.registers.restingCount > 0) this.#loseRole(undefined);
    else this.#onFollowerLost(this.#self, promise);
  }

  onClosedElsewhere(end: EndValue | undefined): void {
    if (!this.#closing) this.#loseRole(end);
  }

  /** A refused writer seals the lane but serves it while q replicas still follow. */
  #onFollowerLost(index: number, promise: Right | undefined): void {
    if (promise !== undefined && comparePromises(promise, this.right) <= 0) return;
    // An ordered lane has no other to go on in: better somebody takes it over whole.
    if (this.order !== undefined) return this.#loseRole(undefined);
    this.refused |= 1 << index;
    // Who was promised the lane follows nobody else either.
    const holder = promise === undefined ? undefined : pidStore(promise.pid);
    this.descriptor.replicas.forEach(({ store }, at) => {
      if (store === holder) this.refused |= 1 << at;
    });
    this.#appending = false;
    if (this.#links.length - bitCount(this.refused) < this.quorum) this.#loseRole(undefined);
    else this.#advance();
  }

  #loseRole(end: EndValue | undefined): void {
    if (this.#lost) return;
    this.#appending = false;
    this.#stop();
    this.#host.onRoleLost(this, end);
  }

  /** Ends this writer's part without telling anybody: a higher round of this node took over. */
  retire(): void {
    this.#stop();
    for (const register of this.registers.awake()) this.#returnCredit(register);
  }

  #stop(): void {
    this.#lost = true;
    this.#usage.giveUp();
    for (const link of this.#links) link.forget(this);
    for (const register of this.registers.awake()) {
      this.#context.timers.cancel(register.timer);
      if (register.kept) dropBody(register, this.#context.bodies);
    }
    this.#debts.stop();
  }

  #onException(index: number, register: Register, exception: OpException): void {
    switch (exception.code) {
      case "OLDER": {
        // The replica has a later step: that counts for the enqueue, never for a lease.
        const { ballot } = exception;
        const isOwn = ballot !== undefined && comparePromises(ballot, this.right) === 0;
        return isOwn ? this.#hold(register, 1 << index) : undefined;
      }
      case "NEED_BODY":
        register.heldBy &= ~(1 << index);
        return this.#debts.add(index, register.seq);
      case "GONE":
        return this.#onGone(register);
      case "EARLY":
        return this.#debts.addEarly(index, register.seq);
      case "CONFLICT":
      case "VETO":
        return;
    }
  }

  /** Once too few are left who may vote for the lease, it is taken back, and somebody nominated a while later. */
  #onVeto(register: Register, bit: number, step: number): void {
    const { value, chosen, recovering } = register;
    if (step !== register.step || chosen || recovering || value.holder === undefined) return;
    register.vetoes |= bit;
    const left = this.#links.filter((link, at) => link.isUp && (register.vetoes & (1 << at)) === 0);
    if (left.length >= this.quorum) return;
    this.#propose(register, superseded(value, this.#context.now.wallMs + this.#context.tuning.earlyRetryMs));
    this.#host.onVetoed(this, value.holder);
  }

  /**
   * A finished seq outranks all ballots [M3], so a DONE that a replica answers with GONE is chosen: no quorum
   * of accepts may ever come. Under which epoch is not known here, so whoever waits hears FINISHED. Any other
   * value means that a higher writer finished it, and a refusal follows; or, in a relaxed lane, that who told this writer
   * of the value had lost the rest with its power: no quorum would ever take it.
   */
  #onGone(register: Register): void {
    const { seq, value, waiter } = register;
    const mayBeForgotten = this.descriptor.relaxed === true && register.enqueue === undefined;
    if (register.chosen || (value.state !== "DONE" && !mayBeForgotten)) return;
    if (value.state !== "DONE") {
      this.#returnCredit(register);
      return this.#propose(register, done(value));
    }
    register.waiter = undefined;
    register.value = { ...value, epoch: 0 };
    this.#onChosen(register);
    if (waiter !== undefined) this.#host.onSettled(this, seq, waiter, "FINISHED");
  }

  #hold(register: Register, bit: number): void {
    register.heldBy |= bit;
    const pending = register.enqueue;
    if (pending === undefined || bitCount(register.heldBy) < this.quorum) return;
    register.enqueue = undefined;
    this.#host.onEnqueued(this, register, pending);
  }

  #count(register: Register, bit: number, step: number): void {
    this.#hold(register, bit);
    if (step !== register.step || register.chosen) {
      if (register.chosen) this.#settleDown(register);
      return;
    }
    register.acks |= bit;
    if (bitCount(register.acks) >= this.quorum) this.#onChosen(register);
  }

  #onChosen(register: Register): void {
    register.chosen = true;
    this.#unchosen -= 1;
    const { recovering, waiter, value } = register;
    if (recovering) {
      register.recovering = false;
      this.#recovering -= 1;
    }
    this.#context.timers.cancel(register.timer);
    register.timer = undefined;
    this.order?.follow(register.seq, value, true);
    if (waiter !== undefined) {
      register.waiter = undefined;
      register.settled = { epoch: waiter.epoch, kind: waiter.kind };
      this.#host.onSettled(this, register.seq, waiter, "DONE");
    }
    if (value.state === "DONE") this.#finish(register);
    else if (!this.#end.isImporting) {
      if (register.dying) this.#host.onDied(this, register);
      this.#begin(register, recovering);
    }
    this.#settleDown(register);
    const next = this.order?.next(value);
    if (next !== undefined && next !== register.seq) this.offer(next);
    if (this.#importing !== undefined) this.#importKeys(this.#importing);
    this.#advance();
  }

  /** A chosen value takes effect. */
  #begin(register: Register, recovered: boolean): void {
    const { value } = register;
    this.#context.timers.cancel(register.timer);
    register.timer = undefined;
    if (value.state !== "LEASED") return this.#onReady(register);
    // A stealer cannot know when the lease began: it grants a full one.
    if (recovered) register.leasedMs = this.#context.now.monoMs;
    this.#armExpiry(register);
    if (value.holder === undefined || !this.#host.isHolderGone(value.holder))
      this.#host.onLeased(this, register);
    else if (recovered) this.expire(register, "holder gone");
    else this.#takeBack(register, value.holder);
  }

  /** It is the next one of its group now, or the lane is open at last, or the wall clock was set. */
  offer(seq: number): void {
    const register = this.#idle(seq);
    if (register === undefined) return;
    this.#onReady(register);
    this.#settleDown(register);
  }

  /** One that nobody holds, and no timer waits for. */
  #idle(seq: number): Register | undefined {
    const register = this.registers.get(seq);
    // One that a steal found has its own turn: what is proposed before that would go for chosen.
    if (register?.chosen !== true || register.recovering || !this.isServing) return undefined;
    if (register.value.state !== "READY" && register.value.state !== "DEAD") return undefined;
    this.#context.timers.cancel(register.timer);
    register.timer = undefined;
    return register;
  }

  /** Whether it may be handed out: an ordered lane must be open, and the message next in its group. */
  isNext({ seq, value }: Register): boolean {
    return this.order === undefined || (this.isOpen && this.order.isNext(seq, value));
  }

  /** Whether verdicts may finish messages: in an ordered lane once its cut is chosen, which tells those that are done from those that never were. */
  get isOpen(): boolean {
    return this.order === undefined || this.end !== undefined;
  }

  /** The message may wait for long: as little of it as can be stays in memory. */
  #settleDown(register: Register): void {
    trim(register, 1 << this.#self, this.#context.bodies);
    if (!this.#lost) this.registers.rest(register);
  }

  #onReady(register: Register): void {
    if (!this.isServing) return;
    this.#awaitEnd(register);
    const isDue = register.chosen && register.value.notBeforeWallMs <= this.#context.now.wallMs;
    if (isDue && this.isNext(register)) this.#host.onClaimable(this, register);
  }

  /** It was claimable and could not be handed out: if only because its time has still to come, it waits for that. */
  reconsider(seq: number): void {
    const register = this.registers.peek(seq);
    if (register !== undefined && register.value.notBeforeWallMs > this.#context.now.wallMs) this.offer(seq);
  }

  /** Flows 11 and 12: nobody holds it. If its time is not over a timer waits for that, and for when it is due. A clock set back is waited for. */
  #awaitEnd(register: Register): void {
    const { value } = register;
    const { monoMs, wallMs } = this.#context.now;
    const endsWallMs = endsAtWallMs(value, this.#host.definition(this).deadTtlMs);
    if (endsWallMs <= wallMs) return this.#propose(register, ended(value, endsWallMs));
    const isDue = value.notBeforeWallMs <= wallMs;
    const nextWallMs = isDue ? endsWallMs : Math.min(endsWallMs, value.notBeforeWallMs);
    if (nextWallMs === Number.POSITIVE_INFINITY) return;
    register.timer = this.#context.timers.set(monoMs + Math.max(1, nextWallMs - wallMs), () => {
      register.timer = undefined;
      if (!isDue) this.#onReady(register);
      else if (this.isServing) this.#awaitEnd(register);
    });
  }

  /** Its queue keeps it for another time from now on, or the wall clock was set. */
  review(seq: number): void {
    const register = this.#idle(seq);
    if (register !== undefined) this.#awaitEnd(register);
  }

  #finish(register: Register): void {
    const { seq } = register;
    this.registers.delete(seq);
    this.finished.add(seq);
    this.#epochs.set(seq, register.value.epoch);
    this.#debts.addFinished(seq);
    this.#host.onFinished(this, register);
  }

  #learnRanges(ranges: Ranges): void {
    this.finished.addRanges(ranges);
    this.#debts.learnRanges(ranges);
  }

  // What each replica is owed.

  pump(link: ReplicaLink): boolean {
    if (this.#lost || !this.#synced) return true;
    const index = this.#links.indexOf(link);
    const seqs = this.#debts.pay(link, this.#end);
    for (const seq of seqs) {
      if (!link.hasTurn) return false;
      seqs.delete(seq);
      const register = this.registers.get(seq);
      if (register !== undefined) this.#add(link, index, register);
    }
    return true;
  }

  /**
   * A replica is there again, and may have followed somebody else meanwhile. A lane whose messages rest would never hear of
   * that: something the replica has is said to it once more.
   */
  remind(link: ReplicaLink): void {
    const index = this.#links.indexOf(link);
    if (index < 0 || index === this.#self || this.#lost || this.registers.size === 0) return;
    if (this.#end.step >= 0) return this.#debts.addEndAt(index);
    const [register] = this.registers.awake();
    if (register !== undefined && register.step >= 0) this.#debts.add(index, register.seq);
  }

  onLost(link: ReplicaLink, section: Section): void {
    if (!this.#lost) this.#debts.again(link, section);
  }

  // Flow 6's end: what a steal found.

  /** Takes over what q snapshots said; every value not yet proved chosen is proposed again, as it is. */
  recover({ found, whole, finished, nextSeq, end, keys }: Recovered): void {
    this.#nextSeq = nextSeq;
    if (finished.length > 0) this.#learnRanges(finished);
    if (this.order !== undefined && end?.heir === undefined) this.#end.cut(end);
    else if (end !== undefined) this.#proposeEnd(end);
    // A frozen lane's values are what its heir imports; nothing is proposed in it any more [M11].
    if (end?.heir !== undefined) {
      for (const { seq, value, heldBy, proven } of found) {
        this.registers.add({ ...restingRegister(seq, value, -1, heldBy), chosen: proven });
      }
      this.order?.recover(found, keys, this.#context.awakeMs);
      return this.#debts.learn();
    }
    const isHeir = end !== undefined && this.descriptor.heirOf !== undefined;
    if (isHeir && this.order === undefined) this.#finishAbsent(end, found);
    const mayRest = this.order === undefined && this.isServing;
    const adopt = (one: RecoveredRegister): Register => this.#adopt(one);
    const { runs, count, bytes, proven, open } = sorted({ found, whole }, mayRest, this.registers, adopt);
    this.#usage.addWaiting(count, bytes);
    this.order?.recover(found, keys, this.#context.awakeMs);
    for (const register of open) this.#propose(register, register.value);
    for (const register of proven) {
      this.#unchosen += 1;
      this.#onChosen(register);
    }
    if (!this.#lost) this.#host.onRested(this, runs);
    this.#advance();
  }

  /** An ordered lane's cut is chosen: what it excludes is over, and the lane may be appended to. Or an heir's END: it serves. */
  #openUp({ voids }: EndValue, imported: boolean): void {
    if (this.order !== undefined) {
      this.#learnRanges(voids);
      this.#appending = true;
    }
    if (imported) this.#beginAll();
    else if (this.order !== undefined) for (const { seq } of [...this.registers.values()]) this.offer(seq);
  }

  #adopt({ seq, value, heldBy }: Omit<RecoveredRegister, "proven">): Register {
    const register = restingRegister(seq, value, -1, heldBy);
    register.leasedMs = this.#context.now.monoMs;
    register.recovering = true;
    this.#recovering += 1;
    this.registers.add(register);
    this.#usage.add(value);
    return register;
  }

  // Flow 10: heirs.

  /** An heir has everything and serves, or a lane whose plans came to nothing goes on. */
  #beginAll(): void {
    for (const { seq } of [...this.registers.values()]) {
      const register = this.registers.get(seq);
      if (register?.chosen !== true) continue;
      this.#begin(register, true);
      this.#settleDown(register);
    }
  }

  /** `heir` is on disk: what is under way is finished, nothing else begun, then END names it. */
  move(heir: Descriptor): void {
    this.#end.plan(heir);
    this.seal();
  }

  /** The heir that was planned is no good any more: the lane goes on as it was. `false`: it is too late for that. */
  stay(): boolean {
    if (!this.#end.stay()) return false;
    this.#appending = this.order !== undefined && this.end !== undefined;
    this.#beginAll(); // Meanwhile nobody's lease could end.
    return true;
  }

  /** The heir has all messages: this lane closes, and its records go. */
  onMoved(): void {
    this.#end.onMoved();
    this.#advance();
  }

  /** Imports what the lane before held, unless it is here already, and keys a part at a time; END follows when all of it is chosen. */
  import(
    found: readonly Pick<Register, "seq" | "value" | "chosen">[],
    end: EndValue,
    kept: readonly KeptKeys[],
  ): void {
    // What is here already has its place in its group, or is out of the way.
    const fresh = found.filter(({ seq }) => !this.finished.has(seq) && !this.registers.has(seq));
    this.order?.recover(fresh, kept, this.#context.awakeMs);
    for (const { seq, value, chosen } of found) {
      if (this.finished.has(seq)) continue;
      const known = this.registers.get(seq);
      const register = known ?? this.#adopt({ seq, value, heldBy: 0 });
      register.imported = chosen && sameValue(register.value, value);
      if (known === undefined) this.#propose(register, value);
    }
    this.#end.copy(end);
    this.#importing = { end, kept: kept.values() };
    this.#importKeys(this.#importing);
  }

  /** Keys outlive their messages [O2]: q replicas learn them as those that finish them here. */
  #importKeys({ end, kept }: Importing): void {
    while (this.#recovering < this.#context.tuning.importKeys) {
      const { done: isOver, value: next } = kept.next();
      if (isOver === true) return this.#endImport(end);
      if (this.finished.has(next.seq) || this.registers.has(next.seq)) continue;
      const value = remembered(next.keys);
      this.#propose(this.#adopt({ seq: next.seq, value, heldBy: 0 }), value);
    }
  }

  #endImport(end: EndValue): void {
    this.#importing = undefined;
    this.#finishAbsent(end, this.registers.values());
    this.#nextSeq = end.n;
    this.#advance();
  }

  /** What exists and was not imported was finished in an earlier lane. */
  #finishAbsent(end: EndValue, present: Iterable<{ readonly seq: number }>): void {
    const seqs = [...present].map(({ seq }) => seq).sort((a, b) => a - b);
    const absent = without(gapsBelow(end.n, end.voids), seqs);
    if (this.order === undefined) this.finished.addRanges(absent);
    else this.#learnRanges(absent);
  }

  /** A body this node lacked has come: what waited for it goes on, a replica or a consumer. */
  onBody(seq: number, body: Uint8Array): void {
    const register = this.registers.get(seq);
    if (register === undefined || this.#lost) return;
    register.body = body;
    if (register.step >= 0) this.#send(register);
    if (register.chosen && register.value.state === "LEASED") this.#host.onLeased(this, register);
  }

  // Flows 7 and 8: END and closing.

  /** Appends no more; END follows once every message's latest value is chosen [M7]. */
  seal(): void {
    this.#appending = false;
    this.#advance();
  }

  #advance(): void {
    if (this.#appending || this.#lost) return;
    // Its origin ends a lane over chosen values only; a stealer, once all it found is chosen again; an heir, once all is here, too.
    if (this.#importing !== undefined) return;
    const next = this.#end.next({
      awaited: this.right.round === 0 ? this.#unchosen : this.#recovering,
      unchosen: this.#unchosen,
      left: this.registers.size,
      voids: () => absentBelow(this.#nextSeq, (seq) => this.registers.has(seq) || this.finished.has(seq)),
      n: this.#nextSeq,
      right: this.right,
    });
    if (next !== undefined) this.#proposeEnd(next);
  }

  #proposeEnd(value: EndValue): void {
    this.#end.propose(value);
    this.#debts.addEnd();
  }

  #countEnd(bit: number, step: number): void {
    const imported = this.#end.isImporting;
    const end = this.#end.count(bit, step);
    if (end === undefined) return;
    if (end.heir !== undefined) this.#usage.giveUp();
    else this.#openUp(end, imported);
    this.#host.onEnd(this, end);
    if (end.closed) this.#spreadClosed();
    else this.#advance();
  }

  #onClosedLearnt(index: number): void {
    if (this.#debts.onClosedLearnt(index) && this.#closing) this.#host.onSpread(this);
  }

  #spreadClosed(): void {
    this.#closing = true;
    this.#debts.addClosed();
  }
}
