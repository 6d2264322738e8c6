import type { Acceptor } from "./acceptor.ts";
import type { Context } from "./context.ts";
import { Entry } from "./entry.ts";
import type { EnqueueResult, PendingEnqueue } from "./lane-register.ts";
import type { LaneWriter } from "./lane-writer.ts";
import type { Lanes } from "./lanes.ts";
import type { Members } from "./members.ts";
import type { Floor } from "./messages.ts";
import type { Placement } from "./placement.ts";
import { choosePlacement, votersNeeded } from "./placement.ts";
import type { StoredRecord } from "./records.ts";
import { keyFields, keyOf } from "./records.ts";
import type { Timer } from "./timers.ts";
import type { Definition, Descriptor, LaneId, QueueId, Resolution } from "./types.ts";

interface Waiting extends PendingEnqueue {
  readonly queue: QueueId;
  readonly isOrdered: boolean;
  timer: Timer | undefined;
  /** Where it was appended last. */
  at: { readonly lane: LaneId; readonly seq: number } | undefined;
  answered: boolean;
}

interface QueueSide {
  definition: Definition;
  open: LaneWriter | undefined;
  readonly waiting: Set<Waiting>;
  /** Last time a lane was replaced for its shape. */
  reshapedMs: number;
}

interface Opened {
  readonly boot: number;
  readonly laneNo: number;
  readonly lane: LaneId;
}

interface OriginHost {
  onEnqueued(requestId: number, result: EnqueueResult): void;
  /** Finds out what became of an enqueue whose lane somebody else took over. */
  resolve(lane: LaneWriter, seq: number, then: (found: Resolution) => void): void;
  onFloor(floor: Floor): void;
  /** The lane holds the floor back for long. */
  onHeld(lane: LaneId): void;
  /** The limit of the queue that one more message would pass. */
  passedLimit(definition: Definition, bytes: number): string | undefined;
}

/**
 * The entry node's part of flow 1: which lane new messages go into, what waits for a quorum, and the
 * floor below which this store's lanes are closed and answered (flow 8).
 */
export class Origin {
  readonly #context: Context;
  readonly #members: Members;
  readonly #acceptor: Acceptor;
  readonly #lanes: Lanes;
  readonly #host: OriginHost;
  /** Of ordered queues. */
  readonly entry: Entry<Waiting>;
  readonly #sides = new Map<QueueId, QueueSide>();
  #opened: Opened[] = [];
  /** Enqueues per lane whose outcome is being resolved: they hold the floor back [M12]. */
  readonly #orphans = new Map<LaneId, Set<Waiting>>();
  #nextLaneNo = 0;
  /** Not answered yet, by their requests. */
  readonly #waiting = new Map<number, Waiting>();
  /** The newest request that came here. */
  #lastRequest = 0;
  #waitingBytes = 0;
  #floorTimer: Timer | undefined;
  #held: { readonly lane: LaneId; readonly sinceMs: number } | undefined;

  constructor(context: Context, members: Members, acceptor: Acceptor, lanes: Lanes, host: OriginHost) {
    this.#context = context;
    this.#members = members;
    this.#acceptor = acceptor;
    this.#lanes = lanes;
    this.#host = host;
    this.entry = new Entry(context, members, acceptor, (waiting, result) => this.#answer(waiting, result));
  }

  load(records: Iterable<readonly [key: string, record: StoredRecord]>): void {
    for (const [key, record] of records) {
      if (record.kind !== "opened") continue;
      const [boot, laneNo] = (keyFields(key)?.fields ?? []).map((field) => Number.parseInt(field, 16));
      this.#opened.push({ boot: boot ?? 0, laneNo: laneNo ?? 0, lane: record.lane });
    }
    this.#opened.sort((a, b) => a.boot - b.boot || a.laneNo - b.laneNo);
    this.#watchFloor();
  }

  /** Enqueues that wait for a quorum. */
  get waiting(): number {
    return this.#waiting.size;
  }

  #side(definition: Definition): QueueSide {
    let side = this.#sides.get(definition.queue);
    if (side === undefined) {
      const reshapedMs = Number.NEGATIVE_INFINITY;
      side = { definition, open: undefined, waiting: new Set(), reshapedMs };
      this.#sides.set(definition.queue, side);
    }
    side.definition = definition;
    return side;
  }

  enqueue(definition: Definition | undefined, pending: Omit<PendingEnqueue, "enqueuedWallMs">): void {
    if (definition === undefined) return this.#host.onEnqueued(pending.requestId, { code: "QUEUE_DELETED" });
    const { pendingEnqueues, pendingBytes } = this.#context.tuning;
    const bytes = this.#waitingBytes + pending.body.length;
    if (this.#waiting.size >= pendingEnqueues || bytes > pendingBytes) {
      const waiting = this.#waiting.size;
      const waitingBytes = this.#waitingBytes;
      this.#host.onEnqueued(pending.requestId, { code: "OVERLOADED", waiting, waitingBytes });
      return;
    }
    const limit = this.#host.passedLimit(definition, pending.body.length);
    if (limit !== undefined) return this.#host.onEnqueued(pending.requestId, { code: "QUEUE_FULL", limit });
    const isOrdered = definition.ordered !== undefined;
    const { requestId, deadlineMs, body, bodyHash, notBeforeWallMs, attributes } = pending;
    const waiting: Waiting = {
      requestId,
      deadlineMs,
      body,
      bodyHash,
      notBeforeWallMs,
      enqueuedWallMs: Math.floor(this.#context.now.wallMs),
      attributes,
      queue: definition.queue,
      isOrdered,
      timer: undefined,
      at: undefined,
      answered: false,
    };
    this.#waiting.set(requestId, waiting);
    this.#lastRequest = Math.max(this.#lastRequest, requestId);
    this.#waitingBytes = bytes;
    waiting.timer = this.#context.timers.set(pending.deadlineMs, () => this.#onDeadline(waiting));
    if (isOrdered) return this.entry.add(definition, waiting);
    const side = this.#side(definition);
    side.waiting.add(waiting);
    this.#admit(side);
  }

  #answer(waiting: Waiting, result: EnqueueResult): void {
    if (waiting.answered) return;
    waiting.answered = true;
    this.#context.timers.cancel(waiting.timer);
    this.#waiting.delete(waiting.requestId);
    this.#waitingBytes -= waiting.body.length;
    this.#host.onEnqueued(waiting.requestId, result);
  }

  /** The queues were deleted: nobody waits for them any more, wherever that is. */
  forget(queues: ReadonlySet<QueueId>, lanes: readonly LaneWriter[]): void {
    const tell = (waiting: Waiting): void => this.#answer(waiting, { code: "QUEUE_DELETED" });
    for (const queue of queues) {
      for (const waiting of this.#sides.get(queue)?.waiting ?? []) tell(waiting);
      this.#sides.delete(queue);
      this.entry.forget(queue, tell);
    }
    for (const lane of lanes) {
      if (lane.order !== undefined) continue;
      for (const { enqueue } of lane.registers.awake()) if (enqueue !== undefined) tell(enqueue as Waiting);
    }
    for (const [lane, left] of this.#orphans) {
      for (const waiting of left) {
        if (!queues.has(waiting.queue)) continue;
        tell(waiting);
        this.#orphans.delete(lane);
      }
    }
  }

  #onDeadline(waiting: Waiting): void {
    if (waiting.isOrdered) return this.#answer(waiting, this.entry.expire(waiting));
    this.#sides.get(waiting.queue)?.waiting.delete(waiting);
    this.#answer(waiting, this.#whatIfLeft(waiting));
  }

  /** What may be said of an enqueue that nobody was told the end of, when this node ends; `undefined` if it never came here. */
  whatIfLeft(requestId: number): EnqueueResult | undefined {
    const waiting = this.#waiting.get(requestId);
    if (waiting !== undefined) return this.#whatIfLeft(waiting);
    // Its answer went with the step that threw after giving it.
    const isAnswered = requestId <= this.#lastRequest;
    return isAnswered ? { code: "INDETERMINATE", lane: undefined, seq: 0 } : undefined;
  }

  #whatIfLeft(waiting: Waiting): EnqueueResult {
    if (waiting.isOrdered) return this.entry.whatIfLeft(waiting);
    if (waiting.at !== undefined) return { code: "INDETERMINATE", ...waiting.at };
    const side = this.#sides.get(waiting.queue);
    if (side === undefined) return { code: "QUEUE_DELETED" };
    const { reachable, quorum } = this.#place(side.definition);
    return { code: "QUORUM_UNAVAILABLE", have: reachable, need: quorum };
  }

  onEnqueued(pending: PendingEnqueue, lane: LaneId, seq: number): void {
    this.#answer(pending as Waiting, { code: "OK", lane, seq });
  }

  // Lanes of this node's own.

  /** Members or consumers changed: lanes may have the wrong shape, and what waited may go on. */
  review(): void {
    const stores = this.#members.storeCount();
    for (const side of this.#sides.values()) {
      this.#reshape(side, stores);
      this.#admit(side);
    }
  }

  #place(definition: Definition): Placement {
    const { queue, replicas } = definition;
    const { self, others } = this.#members.candidates(queue);
    return choosePlacement(self, others, replicas, `${queue}${this.#context.store}${this.#nextLaneNo}`);
  }

  /** Seals a lane whose |R| or |R ∩ C| breaks the placement rule: the first at once, for that gets better only so often. */
  #reshape(side: QueueSide, stores: number): void {
    const { open } = side;
    if (open?.isAppending !== true) return;
    const { monoMs } = this.#context.now;
    const { replicas } = open.descriptor;
    const grows = replicas.length < Math.min(side.definition.replicas, stores);
    if (!grows && monoMs - side.reshapedMs < this.#context.tuning.sealHysteresisMs) return;
    const placement = this.#place(side.definition);
    const { self, others } = this.#members.candidates(side.definition.queue);
    const consumers = new Set([self, ...others].filter((c) => c.consumes).map((c) => c.store));
    const onR = replicas.filter(({ store }) => consumers.has(store)).length;
    const wrong =
      replicas.length < placement.replicas.length || onR < votersNeeded(replicas.length, consumers.size);
    if (!wrong || placement.reachable < placement.quorum) return;
    side.reshapedMs = monoMs;
    side.open = undefined;
    open.seal();
  }

  #admit(side: QueueSide): void {
    while (side.waiting.size > 0) {
      const lane = this.#openLane(side);
      if (lane === undefined) return;
      const { leaseMs } = side.definition;
      for (const waiting of side.waiting) {
        if (lane.isFull) break;
        side.waiting.delete(waiting);
        const later = waiting.notBeforeWallMs > this.#context.now.wallMs;
        const holder = later ? undefined : this.#lanes.dispatch.claim(lane);
        const register = lane.append(waiting, leaseMs, holder);
        waiting.at = { lane: lane.lane, seq: register.seq };
      }
      if (lane.isFull) {
        side.open = undefined;
        lane.seal();
      }
    }
  }

  /** The lane to append to; a lane without a reachable quorum is replaced if another can have one. */
  #openLane(side: QueueSide): LaneWriter | undefined {
    const { open } = side;
    if (open?.isAppending === true && open.reachable >= open.quorum) return open;
    const placement = this.#place(side.definition);
    if (placement.reachable < placement.quorum) return undefined;
    side.open = undefined;
    open?.seal();
    const { queue, replicas: wanted, relaxed } = side.definition;
    const { replicas, voters, consumersSeen } = placement;
    const originPid = this.#context.pid;
    const laneNo = this.#nextLaneNo;
    this.#nextLaneNo += 1;
    const plain = { queue, originPid, laneNo, replicas, voters, consumersSeen, wanted };
    const descriptor = relaxed === undefined ? plain : { ...plain, relaxed };
    const lane = this.#context.laneIdOf(descriptor);
    this.#context.persist(keyOf.opened(this.#context.boot, laneNo), { kind: "opened", lane });
    this.#opened.push({ boot: this.#context.boot, laneNo, lane });
    side.open = this.#lanes.open(lane, descriptor);
    this.#context.sendAfter(this.#context.peer, { type: "synced", lane });
    this.#watchFloor();
    return side.open;
  }

  /**
   * Flow 10: a lane that takes over what another holds. Its state is kept before its name leaves, in the batch of its
   * number: this store's floor cannot pass it, and `synced` says when.
   */
  openHeir(make: (laneNo: number) => Descriptor): Descriptor {
    const descriptor = make(this.#nextLaneNo);
    const { laneNo } = descriptor;
    const lane = this.#context.laneIdOf(descriptor);
    this.#nextLaneNo += 1;
    this.#context.persist(keyOf.opened(this.#context.boot, laneNo), { kind: "opened", lane });
    this.#opened.push({ boot: this.#context.boot, laneNo, lane });
    this.#acceptor.open(lane, descriptor);
    this.#context.sendAfter(this.#context.peer, { type: "synced", lane });
    this.#watchFloor();
    return descriptor;
  }

  /** Somebody took a lane of this node's enqueues over: only its END tells which of them exist. */
  onOrphans(lane: LaneWriter, orphans: readonly (readonly [seq: number, PendingEnqueue])[]): void {
    for (const side of this.#sides.values()) if (side.open === lane) side.open = undefined;
    for (const [seq, pending] of orphans) {
      const waiting = pending as Waiting;
      const left = this.#orphans.get(lane.lane) ?? new Set();
      this.#orphans.set(lane.lane, left.add(waiting));
      this.#host.resolve(lane, seq, (found) => {
        if (left.delete(waiting) && left.size === 0) this.#orphans.delete(lane.lane);
        if (found === "NEVER") this.#again(waiting);
        else if (found === "ACKED") this.#answer(waiting, { code: "OK", lane: lane.lane, seq });
        else this.#answer(waiting, { code: "INDETERMINATE", lane: lane.lane, seq });
      });
    }
    const side = this.#sides.get(lane.descriptor.queue);
    if (side !== undefined) this.#admit(side);
  }

  /** It never existed in the lane that was lost: it is enqueued anew, within its deadline. */
  #again(waiting: Waiting): void {
    const side = this.#sides.get(waiting.queue);
    if (waiting.answered || side === undefined) return;
    waiting.at = undefined;
    side.waiting.add(waiting);
    this.#admit(side);
  }

  // The floor.

  #watchFloor(): void {
    if (this.#floorTimer !== undefined || this.#opened.length === 0) return;
    const at = this.#context.now.monoMs + this.#context.tuning.floorGossipMs;
    this.#floorTimer = this.#context.timers.set(at, () => {
      this.#floorTimer = undefined;
      this.#raiseFloor();
      this.#watchFloor();
    });
  }

  /** Passes each lane whose close is long enough ago for `resolve`, in order of opening. */
  #raiseFloor(): void {
    const passed = this.#opened.findIndex(({ lane }) => !this.#isOver(lane));
    const gone = passed < 0 ? this.#opened : this.#opened.slice(0, passed);
    // A store that lost its end knows nothing of lanes opened in it: a floor would take the only copies that are left.
    const isWhole = this.#context.boot === 1 || this.#members.hasMetAll();
    if (gone.length === 0 || !isWhole) return this.#noteHeld();
    const next = passed < 0 ? undefined : this.#opened[passed];
    const floor: Floor =
      next === undefined
        ? { boot: this.#context.boot, laneNo: this.#nextLaneNo }
        : { boot: next.boot, laneNo: next.laneNo };
    this.#opened = this.#opened.slice(gone.length);
    this.#acceptor.raiseFloor(this.#context.store, floor);
    for (const { boot, laneNo, lane } of gone) {
      this.#context.persist(keyOf.opened(boot, laneNo), undefined);
      this.#lanes.drop(lane);
    }
    this.#host.onFloor(floor);
  }

  /** Flow 8: the lowest lane gets an heir if it keeps many closed ones from being forgotten, for long. */
  #noteHeld(): void {
    const { heldFloorMs, heldFloorLanes } = this.#context.tuning;
    const { monoMs } = this.#context.now;
    const first = this.#opened[0]?.lane;
    if (first === undefined) return;
    if (this.#held?.lane !== first) this.#held = { lane: first, sinceMs: monoMs };
    if (monoMs - this.#held.sinceMs < heldFloorMs || this.#acceptor.lane(first)?.closed === true) return;
    const closed = this.#opened.filter(({ lane }) => this.#acceptor.lane(lane)?.closed === true).length;
    if (closed > heldFloorLanes) this.#host.onHeld(first);
  }

  #isOver(lane: LaneId): boolean {
    if (this.#orphans.has(lane)) return false;
    const known = this.#acceptor.lane(lane);
    if (known === undefined) return true;
    const { resolveMs } = this.#context.tuning;
    return known.closed && this.#context.now.monoMs - known.closedMs >= resolveMs;
  }

  /** The floor others are told, if there is one. */
  get floor(): Floor | undefined {
    return this.#acceptor.floorOf(this.#context.store);
  }
}
