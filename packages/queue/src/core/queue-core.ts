import type { Core, Instant, Random } from "@klatsch/kit/core";
import { randomHex } from "@klatsch/kit/core";

import type { AcceptorLane } from "./acceptor.ts";
import { Acceptor } from "./acceptor.ts";
import type { Pid } from "./ballot.ts";
import { makePid, pidStore } from "./ballot.ts";
import { Consumers } from "./consumers.ts";
import type { Context, Tuning } from "./context.ts";
import { AWAKE_FRACTION, BodyBudget, DEFAULT_TUNING } from "./context.ts";
import { deadViewOf } from "./dead-queue.ts";
import { Definitions } from "./definitions.ts";
import type { CoreHooks } from "./hooks.ts";
import type { QueueEffect, QueueInput } from "./inputs.ts";
import type { LaneWriter } from "./lane-writer.ts";
import type { Census } from "./manage.ts";
import { Manage } from "./manage.ts";
import { Lanes } from "./lanes.ts";
import type { PeerStatus } from "./members.ts";
import { Members } from "./members.ts";
import { Moves } from "./moves.ts";
import type { Deleted, Echoes, Message } from "./messages.ts";
import { shardDescriptors } from "./ordered.ts";
import { Origin } from "./origin.ts";
import type { RecordKey, StoredRecord } from "./records.ts";
import { StoredRegisters } from "./stored-registers.ts";
import { Quota } from "./quota.ts";
import { ReplicaLink } from "./replica-link.ts";
import { Resolves } from "./resolves.ts";
import { RestoredLanes } from "./restored.ts";
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
  StoreId,
} from "./types.ts";

/** Lanes named in one message. */
const HEIRS_EACH = 64;

export interface QueueCoreInit {
  readonly peer: PeerId;
  readonly store: StoreId;
  /** Boot counter of the store, raised and synced since it was opened. */
  readonly boot: number;
  readonly random: Random;
  readonly now: Instant;
  readonly tuning?: Partial<Tuning> | undefined;
  /** All records of the store but for what `registers` has. */
  readonly records: Iterable<readonly [key: string, record: StoredRecord]>;
  /** Registers read already; its own from then on. */
  readonly registers?: StoredRegisters | undefined;
  readonly laneIdOf: (descriptor: Descriptor) => LaneId;
  readonly hooks?: CoreHooks | undefined;
}

/** Counters and gauges of one node. */
export interface QueueGauges {
  readonly lanesWritten: number;
  /** Of them, those short of replicas, and those that are given an heir. */
  readonly lanesWeak: number;
  readonly lanesMoving: number;
  readonly lanesKept: number;
  readonly held: number;
  /** Messages in lanes this node writes, neither done nor dead. */
  readonly alive: number;
  readonly waitingEnqueues: number;
  /** Other nodes with a store that frames reach. */
  readonly peers: number;
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
  readonly bodies: BodyBudget;
  readonly hooks: CoreHooks;
  readonly laneIdOf: (descriptor: Descriptor) => LaneId;
  now: Instant;
  awakeMs = 0;
  readonly acceptor: Acceptor;
  readonly lanes: Lanes;
  readonly members: Members;
  readonly definitions: Definitions;
  readonly #consumers: Consumers;
  readonly origin: Origin;
  readonly #steals: Steals;
  readonly #resolves: Resolves;
  readonly #manage: Manage;
  readonly #quota: Quota;
  readonly #moves: Moves;
  readonly #restored: RestoredLanes;
  readonly #handlers: Handlers;
  readonly #links = new Map<StoreId, ReplicaLink>();
  #effects: QueueEffect[] = [];
  #isRosterNew = false;

  constructor(init: QueueCoreInit) {
    this.peer = init.peer;
    this.store = init.store;
    this.boot = init.boot;
    this.random = init.random;
    this.pid = makePid(init.store, init.boot, randomHex(init.random, 16));
    this.tuning = { ...DEFAULT_TUNING, ...init.tuning };
    this.bodies = new BodyBudget(this.tuning.readyBytes);
    this.hooks = init.hooks ?? {};
    this.now = init.now;
    this.laneIdOf = init.laneIdOf;
    const records = [...init.records];
    this.definitions = new Definitions(this, records);
    this.members = new Members(this);
    this.#quota = new Quota(this, {
      definition: (queue) => this.definitions.get(queue),
      linked: () => this.members.linked(),
    });
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
        this.#moves.drop(lane);
        this.lanes.drop(lane);
      },
    });
    this.lanes = this.#makeLanes();
    this.#steals = this.#makeSteals();
    this.lanes.steals = this.#steals;
    this.#resolves = new Resolves(this);
    this.#moves = this.#makeMoves();
    this.#manage = new Manage(this, this.acceptor, {
      writers: () => this.members.writers(),
      unheard: () => this.members.unheard(),
      isServed: (lane) => this.#steals.isServed(lane),
      peers: () => this.members.greeted(),
      lanes: () => this.lanes.all(),
      isWeak: (lane) => this.#moves.isWeak(lane),
      delete: (queue) => this.#delete([[queue, Math.ceil(this.now.wallMs)]]),
      replicasOf: (root) => this.#replicasOf(root),
      consumers: (queue) => this.#consumers.roster(queue),
    });
    this.origin = this.#makeOrigin();
    this.#consumers = this.#makeConsumers();
    this.#handlers = this.#makeHandlers();
    this.members.load(records);
    const registers = init.registers ?? new StoredRegisters(this.tuning);
    this.acceptor.load(records, registers);
    this.origin.load(records);
    this.acceptor.dropDeleted();
    this.#hearOf([...this.acceptor.lanes()].flatMap(heirsIn));
    this.#restored = new RestoredLanes(this.acceptor, this.peer, (peer) => this.members.isGreeted(peer));
    this.#link(this).up();
    // Lanes that an older boot of this store wrote are taken over again (restart, flow 6).
    for (const lane of this.acceptor.lanes()) this.#steals.onPromised(lane);
    this.#consumers.linkUp(this.peer);
  }

  #makeLanes(): Lanes {
    return new Lanes(this, this.acceptor, {
      definition: (queue) => this.definitions.get(queue),
      link: (replica) => this.#link(replica),
      isGreeted: (peer) => this.members.isGreeted(peer),
      isOut: (peer) => this.members.isOut(peer),
      peerOf: (store) => this.members.peerOf(store),
      consumersOf: (queue) => this.members.consumersOf(queue),
      usage: (queue) => this.#quota.usageOf(queue),
      onEnd: (lane, end) => this.#moves.onEnd(lane, end),
      onWritten: (lane, parentOver) => {
        this.#moves.onStolen(lane, parentOver);
        this.#moves.watch();
      },
      onOrphans: (lane, orphans) => this.origin.onOrphans(lane, orphans),
      onEnqueued: (pending, lane, seq) => this.origin.onEnqueued(pending, lane, seq),
      onElected: (queue, { peer }) => this.#emit({ type: "elected", queue, peer }),
      onDied: ({ descriptor, root }, seq, value) => {
        this.#emit({ type: "died", queue: descriptor.queue, lane: root, seq, value });
      },
    });
  }

  #makeSteals(): Steals {
    return new Steals(this, {
      isServing: (lane) => this.lanes.isServing(lane),
      storeOf: (peer) => this.members.storeOf(peer),
      isParent: (lane, parentage) => this.#moves.isParent(lane, parentage),
      isOver: (parentage) => this.#moves.isOver(parentage),
      onFrozen: (lane) => this.#moves.onFrozen(lane),
      onSilent: (lane) => this.#moves.onSilent(lane),
      onStolen: (lane, recovery) => {
        this.lanes.steal(lane, recovery);
        this.#emit({ type: "stole", lane: lane.lane, queue: lane.descriptor.queue });
      },
      onFoundClosed: (lane, end) => this.acceptor.learnClosed(lane, end),
    });
  }

  #makeMoves(): Moves {
    return new Moves(this, this.acceptor, {
      lanes: () => this.lanes.all(),
      writer: (lane) => this.lanes.get(lane),
      candidates: (queue) => this.members.candidates(queue),
      isLost: (replica) => this.members.isLost(replica),
      storeOf: (peer) => this.members.storeOf(peer),
      openHeir: (make) => this.origin.openHeir(make),
      take: (heir) => this.#steals.take(heir),
      hearEnded: (lane) => this.#steals.hearEnded(lane),
      giveUp: (lane) => this.lanes.giveUp(lane),
      onHeir: (heir) => this.#hearOf([heir]),
      onMoved: ({ root, descriptor }, heir) => {
        this.#emit({ type: "moved", moved: { lane: root, queue: descriptor.queue, heir } });
      },
    });
  }

  /** The promise of a lane lies with somebody who should give it an heir. */
  #askHeir(lane: LaneId): void {
    const known = this.acceptor.lane(lane);
    if (this.lanes.isServing(lane)) return this.#moves.askHeir(this.peer, lane);
    const writer = known && this.members.peerOf(pidStore(known.promise.pid));
    if (writer !== undefined) this.send(writer, { type: "askHeir", lane });
  }

  #makeOrigin(): Origin {
    return new Origin(this, this.members, this.acceptor, this.lanes, {
      onEnqueued: (requestId, result) => this.#emit({ type: "enqueued", requestId, result }),
      resolve: (lane, seq, then) => this.#resolveOrphan(lane, seq, then),
      onFloor: (floor) => this.#tellOthers({ type: "floor", floor }),
      onHeld: (lane) => this.#askHeir(lane),
      passedLimit: (definition, bytes) => this.#quota.passed(definition, bytes),
    });
  }

  #makeConsumers(): Consumers {
    return new Consumers(this, {
      writers: () => this.members.writers(),
      descriptor: (lane) => this.acceptor.newest(lane)?.descriptor,
      isReachable: (peer) => this.members.isGreeted(peer),
      onDelivery: (item) => this.#emit({ type: "deliver", item }),
      onLeaseLost: ({ session, lane, seq, epoch }) => {
        this.#emit({ type: "leaseLost", session, lane, seq, epoch });
      },
      onVerdict: (requestId, code) => this.#emit({ type: "verdict", requestId, code }),
      onRosterChanged: () => {
        this.#isRosterNew = true;
      },
    });
  }

  // Context.

  persist(key: RecordKey, record: StoredRecord | undefined, fresh = false, relaxed = false): void {
    this.#effects.push({ type: "persist", key, record, fresh, relaxed });
    this.members.saveEchoes();
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

  isDeleted(queue: QueueId): boolean {
    return this.definitions.isDeleted(queue);
  }

  fault(what: string, peer: PeerId): void {
    this.#emit({ type: "fault", what, peer });
  }

  #emit(effect: QueueEffect): void {
    this.#effects.push(effect);
  }

  /** Whoever has this node's hello has to hear what changed since, although its own hello is still to come. */
  #tellOthers(message: Message): void {
    for (const peer of this.members.linked()) this.send(peer, message);
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
    const written = [...this.lanes.all()];
    return {
      lanesWritten: written.length,
      lanesWeak: written.filter((lane) => lane.isServing && this.#moves.isWeak(lane)).length,
      lanesMoving: this.#moves.count,
      lanesKept: [...this.acceptor.lanes()].length,
      held: this.#consumers.heldCount,
      alive: this.#quota.count,
      waitingEnqueues: this.origin.waiting,
      peers: this.members.writers().length - 1,
    };
  }

  /** The lanes that take over from this node's, as far as they are planned. */
  heirs(): readonly Descriptor[] {
    return this.#moves.heirs();
  }

  /** What this node's lanes hold, for metrics: as long as there are messages that do not rest. */
  census(now: Instant): Census {
    this.#wake(now);
    return this.#manage.census();
  }

  /** Total: late, repeated or hostile input yields few or no effects and never throws. */
  step(input: QueueInput, now: Instant): readonly QueueEffect[] {
    this.#wake(now);
    this.timers.fire(now.monoMs);
    this.#handle(input);
    return this.#take();
  }

  #wake(now: Instant): void {
    const pauseMs = Math.max(0, now.monoMs - this.now.monoMs);
    this.awakeMs += Math.min(pauseMs, this.tuning.tokenKeepMs * AWAKE_FRACTION);
    this.now = now;
  }

  #take(): readonly QueueEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  /** Whole frames leave: one per peer and kind, however many inputs came. */
  flush(now: Instant): readonly QueueEffect[] {
    this.#wake(now);
    this.#tellRoster();
    this.#consumers.flush();
    this.origin.entry.flush();
    this.lanes.flush();
    for (const link of this.#links.values()) {
      for (const frame of link.flush()) {
        // This node's own accepts join the batch that is being made.
        if (link.store === this.store) this.acceptor.ops(this.peer, frame);
        else this.send(link.peer, { ...frame, echoes: this.#echoesFor(frame, link.store) });
      }
    }
    this.acceptor.flush();
    return this.#take();
  }

  #echoesFor(frame: Message & { type: "ops" }, receiver: StoreId): Echoes {
    const echoes = new Map<StoreId, Echoes[number]>();
    for (const { lane } of frame.sections) {
      for (const { store } of this.lanes.get(lane)?.descriptor.replicas ?? []) {
        const { batchNo = 0, proof = 0 } = this.#links.get(store)?.echo ?? {};
        if (store !== receiver && batchNo > 0) echoes.set(store, [store, batchNo, proof]);
      }
    }
    return [...echoes.values()];
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
        return this.#declare(input.definition);
      case "enqueue":
        return this.origin.enqueue(this.definitions.get(input.queue), input);
      case "consume":
        if (this.#isDeletedView(input.queue)) return;
        return this.#consumers.add(input.session, input.queue, input.prefetch);
      case "endConsumer":
        return this.#consumers.end(input.session);
      case "verdict":
        return this.#consumers.verdict(input, input.verdict, input.requestId, input.deadlineMs);
      case "resolve":
        return this.#resolve(input.lane, input.seq, input.deadlineMs, (resolution) => {
          this.#emit({ type: "resolved", requestId: input.requestId, resolution });
        });
      case "pause":
        return this.lanes.dispatch.pause(input.queue, input.paused);
      case "alter":
        this.definitions.alter(input.queue, input.policy);
        this.lanes.reviewDead(input.queue);
        return this.#quota.tellAgain();
      case "manage":
        return this.#manage.ask(input, (result) => {
          this.#emit({ type: "managed", requestId: input.requestId, result });
        });
      case "inspect":
        return this.#manage.inspect(input, input.deadlineMs, (found, missing) => {
          this.#emit({ type: "inspected", requestId: input.requestId, found, missing });
        });
      case "fetch":
        return this.#manage.fetch(input.peer, input, input.deadlineMs, (body) => {
          this.#emit({ type: "fetched", requestId: input.requestId, body });
        });
    }
  }

  // Links and members.

  #onLinkUp(peer: PeerId): void {
    if (peer === this.peer || !this.members.linkUp(peer)) return;
    this.#consumers.onHelloSent(peer);
    this.send(peer, {
      type: "hello",
      store: this.store,
      boot: this.boot,
      definitions: this.definitions.all(),
      consumes: this.#consumers.queues(),
      floor: this.origin.floor,
      echoes: this.members.echoesOf(peer),
      deleted: this.definitions.deleted(),
    });
    const descriptors = this.origin.entry.moved();
    for (let at = 0; at < descriptors.length; at += HEIRS_EACH) {
      this.send(peer, { type: "heirs", descriptors: descriptors.slice(at, at + HEIRS_EACH) });
    }
  }

  /** What is news here is told on: whoever said it may have no link to everybody. */
  #hearOf(heirs: readonly Descriptor[]): void {
    const descriptors = heirs.filter((heir) => {
      const definition = this.definitions.get(heir.queue);
      return definition !== undefined && this.origin.entry.move(definition, heir);
    });
    for (const { heirOf, shard } of descriptors) {
      if (heirOf !== undefined) this.acceptor.closeMoved(heirOf.root, shard?.moves ?? 0);
    }
    if (descriptors.length > 0) this.#tellOthers({ type: "heirs", descriptors });
  }

  #onLinkDown(peer: PeerId): void {
    if (peer === this.peer) return;
    const store = this.members.linkDown(peer);
    this.#consumers.linkDown(peer);
    this.#quota.linkDown(peer);
    this.#manage.linkDown(peer);
    this.#restored.drop(peer);
    this.lanes.linkDown(peer);
    this.origin.entry.linkDown(peer);
    if (store !== undefined) this.#links.get(store)?.down();
    this.origin.review();
  }

  #onHello(from: PeerId, hello: Message & { type: "hello" }): void {
    const before = this.members.storeOf(from);
    if (!this.members.greet(from, hello)) return;
    if (before !== undefined && before !== hello.store) this.#links.get(before)?.down();
    this.#delete(hello.deleted);
    for (const definition of hello.definitions) this.#define(definition);
    if (hello.store !== undefined) {
      if (hello.floor !== undefined) this.acceptor.raiseFloor(hello.store, hello.floor);
      const link = this.#link({ peer: from, store: hello.store });
      link.up();
      for (const lane of this.lanes.all()) lane.remind(link);
    }
    this.#restored.release((asker, message) => this.#onMessage(asker, message));
    this.#consumers.linkUp(from);
    this.#quota.tellAgain();
    this.#steals.recheck();
    this.origin.entry.linkUp();
    this.#onRoster(from, hello.consumes);
  }

  /** Once a run, however many consumers came or went: the roster is told whole. */
  #tellRoster(): void {
    if (!this.#isRosterNew) return;
    this.#isRosterNew = false;
    const consumes = this.#consumers.queues();
    this.#tellOthers({ type: "roster", consumes });
    this.#onRoster(this.peer, consumes);
  }

  #onRoster(from: PeerId, consumes: readonly QueueId[]): void {
    this.members.setConsumes(from, consumes);
    this.lanes.dispatch.wake(consumes);
    this.origin.review();
  }

  #define(definition: Definition): void {
    if (!this.definitions.add(definition)) return;
    this.#openShards(definition);
    this.#emit({ type: "defined", definition });
  }

  #declare(definition: Definition): void {
    const atWallMs = this.definitions.deletedAt(definition.queue);
    // Its name was given to it before this node heard of that.
    if (atWallMs !== undefined) return this.#emit({ type: "deleted", atWallMs, definition });
    if (this.definitions.add(definition)) this.#openShards(definition);
    this.#tellOthers({ type: "declare", definition });
  }

  /** Of the queue, or of the one whose dead messages this is the view of. */
  #isDeletedView(queue: QueueId): boolean {
    return this.definitions.deletedCount > 0 && (this.isDeleted(queue) || this.isDeleted(deadViewOf(queue)));
  }

  /** Of a deleted queue nothing is kept but that it was; whoever may not have heard of it is told. */
  #delete(queues: readonly Deleted[]): void {
    const known = new Map(queues.map(([queue]) => [queue, this.definitions.declared(queue)]));
    const news = this.definitions.delete(queues);
    if (news.length === 0) return;
    const gone = new Set(news.map(([queue]) => queue));
    for (const [queue, atWallMs] of news) {
      const definition = known.get(queue);
      if (definition !== undefined) this.#emit({ type: "deleted", atWallMs, definition });
    }
    const lanes = [...this.lanes.all()].filter(({ descriptor }) => gone.has(descriptor.queue));
    this.origin.forget(gone, lanes);
    this.#consumers.forget(gone);
    // First: no lane that is left is to hand out what others gave back.
    for (const queue of gone) {
      this.lanes.dispatch.forget(queue);
      this.#quota.forget(queue);
    }
    this.acceptor.dropDeleted();
    this.#tellOthers({ type: "deleted", queues: news });
  }

  /** An ordered queue's lanes are known to all who know the queue: their replicas see to it that somebody writes them. */
  #openShards(definition: Definition): void {
    for (const descriptor of shardDescriptors(definition)) {
      if (!descriptor.replicas.some(({ store }) => store === this.store)) continue;
      const lane = this.laneIdOf(descriptor);
      if (this.acceptor.lane(lane) === undefined) this.acceptor.open(lane, descriptor);
    }
  }

  #onStatus(peer: PeerId, status: PeerStatus): void {
    if (!this.members.setStatus(peer, status)) return;
    if (this.members.isOut(peer)) this.lanes.peerOut(peer);
    else this.lanes.dispatch.peerBack(peer);
    this.#steals.recheck();
    this.origin.review();
  }

  // Resolve.

  #resolve(
    lane: LaneId,
    seq: number,
    deadlineMs: number,
    then: (resolution: Resolution) => void,
    replicas: readonly Replica[] = this.#replicasOf(lane),
  ): void {
    const known = replicas.map(({ peer }) => peer);
    const isAway = !known.some((peer) => this.members.isGreeted(peer));
    const asksAll = known.length === 0 || (isAway && this.origin.entry.replicasOf(lane).length > 0);
    const peers = asksAll ? [...known, ...this.members.writers()] : known;
    this.#resolves.ask(lane, seq, [...new Set(peers)], deadlineMs, then);
  }

  /** Who may know of messages with this lane in their ids. */
  #replicasOf(root: LaneId): readonly Replica[] {
    const here = this.acceptor.replicasOf(root) ?? [];
    const moved = this.origin.entry.replicasOf(root).filter((replica) => !this.members.isLost(replica));
    return [...here, ...moved];
  }

  #resolveOrphan(lane: LaneWriter, seq: number, then: (found: Resolution) => void): void {
    const deadlineMs = this.now.monoMs + this.tuning.resolveMs;
    this.#resolve(lane.lane, seq, deadlineMs, then, lane.descriptor.replicas);
  }

  // Messages.

  #onMessage(from: PeerId, message: Message): void {
    if (message.type !== "hello" && !this.members.isGreeted(from)) return;
    const asks = message.type === "ops" || message.type === "prepare";
    if (asks && from !== this.peer && this.#restored.holds(from, message)) return;
    const handle = this.#handlers[message.type] as Handler<Message>;
    handle(from, message);
  }

  #makeHandlers(): Handlers {
    const { acceptor, lanes, members } = this;
    const consumers = this.#consumers;
    const steals = this.#steals;
    const manage = this.#manage;
    return {
      hello: (from, message) => this.#onHello(from, message),
      roster: (from, { consumes }) => this.#onRoster(from, consumes),
      declare: (_from, { definition }) => this.#define(definition),
      deleted: (_from, { queues }) => this.#delete(queues),
      synced: (from, { lane }) => {
        if (from !== this.peer) return;
        lanes.get(lane)?.onSynced();
        this.#moves.onSynced(lane);
        acceptor.dropping.onSynced(lane);
      },
      ops: (from, message) => {
        for (const [store, batchNo, proof] of message.echoes)
          members.raiseEcho(store, { batchNo, proof }, true);
        acceptor.ops(from, message);
      },
      ok: (from, message) => this.#onOk(from, message),
      prepare: (from, message) => acceptor.prepare(from, message),
      more: (from, message) => acceptor.more(from, message),
      refused: (from, message) => steals.refused(from, message),
      page: (from, message) => steals.page(from, message),
      closed: (from, message) => steals.closed(from, message),
      getBody: (from, { lane, seq }) => {
        const attach = acceptor.bodySlot(lane, seq) !== undefined;
        this.send(from, { type: "body", lane, seq, body: undefined, attach });
      },
      body: (from, message) => {
        lanes.body(from, message);
        manage.body(from, message);
      },
      ...this.#makeOperatorHandlers(),
      usage: (from, message) => this.#quota.usage(from, message),
      ...this.#makeMoveHandlers(),
      askGone: (from, message) => steals.askGone(from, message),
      gone: (from, message) => steals.gone(from, message),
      askLane: (from, message) => steals.askLane(from, message),
      confirm: (from, message) => this.#onConfirm(from, message),
      confirmed: (from, message) => lanes.confirmed(from, message),
      floor: (from, { floor }) => {
        const store = members.storeOf(from);
        if (store !== undefined) acceptor.raiseFloor(store, floor);
      },
      resolve: (from, { lane, seq }) => {
        const resolution = lanes.resolution(lane, seq);
        this.send(from, { type: "resolved", lane, seq, resolution });
      },
      enter: (from, message) => lanes.enter(from, message),
      entered: (from, message) => this.origin.entry.entered(from, message),
      resolved: (from, message) => this.#resolves.resolved(from, message),
      credit: (from, { items, stampMs }) => {
        lanes.stamp(from, stampMs);
        for (const item of items) if (!this.#isDeletedView(item.queue)) lanes.dispatch.credit(from, item);
      },
      returned: (from, message) => consumers.returned(from, message),
      offer: (from, { queue }) => consumers.offer(from, queue),
      deliver: (from, message) => consumers.deliver(from, message),
      held: (from, { items }) => lanes.held(from, items),
      verdicts: (from, { items, stampMs }) => {
        lanes.stamp(from, stampMs);
        for (const item of items) lanes.verdict(from, item);
      },
      settled: (from, { items }) => consumers.settled(from, items),
    };
  }

  #onConfirm(from: PeerId, { lane, token, ...right }: Message & { type: "confirm" }): void {
    if (from !== this.peer && !this.#restored.isReady(lane)) return; // It is asked again.
    this.send(from, { type: "confirmed", lane, token, yes: this.acceptor.follows(lane, right) });
  }

  #makeOperatorHandlers(): Pick<Handlers, "manage" | "managed" | "inspect" | "inspected"> {
    const manage = this.#manage;
    return {
      manage: (from, message) => manage.manage(from, message),
      managed: (from, message) => manage.managed(from, message),
      inspect: (from, message) => manage.onInspect(from, message),
      inspected: (from, message) => manage.inspected(from, message),
    };
  }

  #makeMoveHandlers(): Pick<Handlers, "askHeir" | "askMoved" | "moved" | "heirs" | "lane"> {
    const moves = this.#moves;
    return {
      askHeir: (from, { lane }) => moves.askHeir(from, lane),
      askMoved: (from, message) => moves.askMoved(from, message),
      moved: (from, { lane }) => moves.moved(from, lane),
      heirs: (_from, { descriptors }) => this.#hearOf(descriptors),
      lane: (from, message) => {
        moves.answered(from, message.lane);
        this.#steals.laneAnswered(from, message);
      },
    };
  }

  #onOk(from: PeerId, message: Message & { type: "ok" }): void {
    const store = this.members.storeOf(from);
    const link = store === undefined ? undefined : this.#links.get(store);
    if (store === undefined || link === undefined) return;
    link.ok(message);
    this.members.raiseEcho(store, link.echo, false);
  }
}

/** Lanes that took over from ordered ones, as far as one of their replicas knows: an END alone may never have been chosen. */
function heirsIn({ descriptor, promise, end, closed }: AcceptorLane): readonly Descriptor[] {
  if (descriptor.shard === undefined) return [];
  const isHeir = descriptor.heirOf !== undefined && promise.round > 0;
  const heir = closed ? end?.value.heir : undefined;
  return [...(isHeir ? [descriptor] : []), ...(heir === undefined ? [] : [heir])];
}

type Handler<M extends Message> = (from: PeerId, message: M) => void;
type Handlers = {
  readonly [K in Message["type"]]: Handler<Extract<Message, { readonly type: K }>>;
};
