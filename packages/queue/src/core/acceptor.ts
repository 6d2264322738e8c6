import { assert } from "@klatsch/kit/core";

import type { Ballot, Pid, Right } from "./ballot.ts";
import { compareBallots, comparePromises, pidBoot, pidStore } from "./ballot.ts";
import type { Context } from "./context.ts";
import { Dropping } from "./dropping.ts";
import { CHUNK_SEQS, FinishedSet } from "./finished.ts";
import { keysOf } from "./lane-order.ts";
import type {
  AcceptOp,
  Exception,
  Floor,
  KeptKeys,
  LaneRefusal,
  Message,
  RegisterEntry,
  Section,
} from "./messages.ts";
import { NO_MORE } from "./messages.ts";
import type { PackedPage, StoredRegister } from "./register-table.ts";
import { RegisterTable } from "./register-table.ts";
import type { StoredRegisters } from "./stored-registers.ts";
import { entryDigest } from "./stored-registers.ts";
import type { RecordKey, StoredRecord } from "./records.ts";
import { keyFields, keyOf } from "./records.ts";
import { earliestWallMs, sameEnd, sameValue } from "./register.ts";
import type { Timer } from "./timers.ts";
import type { Descriptor, EndValue, Keys, LaneId, PeerId, Ranges, Replica, StoreId, Value } from "./types.ts";

/** Snapshots kept for page transfers at a time. */
const SNAPSHOTS_MAX = 64;
/** Their ids: which of a boot, and which boot. */
const SNAPSHOTS_A_BOOT = 2 ** 20;
const SNAPSHOT_BOOTS = 2 ** 12;
/** Lanes one store keeps at most, closed ones included. */
const LANES_MAX = 262_144;

/** What this store promised and accepted in one lane. */
export interface AcceptorLane {
  readonly slot: number;
  readonly lane: LaneId;
  readonly descriptor: Descriptor;
  promise: Right;
  end: { readonly ballot: Ballot; readonly value: EndValue } | undefined;
  closed: boolean;
  registers: RegisterTable;
  finished: FinishedSet;
  /** Of an ordered lane: what its finished messages are known by, until their time is over. */
  readonly keys: Map<number, { readonly keys: Keys; readonly sinceMs: number }>;
  digest: number;
  dirty: boolean;
  /** Monotonic instant at which the promise's holder was last heard in this lane. */
  heardMs: number;
  /** Monotonic instant at which this process knew it closed. */
  closedMs: number;
}

interface Snapshot {
  readonly lane: LaneId;
  readonly round: number;
  readonly registers: RegisterTable;
  readonly seqs: readonly number[];
  readonly packed: readonly PackedPage[];
  readonly finished: Ranges;
  readonly end: AcceptorLane["end"];
  readonly keys: readonly KeptKeys[];
  /** Set anew with each page. */
  timer: Timer | undefined;
}

/** What the rest of the node wants to know about changes of an acceptor's lanes. */
export interface AcceptorEvents {
  /** The promise moved to another pid, or the lane is new. */
  promised(lane: AcceptorLane, previous: Pid | undefined): void;
  closed(lane: AcceptorLane): void;
  forgotten(lane: AcceptorLane): void;
}

/** An heir that somebody wrote, and that is not nobody's: no lane without messages gets one. */
function isTaken({ promise, end, descriptor }: AcceptorLane): boolean {
  return promise.round > 0 && (descriptor.shard !== undefined || end?.value.n !== 0);
}

function entryOf(seq: number, registers: RegisterTable): RegisterEntry[] {
  const stored = registers.get(seq);
  return stored === undefined ? [] : [{ seq, ballot: stored.ballot, value: stored.value }];
}

/** What the operations of one section have in common. */
interface SectionContext {
  readonly index: number;
  /** The lane is an heir that takes over what the lane before it chose. */
  readonly imports: boolean;
  readonly exceptions: Exception[];
}

/**
 * One store's side of every lane whose replicas it belongs to (rules A1 to A6). Decisions are made in
 * order of arrival against memory; answers leave after their own sync [M15].
 */
export class Acceptor {
  readonly #context: Context;
  readonly #events: AcceptorEvents;
  readonly #lanes = new Map<LaneId, AcceptorLane>();
  readonly #floors = new Map<StoreId, Floor>();
  /** Heirs by the lane in their messages' ids, oldest first. */
  readonly #heirs = new Map<LaneId, AcceptorLane[]>();
  readonly #snapshots = new Map<number, Snapshot>();
  readonly #dirty = new Set<AcceptorLane>();
  /** Lanes of deleted queues whose records are still on disk. */
  readonly dropping: Dropping<AcceptorLane>;
  #nextSlot = 0;
  #sweeping = false;
  #nextSnapshot = 1;

  constructor(context: Context, events: AcceptorEvents) {
    this.#context = context;
    this.#events = events;
    this.dropping = new Dropping(context, {
      empty: (lane) => this.#empty(lane),
      close: (lane) => {
        lane.closed = true;
        lane.end = undefined;
        this.#persistLane(lane);
      },
    });
  }

  lanes(): Iterable<AcceptorLane> {
    return this.#lanes.values();
  }

  lane(lane: LaneId): AcceptorLane | undefined {
    return this.#lanes.get(lane);
  }

  /** Of the lanes that hold messages with this lane in their ids: the one that is no other's past, if it is known here. */
  newest(root: LaneId): AcceptorLane | undefined {
    const heirs = this.#heirs.get(root);
    const first = this.#lanes.get(root);
    if (heirs === undefined) return first;
    const line = [...(first === undefined ? [] : [first]), ...heirs.filter(isTaken)];
    return line.findLast(({ end }) => end?.value.heir === undefined) ?? line.at(-1);
  }

  /** Who may know what became of messages with this lane in their ids. */
  replicasOf(root: LaneId): readonly Replica[] | undefined {
    const known = this.newest(root);
    return known && [...known.descriptor.replicas, ...(known.end?.value.heir?.replicas ?? [])];
  }

  /** Under which slot this store has a message's body: of that lane, or of another that had the message. */
  bodySlot(lane: LaneId, seq: number): number | undefined {
    const own = this.#lanes.get(lane);
    if (own?.registers.get(seq)?.hasBody === true) return own.slot;
    const root = own?.descriptor.heirOf?.root ?? lane;
    const line = [this.#lanes.get(root), ...(this.#heirs.get(root) ?? [])];
    return line.find((other) => other?.registers.get(seq)?.hasBody === true)?.slot;
  }

  floorOf(store: StoreId): Floor | undefined {
    return this.#floors.get(store);
  }

  /** Whether the origin said that this lane is closed and answered [M13]; never of an ordered one, whose boot is 0. */
  isBelowFloor(descriptor: Pick<Descriptor, "originPid" | "laneNo">): boolean {
    const floor = this.#floors.get(pidStore(descriptor.originPid));
    const boot = pidBoot(descriptor.originPid);
    if (floor === undefined || boot === 0) return false;
    return boot < floor.boot || (boot === floor.boot && descriptor.laneNo < floor.laneNo);
  }

  /**
   * Rebuilds memory from what was on disk; `registers` may have been read before. Throws `InvariantError` where a
   * count or digest differs: damage.
   */
  load(records: Iterable<readonly [key: string, record: StoredRecord]>, registers: StoredRegisters): void {
    const bySlot = new Map<number, AcceptorLane>();
    const digests = new Map<number, { count: number; digest: number }>();
    const finished: (readonly [slot: number, chunk: number, bits: Uint8Array])[] = [];
    const keys: (readonly [slot: number, seq: number, keys: Keys])[] = [];
    for (const [key, record] of records) {
      const fields = keyFields(key)?.fields ?? [];
      const slot = Number.parseInt(fields[0] ?? "", 16);
      const at = Number.parseInt(fields[1] ?? "", 16);
      if (record.kind === "lane") bySlot.set(slot, this.#loadLane(slot, record));
      else if (record.kind === "digest") digests.set(slot, record);
      else if (record.kind === "floor") this.#floors.set(fields[0] ?? "", record.floor);
      else if (record.kind === "message" || record.kind === "register") registers.add(slot, at, record);
      else if (record.kind === "finished") finished.push([slot, at, record.bits]);
      else if (record.kind === "keys") keys.push([slot, at, record.keys]);
    }
    for (const [slot, seq, kept] of keys) {
      const lane = bySlot.get(slot);
      assert(lane !== undefined, `a record of slot ${slot} has no lane`);
      this.#keep(lane, seq, kept);
    }
    for (const [slot, chunk, bits] of finished) {
      const lane = bySlot.get(slot);
      assert(lane !== undefined, `a record of slot ${slot} has no lane`);
      lane.finished.load(chunk, bits);
    }
    for (const [slot, lane] of bySlot) {
      const stored = registers.take(slot);
      if (stored !== undefined) ({ registers: lane.registers, digest: lane.digest } = stored);
      const { count, digest } = digests.get(slot) ?? { count: 0, digest: 0 };
      const sound = lane.registers.size === count && lane.digest >>> 0 === digest;
      const isDropped = lane.closed || this.#context.isDeleted(lane.descriptor.queue);
      assert(sound || isDropped, `lane ${lane.lane} lost registers on disk`);
    }
    assert(registers.left.length === 0, `registers of slots ${registers.left.join(", ")} have no lane`);
  }

  #loadLane(slot: number, record: StoredRecord & { kind: "lane" }): AcceptorLane {
    const lane = this.#create(record.lane, record.descriptor, slot);
    lane.promise = record.promise;
    lane.end = record.end;
    lane.closed = record.closed;
    this.#nextSlot = Math.max(this.#nextSlot, slot + 1);
    return lane;
  }

  #create(lane: LaneId, descriptor: Descriptor, slot: number): AcceptorLane {
    const created: AcceptorLane = {
      slot,
      lane,
      descriptor,
      promise: { round: 0, pid: descriptor.originPid },
      end: undefined,
      closed: false,
      registers: new RegisterTable(this.#context.tuning.looseRegisters, this.#context.tuning.packedBits),
      finished: new FinishedSet(),
      keys: new Map(),
      digest: 0,
      dirty: false,
      heardMs: this.#context.now.monoMs,
      closedMs: this.#context.now.monoMs,
    };
    this.#lanes.set(lane, created);
    const root = descriptor.heirOf?.root;
    if (root !== undefined) this.#heirs.set(root, [...(this.#heirs.get(root) ?? []), created]);
    return created;
  }

  /** Makes the state of a new lane, for its origin or for a replica that has it. */
  open(lane: LaneId, descriptor: Descriptor): AcceptorLane {
    const opened = this.#create(lane, descriptor, this.#nextSlot);
    this.#nextSlot += 1;
    this.#persistLane(opened);
    this.#events.promised(opened, undefined);
    return opened;
  }

  #persistLane(lane: AcceptorLane): void {
    const { descriptor, promise, end, closed } = lane;
    this.#context.persist(keyOf.lane(lane.slot), {
      kind: "lane",
      lane: lane.lane,
      descriptor,
      promise,
      end,
      closed,
    });
  }

  /** Writes what changed in several steps once: digests and finished chunks, before the batch ends. */
  flush(): void {
    if (this.#dirty.size === 0) return; // An empty set is cleared by a new table all the same.
    for (const lane of this.#dirty) {
      lane.dirty = false;
      if (lane.closed || this.#lanes.get(lane.lane) !== lane) continue;
      const { slot, registers, digest } = lane;
      this.#write(lane, keyOf.digest(slot), {
        kind: "digest",
        count: registers.size,
        digest: digest >>> 0,
      });
      for (const [chunk, bits] of lane.finished.takeDirty()) {
        const record = bits && ({ kind: "finished", bits } as const);
        this.#write(lane, keyOf.finished(slot, chunk), record);
      }
    }
    this.#dirty.clear();
  }

  /** Messages and what becomes of them; the lane's own record waits for its sync whatever the queue asks for. */
  #write(lane: AcceptorLane, key: RecordKey, record: StoredRecord | undefined, fresh = false): void {
    this.#context.persist(key, record, fresh, lane.descriptor.relaxed);
  }

  #touch(lane: AcceptorLane): void {
    if (lane.dirty) return;
    lane.dirty = true;
    this.#dirty.add(lane);
  }

  /** Rule A2, for a whole frame. Answers once everything it accepted is on disk. */
  ops(from: PeerId, message: Message & { type: "ops" }): void {
    const exceptions: Exception[] = [];
    message.sections.forEach((section, index) => {
      this.#section(from, section, index, exceptions);
    });
    const { session, no } = message;
    this.#context.sendAfter(from, { type: "ok", session, no, exceptions, batchNo: 0, proof: 0 });
  }

  #section(from: PeerId, section: Section, index: number, exceptions: Exception[]): void {
    const refuse = (code: LaneRefusal, promise?: Right, end?: EndValue): void => {
      exceptions.push({ section: index, code, promise, end });
    };
    const lane = this.#lanes.get(section.lane) ?? this.#admit(from, section, refuse);
    if (lane === undefined) return;
    const replicas = lane.descriptor.replicas;
    if (!replicas.some((replica) => replica.peer === from)) return refuse("BAD_LANE");
    if (lane.closed) return refuse("CLOSED", undefined, lane.end?.value);
    if (section.closed !== undefined) return this.#close(lane, section.closed);
    this.#learn(lane, section.learned);
    if (section.accepts.length === 0 && section.end === undefined) return;
    const right: Right = { round: section.round, pid: section.pid };
    if (!this.#mayWrite(lane.descriptor, right, from)) return refuse("BAD_LANE");
    if (comparePromises(right, lane.promise) < 0) return refuse("REFUSED", lane.promise);
    this.#raise(lane, right);
    lane.heardMs = this.#context.now.monoMs;
    const context = { index, imports: isImporting(lane, section), exceptions };
    for (const op of section.accepts) this.#accept(lane, right, op, context);
    if (section.end !== undefined) this.#acceptEnd(lane, right, section.end, index, exceptions);
  }

  /** Another replica has this lane and can do nothing about it: this one is to know of it, too. */
  hear(from: PeerId, lane: LaneId, descriptor: Descriptor): void {
    if (!this.#lanes.has(lane)) this.#admit(from, { lane, descriptor }, () => undefined);
  }

  /** A lane this store has no state of: made only from a descriptor that is sound and names this store (A5). */
  #admit(
    from: PeerId,
    { lane, descriptor }: Pick<Section, "lane" | "descriptor">,
    refuse: (code: LaneRefusal) => void,
  ): AcceptorLane | undefined {
    if (descriptor === undefined) {
      refuse("NEED_LANE");
      return undefined;
    }
    if (!this.#isSound(lane, descriptor, from) || this.#lanes.size >= LANES_MAX) {
      refuse("BAD_LANE");
      return undefined;
    }
    if (this.isBelowFloor(descriptor) || this.#context.isDeleted(descriptor.queue)) {
      refuse("CLOSED");
      return undefined;
    }
    return this.open(lane, descriptor);
  }

  #isSound(lane: LaneId, descriptor: Descriptor, from: PeerId): boolean {
    const { peer, store } = this.#context;
    const { replicas, voters, consumersSeen, wanted, heirOf } = descriptor;
    const quorum = Math.floor(replicas.length / 2) + 1;
    let bits = 0;
    for (let at = 0; at < replicas.length; at += 1) bits += (voters >>> at) & 1;
    return (
      replicas.some((replica) => replica.peer === peer && replica.store === store) &&
      replicas.some((replica) => replica.peer === from) &&
      new Set(replicas.map((replica) => replica.store)).size === replicas.length &&
      (heirOf !== undefined ||
        replicas.length < wanted ||
        bits >= Math.min(replicas.length - quorum + 1, consumersSeen)) &&
      this.#context.laneIdOf(descriptor) === lane
    );
  }

  /** A ballot's pid belongs to a replica and arrives on that peer's own link; round 0 is the origin's. */
  #mayWrite(descriptor: Descriptor, right: Right, from: PeerId): boolean {
    if (right.round === 0 && right.pid !== descriptor.originPid) return false;
    const store = pidStore(right.pid);
    return descriptor.replicas.some((replica) => replica.store === store && replica.peer === from);
  }

  #raise(lane: AcceptorLane, right: Right): void {
    if (comparePromises(right, lane.promise) <= 0) return;
    const previous = lane.promise.pid;
    lane.promise = right;
    this.#persistLane(lane);
    this.#events.promised(lane, previous);
  }

  #accept(lane: AcceptorLane, right: Right, op: AcceptOp, context: SectionContext): void {
    const { seq, value } = op;
    const { index: section, imports, exceptions } = context;
    if (lane.finished.has(seq)) {
      exceptions.push({ section, seq, code: "GONE", ballot: undefined });
      return;
    }
    const ballot: Ballot = { round: right.round, pid: right.pid, step: op.step };
    const stored = lane.registers.get(seq);
    const order = stored === undefined ? 1 : compareBallots(ballot, stored.ballot);
    if (stored !== undefined && order < 0) {
      exceptions.push({ section, seq, code: "OLDER", ballot: stored.ballot });
    } else if (stored !== undefined && order === 0) {
      if (sameValue(stored.value, value)) return;
      exceptions.push({ section, seq, code: "CONFLICT", ballot: stored.ballot });
      this.#context.fault(`two values at one ballot in lane ${lane.lane}, seq ${seq}`, "");
    } else if (!(imports && op.imported === true) && this.#isEarly(value) && !isKnown(stored, value)) {
      exceptions.push({ section, seq, code: "EARLY", ballot: undefined });
    } else if (!this.#votesFor(lane, ballot, op)) {
      exceptions.push({ section, seq, code: "VETO", ballot: undefined });
    } else {
      // Of a relaxed queue that lost its end with the power, the body may be of another message that had this seq.
      const holdsBody = stored?.hasBody === true && stored.value.bodyHash === value.bodyHash;
      // A3: live meta without its body could outlive the only copy of the body.
      if (!holdsBody && op.body === undefined && value.state !== "DONE") {
        exceptions.push({ section, seq, code: "NEED_BODY", ballot: undefined });
        return;
      }
      this.#store(lane, seq, { ballot, value }, stored, holdsBody ? undefined : op.body);
    }
  }

  /** A7: the time for this value is not near. What was accepted once, before the clock was set back or by an heir, may be again. */
  #isEarly(value: Value): boolean {
    return earliestWallMs(value) > this.#context.now.wallMs + this.#context.tuning.clockSlackMs;
  }

  /** What a take-over proposes first may be what it found chosen: the hook is not asked about that. */
  #votesFor({ descriptor, lane }: AcceptorLane, { round, step }: Ballot, { seq, value }: AcceptOp): boolean {
    const { holder, epoch } = value;
    const { vote } = this.#context.hooks;
    if (vote === undefined || holder === undefined || (round > 0 && step === 0)) return true;
    return vote({ queue: descriptor.queue, lane: descriptor.heirOf?.root ?? lane, seq, epoch, holder });
  }

  /** `body`: the first that came for this message. */
  #store(
    lane: AcceptorLane,
    seq: number,
    { ballot, value }: Pick<StoredRegister, "ballot" | "value">,
    old: StoredRegister | undefined,
    body: Uint8Array | undefined,
  ): void {
    if (old !== undefined) lane.digest ^= entryDigest(seq, old.ballot);
    lane.digest ^= entryDigest(seq, ballot);
    const { slot } = lane;
    if (body !== undefined) {
      const isFresh = old?.hasBody !== true;
      this.#write(lane, keyOf.message(slot, seq), { kind: "message", ballot, value, body }, isFresh);
    }
    const hasBody = body !== undefined || old?.hasBody === true;
    const rewritten = body === undefined || old !== undefined;
    if (rewritten) {
      const record = { kind: "register", ballot, value, hasBody } as const;
      this.#write(lane, keyOf.register(slot, seq), record, old?.rewritten !== true);
    }
    lane.registers.set(seq, { ballot, value, hasBody, rewritten });
    this.#touch(lane);
  }

  #acceptEnd(
    lane: AcceptorLane,
    right: Right,
    end: { readonly step: number; readonly value: EndValue },
    section: number,
    exceptions: Exception[],
  ): void {
    const ballot: Ballot = { round: right.round, pid: right.pid, step: end.step };
    const order = lane.end === undefined ? 1 : compareBallots(ballot, lane.end.ballot);
    if (order < 0) {
      exceptions.push({ section, seq: -1, code: "OLDER", ballot: lane.end?.ballot });
    } else if (order > 0) {
      lane.end = { ballot, value: end.value };
      this.#persistLane(lane);
    } else if (lane.end !== undefined && !sameEnd(lane.end.value, end.value)) {
      exceptions.push({ section, seq: -1, code: "CONFLICT", ballot });
      this.#context.fault(`two ENDs at one ballot in lane ${lane.lane}`, "");
    }
  }

  #learn(lane: AcceptorLane, ranges: Ranges): void {
    for (const [from, to] of ranges) {
      if (to - from > CHUNK_SEQS) this.#learnAll(lane, from, to);
      else for (let seq = from; seq < to; seq += 1) if (lane.finished.add(seq)) this.#drop(lane, seq);
    }
    if (ranges.length > 0) this.#touch(lane);
  }

  /** An ordered lane may have had millions of messages. */
  #learnAll(lane: AcceptorLane, from: number, to: number): void {
    lane.finished.addRanges([[from, to]]);
    for (const seq of [...lane.registers.keys()]) if (seq >= from && seq < to) this.#drop(lane, seq);
  }

  #drop(lane: AcceptorLane, seq: number): void {
    const stored = lane.registers.get(seq);
    if (stored === undefined) return;
    lane.digest ^= entryDigest(seq, stored.ballot);
    lane.registers.delete(seq);
    if (stored.rewritten) this.#write(lane, keyOf.register(lane.slot, seq), undefined);
    if (stored.hasBody) this.#write(lane, keyOf.message(lane.slot, seq), undefined);
    const keys = lane.descriptor.shard === undefined ? undefined : keysOf(stored.value);
    if (keys === undefined) return; // Flow 14: they outlive their message.
    this.#write(lane, keyOf.keys(lane.slot, seq), { kind: "keys", keys });
    this.#keep(lane, seq, keys);
  }

  #keep(lane: AcceptorLane, seq: number, keys: Keys): void {
    lane.keys.set(seq, { keys, sinceMs: this.#context.awakeMs });
    this.#sweepLater();
  }

  #sweepLater(): void {
    if (this.#sweeping) return;
    this.#sweeping = true;
    const at = this.#context.now.monoMs + this.#context.tuning.tokenKeepMs / 2;
    this.#context.timers.set(at, () => {
      this.#sweeping = false;
      for (const one of this.#lanes.values()) this.#sweep(one);
    });
  }

  /** Forgets keys whose time is over, and goes on while there are others. */
  #sweep(lane: AcceptorLane): void {
    const { tokenKeepMs, clockSlackMs } = this.#context.tuning;
    const { awakeMs } = this.#context;
    const { wallMs } = this.#context.now;
    const keepMs = (lane.descriptor.shard?.dedupMs ?? 0) + 2 * clockSlackMs;
    for (const [seq, { keys, sinceMs }] of lane.keys) {
      // Enqueues are known again by no wall clock; keys count by that of whoever writes the lane.
      const counts = keys.dedupKey !== undefined && keys.atWallMs + keepMs > wallMs;
      if (counts || sinceMs + tokenKeepMs > awakeMs) return this.#sweepLater();
      lane.keys.delete(seq);
      this.#write(lane, keyOf.keys(lane.slot, seq), undefined);
    }
  }

  /** Flow 8: records, bodies and bitmap go; END stays and answers everything. */
  #close(lane: AcceptorLane, end: EndValue | undefined): void {
    if (lane.closed) return;
    this.#empty(lane);
    lane.closed = true;
    lane.closedMs = this.#context.now.monoMs;
    const ballot = lane.end?.ballot ?? { ...lane.promise, step: 0 };
    lane.end = end === undefined ? undefined : { ballot, value: end };
    this.#persistLane(lane);
    this.#events.closed(lane);
  }

  /** Another replica says that the lane is closed; without `end` it has even forgotten how. */
  learnClosed(lane: AcceptorLane, end: EndValue | undefined): void {
    this.#close(lane, end);
  }

  /**
   * The newest lane of this line came after so many others. The one before it ended with all that it had to import, or it had
   * got no heir: those before that one are over, although none of their replicas may be left to say so. The heir that their END
   * names here need not be the one that was chosen.
   */
  closeMoved(root: LaneId, moves: number): void {
    for (const lane of [this.#lanes.get(root), ...(this.#heirs.get(root) ?? [])]) {
      if (lane === undefined || (lane.descriptor.shard?.moves ?? 0) + 2 > moves) continue;
      this.#close(lane, undefined);
    }
  }

  #empty(lane: AcceptorLane): void {
    for (const seq of [...lane.registers.keys()]) this.#drop(lane, seq);
    for (const seq of lane.keys.keys()) this.#write(lane, keyOf.keys(lane.slot, seq), undefined);
    lane.keys.clear();
    // With those whose records are to go or come with this batch.
    const changed = lane.finished.takeDirty().map(([chunk]) => chunk);
    for (const chunk of new Set([...lane.finished.chunkIndexes(), ...changed])) {
      this.#write(lane, keyOf.finished(lane.slot, chunk), undefined);
    }
    lane.finished = new FinishedSet();
    lane.digest = 0;
    this.#write(lane, keyOf.digest(lane.slot), undefined);
  }

  /** Rule A1. One snapshot, taken after the promise; `more` pages through it [M14]. */
  prepare(from: PeerId, message: Message & { type: "prepare" }): void {
    const { descriptor, round, pid } = message;
    let refusal: LaneRefusal | undefined;
    const refuse = (code: LaneRefusal): void => {
      refusal = code;
    };
    const lane = this.#lanes.get(message.lane) ?? this.#admit(from, message, refuse);
    if (lane === undefined) {
      if (refusal === "CLOSED") {
        this.#context.sendAfter(from, { type: "closed", lane: message.lane, end: undefined });
      }
      return;
    }
    if (round === 0 || !this.#mayWrite(descriptor, { round, pid }, from)) {
      this.#context.fault(`PREPARE that may not be in lane ${lane.lane}`, from);
      return;
    }
    if (lane.closed) {
      this.#context.sendAfter(from, { type: "closed", lane: lane.lane, end: lane.end?.value });
      return;
    }
    if (comparePromises({ round, pid }, lane.promise) < 0) {
      this.#context.sendAfter(from, { type: "refused", lane: lane.lane, round, promise: lane.promise });
      return;
    }
    this.#raise(lane, { round, pid });
    lane.heardMs = this.#context.now.monoMs;
    this.#page(from, this.#snapshot(lane, round), 0);
  }

  #snapshot(lane: AcceptorLane, round: number): number {
    for (const oldest of this.#snapshots.keys()) {
      if (this.#snapshots.size < SNAPSHOTS_MAX) break;
      this.#dropSnapshot(oldest);
    }
    // Not one that an earlier boot gave out: its transfer must not go on with this one's pages [M14].
    const id = (this.#context.boot % SNAPSHOT_BOOTS) * SNAPSHOTS_A_BOOT + this.#nextSnapshot;
    this.#nextSnapshot = (this.#nextSnapshot + 1) % SNAPSHOTS_A_BOOT;
    const registers = lane.registers.copy();
    const { loose: seqs, packed } = registers.parts();
    this.#snapshots.set(id, {
      lane: lane.lane,
      round,
      registers,
      seqs,
      packed,
      finished: lane.finished.ranges(),
      end: lane.end,
      keys: [...lane.keys].map(([seq, { keys }]) => ({ seq, keys })),
      timer: undefined,
    });
    return id;
  }

  /** The next page of a transfer; an expired snapshot is not answered, and the transfer starts over. */
  more(from: PeerId, message: Message & { type: "more" }): void {
    if (this.#snapshots.get(message.snapshot)?.lane !== message.lane) return;
    if (message.index === NO_MORE) return this.#dropSnapshot(message.snapshot);
    this.#page(from, message.snapshot, message.index);
  }

  #page(to: PeerId, id: number, index: number): void {
    const snapshot = this.#snapshots.get(id);
    if (snapshot === undefined) return;
    const { pageRegisters } = this.#context.tuning;
    const { lane, round, registers, seqs, finished, end } = snapshot;
    const { keys, packed } = snapshot;
    const packedEach = Math.max(1, Math.floor(pageRegisters / registers.pageSeqs));
    // What is packed comes behind the rest.
    const packedFrom = index - Math.ceil(seqs.length / pageRegisters);
    const isOver = packedFrom + 1 >= Math.ceil(packed.length / packedEach);
    const longest = Math.max(seqs.length, keys.length, finished.length);
    const last = isOver && (index + 1) * pageRegisters >= longest;
    this.#context.sendAfter(to, {
      type: "page",
      lane,
      round,
      snapshot: id,
      index,
      last,
      registers: seqs
        .slice(index * pageRegisters, (index + 1) * pageRegisters)
        .flatMap((seq) => entryOf(seq, registers)),
      finished: finished.slice(index * pageRegisters, (index + 1) * pageRegisters),
      end: index === 0 ? end : undefined,
      keys: keys.slice(index * pageRegisters, (index + 1) * pageRegisters),
      packed: packedFrom < 0 ? [] : packed.slice(packedFrom * packedEach, (packedFrom + 1) * packedEach),
    });
    if (last) return this.#dropSnapshot(id);
    // A transfer that goes on keeps its snapshot, however long it takes.
    const untilMs = this.#context.now.monoMs + this.#context.tuning.snapshotMs;
    this.#context.timers.cancel(snapshot.timer);
    snapshot.timer = this.#context.timers.set(untilMs, () => this.#dropSnapshot(id));
  }

  #dropSnapshot(id: number): void {
    this.#context.timers.cancel(this.#snapshots.get(id)?.timer);
    this.#snapshots.delete(id);
  }

  /** CONFIRM: whether this store still follows (round, pid) in the lane. */
  follows(lane: LaneId, right: Right): boolean {
    const found = this.#lanes.get(lane);
    if (found === undefined || found.closed || comparePromises(found.promise, right) !== 0) return false;
    found.heardMs = this.#context.now.monoMs;
    return true;
  }

  /** Flow 8: the origin's word that lanes below are closed and answered. Floor and drops are one batch. */
  raiseFloor(store: StoreId, floor: Floor): void {
    const known = this.#floors.get(store);
    if (
      known !== undefined &&
      (floor.boot < known.boot || (floor.boot === known.boot && floor.laneNo <= known.laneNo))
    ) {
      return;
    }
    this.#floors.set(store, floor);
    this.#context.persist(keyOf.floor(store), { kind: "floor", floor });
    for (const lane of [...this.#lanes.values()]) {
      if (!this.isBelowFloor(lane.descriptor)) continue;
      this.#empty(lane);
      this.#forget(lane);
      this.#events.forgotten(lane);
    }
  }

  /** Nothing is known any more of lanes of deleted queues; their records go in parts, each on disk before the next. */
  dropDeleted(): void {
    // One that is closed and not empty was on its way out before, when that was still remembered.
    const deleted = [...this.#lanes.values()].filter(
      ({ descriptor, closed, registers, keys }) =>
        (closed && registers.size + keys.size > 0) || this.#context.isDeleted(descriptor.queue),
    );
    if (deleted.length === 0) return;
    for (const [id, { lane }] of this.#snapshots) {
      if (deleted.some((one) => one.lane === lane)) this.#dropSnapshot(id);
    }
    for (const lane of deleted) {
      this.#unlist(lane);
      this.#events.forgotten(lane);
    }
    this.dropping.add(deleted);
  }

  #forget(lane: AcceptorLane): void {
    this.#context.persist(keyOf.lane(lane.slot), undefined);
    this.#unlist(lane);
  }

  #unlist(lane: AcceptorLane): void {
    this.#lanes.delete(lane.lane);
    const root = lane.descriptor.heirOf?.root;
    const left = root === undefined ? [] : (this.#heirs.get(root) ?? []).filter((other) => other !== lane);
    if (root === undefined) return;
    if (left.length === 0) this.#heirs.delete(root);
    else this.#heirs.set(root, left);
  }
}

/**
 * What an heir takes from the lane before it was chosen there: its time has come for that lane's quorum. Before the
 * heir's END, which a writer that knows one sends first, nothing else is proposed in it.
 */
function isImporting({ descriptor, end }: AcceptorLane, section: Section): boolean {
  return descriptor.heirOf !== undefined && end === undefined && section.end === undefined;
}

function isKnown(stored: StoredRegister | undefined, value: Value): boolean {
  return stored !== undefined && sameValue(stored.value, value);
}
