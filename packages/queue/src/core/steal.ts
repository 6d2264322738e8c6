import { randomBelow } from "@klatsch/kit/core";

import type { AcceptorLane } from "./acceptor.ts";
import type { Pid, Right } from "./ballot.ts";
import { comparePromises, pidStore } from "./ballot.ts";
import type { Context } from "./context.ts";
import type { Recovered } from "./lane-register.ts";
import type { Message } from "./messages.ts";
import { NO_MORE } from "./messages.ts";
import type { PackedPage } from "./register-table.ts";
import { RegisterTable } from "./register-table.ts";
import { cut, makesCut, recover } from "./snapshots.ts";
import type { Snapshot } from "./snapshots.ts";
import type { Timer } from "./timers.ts";
import type { EndValue, Keys, LaneId, Parentage, PeerId, Ranges, Replica, StoreId } from "./types.ts";

/** Everything q snapshots of one lane say. */
export interface Recovery extends Recovered {
  readonly right: Right;
  /** Of an heir: the lane it comes from was over before anybody was asked, so that a chosen END would have been seen. */
  readonly parentOver: boolean;
}

/** What the steals of a node ask of the node. */
export interface StealHost {
  /** Whether this node writes the lane now. */
  isServing(lane: LaneId): boolean;
  storeOf(peer: PeerId): StoreId | undefined;
  /** Flow 10: whether this node may take an heir that has no END here, as writer of the lane it comes from. */
  isParent(lane: LaneId, parentage: Parentage): boolean;
  /** Whether that lane is closed, or forgotten. */
  isOver(parentage: Parentage): boolean;
  /** Nobody is heard of in a lane that is for others to take. */
  onSilent(lane: AcceptorLane): void;
  /** A lane has an heir, perhaps. */
  onFrozen(lane: AcceptorLane): void;
  onStolen(lane: AcceptorLane, recovery: Recovery): void;
  /** A replica answered that the lane is closed. */
  onFoundClosed(lane: AcceptorLane, end: EndValue | undefined): void;
}

/** One replica's snapshot, as far as its pages have come [M14]. */
interface Answer extends Snapshot {
  readonly snapshot: number;
  pages: number;
  /** As many as there were when the transfer was last looked at. */
  seenPages: number;
  /** The page that is missing was asked for once more. */
  isAskedAgain: boolean;
  complete: boolean;
  finished: Ranges;
  end: Snapshot["end"];
  readonly keys: Map<number, Keys>;
}

interface Watch {
  readonly lane: AcceptorLane;
  phase: "idle" | "waiting" | "asking" | "preparing";
  /** Highest right anybody told this node of: whose holder has to be gone. */
  target: Right;
  /** Stores that answered yes to "is it gone for you?". */
  readonly yes: Set<StoreId>;
  timer: Timer | undefined;
  delayMs: number;
  readonly answers: Map<StoreId, Answer>;
  /** Another replica says that it has an END. */
  ended: boolean;
  right: Right | undefined;
  /** Of an heir: its parent was over when the prepare of `right` began. */
  parentOver: boolean;
  steals: number;
  /** A `LANE?` is on its way since this instant. */
  probedMs: number | undefined;
  /** The pid that denied serving the lane, or did not answer. */
  denied: Pid | undefined;
  /** What it counts for among those that are prepared. */
  prepared: { readonly messages: number; readonly timer: Timer } | undefined;
}

/** Messages in lanes that one node prepares at a time: each takes half a KiB for each replica meanwhile. */
const PREPARED_MAX = 131_072;
/** A prepare that takes longer, in milliseconds, lets the next begin: its lane may have no quorum. */
const PREPARED_MS = 5_000;
/** Highest seq of a lane that is not ordered: lanes hold at most 65,536 messages by default. */
const LANE_SEQ_MAX = 0xf_ffff;

/** How many times longer a writer is waited for whose link stands. */
const LINKED_PATIENCE = 4;
/** How often lanes are looked over for silent writers, in milliseconds. */
const LOOK_MS = 1_000;

/**
 * Flow 6 for every lane of this store: notices that a lane's writer is gone, agrees on that with q
 * replicas, and takes the lane over with one range prepare.
 */
export class Steals {
  readonly #context: Context;
  readonly #host: StealHost;
  readonly #watches = new Map<LaneId, Watch>();
  /** To be prepared once there is room, in this order. */
  readonly #queue = new Set<Watch>();
  #prepared = 0;
  #looking = false;

  constructor(context: Context, host: StealHost) {
    this.#context = context;
    this.#host = host;
  }

  /** The lane is new here, or its promise moved: whoever was suspected no longer matters. */
  onPromised(lane: AcceptorLane): void {
    if (lane.closed) return;
    let watch = this.#watches.get(lane.lane);
    if (watch === undefined) {
      watch = this.#create(lane);
      this.#watches.set(lane.lane, watch);
      this.#look();
    }
    const own = watch.right !== undefined && comparePromises(lane.promise, watch.right) === 0;
    if (comparePromises(lane.promise, watch.target) > 0) watch.target = lane.promise;
    if (own) return;
    this.#rest(watch);
    watch.denied = undefined;
    watch.delayMs = 0;
    this.#consider(watch);
  }

  #create(lane: AcceptorLane): Watch {
    return {
      lane,
      phase: "idle",
      target: lane.promise,
      yes: new Set(),
      timer: undefined,
      delayMs: 0,
      answers: new Map(),
      ended: false,
      right: undefined,
      parentOver: false,
      steals: 0,
      probedMs: undefined,
      denied: undefined,
      prepared: undefined,
    };
  }

  onOver(lane: LaneId): void {
    const watch = this.#watches.get(lane);
    if (watch === undefined) return;
    this.#rest(watch);
    this.#watches.delete(lane);
  }

  isPreparing(lane: LaneId): boolean {
    return this.#watches.get(lane)?.phase === "preparing";
  }

  /** Whether somebody serves the lane, as far as this node can tell now. */
  isServed({ lane }: AcceptorLane): boolean {
    if (this.#host.isServing(lane)) return true;
    const watch = this.#watches.get(lane);
    if (watch === undefined || watch.phase !== "idle" || this.#isGone(watch)) return false;
    return this.#context.reachable(pidStore(watch.target.pid));
  }

  /** Somebody's status or boot changed, or a link came up. */
  recheck(): void {
    for (const watch of this.#watches.values()) this.#consider(watch);
  }

  /** This node was asked about a lane it does not write: see whether anybody does. */
  kick(lane: LaneId): void {
    const watch = this.#watches.get(lane);
    if (watch === undefined) return;
    this.#consider(watch);
    // Nobody opens another lane in its place: whether its writer still serves is asked at once.
    if (watch.phase === "idle" && watch.lane.descriptor.shard !== undefined) this.#probe(watch);
  }

  /** This node's own writer of the lane ended without a successor it knows of. */
  onRoleLost(lane: LaneId): void {
    const watch = this.#watches.get(lane);
    if (watch === undefined) return;
    watch.right = undefined;
    this.#rest(watch);
    watch.lane.heardMs = this.#context.now.monoMs;
    this.#later(watch, () => this.#consider(watch));
  }

  #rest(watch: Watch): void {
    this.#leave(watch);
    if (watch.phase === "preparing") this.#release(watch);
    this.#context.timers.cancel(watch.timer);
    watch.timer = undefined;
    watch.phase = "idle";
    watch.yes.clear();
    watch.answers.clear();
  }

  #isGone(watch: Watch): boolean {
    if (!this.#mayTake(watch)) return false;
    const { pid } = watch.target;
    if (pid === this.#context.pid) return !this.#isActive(watch.lane.lane);
    return this.#context.isGone(pid) || watch.denied === pid;
  }

  /** Flow 10: an heir that may lack messages is for whoever can import them; a lane with an heir, for whoever is on that. */
  #mayTake({ lane: { lane, descriptor, end }, ended }: Watch): boolean {
    const heir = end?.value.heir;
    if (heir !== undefined && !heir.replicas.some(({ store }) => store === this.#context.store)) return false;
    const { heirOf } = descriptor;
    if (heirOf === undefined || end !== undefined || ended) return true;
    return this.#host.isParent(lane, heirOf) || this.#host.isOver(heirOf);
  }

  /** Flow 10: an heir that nobody wrote but this node is taken at once; whoever else has it is asked. */
  take(lane: LaneId): void {
    const watch = this.#watches.get(lane);
    if (watch === undefined) return;
    if (watch.target.pid !== this.#context.pid) return this.#probe(watch);
    if (!this.#isGone(watch)) return;
    if (watch.phase === "waiting" || (watch.phase === "idle" && watch.timer === undefined)) {
      this.#prepare(watch);
    }
  }

  /** Whoever has the lane's END may not take it, for its heir is elsewhere; this store may, though it has no END yet. */
  hearEnded(lane: LaneId): void {
    const watch = this.#watches.get(lane);
    if (watch === undefined) return;
    watch.ended = true;
    this.#consider(watch);
  }

  #isActive(lane: LaneId): boolean {
    return this.#host.isServing(lane) || this.isPreparing(lane);
  }

  #consider(watch: Watch): void {
    if (watch.phase !== "idle" || watch.timer !== undefined) return;
    const { lane } = watch.lane;
    if (watch.lane.closed || this.#isActive(lane) || !this.#isGone(watch)) return;
    const { stealDelayMs } = this.#context.tuning;
    const rank = this.#rank(watch);
    const jitterMs = randomBelow(this.#context.random, stealDelayMs);
    watch.phase = "waiting";
    this.#arm(watch, rank * stealDelayMs + jitterMs / 2, () => this.#ask(watch));
  }

  /** Index in R without the suspect. */
  #rank(watch: Watch): number {
    const suspect = pidStore(watch.target.pid);
    const others = watch.lane.descriptor.replicas.filter(({ store }) => store !== suspect);
    return Math.max(
      0,
      others.findIndex(({ store }) => store === this.#context.store),
    );
  }

  #arm(watch: Watch, delayMs: number, run: () => void): void {
    this.#context.timers.cancel(watch.timer);
    watch.timer = this.#context.timers.set(this.#context.now.monoMs + delayMs, () => {
      watch.timer = undefined;
      run();
    });
  }

  /** Back-off: doubles from the prepare retry to its maximum, ± 50 %. */
  #later(watch: Watch, run: () => void): void {
    const { prepareRetryMs, prepareRetryMaxMs } = this.#context.tuning;
    watch.delayMs = Math.min(prepareRetryMaxMs, Math.max(prepareRetryMs, watch.delayMs * 2));
    const half = Math.ceil(watch.delayMs / 2);
    this.#arm(watch, half + randomBelow(this.#context.random, watch.delayMs), run);
  }

  #quorum(watch: Watch): number {
    return Math.floor(watch.lane.descriptor.replicas.length / 2) + 1;
  }

  #ask(watch: Watch): void {
    if (!this.#isGone(watch)) return this.#rest(watch);
    watch.phase = "asking";
    watch.yes.clear();
    watch.yes.add(this.#context.store);
    const { lane, descriptor } = watch.lane;
    for (const { peer, store } of descriptor.replicas) {
      if (store === this.#context.store || !this.#context.reachable(store)) continue;
      this.#context.send(peer, { type: "askGone", lane, pid: watch.target.pid });
    }
    // Longer each time: where all answers take longer than that, no quorum would ever come together.
    this.#arm(watch, Math.max(this.#context.tuning.askTimeoutMs, watch.delayMs), () => {
      watch.phase = "waiting";
      this.#later(watch, () => this.#ask(watch));
    });
    this.#agree(watch);
  }

  #agree(watch: Watch): void {
    if (watch.phase === "asking" && watch.yes.size >= this.#quorum(watch)) this.#prepare(watch);
  }

  /** Another replica asks whether `pid` is gone for this node too. */
  askGone(from: PeerId, message: Message & { type: "askGone" }): void {
    const { lane, pid } = message;
    const watch = this.#watches.get(lane);
    let gone = this.#context.isGone(pid);
    if (pid === this.#context.pid) gone = !this.#isActive(lane);
    else if (this.#isOwner(from, pid)) gone = true; // Its own word for it, as in `LANE?`.
    else if (!gone && watch !== undefined) {
      gone = watch.denied === pid;
      if (!gone && watch.target.pid === pid) this.#probe(watch);
    }
    this.#context.send(from, { type: "gone", lane, pid, gone });
  }

  #isOwner(peer: PeerId, pid: Pid): boolean {
    return this.#host.storeOf(peer) === pidStore(pid);
  }

  gone(from: PeerId, message: Message & { type: "gone" }): void {
    const watch = this.#watches.get(message.lane);
    if (watch?.phase !== "asking" || watch.target.pid !== message.pid) return;
    const replica = watch.lane.descriptor.replicas.find(({ peer }) => peer === from);
    if (replica === undefined) return;
    const isOwner = replica.store === pidStore(message.pid);
    if (!message.gone) {
      if (isOwner) watch.denied = undefined;
      return;
    }
    // Who denies a lane itself needs no quorum of others to suspect it: they may not even know its round.
    if (isOwner) return this.#prepare(watch);
    watch.yes.add(replica.store);
    this.#agree(watch);
  }

  // A writer that lives but is silent.

  #look(): void {
    if (this.#looking) return;
    this.#looking = true;
    this.#context.timers.set(this.#context.now.monoMs + LOOK_MS, () => {
      this.#looking = false;
      for (const watch of this.#watches.values()) this.#lookAt(watch);
      this.#admit();
      if (this.#watches.size > 0) this.#look();
    });
  }

  #lookAt(watch: Watch): void {
    const { silentMs, silentMaxMs, askTimeoutMs } = this.#context.tuning;
    const { monoMs } = this.#context.now;
    // While there is a session the answer is on its way, over a slow link perhaps.
    const isLinked = this.#context.reachable(pidStore(watch.target.pid));
    const answerMs = isLinked ? LINKED_PATIENCE * askTimeoutMs : askTimeoutMs;
    if (watch.probedMs !== undefined && monoMs - watch.probedMs >= answerMs) {
      watch.probedMs = undefined;
      watch.denied = watch.target.pid;
    }
    if (this.#isActive(watch.lane.lane)) watch.lane.heardMs = monoMs;
    if (watch.lane.end?.value.heir !== undefined) this.#host.onFrozen(watch.lane);
    const patience = Math.min(silentMaxMs, silentMs * 2 ** watch.steals);
    const silent = monoMs - watch.lane.heardMs >= patience;
    if (silent && watch.phase === "idle" && this.#isOwed(watch.lane)) {
      this.#probe(watch);
      if (!this.#mayTake(watch)) this.#host.onSilent(watch.lane);
    }
    this.#consider(watch);
  }

  /**
   * Whether somebody has to do something about the lane: it holds messages, it is ending, or it is one this
   * store opened, whose floor waits until it knows the lane closed.
   */
  #isOwed({ registers, end, descriptor }: AcceptorLane): boolean {
    if (descriptor.shard !== undefined) return registers.size > 0 || end?.value.heir !== undefined;
    return registers.size > 0 || end !== undefined || pidStore(descriptor.originPid) === this.#context.store;
  }

  #probe(watch: Watch): void {
    const suspect = pidStore(watch.target.pid);
    const replica = watch.lane.descriptor.replicas.find(({ store }) => store === suspect);
    if (replica === undefined || watch.probedMs !== undefined) return;
    watch.probedMs = this.#context.now.monoMs;
    this.#context.send(replica.peer, { type: "askLane", lane: watch.lane.lane });
  }

  askLane(from: PeerId, message: Message & { type: "askLane" }): void {
    const { lane } = message;
    this.#context.send(from, { type: "lane", lane, serving: this.#isActive(lane) });
  }

  laneAnswered(from: PeerId, message: Message & { type: "lane" }): void {
    const watch = this.#watches.get(message.lane);
    if (watch === undefined) return;
    const suspect = pidStore(watch.target.pid);
    if (!watch.lane.descriptor.replicas.some((r) => r.store === suspect && r.peer === from)) return;
    watch.probedMs = undefined;
    watch.denied = message.serving ? undefined : watch.target.pid;
    if (message.serving) watch.lane.heardMs = this.#context.now.monoMs;
    else this.#consider(watch);
  }

  // Prepare, pages, recovery.

  /** Whether there is room to prepare one lane more; otherwise it waits in line. */
  #enter(watch: Watch): boolean {
    const messages = watch.lane.registers.size;
    if (this.#prepared > 0 && this.#prepared + messages > PREPARED_MAX) {
      watch.phase = "waiting";
      this.#context.timers.cancel(watch.timer);
      watch.timer = undefined;
      this.#queue.add(watch);
      return false;
    }
    this.#queue.delete(watch);
    this.#prepared += messages;
    const untilMs = this.#context.now.monoMs + PREPARED_MS;
    const timer = this.#context.timers.set(untilMs, () => {
      this.#leave(watch);
      this.#admit();
    });
    watch.prepared = { messages, timer };
    return true;
  }

  #leave(watch: Watch): void {
    this.#queue.delete(watch);
    if (watch.prepared === undefined) return;
    this.#prepared -= watch.prepared.messages;
    this.#context.timers.cancel(watch.prepared.timer);
    watch.prepared = undefined;
  }

  /** Those first in line, as far as there is room: whether their writers are still gone is asked again. */
  #admit(): void {
    let messages = this.#prepared;
    for (const watch of this.#queue) {
      if (messages > 0 && messages + watch.lane.registers.size > PREPARED_MAX) return;
      messages += watch.lane.registers.size;
      this.#queue.delete(watch);
      this.#ask(watch);
    }
  }

  #prepare(watch: Watch): void {
    this.#leave(watch);
    if (!this.#enter(watch)) return;
    const { promise } = watch.lane;
    const round = Math.max(promise.round, watch.target.round) + 1;
    const { heirOf } = watch.lane.descriptor;
    watch.parentOver = heirOf !== undefined && this.#host.isOver(heirOf);
    watch.phase = "preparing";
    watch.right = { round, pid: this.#context.pid };
    watch.target = watch.right;
    watch.answers.clear();
    this.#sendPrepare(watch);
  }

  #sendPrepare(watch: Watch): void {
    const { right } = watch;
    if (right === undefined) return;
    const { lane, descriptor } = watch.lane;
    // Whose pages come is left alone, and as long as that is a quorum, so is everybody.
    const waiting = descriptor.replicas.filter(({ store }) => !hasMoved(watch.answers.get(store)));
    const isMoving = descriptor.replicas.length - waiting.length >= this.#quorum(watch);
    for (const { peer, store } of isMoving ? [] : waiting) {
      const answer = watch.answers.get(store);
      if (!this.#context.reachable(store)) {
        watch.answers.delete(store);
        continue;
      }
      if (answer?.isAskedAgain === false) {
        answer.isAskedAgain = true;
        this.#context.send(peer, { type: "more", lane, snapshot: answer.snapshot, index: answer.pages });
        continue;
      }
      watch.answers.delete(store);
      this.#context.send(peer, { type: "prepare", lane, descriptor, ...right });
    }
    for (const answer of watch.answers.values()) answer.seenPages = answer.pages;
    // Once sent it is retried until q, a higher promise, or CLOSED: lanes must not be left half taken.
    this.#later(watch, () => this.#sendPrepare(watch));
  }

  #preparingAt(lane: LaneId, round: number, from: PeerId): [Watch, Replica] | undefined {
    const watch = this.#watches.get(lane);
    if (watch?.phase !== "preparing" || watch.right?.round !== round) return undefined;
    const replica = watch.lane.descriptor.replicas.find(({ peer }) => peer === from);
    return replica === undefined ? undefined : [watch, replica];
  }

  refused(from: PeerId, message: Message & { type: "refused" }): void {
    const [watch] = this.#preparingAt(message.lane, message.round, from) ?? [];
    const { promise } = message;
    if (watch?.right === undefined || promise === undefined) return;
    if (comparePromises(promise, watch.right) <= 0) return;
    // Somebody is ahead. If that one is gone too, this lane's watch will go above its round.
    watch.right = undefined;
    this.#rest(watch);
    watch.target = promise;
    watch.denied = undefined;
    this.#later(watch, () => this.#consider(watch));
  }

  closed(from: PeerId, message: Message & { type: "closed" }): void {
    const watch = this.#watches.get(message.lane);
    if (watch === undefined) return;
    if (!watch.lane.descriptor.replicas.some(({ peer }) => peer === from)) return;
    this.#host.onFoundClosed(watch.lane, message.end);
  }

  page(from: PeerId, message: Message & { type: "page" }): void {
    const [watch, replica] = this.#preparingAt(message.lane, message.round, from) ?? [];
    if (watch === undefined || replica === undefined) return;
    if (watch.lane.descriptor.shard === undefined && highestSeq(message) > LANE_SEQ_MAX) return;
    let answer = watch.answers.get(replica.store);
    // A prepare that was repeated begins no transfer beside the one that goes on.
    if (message.index === 0 && answer !== undefined && answer.snapshot !== message.snapshot)
      return this.#tellNoMore(from, message);
    if (message.index === 0 && answer === undefined) {
      answer = {
        snapshot: message.snapshot,
        pages: 0,
        seenPages: 0,
        isAskedAgain: false,
        complete: false,
        registers: new RegisterTable(Infinity, this.#context.tuning.packedBits),
        finished: [],
        end: message.end,
        keys: new Map(),
      };
      watch.answers.set(replica.store, answer);
    }
    if (answer === undefined || answer.snapshot !== message.snapshot) return;
    if (answer.complete || answer.pages !== message.index) return;
    for (const { seq, ballot, value } of message.registers) {
      // A live one travels only from a store that has its body (A3).
      const hasBody = value.state !== "DONE";
      answer.registers.set(seq, { ballot, value, hasBody, rewritten: false });
    }
    for (const page of message.packed) if (!answer.registers.adopt(page)) this.#takeApart(page, answer);
    for (const { seq, keys } of message.keys) answer.keys.set(seq, keys);
    if (message.finished.length > 0) answer.finished = [...answer.finished, ...message.finished];
    answer.pages += 1;
    answer.isAskedAgain = false;
    answer.complete = message.last;
    if (message.last) return this.#gather(watch);
    // A quorum that is as far need not wait for it; it goes on if one of them stops.
    const ahead = [...watch.answers.values()].filter((other) => other !== answer && isAhead(other, answer));
    if (ahead.length >= this.#quorum(watch)) return;
    const { lane, snapshot, index } = message;
    this.#context.send(from, { type: "more", lane, snapshot, index: index + 1 });
  }

  /** There are too many rights among the registers to keep them packed, or its pages have another length. */
  #takeApart(page: PackedPage, { registers }: Answer): void {
    const packed = new RegisterTable(0, Math.log2(page.columns.seqs));
    packed.adopt(page);
    for (const [seq, register] of packed) registers.set(seq, register);
  }

  /** Who keeps a snapshot for this node may drop it. */
  #release({ lane: { lane, descriptor }, answers }: Watch): void {
    for (const { peer, store } of descriptor.replicas) {
      const answer = answers.get(store);
      if (answer === undefined || answer.complete || !this.#context.reachable(store)) continue;
      this.#tellNoMore(peer, { lane, snapshot: answer.snapshot });
    }
  }

  #tellNoMore(peer: PeerId, { lane, snapshot }: { readonly lane: LaneId; readonly snapshot: number }): void {
    this.#context.send(peer, { type: "more", lane, snapshot, index: NO_MORE });
  }

  #gather(watch: Watch): void {
    const { replicas } = watch.lane.descriptor;
    const answers = replicas.flatMap(({ store }, index) => {
      const answer = watch.answers.get(store);
      return answer?.complete === true ? [[index, answer] as const] : [];
    });
    if (watch.right === undefined || answers.length < this.#quorum(watch)) return;
    const read = recover(watch.right, answers, watch.lane);
    const isCut = makesCut(watch.lane.descriptor, read.end);
    const recovered = isCut ? cut(read, this.#context.tuning.appendWindow) : read;
    const recovery = { ...recovered, parentOver: watch.parentOver };
    this.#rest(watch);
    watch.delayMs = 0;
    watch.steals += 1;
    this.#host.onStolen(watch.lane, recovery);
    this.#admit();
  }
}

/** Pages of it came since it was last looked at, or there are no more. */
function hasMoved(answer: Answer | undefined): boolean {
  return answer !== undefined && (answer.complete || answer.pages > answer.seenPages);
}

/** Whether `answer` has come as far as `other`, and did not stop there. */
function isAhead(answer: Answer, other: Answer): boolean {
  return answer.complete || (answer.pages >= other.pages && !answer.isAskedAgain);
}

function highestSeq({ registers, finished, end, packed }: Message & { type: "page" }): number {
  const seqs = registers.map(({ seq }) => seq);
  for (const { no, columns } of packed) seqs.push((no + 1) * columns.seqs - 1);
  return Math.max(0, (finished.at(-1)?.[1] ?? 1) - 1, (end?.value.n ?? 1) - 1, ...seqs);
}
