import type { Core, Instant, Random } from "@klatsch/kit/core";
import { randomHex } from "@klatsch/kit/core";

import { Acceptor } from "./acceptor.ts";
import type { Pid } from "./ballot.ts";
import { makePid } from "./ballot.ts";
import { Consumers } from "./consumers.ts";
import type { Context, Tuning } from "./context.ts";
import { DEFAULT_TUNING } from "./context.ts";
import type { LaneWriter } from "./lane-writer.ts";
import { Lanes } from "./lanes.ts";
import type { PeerStatus } from "./members.ts";
import { Members } from "./members.ts";
import type { Delivery, Message } from "./messages.ts";
import type { EnqueueResult } from "./origin.ts";
import { Origin } from "./origin.ts";
import type { StoredRecord } from "./records.ts";
import { ReplicaLink } from "./replica-link.ts";
import { Resolves } from "./resolves.ts";
import { Steals } from "./steal.ts";
import { Timers } from "./timers.ts";
import type {
  Definition,
  Descriptor,
  LaneId,
  PeerId,
  QueueId,
  Replica,
  Resolution,
  SettledCode,
  StoreId,
  Verdict,
} from "./types.ts";

/** Everything that can happen to one node's queues. Instants are the monotonic clock's. */
export type QueueInput =
  | { readonly type: "tick" }
  | { readonly type: "message"; readonly from: PeerId; readonly message: Message }
  | { readonly type: "link"; readonly peer: PeerId; readonly up: boolean }
  | { readonly type: "peer"; readonly peer: PeerId; readonly status: PeerStatus }
  /** Others had declared this node dead. */
  | { readonly type: "declaredDead" }
  | { readonly type: "declare"; readonly definition: Definition }
  | {
      readonly type: "enqueue";
      readonly requestId: number;
      readonly queue: QueueId;
      readonly body: Uint8Array;
      readonly bodyHash: string;
      readonly deadlineMs: number;
    }
  | {
      readonly type: "consume";
      readonly session: string;
      readonly queue: QueueId;
      readonly prefetch: number;
    }
  | { readonly type: "endConsumer"; readonly session: string }
  | {
      readonly type: "verdict";
      readonly requestId: number;
      readonly lane: LaneId;
      readonly seq: number;
      readonly epoch: number;
      readonly verdict: Verdict;
      readonly deadlineMs: number;
    }
  | {
      readonly type: "resolve";
      readonly requestId: number;
      readonly lane: LaneId;
      readonly seq: number;
      readonly deadlineMs: number;
    };

/** What a node's host does for the core. `send` waits for the batch, `sendNow` reveals nothing unpersisted. */
export type QueueEffect =
  | { readonly type: "persist"; readonly key: string; readonly record: StoredRecord | undefined }
  | { readonly type: "send" | "sendNow"; readonly to: PeerId; readonly message: Message }
  | { readonly type: "enqueued"; readonly requestId: number; readonly result: EnqueueResult }
  | { readonly type: "deliver"; readonly item: Delivery }
  | {
      readonly type: "leaseLost";
      readonly session: string;
      readonly lane: LaneId;
      readonly seq: number;
      readonly epoch: number;
    }
  | { readonly type: "verdict"; readonly requestId: number; readonly code: SettledCode | "TIMEOUT" }
  | { readonly type: "resolved"; readonly requestId: number; readonly resolution: Resolution }
  | { readonly type: "defined"; readonly definition: Definition }
  | { readonly type: "elected"; readonly lane: LaneId; readonly seq: number; readonly peer: PeerId }
  | { readonly type: "stole"; readonly lane: LaneId; readonly queue: QueueId }
  | { readonly type: "fault"; readonly what: string; readonly peer: PeerId };

export interface QueueCoreInit {
  readonly peer: PeerId;
  readonly store: StoreId;
  /** Boot counter of the store, raised and synced since it was opened. */
  readonly boot: number;
  readonly random: Random;
  readonly now: Instant;
  readonly tuning?: Partial<Tuning> | undefined;
  /** All records of the store. */
  readonly records: Iterable<readonly [key: string, record: StoredRecord]>;
  laneIdOf(descriptor: Descriptor): LaneId;
}

/** Counters and gauges of one node. */
export interface QueueGauges {
  readonly lanesWritten: number;
  readonly lanesKept: number;
  readonly held: number;
  readonly waitingEnqueues: number;
}

/** One node's queues, whole: acceptor, lane writers, consumers, steals. Pure. */
export class QueueCore implements Core<QueueInput, QueueEffect>, Context {
  readonly peer: PeerId;
  readonly store: StoreId;
  readonly boot: number;
  readonly pid: Pid;
  readonly random: Random;
  readonly tuning: Tuning;
  readonly timers: Timers = new Timers();
  readonly laneIdOf: (descriptor: Descriptor) => LaneId;
  now: Instant;
  readonly acceptor: Acceptor;
  readonly lanes: Lanes;
  readonly members: Members;
  readonly #consumers: Consumers;
  readonly #origin: Origin;
  readonly #steals: Steals;
  readonly #resolves: Resolves;
  readonly #links = new Map<StoreId, ReplicaLink>();
  #effects: QueueEffect[] = [];

  constructor(init: QueueCoreInit) {
    this.peer = init.peer;
    this.store = init.store;
    this.boot = init.boot;
    this.random = init.random;
    this.pid = makePid(init.store, init.boot, randomHex(init.random, 16));
    this.tuning = { ...DEFAULT_TUNING, ...init.tuning };
    this.now = init.now;
    this.laneIdOf = init.laneIdOf;
    this.members = new Members(this);
    this.acceptor = new Acceptor(this, {
      promised: (lane) => {
        this.lanes.onOvertaken(lane);
        this.#steals.onPromised(lane);
      },
      closed: (lane) => {
        this.#steals.onOver(lane.lane);
        this.lanes.onOvertaken(lane);
      },
      forgotten: ({ lane }) => {
        this.#steals.onOver(lane);
        this.lanes.drop(lane);
      },
    });
    this.lanes = this.#makeLanes();
    this.#steals = this.#makeSteals();
    this.lanes.steals = this.#steals;
    this.#resolves = new Resolves(this);
    this.#origin = this.#makeOrigin();
    this.#consumers = this.#makeConsumers();
    const records = [...init.records];
    this.members.load(records);
    this.acceptor.load(records);
    this.#origin.load(records);
    this.#link(this).up();
    // Lanes that an older boot of this store wrote are taken over again (restart, flow 6).
    for (const lane of this.acceptor.lanes()) this.#steals.onPromised(lane);
    this.#consumers.linkUp(this.peer);
  }

  #makeLanes(): Lanes {
    return new Lanes(this, this.acceptor, {
      definition: (queue) => this.members.definition(queue),
      link: (replica) => this.#link(replica),
      isGreeted: (peer) => this.members.isGreeted(peer),
      isOut: (peer) => this.members.isOut(peer),
      peerOf: (store) => this.members.peerOf(store),
      consumersOf: (queue) => this.members.consumersOf(queue),
      onOrphans: (lane, orphans) => this.#origin.onOrphans(lane, orphans),
      onEnqueued: (pending, lane, seq) => this.#origin.onEnqueued(pending, lane, seq),
      onElected: (lane, seq, { peer }) => this.#emit({ type: "elected", lane, seq, peer }),
    });
  }

  #makeSteals(): Steals {
    return new Steals(this, {
      isServing: (lane) => this.lanes.isServing(lane),
      onStolen: (lane, recovery) => {
        this.lanes.steal(lane, recovery);
        this.#emit({ type: "stole", lane: lane.lane, queue: lane.descriptor.queue });
      },
      onFoundClosed: (lane, end) => this.acceptor.learnClosed(lane, end),
    });
  }

  #makeOrigin(): Origin {
    return new Origin(this, this.members, this.acceptor, this.lanes, {
      onEnqueued: (requestId, result) => this.#emit({ type: "enqueued", requestId, result }),
      resolve: (lane, seq, then) => this.#resolveOrphan(lane, seq, then),
      onFloor: (floor) => this.#tellOthers({ type: "floor", floor }),
    });
  }

  #makeConsumers(): Consumers {
    return new Consumers(this, {
      writers: () => this.members.writers(),
      descriptor: (lane) => this.acceptor.lane(lane)?.descriptor,
      isReachable: (peer) => this.members.isGreeted(peer),
      onDelivery: (item) => this.#emit({ type: "deliver", item }),
      onLeaseLost: ({ session, lane, seq, epoch }) => {
        this.#emit({ type: "leaseLost", session, lane, seq, epoch });
      },
      onVerdict: (requestId, code) => this.#emit({ type: "verdict", requestId, code }),
      onRosterChanged: () => {
        const consumes = this.#consumers.queues();
        this.members.setConsumes(this.peer, consumes);
        this.#tellOthers({ type: "roster", consumes });
        this.#origin.review();
      },
    });
  }

  // Context.

  persist(key: string, record: StoredRecord | undefined): void {
    this.#effects.push({ type: "persist", key, record });
  }

  send(to: PeerId, message: Message): void {
    this.#effects.push({ type: "sendNow", to, message });
  }

  sendAfter(to: PeerId, message: Message): void {
    this.#effects.push({ type: "send", to, message });
  }

  reachable(store: StoreId): boolean {
    return store === this.store || this.members.isReachable(store);
  }

  isGone(pid: Pid): boolean {
    return this.members.isGone(pid);
  }

  fault(what: string, peer: PeerId): void {
    this.#emit({ type: "fault", what, peer });
  }

  #emit(effect: QueueEffect): void {
    this.#effects.push(effect);
  }

  #tellOthers(message: Message): void {
    for (const peer of this.members.greeted()) if (peer !== this.peer) this.send(peer, message);
  }

  #link({ peer, store }: Replica): ReplicaLink {
    let link = this.#links.get(store);
    if (link === undefined) {
      link = new ReplicaLink(this, peer, store);
      this.#links.set(store, link);
    }
    return link;
  }

  // Core.

  nextDeadline(): number | undefined {
    return this.timers.next();
  }

  gauges(): QueueGauges {
    return {
      lanesWritten: [...this.lanes.all()].length,
      lanesKept: [...this.acceptor.lanes()].length,
      held: this.#consumers.heldCount,
      waitingEnqueues: this.#origin.waiting,
    };
  }

  /** Total: late, repeated or hostile input yields few or no effects and never throws. */
  step(input: QueueInput, now: Instant): readonly QueueEffect[] {
    this.now = now;
    this.timers.fire(now.monoMs);
    this.#handle(input);
    return this.#take();
  }

  #take(): readonly QueueEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  /** Whole frames leave: one per peer and kind, however many inputs came. */
  flush(now: Instant): readonly QueueEffect[] {
    this.now = now;
    this.#consumers.flush();
    this.lanes.flush();
    for (const [store, link] of this.#links) {
      for (const frame of link.flush()) {
        // This node's own accepts join the batch that is being made.
        if (store === this.store) this.acceptor.ops(this.peer, frame);
        else this.send(link.peer, { ...frame, echoes: this.#echoesFor(frame, store) });
      }
    }
    this.acceptor.flush();
    return this.#take();
  }

  #echoesFor(
    frame: Message & { type: "ops" },
    receiver: StoreId,
  ): readonly (readonly [StoreId, number])[] {
    const echoes = new Map<StoreId, number>();
    for (const { lane } of frame.sections) {
      for (const { store } of this.lanes.get(lane)?.descriptor.replicas ?? []) {
        const batchNo = this.#links.get(store)?.batchNo ?? 0;
        if (store !== receiver && batchNo > 0) echoes.set(store, batchNo);
      }
    }
    return [...echoes];
  }

  #handle(input: QueueInput): void {
    switch (input.type) {
      case "tick":
        return;
      case "message":
        return this.#onMessage(input.from, input.message);
      case "link":
        return input.up ? this.#onLinkUp(input.peer) : this.#onLinkDown(input.peer);
      case "peer":
        return this.#onStatus(input.peer, input.status);
      case "declaredDead":
        return this.#consumers.doubtAll();
      case "declare":
        this.members.define(input.definition);
        return this.#tellOthers({ type: "declare", definition: input.definition });
      case "enqueue": {
        const definition = this.members.definition(input.queue);
        if (definition !== undefined) this.#origin.enqueue(definition, input);
        return;
      }
      case "consume":
        return this.#consumers.add(input.session, input.queue, input.prefetch);
      case "endConsumer":
        return this.#consumers.end(input.session);
      case "verdict":
        return this.#consumers.verdict(input, input.verdict, input.requestId, input.deadlineMs);
      case "resolve":
        return this.#resolve(input.lane, input.seq, input.deadlineMs, (resolution) => {
          this.#emit({ type: "resolved", requestId: input.requestId, resolution });
        });
    }
  }

  // Links and members.

  #onLinkUp(peer: PeerId): void {
    if (peer === this.peer || !this.members.linkUp(peer)) return;
    const store = this.members.storeOf(peer);
    this.send(peer, {
      type: "hello",
      store: this.store,
      boot: this.boot,
      definitions: this.members.definitions(),
      consumes: this.#consumers.queues(),
      floor: this.#origin.floor,
      echo: store === undefined ? 0 : this.members.echo(store),
    });
  }

  #onLinkDown(peer: PeerId): void {
    if (peer === this.peer) return;
    const store = this.members.linkDown(peer);
    this.#consumers.linkDown(peer);
    this.lanes.linkDown(peer);
    if (store !== undefined) this.#links.get(store)?.down();
    this.#origin.review();
  }

  #onHello(from: PeerId, hello: Message & { type: "hello" }): void {
    const before = this.members.storeOf(from);
    if (!this.members.greet(from, hello)) return;
    if (before !== undefined && before !== hello.store) this.#links.get(before)?.down();
    for (const definition of hello.definitions) this.#define(definition);
    if (hello.store !== undefined) {
      if (hello.floor !== undefined) this.acceptor.raiseFloor(hello.store, hello.floor);
      this.#link({ peer: from, store: hello.store }).up();
    }
    this.#consumers.linkUp(from);
    this.#steals.recheck();
    this.#origin.review();
  }

  #define(definition: Definition): void {
    if (this.members.define(definition)) this.#emit({ type: "defined", definition });
  }

  #onStatus(peer: PeerId, status: PeerStatus): void {
    if (!this.members.setStatus(peer, status)) return;
    if (this.members.isOut(peer)) this.lanes.peerOut(peer);
    this.#steals.recheck();
    this.#origin.review();
  }

  // Resolve.

  #resolve(
    lane: LaneId,
    seq: number,
    deadlineMs: number,
    then: (resolution: Resolution) => void,
    descriptor: Descriptor | undefined = this.acceptor.lane(lane)?.descriptor,
  ): void {
    const peers = descriptor?.replicas.map((replica) => replica.peer) ?? this.members.writers();
    this.#resolves.ask(lane, seq, peers, deadlineMs, then);
  }

  #resolveOrphan(lane: LaneWriter, seq: number, then: (found: Resolution) => void): void {
    const deadlineMs = this.now.monoMs + this.tuning.resolveMs;
    this.#resolve(lane.lane, seq, deadlineMs, then, lane.descriptor);
  }

  // Messages.

  #onMessage(from: PeerId, message: Message): void {
    if (message.type === "hello") return this.#onHello(from, message);
    if (!this.members.isGreeted(from)) return;
    switch (message.type) {
      case "synced":
        if (from === this.peer) this.lanes.get(message.lane)?.onSynced();
        return;
      case "roster":
        this.members.setConsumes(from, message.consumes);
        return this.#origin.review();
      case "declare":
        return this.#define(message.definition);
      case "floor": {
        const store = this.members.storeOf(from);
        if (store !== undefined) this.acceptor.raiseFloor(store, message.floor);
        return;
      }
      case "ops":
        for (const [store, batchNo] of message.echoes) this.members.raiseEcho(store, batchNo);
        return this.acceptor.ops(from, message);
      case "ok":
        return this.#onOk(from, message);
      case "prepare":
        return this.acceptor.prepare(from, message);
      case "more":
        return this.acceptor.more(from, message);
      case "refused":
        return this.#steals.refused(from, message);
      case "page":
        return this.#steals.page(from, message);
      case "closed":
        return this.#steals.closed(from, message);
      case "askGone":
        return this.#steals.askGone(from, message);
      case "gone":
        return this.#steals.gone(from, message);
      case "askLane":
        return this.#steals.askLane(from, message);
      case "lane":
        return this.#steals.laneAnswered(from, message);
      default:
        return this.#onLaneMessage(from, message);
    }
  }

  #onOk(from: PeerId, message: Message & { type: "ok" }): void {
    const store = this.members.storeOf(from);
    const link = store === undefined ? undefined : this.#links.get(store);
    if (store === undefined || link === undefined) return;
    link.ok(message);
    this.members.raiseEcho(store, link.batchNo);
  }

  #onLaneMessage(from: PeerId, message: LaneMessage): void {
    switch (message.type) {
      case "getBody": {
        const { lane, seq } = message;
        const has = this.acceptor.lane(lane)?.registers.get(seq)?.hasBody === true;
        return this.send(from, { type: "body", lane, seq, body: undefined, attach: has });
      }
      case "body":
        return this.lanes.body(from, message);
      case "confirm": {
        const yes = this.acceptor.follows(message.lane, message);
        const { lane, token } = message;
        return this.send(from, { type: "confirmed", lane, token, yes });
      }
      case "confirmed":
        return this.lanes.confirmed(from, message);
      case "resolve": {
        const { lane, seq } = message;
        const resolution = this.lanes.resolution(lane, seq);
        return this.send(from, { type: "resolved", lane, seq, resolution });
      }
      case "resolved":
        return this.#resolves.resolved(from, message);
      case "credit":
        this.lanes.stamp(from, message.stampMs);
        for (const item of message.items) this.lanes.dispatch.credit(from, item);
        return;
      case "returned":
        return this.#consumers.returned(from, message);
      case "offer":
        return this.#consumers.offer(from, message.queue);
      case "deliver":
        return this.#consumers.deliver(from, message);
      case "held":
        return this.lanes.held(from, message.items);
      case "verdicts":
        this.lanes.stamp(from, message.stampMs);
        for (const item of message.items) this.lanes.verdict(from, item);
        return;
      case "settled":
        return this.#consumers.settled(from, message.items);
    }
  }
}

type LaneMessage = Message & {
  type:
    | "getBody"
    | "body"
    | "confirm"
    | "confirmed"
    | "resolve"
    | "resolved"
    | "credit"
    | "returned"
    | "offer"
    | "deliver"
    | "held"
    | "verdicts"
    | "settled";
};
