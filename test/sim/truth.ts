import type { Ballot } from "../../packages/queue/src/core/ballot.ts";
import { compareBallots, comparePromises } from "../../packages/queue/src/core/ballot.ts";
import { FinishedSet } from "../../packages/queue/src/core/finished.ts";
import type { Message } from "../../packages/queue/src/core/messages.ts";
import type { RecordKey, StoredRecord } from "../../packages/queue/src/core/records.ts";
import { isIn, isVoid, sameEnd, sameHeir, sameValue } from "../../packages/queue/src/core/register.ts";
import type { Descriptor, EndValue, LaneId, StoreId, Value } from "../../packages/queue/src/core/types.ts";
import type { SimNode, Written } from "./node.ts";

/** A value at a ballot, and who has it on disk, one bit each. Chosen once that is a quorum. */
export interface Proposal<T> {
  readonly lane: LaneTruth;
  readonly ballot: Ballot;
  readonly value: T;
  accepted: number;
  chosen: boolean;
}

/** Everything that was ever proposed for one message, in the lane it was enqueued in and in all its heirs. */
export interface MessageTruth {
  /** The lane in its id: the first of the line. */
  readonly lane: LaneTruth;
  readonly seq: number;
  readonly proposals: Proposal<Value>[];
  /** Of a message that was over: what an heir keeps of it for its key. */
  readonly memories: Proposal<Value>[];
  /** Whom each writer ever proposed an epoch for. */
  readonly holders: Map<string, string>;
  done: Value | undefined;
}

export interface LaneTruth {
  readonly lane: LaneId;
  readonly descriptor: Descriptor;
  readonly quorum: number;
  readonly bits: ReadonlyMap<StoreId, number>;
  /** The lane whose heir this is, and how many came before. */
  readonly parent: LaneTruth | undefined;
  readonly generation: number;
  /** Shared with its heirs, as is the line of all of them in their order. */
  readonly messages: Map<number, MessageTruth>;
  readonly line: LaneTruth[];
  readonly ends: Proposal<EndValue>[];
  /** END as it was chosen first. */
  end: EndValue | undefined;
  /** END with an heir, as it was chosen first: from then on nothing is proposed here. */
  frozen: Proposal<EndValue> | undefined;
  closed: boolean;
}

type Report = (rule: string, text: string) => void;

/** Of one message: whoever proposes more runs in circles. */
const PROPOSALS_MAX = 1_000;

/** Heirs come after the lane whose messages they have. */
function compare(a: Proposal<unknown>, b: Proposal<unknown>): number {
  return a.lane.generation - b.lane.generation || compareBallots(a.ballot, b.ballot);
}

function bitCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}

/** The descriptor's own duties: R without repeats, enough voters on it. */
function descriptorFlaw({
  replicas,
  voters,
  consumersSeen,
  wanted,
  originPid,
  heirOf,
}: Descriptor): string | undefined {
  const stores = new Set(replicas.map(({ store }) => store));
  if (stores.size !== replicas.length) return "a store twice on R";
  if (!stores.has(originPid.slice(0, 32))) return "an origin that is not on R";
  const quorum = Math.floor(replicas.length / 2) + 1;
  const needed = Math.min(replicas.length - quorum + 1, consumersSeen);
  if (heirOf === undefined && replicas.length >= wanted && bitCount(voters) < needed) return "too few voters";
  return undefined;
}

/**
 * What was really chosen, from the disks of all replicas and the proposals on all wires: no writer's
 * belief enters here.
 */
export class Truth {
  readonly lanes = new Map<LaneId, LaneTruth>();
  readonly #report: Report;
  readonly #onNews: (message: MessageTruth, value: Value, lane: LaneTruth) => void;

  constructor(report: Report, onChosen: (message: MessageTruth, value: Value, lane: LaneTruth) => void) {
    this.#report = report;
    this.#onNews = onChosen;
  }

  message(lane: LaneId, seq: number): MessageTruth | undefined {
    return this.lanes.get(lane)?.messages.get(seq);
  }

  *messages(): Iterable<MessageTruth> {
    for (const lane of this.lanes.values()) if (lane.parent === undefined) yield* lane.messages.values();
  }

  // Observations.

  /** A frame left: every operation in it is a proposal, whether it arrives or not. */
  onSent(message: Message): void {
    if (message.type !== "ops") return;
    for (const { lane, round, pid, accepts, end } of message.sections) {
      const truth = this.lanes.get(lane);
      if (truth === undefined) continue;
      for (const { seq, step, value } of accepts) this.#propose(truth, seq, { round, pid, step }, value);
      if (end !== undefined) this.#proposeEnd(truth, { round, pid, step: end.step }, end.value);
    }
  }

  /** A store changed its mind; not on disk yet. */
  onWritten(node: SimNode, { row, record }: Written): void {
    if (record === undefined) {
      if (isBody(row)) this.#onBodyDropped(node, row);
      return;
    }
    if (record.kind === "lane") this.#onLane(node, record);
    else if (record.kind === "message" || record.kind === "register") {
      const lane = this.#laneOf(node, row);
      if (lane !== undefined) this.#propose(lane, seqOf(row), record.ballot, record.value);
    } else if (record.kind === "finished") this.#onFinished(node, row, record.bits);
  }

  /** The record is on disk: the replica's accept counts. */
  onSynced(node: SimNode, { row, record }: Written): void {
    if (record?.kind === "message" || record?.kind === "register") {
      const lane = this.#laneOf(node, row);
      if (lane === undefined) return;
      const seq = seqOf(row);
      this.#accept(node, lane, this.#propose(lane, seq, record.ballot, record.value), (proposal) => {
        const message = lane.messages.get(seq)!;
        if (!message.memories.includes(proposal)) this.#onChosen(message, proposal);
      });
    } else if (record?.kind === "lane" && record.end !== undefined && !record.closed) {
      const lane = this.lanes.get(record.lane)!;
      const end = this.#proposeEnd(lane, record.end.ballot, record.end.value);
      this.#accept(node, lane, end, (proposal) => this.#onEndChosen(lane, proposal));
    }
  }

  #laneOf(node: SimNode, row: RecordKey): LaneTruth | undefined {
    const slot = typeof row === "string" ? Number.parseInt(row.split("/")[1] ?? "", 16) : row.slot;
    const lane = node.disk.lanes.get(slot);
    return lane === undefined ? undefined : this.lanes.get(lane);
  }

  #onLane(node: SimNode, record: StoredRecord & { readonly kind: "lane" }): void {
    const { lane, descriptor } = record;
    let truth = this.lanes.get(lane);
    if (truth === undefined) {
      const flaw = descriptorFlaw(descriptor);
      if (flaw !== undefined) this.#report("DESCRIPTOR", `${short(lane)} has ${flaw}`);
      const { replicas, heirOf } = descriptor;
      const parent = heirOf === undefined ? undefined : this.lanes.get(heirOf.lane);
      if (heirOf !== undefined && parent === undefined)
        this.#report("PARENT", `${short(lane)} comes from nowhere`);
      truth = {
        lane,
        descriptor,
        quorum: Math.floor(replicas.length / 2) + 1,
        bits: new Map(replicas.map(({ store }, index) => [store, 1 << index])),
        parent,
        generation: parent === undefined ? 0 : parent.generation + 1,
        messages: parent?.messages ?? new Map<number, MessageTruth>(),
        line: parent?.line ?? [],
        ends: [],
        end: undefined,
        frozen: undefined,
        closed: false,
      };
      this.lanes.set(lane, truth);
      truth.line.push(truth);
    }
    if (!truth.bits.has(node.store))
      this.#report("ON_R", `${node.peer} keeps ${short(lane)}, but is not on R`);
    if (record.end === undefined) return;
    if (!record.closed) this.#proposeEnd(truth, record.end.ballot, record.end.value);
    else if (!this.isClosed(truth) || truth.end === undefined || !sameExtent(truth.end, record.end.value)) {
      this.#report("CLOSED_CHOSEN", `${node.peer} holds ${short(lane)} closed, which nobody chose`);
    }
  }

  /** Closed by its own quorum, or without one, as its heir has ended: that shows as much. */
  isClosed(lane: LaneTruth): boolean {
    return lane.closed || this.heirOf(lane)?.end !== undefined;
  }

  /** The lane that its chosen END names. */
  heirOf(lane: LaneTruth): LaneTruth | undefined {
    return lane.line.find((one) => one.parent === lane && isHeir(lane, one));
  }

  #onFinished(node: SimNode, row: RecordKey, bits: Uint8Array): void {
    const lane = this.#laneOf(node, row);
    if (lane === undefined) return;
    const finished = new FinishedSet();
    finished.load(seqOf(row), bits);
    for (const [from, to] of finished.ranges()) {
      for (let seq = from; seq < to; seq += 1) {
        if (lane.messages.get(seq)?.done !== undefined) continue;
        if (lane.descriptor.shard !== undefined && isOut(lane, seq)) continue;
        this.#report("FINISHED_IS_DONE", `${node.peer} finished ${short(lane.lane)}-${seq}, not chosen DONE`);
      }
    }
  }

  #onBodyDropped(node: SimNode, row: RecordKey): void {
    const lane = this.#laneOf(node, row);
    const seq = seqOf(row);
    const message = lane?.messages.get(seq);
    if (lane === undefined || message === undefined || message.done !== undefined) return;
    if (isOut(lane, seq)) return;
    if (this.isClosed(lane) && lane.frozen !== undefined) return; // Its heir has it.
    this.#report("BODY_KEPT", `${node.peer} dropped the body of ${short(lane.lane)}-${seq}, which lives`);
  }

  // Consequences.

  #propose(lane: LaneTruth, seq: number, ballot: Ballot, value: Value): Proposal<Value> {
    let message = lane.messages.get(seq);
    if (message === undefined) {
      const [root = lane] = lane.line;
      message = { lane: root, seq, proposals: [], memories: [], holders: new Map(), done: undefined };
      lane.messages.set(seq, message);
      const appends = ballot.round === 0 && lane.parent === undefined;
      if (!appends && lane.descriptor.shard === undefined)
        this.#report("ROUND_0_APPENDS", `${short(lane.lane)}-${seq} begins above round 0`);
    }
    const remembered = isMemory(message, lane, value);
    const list = remembered ? message.memories : message.proposals;
    const known = list.find(
      (proposal) => proposal.lane === lane && compareBallots(proposal.ballot, ballot) === 0,
    );
    if (known !== undefined) {
      if (!sameValue(known.value, value)) {
        this.#report(
          "ONE_VALUE_PER_STEP",
          `${nameOf(message)} ${show(ballot)}: ${say(known.value)} and ${say(value)}`,
        );
      }
      return known;
    }
    const proposal = { lane, ballot, value, accepted: 0, chosen: false };
    list.push(proposal);
    if (remembered) return proposal;
    this.#checkPlace(message, proposal);
    if (message.proposals.length > PROPOSALS_MAX)
      this.#report(
        "COMES_TO_REST",
        `${nameOf(message)} ${say(value)} is the ${PROPOSALS_MAX + 1}th proposal`,
      );
    this.#checkHolder(message, ballot, value);
    for (const other of message.proposals) {
      if (other.chosen && compare(other, proposal) < 0) this.#descends(message, other, proposal);
    }
    return proposal;
  }

  /** Flow 10: nothing new in a frozen lane [M11], and before its END nothing in an heir but imports [M10]. */
  #checkPlace(message: MessageTruth, { lane, ballot, value }: Proposal<Value>): void {
    const { frozen, parent, end } = lane;
    if (frozen !== undefined && comparePromises(ballot, frozen.ballot) >= 0) {
      this.#report("FROZEN", `${nameOf(message)} ${show(ballot)}: ${say(value)} after END named an heir`);
    }
    if (parent === undefined || end !== undefined) return;
    const found = message.proposals.some((other) => other.lane === parent && sameValue(other.value, value));
    if (found) return;
    this.#report("IMPORT_FIRST", `${nameOf(message)} ${show(ballot)}: ${say(value)} before its heir's END`);
  }

  /**
   * One writer never proposes one epoch for two holders [M17]. What a stealer did not find is not chosen
   * and never will be, so its epoch may be proposed again in the higher round.
   */
  #checkHolder(message: MessageTruth, { round, pid }: Ballot, { state, epoch, holder }: Value): void {
    if (state !== "LEASED" || holder === undefined) return;
    const key = `${message.proposals.at(-1)?.lane.lane} ${round} ${pid} ${epoch}`;
    const known = message.holders.get(key);
    const name = `${holder.peer}/${holder.session}`;
    if (known === undefined) message.holders.set(key, name);
    else if (known !== name) {
      this.#report("ONE_HOLDER_PER_EPOCH", `${nameOf(message)} epoch ${epoch}: ${known} and ${name}`);
    }
  }

  #accept<T>(
    node: SimNode,
    lane: LaneTruth,
    proposal: Proposal<T>,
    then: (chosen: Proposal<T>) => void,
  ): void {
    const bit = lane.bits.get(node.store);
    if (bit === undefined) return this.#report("ON_R", `${node.peer} accepted in ${short(lane.lane)}`);
    proposal.accepted |= bit;
    if (proposal.chosen || bitCount(proposal.accepted) < lane.quorum) return;
    proposal.chosen = true;
    then(proposal);
  }

  #onChosen(message: MessageTruth, chosen: Proposal<Value>): void {
    const { seq } = message;
    const { lane } = chosen;
    this.#onNews(message, chosen.value, lane);
    for (const other of message.proposals) {
      const order = compare(other, chosen);
      if (order > 0) this.#descends(message, chosen, other);
      else if (order < 0 && other.chosen) this.#descends(message, other, chosen);
    }
    if (chosen.value.state === "DONE") message.done ??= chosen.value;
    if (isOut(lane, seq)) {
      this.#report(
        "VOID_NEVER_CHOSEN",
        `${nameOf(message)} ${show(chosen.ballot)} ${say(chosen.value)} after END`,
      );
    }
  }

  /** What was chosen is the ancestor of everything above it. */
  #descends(message: MessageTruth, low: Proposal<Value>, high: Proposal<Value>): void {
    const a = low.value;
    const b = high.value;
    const sound =
      a.attributes?.token === b.attributes?.token &&
      b.epoch >= a.epoch &&
      b.deliveries >= a.deliveries &&
      b.acquired >= a.acquired &&
      b.bodyHash === a.bodyHash &&
      b.enqueuedWallMs === a.enqueuedWallMs &&
      sameGift(a, b) &&
      staysDead(a, b) &&
      (a.state !== "LEASED" || b.state !== "LEASED" || a.epoch !== b.epoch || sameHolder(a, b)) &&
      (a.state !== "DONE" || (b.state === "DONE" && b.epoch === a.epoch));
    if (sound) return;
    const text = `${nameOf(message)}: chosen ${show(low.ballot)} ${say(a)}, then ${show(high.ballot)} ${say(b)}`;
    this.#report("CHOSEN_IS_KEPT", text);
  }

  #proposeEnd(lane: LaneTruth, ballot: Ballot, value: EndValue): Proposal<EndValue> {
    const known = lane.ends.find((proposal) => compareBallots(proposal.ballot, ballot) === 0);
    if (known !== undefined) {
      if (!sameEnd(known.value, value)) {
        this.#report("ONE_VALUE_PER_STEP", `two ENDs of ${short(lane.lane)} at ${show(ballot)}`);
      }
      return known;
    }
    const proposal = { lane, ballot, value, accepted: 0, chosen: false };
    lane.ends.push(proposal);
    if (lane.descriptor.shard !== undefined) {
      this.#checkCut(lane, proposal);
      return proposal;
    }
    for (const other of lane.ends) {
      if (other.chosen && compareBallots(other.ballot, ballot) < 0) this.#extends(lane, other, proposal);
    }
    return proposal;
  }

  /** Whatever a writer's cut excludes was not chosen, and is not by a lower right ever after. */
  #checkCut(lane: LaneTruth, { ballot, value }: Proposal<EndValue>): void {
    for (const { seq, proposals } of lane.messages.values()) {
      const wasChosen = proposals.some((one) => one.chosen && one.lane.generation <= lane.generation);
      if (!isVoid(value, seq) || !wasChosen) continue;
      if (proposals.some((one) => one.lane === lane && comparePromises(one.ballot, ballot) >= 0)) continue;
      this.#report(
        "VOID_NEVER_CHOSEN",
        `${short(lane.lane)}-${seq} was chosen, and the cut at ${show(ballot)} is without it`,
      );
    }
  }

  #onCutChosen(lane: LaneTruth, chosen: Proposal<EndValue>): void {
    const newest = lane.ends
      .filter((end) => end.chosen)
      .sort((a, b) => compareBallots(b.ballot, a.ballot))[0];
    if (newest !== chosen) return;
    for (const [from, to] of (lane.end ?? lane.parent?.end)?.voids ?? []) {
      for (let seq = from; seq < to; seq += 1) {
        if (isIn(chosen.value.voids, seq)) continue;
        this.#report(
          "END_IS_KEPT",
          `${short(lane.lane)}-${seq} was void, and is not in the cut at ${show(chosen.ballot)}`,
        );
      }
    }
    this.#checkMoved(lane, chosen.value);
    lane.end = chosen.value;
    if (chosen.value.heir !== undefined) lane.frozen ??= chosen;
    if (!chosen.value.closed || lane.closed) return;
    lane.closed = true;
    this.#checkClosedHeir(lane);
  }

  /** What an ordered lane that has an heir says stays, and the heir goes on behind it. */
  #checkMoved(lane: LaneTruth, value: EndValue): void {
    const { frozen, parent, end } = lane;
    if (frozen !== undefined) this.#extends(lane, frozen, { ...frozen, value });
    if (parent === undefined || end !== undefined) return;
    const n = parent.frozen?.value.n;
    if (isHeir(parent, lane) && n !== undefined && value.n >= n && value.base === n) return;
    this.#report(
      "HEIR_ENDS_ALIKE",
      `${short(lane.lane)} begins at ${value.base}, ${short(parent.lane)} ends at ${n}`,
    );
  }

  #checkClosedHeir(lane: LaneTruth): void {
    if (this.heirOf(lane)?.end !== undefined) return;
    this.#report("CLOSED_IS_MOVED", `${short(lane.lane)} closed before its heir had everything`);
  }

  #onEndChosen(lane: LaneTruth, chosen: Proposal<EndValue>): void {
    if (lane.descriptor.shard !== undefined) return this.#onCutChosen(lane, chosen);
    for (const other of lane.ends) {
      if (compareBallots(other.ballot, chosen.ballot) > 0) this.#extends(lane, chosen, other);
      else if (other !== chosen && other.chosen) this.#extends(lane, other, chosen);
    }
    const { value } = chosen;
    for (const message of lane.messages.values()) {
      const proposal = message.proposals.find((one) => one.chosen && one.lane === lane);
      if (proposal === undefined || !isVoid(value, message.seq)) continue;
      this.#report(
        "VOID_NEVER_CHOSEN",
        `${nameOf(message)} is void in END, but ${say(proposal.value)} was chosen`,
      );
    }
    lane.end ??= value;
    if (value.heir !== undefined) lane.frozen ??= chosen;
    this.#checkHeir(lane, value);
    if (!value.closed || lane.closed) return;
    lane.closed = true;
    if (value.heir !== undefined) return this.#checkClosedHeir(lane);
    for (let seq = 0; seq < value.n; seq += 1) {
      if (isVoid(value, seq) || lane.messages.get(seq)?.done !== undefined) continue;
      this.#report("CLOSED_IS_FINISHED", `${short(lane.lane)} closed with ${seq} unfinished`);
    }
  }

  /** An heir ends as the lane before it did; one that is nobody's ends empty. */
  #checkHeir(lane: LaneTruth, value: EndValue): void {
    const { parent } = lane;
    if (parent === undefined) return;
    const alike = parent.end !== undefined && sameExtent(parent.end, value);
    if (isHeir(parent, lane) ? alike : value.n === 0) return;
    this.#report(
      "HEIR_ENDS_ALIKE",
      `${short(lane.lane)} ended with n ${value.n}, ${short(parent.lane)} with ${parent.end?.n}`,
    );
  }

  #extends(lane: LaneTruth, low: Proposal<EndValue>, high: Proposal<EndValue>): void {
    const keepsHeir = low.value.heir === undefined || sameHeir(low.value.heir, high.value.heir);
    if (sameExtent(low.value, high.value) && keepsHeir && (!low.value.closed || high.value.closed)) return;
    const text = `${short(lane.lane)}: END ${JSON.stringify(low.value)} at ${show(low.ballot)} was chosen, `;
    this.#report("END_IS_KEPT", `${text}then ${JSON.stringify(high.value)} at ${show(high.ballot)}`);
  }

  // Questions.

  /** Whether a quorum has the message, at whatever step of one writer. */
  exists(message: MessageTruth): boolean {
    const { lane, seq, proposals } = message;
    if (lane.end !== undefined && lane.descriptor.shard === undefined) return !isVoid(lane.end, seq);
    if (isOut(lane, seq)) return false;
    return proposals.some((one) => {
      let bits = 0;
      for (const other of proposals) {
        if (one.lane === other.lane && comparePromises(one.ballot, other.ballot) === 0)
          bits |= other.accepted;
      }
      return bitCount(bits) >= one.lane.quorum;
    });
  }

  /** The chosen value at the highest ballot. */
  latest(message: MessageTruth): Value | undefined {
    let best: Proposal<Value> | undefined;
    for (const proposal of message.proposals) {
      if (proposal.chosen && (best === undefined || compare(proposal, best) > 0)) {
        best = proposal;
      }
    }
    return best?.value;
  }
}

/** The last number in a key. */
function seqOf(row: RecordKey): number {
  return typeof row === "string" ? Number.parseInt(row.split("/")[2] ?? "", 16) : row.seq;
}

function isBody(row: RecordKey): boolean {
  return typeof row === "string" ? row.startsWith("b/") : row.family === "b".charCodeAt(0);
}

/** Flow 11: only redrive brings a dead message back. */
function staysDead(a: Value, b: Value): boolean {
  const redrives = (value: Value): number => value.attributes?.redrives ?? 0;
  if (redrives(b) < redrives(a) || (b.state === "READY" && b.reason !== undefined)) return false;
  return a.reason === undefined || b.state === "DONE" || b.reason !== undefined || redrives(b) > redrives(a);
}

/** What the producer said of the message stays for its whole life. */
function sameGift({ attributes: a }: Value, { attributes: b }: Value): boolean {
  return (
    (a?.priority ?? 0) === (b?.priority ?? 0) &&
    (a?.headerBytes ?? 0) === (b?.headerBytes ?? 0) &&
    (a?.expiresAtWallMs === b?.expiresAtWallMs || (b?.expiresAtWallMs ?? 0) === 0) &&
    a?.group === b?.group &&
    a?.dedupKey === b?.dedupKey
  );
}

/** Whether a chosen END, or the newest chosen cut of an ordered lane, says that the message never existed. */
export function isOut({ end, descriptor, line }: LaneTruth, seq: number): boolean {
  if (descriptor.shard === undefined) return end !== undefined && isVoid(end, seq);
  return isIn(line.findLast((one) => one.end !== undefined)?.end?.voids ?? [], seq);
}

/** Flow 14: an heir says of a message that is over whose key it has, and no more. */
function isMemory({ done }: MessageTruth, { parent }: LaneTruth, value: Value): boolean {
  const isBare = value.state === "DONE" && value.epoch === 0 && value.bodyBytes === 0;
  if (done === undefined || parent === undefined || !isBare) return false;
  const { token, group, dedupKey } = done.attributes ?? {};
  const { attributes } = value;
  const isSame =
    attributes?.token === token && attributes?.group === group && attributes?.dedupKey === dedupKey;
  return isSame && done.enqueuedWallMs === value.enqueuedWallMs;
}

function sameHolder(a: Value, b: Value): boolean {
  return a.holder?.peer === b.holder?.peer && a.holder?.session === b.holder?.session;
}

function sameExtent(a: EndValue, b: EndValue): boolean {
  return sameEnd({ ...a, heir: undefined, closed: false }, { ...b, heir: undefined, closed: false });
}

/** Whether the chosen END of `parent` names that lane. */
function isHeir(parent: LaneTruth, { descriptor }: LaneTruth): boolean {
  return parent.frozen !== undefined && sameHeir(parent.frozen.value.heir, descriptor);
}

export function short(lane: LaneId): string {
  return lane.slice(0, 6);
}

export function nameOf({ lane, seq }: MessageTruth): string {
  return `${short(lane.lane)}-${seq}`;
}

function show({ round, pid, step }: Ballot): string {
  return `(${round},${pid[0]}.${Number.parseInt(pid.slice(32, 44), 16)},${step})`;
}

export function say({ state, epoch, holder, deliveries, acquired }: Value): string {
  const whom = holder === undefined ? "" : ` ${holder.peer}/${Number.parseInt(holder.session, 16)}`;
  return `${state}(e${epoch}${whom} d${deliveries} a${acquired})`;
}
