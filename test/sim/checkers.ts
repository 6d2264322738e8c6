import { keyText } from "@klatsch/kit/core";
import type { AcceptorLane } from "../../packages/queue/src/core/acceptor.ts";
import { pidBoot, pidStore } from "../../packages/queue/src/core/ballot.ts";
import type { EnqueueResult } from "../../packages/queue/src/core/lane-register.ts";
import type { Delivery, Message } from "../../packages/queue/src/core/messages.ts";
import { keyOf } from "../../packages/queue/src/core/records.ts";
import { FinishedSet } from "../../packages/queue/src/core/finished.ts";
import { DEFAULT_TUNING } from "../../packages/queue/src/core/context.ts";
import { earliestWallMs, sameHeir, sameValue } from "../../packages/queue/src/core/register.ts";
import type {
  Attributes,
  Descriptor,
  LaneId,
  Place,
  Resolution,
  SettledCode,
  Value,
} from "../../packages/queue/src/core/types.ts";
import type { Operation } from "./history.ts";
import { isLinearizable } from "./history.ts";
import type { SimNode, Written } from "./node.ts";
import type { LaneTruth, MessageTruth } from "./truth.ts";
import { isOut, nameOf, say, short, Truth } from "./truth.ts";
import { OrderChecker } from "./order.ts";
import type { Request } from "./workload.ts";
import { CLOCK_STEP_MS } from "./workload.ts";
import type { World } from "./world.ts";

/** A message id as applications know it. */
interface Known {
  readonly lane: LaneId;
  readonly seq: number;
  acknowledged: boolean;
  /** An application was told that it does not exist. */
  never: boolean;
  readonly delivered: Map<number, string>;
  readonly staleAcks: Set<number>;
  readonly history: Operation[];
}

export interface Enqueued {
  readonly askedAt: number;
  readonly body: Uint8Array;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
  /** The ids under which it was acknowledged or handed out: at most one. */
  id: string | undefined;
}

/** Holds everything applications are told against what was really chosen. */
export class Checker {
  readonly truth: Truth;
  readonly order: OrderChecker;
  readonly #world: World;
  readonly #known = new Map<LaneId, Map<number, Known>>();
  /** In the order in which somebody first heard of them. */
  readonly #all: Known[] = [];
  readonly #enqueued = new Map<number, Enqueued>();
  readonly #hashes = new Map<string, number>();
  /** Requests by the id under which they may exist. */
  readonly #indeterminate = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
    this.truth = new Truth(
      (rule, text) => world.violate(rule, text),
      (message, value, lane) => {
        this.#checkClocks(message, value, lane);
        this.order.onChosen(message, value);
      },
    );
    this.order = new OrderChecker(world, this.truth);
  }

  onSent(message: Message): void {
    this.truth.onSent(message);
  }

  onWritten(node: SimNode, written: Written): void {
    this.truth.onWritten(node, written);
  }

  onSynced(node: SimNode, batch: readonly Written[]): void {
    for (const written of batch) this.truth.onSynced(node, written);
  }

  #of(lane: LaneId, seq: number): Known {
    const inLane = this.#known.get(lane) ?? new Map<number, Known>();
    let known = inLane.get(seq);
    if (known === undefined) {
      known = {
        lane,
        seq,
        acknowledged: false,
        never: false,
        delivered: new Map(),
        staleAcks: new Set(),
        history: [],
      };
      this.#known.set(lane, inLane.set(seq, known));
      this.#all.push(known);
    }
    return known;
  }

  #message(lane: LaneId, seq: number, what: string): MessageTruth {
    const message = this.truth.message(lane, seq);
    if (message === undefined)
      return this.#world.violate("ENQUEUED", `${what} of ${short(lane)}-${seq}: nobody enqueued it`);
    return message;
  }

  #requestOf(message: MessageTruth): number {
    const value = this.truth.latest(message) ?? message.proposals[0]!.value;
    return this.#hashes.get(value.bodyHash) ?? 0;
  }

  /** One request is one message, however often it was tried. */
  #bind(request: number, message: MessageTruth): void {
    const enqueued = this.#enqueued.get(request);
    if (enqueued === undefined) {
      this.#world.violate("ENQUEUED", `${nameOf(message)} names request ${request}, which was never made`);
      return;
    }
    enqueued.id ??= nameOf(message);
    if (enqueued.id !== nameOf(message)) {
      this.#world.violate("ONE_ID", `request ${request} is both ${enqueued.id} and ${nameOf(message)}`);
    }
  }

  // Producers.

  onEnqueue(request: Request, body: Uint8Array, hash: string, attributes: Attributes | undefined): void {
    this.#hashes.set(hash, request.id);
    const { group, dedupKey } = attributes ?? {};
    this.#enqueued.set(request.id, { askedAt: request.askedAt, body, id: undefined, group, dedupKey });
  }

  onEnqueued(request: Request, result: EnqueueResult): void {
    if (result.code === "INDETERMINATE" && result.lane !== undefined) {
      this.#indeterminate.set(`${result.lane}-${result.seq}`, request.id);
    }
    if (result.code !== "OK") return;
    const { lane, seq } = result;
    const message = this.#message(lane, seq, "acknowledgement");
    const named = this.#requestOf(message);
    if (result.duplicate === true) this.order.onDuplicate(request.id, named, message);
    else this.#bind(request.id, message);
    this.#acknowledge(message);
    this.order.onEnqueued(request, this.#enqueued.get(request.id)!, message, result.duplicate === true);
    if (result.duplicate !== true && named !== request.id)
      this.#world.violate("ACK_NAMES", `${nameOf(message)} is request ${named}, not ${request.id}`);
    const lanes = message.lane.line.filter((one) => message.proposals.some((other) => other.lane === one));
    const holders = lanes.map((one) => ({ one, durable: this.#holders(one, seq) }));
    // One that is lost by now may have answered before.
    const isDurable = holders.some(({ one: { descriptor, quorum }, durable }) => {
      return durable.length + this.#world.faults.lostOf(descriptor) >= quorum;
    });
    if (isDurable) return;
    const said = holders.map(({ one, durable }) => {
      return `${durable.map(({ peer }) => peer).join(" ")} of ${one.quorum} in ${short(one.lane)}`;
    });
    this.#world.violate("ACK_IS_DURABLE", `${nameOf(message)} is on ${said.join(", ")}`);
  }

  #holders(lane: LaneTruth, seq: number): readonly SimNode[] {
    const stores = new Set(lane.descriptor.replicas.map(({ store }) => store));
    return this.#world.nodes.filter((node) => stores.has(node.store) && holds(node, lane, seq));
  }

  #acknowledge(message: MessageTruth): void {
    const { lane, seq } = message;
    const known = this.#of(lane.lane, seq);
    known.acknowledged = true;
    if (known.never) this.#world.violate("NEVER_IS_NEVER", `${nameOf(message)} is acknowledged`);
    if (isOut(lane, seq)) {
      this.#world.violate("ACKNOWLEDGED_EXISTS", `${nameOf(message)} is void in END`);
    }
  }

  onResolved(request: Request, resolution: Resolution): void {
    const { lane, seq } = request;
    if (lane === undefined || seq === undefined) return;
    const known = this.#of(lane, seq);
    if (resolution === "NEVER") {
      known.never = true;
      const truth = this.truth.lanes.get(lane);
      if (known.acknowledged || truth === undefined || !isOut(truth, seq)) {
        this.#world.violate(
          "NEVER_IS_NEVER",
          `${short(lane)}-${seq} was resolved NEVER, and END does not say so`,
        );
      }
    } else if (resolution === "ACKED") {
      const message = this.#message(lane, seq, "resolution");
      if (!this.truth.exists(message))
        this.#world.violate("ACKED_EXISTS", `${nameOf(message)} was resolved ACKED`);
      const asked = this.#indeterminate.get(`${lane}-${seq}`);
      if (asked !== undefined && asked !== this.#requestOf(message)) {
        this.#world.violate(
          "ACK_NAMES",
          `${nameOf(message)} was resolved ACKED, but is not request ${asked}`,
        );
      }
      this.#acknowledge(message);
    }
  }

  // Consumers.

  onDeliver(node: SimNode, item: Delivery): void {
    const { lane, seq, epoch, session, body } = item;
    const message = this.#message(lane, seq, "delivery");
    const name = `${nameOf(message)} epoch ${epoch} to ${node.peer}/${Number.parseInt(session, 16)}`;
    const known = this.#of(lane, seq);
    const report = (rule: string, text: string): void => void this.#world.violate(rule, `${name} ${text}`);
    const lease = message.proposals.find(
      ({ chosen, value: { state, epoch: e, holder } }) =>
        chosen &&
        state === "LEASED" &&
        e === epoch &&
        holder?.peer === node.peer &&
        holder.session === session,
    );
    if (lease === undefined) report("DELIVERED_IS_ELECTED", "was never elected");
    const earlier = known.delivered.get(epoch);
    if (earlier !== undefined) report("ONE_DELIVERY_PER_EPOCH", `was handed out to ${earlier} before`);
    known.delivered.set(epoch, `${node.peer}/${session}`);
    if (known.never) report("NEVER_IS_NEVER", "had been resolved NEVER");
    if (isOut(message.lane, seq)) report("VOID_NEVER_DELIVERED", "is void in END");
    const { done } = message;
    if (done !== undefined && (epoch >= done.epoch || !this.#world.faults.overlapExcused)) {
      report("NOT_AFTER_ACK", `comes after ${say(done)} was chosen`);
    }
    const counted = item.deliveries - (item.attributes?.forgiven ?? 0);
    if (item.reason === undefined && counted >= this.#world.scenario.maxDeliveries)
      report("DELIVERY_LIMIT", `has ${item.deliveries}`);
    this.#checkBody(message, body, report);
    known.history.push({ kind: "grant", from: 0, to: this.#world.events.now, epoch });
  }

  /** A delivery whose body its node's disk does not have: right only if the lease is over by now. */
  onBodiless(node: SimNode, { lane, seq, epoch }: Delivery): void {
    const message = this.#message(lane, seq, "delivery");
    const latest = this.truth.latest(message);
    if (latest?.state !== "LEASED" || latest.epoch !== epoch) return;
    this.#world.violate(
      "BODY_DELIVERED",
      `${nameOf(message)} epoch ${epoch} is without its body at ${node.peer}`,
    );
  }

  #checkBody(
    message: MessageTruth,
    body: Uint8Array | undefined,
    report: (rule: string, text: string) => void,
  ): void {
    if (body === undefined) return report("BODY_DELIVERED", "came without its body");
    const request = new DataView(body.buffer, body.byteOffset).getUint32(0);
    if (request !== this.#requestOf(message)) {
      report("BODY_DELIVERED", `has the body of request ${request}`);
    }
    if (body.length !== this.#enqueued.get(request)?.body.length)
      report("BODY_DELIVERED", "has a maimed body");
    this.#bind(request, message);
  }

  /** The process that asked ended, or nobody will ever answer. */
  onUnknown(request: Request): void {
    if (request.kind === "verdict") this.#settled(request, true);
  }

  #settled(request: Request, optional: boolean): void {
    const { lane, seq, epoch, verdict, askedAt: from } = request;
    if (lane === undefined || seq === undefined || epoch === undefined || verdict === undefined) return;
    const to = optional ? Number.POSITIVE_INFINITY : this.#world.events.now;
    const into = {
      ack: "DONE",
      nack: "READY_OR_DEAD",
      release: "READY_OR_DEAD",
      redrive: "READY",
      reject: "DEAD",
      renew: "READY",
    } as const;
    this.#of(lane, seq).history.push({ kind: "settle", from, to, epoch, into: into[verdict.kind], optional });
  }

  onVerdict(request: Request, code: SettledCode | "TIMEOUT"): void {
    const { lane, seq, epoch, verdict, askedAt: from } = request;
    if (lane === undefined || seq === undefined || epoch === undefined || verdict === undefined) return;
    const message = this.#message(lane, seq, "verdict");
    const known = this.#of(lane, seq);
    const to = this.#world.events.now;
    const name = `${verdict.kind} of ${nameOf(message)} epoch ${epoch} from ${request.node.peer}`;
    switch (code) {
      case "DONE": {
        const chosen = message.proposals.some(
          ({ chosen, value }) => chosen && ended(value, epoch, verdict.kind),
        );
        if (!chosen) this.#world.violate("SETTLED_IS_CHOSEN", `${name} is confirmed, but was not chosen`);
        return this.#settled(request, false);
      }
      case "STALE": {
        if (verdict.kind === "ack") {
          known.staleAcks.add(epoch);
          if (message.done?.epoch === epoch) this.#world.violate("STALE_IS_TRUE", `${name} took effect`);
        }
        const latest = this.truth.latest(message);
        if (latest?.state === "LEASED" && latest.epoch === epoch) {
          this.#world.violate("STALE_IS_TRUE", `${name}: the lease stands`);
        }
        // A verdict whose answer was lost may have ended the lease itself.
        if (verdict.kind !== "ack") this.#settled(request, true);
        known.history.push({ kind: "stale", from, to, epoch });
        return;
      }
      case "FINISHED":
        if (message.done === undefined) this.#world.violate("FINISHED_IS_DONE", `${name}: it is not`);
        this.#settled(request, true);
        known.history.push({ kind: "finished", from, to });
        return;
      case "RETRY":
        return void this.#world.violate("RETRY_IS_INTERNAL", `${name} was answered RETRY`);
      case "TIMEOUT":
        return this.#settled(request, true);
    }
  }

  /** Done under an epoch that nobody was ever to hold: an operator did away with it. */
  #noteDiscarded(message: MessageTruth, { state, epoch }: Value): void {
    const held = message.proposals.some(
      ({ value, chosen }) => chosen && value.state === "LEASED" && value.epoch === epoch,
    );
    if (state !== "DONE" || held || message.done !== undefined) return;
    const { lane, seq } = message;
    const to = this.#world.events.now;
    this.#of(lane.lane, seq).history.push({ kind: "discard", from: 0, to, epoch });
  }

  /** A7: what has its time is chosen only when a majority of the clocks has come near it. */
  #checkClocks(message: MessageTruth, value: Value, lane: LaneTruth): void {
    this.#noteDiscarded(message, value);
    const earliest = earliestWallMs(value);
    if (earliest === 0) return;
    // An heir imports what the lane before it chose, by that lane's clocks.
    const isImport = message.proposals.some(
      (one) => one.chosen && one.lane === lane.parent && sameValue(one.value, value),
    );
    if (isImport) return;
    const { descriptor, quorum } = lane;
    // Clocks are set anew when a machine restarts, by twice the skew at most.
    const { wallSkewMs, wrongClockMs } = this.#world.scenario;
    const steppedMs = wrongClockMs === 0 ? 0 : 2 * CLOCK_STEP_MS;
    const slackMs = DEFAULT_TUNING.clockSlackMs + 2 * wallSkewMs + steppedMs;
    const near = this.#world.nodes.filter(
      (node) =>
        descriptor.replicas.some(({ store }) => store === node.store) &&
        node.now().wallMs + slackMs >= earliest,
    );
    // A store that is lost by now may have been near.
    if (near.length + this.#world.faults.lostOf(descriptor) >= quorum) return;
    this.#world.violate("CLOCKS_AGREE", `${nameOf(message)} ${say(value)} is chosen before its time`);
  }

  // At the end.

  /** Where applications know messages to be. */
  acknowledged(): readonly Place[] {
    return this.#all.filter(({ acknowledged }) => acknowledged);
  }

  /** Everything acknowledged is over, and every message's life makes sense. */
  onDrained(): void {
    this.order.onDrained(this.truth.lanes.values());
    for (const known of this.#all) {
      const message = this.truth.message(known.lane, known.seq);
      if (message === undefined) continue;
      const latest = this.truth.latest(message);
      const over = message.done !== undefined || latest?.state === "DEAD";
      if (known.acknowledged && !over) {
        const state = latest === undefined ? "nothing" : say(latest);
        this.#world.violate("ACKNOWLEDGED_IS_KEPT", `${nameOf(message)} ends as ${state}`);
      }
      if (message.done !== undefined && known.staleAcks.has(message.done.epoch)) {
        this.#world.violate(
          "STALE_IS_TRUE",
          `${nameOf(message)} was done by an acknowledgement called stale`,
        );
      }
      this.#checkHistory(message, known);
    }
    for (const message of this.truth.messages()) {
      if (message.done !== undefined || this.truth.latest(message)?.state === "DEAD") continue;
      const { lane, seq } = message;
      const isAcknowledged = this.#known.get(lane.lane)?.get(seq)?.acknowledged === true;
      if (!isAcknowledged && lane.line.every(({ descriptor }) => this.isHopeless(descriptor))) continue;
      const fate = isOut(message.lane, message.seq) ? "void" : "alive";
      if (fate === "alive" && this.truth.exists(message)) {
        this.#world.violate("DRAINED", `${nameOf(message)} still lives`);
      }
    }
  }

  #checkHistory(message: MessageTruth, { history, acknowledged }: Known): void {
    if (history.length > 14) return; // 2^14 orders is where brute force stops being cheap.
    const request = this.#requestOf(message);
    const askedAt = this.#enqueued.get(request)?.askedAt ?? 0;
    const to = Number.POSITIVE_INFINITY;
    const operations: Operation[] = [
      { kind: "enqueue", from: askedAt, to, optional: !acknowledged },
      ...history,
    ];
    if (isLinearizable(operations)) return;
    this.#world.violate("LINEARIZABLE", `${nameOf(message)}: ${JSON.stringify(operations)}`);
  }

  /** Registers that stay as long as their lane: of dead messages, and a minority's of what never existed. */
  mayKeep({ lane, end }: AcceptorLane, seq: number): boolean {
    const truth = this.truth.lanes.get(lane);
    const message = truth?.messages.get(seq);
    if (truth === undefined || message === undefined) return false;
    // But for a frozen one: its heir, where it is known, goes on, and shows that it may close.
    const isHere = end !== undefined && sameHeir(truth.frozen?.value.heir, end.value.heir);
    if (this.isHopeless(truth.descriptor) && (truth.frozen === undefined || !isHere)) return true;
    const isDead = this.truth.latest(message)?.state === "DEAD" && truth.frozen === undefined;
    return isDead || isOut(truth, seq);
  }

  isOrdered(lane: LaneId): boolean {
    return this.truth.lanes.get(lane)?.descriptor.shard !== undefined;
  }

  /** Why a lane that stays, with dead messages, is not as it could be: a lost replica, with others to take its place. */
  unhealed({ lane, descriptor }: AcceptorLane): string | undefined {
    const { nodes, faults } = this.#world;
    const lost = faults.lostOf(descriptor);
    if (lost === 0 || this.isHopeless(descriptor)) return undefined;
    const truth = this.truth.lanes.get(lane);
    if (truth !== undefined && this.truth.isClosed(truth)) return undefined;
    const onR = new Set(descriptor.replicas.map(({ store }) => store));
    const fresh = nodes.find((node) => node.state === "up" && !onR.has(node.store));
    return fresh && `${short(lane)} is not brought to ${fresh.peer}`;
  }

  /** It was opened by who did not know yet that its quorum was lost: nothing in it was ever acknowledged. */
  isHopeless(descriptor: Descriptor): boolean {
    const { length } = descriptor.replicas;
    return this.#world.faults.lostOf(descriptor) > length - Math.floor(length / 2) - 1;
  }

  /** Lanes that may stay: a dead message keeps its lane, and that lane those of its origin above it. */
  mayStay(lane: LaneId): boolean {
    const truth = this.truth.lanes.get(lane);
    if (truth === undefined) return false;
    const { originPid, laneNo } = truth.descriptor;
    // A lost store raises its floor no more.
    if (this.#world.faults.isLost(pidStore(originPid))) return true;
    for (const other of this.truth.lanes.values()) {
      const same = other.descriptor.originPid.slice(0, 32) === originPid.slice(0, 32);
      const below =
        other.descriptor.originPid < originPid ||
        (other.descriptor.originPid === originPid && other.descriptor.laneNo <= laneNo);
      if (!same || !below) continue;
      // Even closed: who is left may not know that, and cannot ask a quorum.
      if (this.isHopeless(other.descriptor)) return true;
      if (this.truth.isClosed(other)) continue;
      for (const message of other.messages.values()) {
        if (message.done === undefined && this.truth.latest(message)?.state === "DEAD") return true;
      }
    }
    return false;
  }
}

/** Whether a chosen value says that the lease of `epoch` ended by such a verdict. */
function ended(value: { state: string; epoch: number }, epoch: number, kind: string): boolean {
  if (value.epoch !== epoch) return false;
  if (kind === "ack") return value.state === "DONE";
  if (kind === "reject") return value.state === "DEAD";
  if (kind === "redrive") return value.state === "READY";
  return value.state === "READY" || value.state === "DEAD";
}

/** Whether the node's disk shows that it once had the message, and has its body while it lives. */
function holds({ disk }: SimNode, { lane, descriptor }: LaneTruth, seq: number): boolean {
  const { synced } = disk;
  const floor = synced.get(keyOf.floor(pidStore(descriptor.originPid)));
  if (floor?.kind === "floor" && descriptor.shard === undefined) {
    const boot = pidBoot(descriptor.originPid);
    if (boot < floor.floor.boot) return true;
    if (boot === floor.floor.boot && descriptor.laneNo < floor.floor.laneNo) return true;
  }
  const slot = disk.slots.get(lane);
  if (slot === undefined) return false;
  const record = synced.get(keyOf.lane(slot));
  if (record?.kind === "lane" && record.closed) return true;
  const register = synced.get(keyText(keyOf.register(slot, seq)));
  const message = synced.get(keyText(keyOf.message(slot, seq)));
  if (register?.kind === "register") {
    return register.value.state === "DONE" || message !== undefined;
  }
  if (message !== undefined) return true;
  const finished = new FinishedSet();
  for (const [key, one] of synced) {
    if (one.kind !== "finished") continue;
    const [, at = "", chunk = ""] = key.split("/");
    if (Number.parseInt(at, 16) !== slot) continue;
    finished.load(Number.parseInt(chunk, 16), one.bits);
  }
  return finished.has(seq);
}

/** Of a queue that was deleted: nothing is promised of its messages any more. */
export class NoChecker extends Checker {
  override acknowledged(): readonly Place[] {
    return [];
  }

  override onSent(): void {}
  override onWritten(): void {}
  override onSynced(): void {}
  override onEnqueue(): void {}
  override onEnqueued(): void {}
  override onResolved(): void {}
  override onDeliver(): void {}
  override onBodiless(): void {}
  override onUnknown(): void {}
  override onVerdict(): void {}
}
