import type { Right } from "./ballot.ts";
import type { Context } from "./context.ts";
import type { AcceptOp, Echo, Exception, Message, Section } from "./messages.ts";
import type { Descriptor, EndValue, LaneId, PeerId, Ranges, StoreId } from "./types.ts";

/** What an operation costs of the window beside its body. */
const OP_BYTES = 160;
/** Of the largest window, what a link begins with. */
const FIRST_WINDOW = 1 / 16;
/** So long the shortest time to an answer is believed where all others take longer: the way may be another by now. */
const LEAST_KEEP_MS = 30_000;

/** A lane writer as its links see it. */
export interface LaneSender {
  readonly lane: LaneId;
  readonly descriptor: Descriptor;
  readonly right: Right;
  /** Adds what this replica is owed, as far as its turn goes. `true`: nothing is left. */
  pump(link: ReplicaLink): boolean;
  /** The replica has the section on disk, but for the exceptions. */
  onOk(link: ReplicaLink, section: Section, exceptions: readonly Exception[]): void;
  /** The session ended before the section was answered: it may or may not have arrived. */
  onLost(link: ReplicaLink, section: Section): void;
}

interface Draft {
  readonly accepts: AcceptOp[];
  learned: Ranges;
  end: { readonly step: number; readonly value: EndValue } | undefined;
  closed: EndValue | undefined;
}

interface Sent {
  readonly sections: readonly Section[];
  readonly senders: readonly LaneSender[];
  readonly ops: number;
  readonly bytes: number;
  readonly sentMs: number;
  /** What was under way once it had left. */
  readonly aheadBytes: number;
}

/**
 * This node's stream of operations to one replica's store: frames with a number, a window, and a
 * session. An OK counts only for a frame of the present session [M16]; what a lost session left
 * unanswered is owed again, at the same ballot and value.
 */
export class ReplicaLink {
  readonly peer: PeerId;
  readonly store: StoreId;
  /** Highest synced batch of that store this node has counted on. */
  echo: Echo = { batchNo: 0, proof: 0 };
  readonly #context: Context;
  #session = 0;
  #up = false;
  #nextNo = 1;
  #ops = 0;
  #bytes = 0;
  #draftOps = 0;
  #draftBytes = 0;
  #drafts = new Map<LaneSender, Draft>();
  readonly #inFlight = new Map<number, Sent>();
  readonly #known = new Set<LaneId>();
  /** In the order of their turns. */
  readonly #owing = new Set<LaneSender>();
  #turnBytes = 0;
  /** Bytes that may be under way: about what the replica answers in `answerMs`. */
  #windowBytes: number;
  /** The shortest time to an answer in this session, or since it was last forgotten. */
  #leastMs = Number.POSITIVE_INFINITY;
  /** When that was. */
  #leastAtMs = 0;
  /** Nothing with a body leaves until all frames before this one are answered: what follows shows how long the way is by itself. */
  #drainedAtNo: number | undefined;
  #frames: (Message & { type: "ops" })[] = [];

  constructor(context: Context, peer: PeerId, store: StoreId) {
    this.#context = context;
    this.peer = peer;
    this.store = store;
    const { windowBytes, windowBytesMin } = context.tuning;
    this.#windowBytes = Math.max(windowBytesMin, windowBytes * FIRST_WINDOW);
  }

  get isUp(): boolean {
    return this.#up;
  }

  get hasRoom(): boolean {
    return this.takesLight && this.#drainedAtNo === undefined && this.#bytes < this.#windowBytes;
  }

  /** Whether there is room for an operation without a body: it need not wait for all those with one. */
  get takesLight(): boolean {
    return this.#up && this.#ops < this.#context.tuning.windowOps;
  }

  /** In its turn, a sender adds no more than a frame holds. */
  get hasTurn(): boolean {
    return this.hasRoom && this.#turnBytes < this.#context.tuning.frameBytes;
  }

  up(): void {
    this.down();
    this.#up = true;
    this.#forgetLeast();
    this.#session = this.#context.random.uint32();
  }

  down(): void {
    this.#up = false;
    this.#frames = [];
    const drafts = this.#drafts;
    this.#drafts = new Map();
    const sent = [...this.#inFlight.values()];
    this.#inFlight.clear();
    this.#known.clear();
    this.#ops = 0;
    this.#bytes = 0;
    this.#draftOps = 0;
    this.#draftBytes = 0;
    this.#drainedAtNo = undefined;
    for (const { sections, senders } of sent) {
      sections.forEach((section, at) => senders[at]?.onLost(this, section));
    }
    for (const [sender, draft] of drafts) sender.onLost(this, this.#section(sender, draft));
  }

  /** `sender` has something for this replica: it is asked at the next flush. */
  owe(sender: LaneSender): void {
    this.#owing.add(sender);
  }

  forget(sender: LaneSender): void {
    this.#owing.delete(sender);
  }

  /** The replica lost, or never had, the lane's descriptor. */
  unknow(lane: LaneId): void {
    this.#known.delete(lane);
  }

  accept(sender: LaneSender, op: AcceptOp): void {
    const bodyBytes = op.body?.length ?? (op.attach === true ? op.value.bodyBytes : 0);
    const isBulk = bodyBytes > this.#context.tuning.bulkBytes;
    if (isBulk) this.#cut();
    this.#draft(sender).accepts.push(op);
    this.#count(OP_BYTES + bodyBytes);
    if (isBulk) this.#cut();
  }

  learn(sender: LaneSender, ranges: Ranges): void {
    const draft = this.#draft(sender);
    draft.learned = draft.learned.length === 0 ? ranges : [...draft.learned, ...ranges];
    this.#count(ranges.length * 8);
  }

  end(sender: LaneSender, step: number, value: EndValue): void {
    this.#draft(sender).end = { step, value };
    this.#count(OP_BYTES);
  }

  closed(sender: LaneSender, value: EndValue): void {
    this.#draft(sender).closed = value;
    this.#count(OP_BYTES);
  }

  #draft(sender: LaneSender): Draft {
    let draft = this.#drafts.get(sender);
    if (draft === undefined) {
      draft = { accepts: [], learned: [], end: undefined, closed: undefined };
      this.#drafts.set(sender, draft);
    }
    return draft;
  }

  #count(bytes: number): void {
    this.#ops += 1;
    this.#bytes += bytes;
    this.#turnBytes += bytes;
    this.#draftOps += 1;
    this.#draftBytes += bytes;
    if (this.#draftBytes >= this.#context.tuning.frameBytes) this.#cut();
  }

  #section(sender: LaneSender, draft: Draft): Section {
    const { lane, right } = sender;
    const descriptor = this.#known.has(lane) ? undefined : sender.descriptor;
    return { lane, descriptor, round: right.round, pid: right.pid, ...draft };
  }

  #cut(): void {
    if (this.#drafts.size === 0) return;
    const senders = [...this.#drafts.keys()];
    const sections = senders.map((sender) => {
      const section = this.#section(sender, this.#draft(sender));
      this.#known.add(sender.lane);
      return section;
    });
    this.#drafts.clear();
    const no = this.#nextNo;
    this.#nextNo += 1;
    const { monoMs: sentMs } = this.#context.now;
    const size = { ops: this.#draftOps, bytes: this.#draftBytes, aheadBytes: this.#bytes };
    this.#inFlight.set(no, { sections, senders, sentMs, ...size });
    this.#draftOps = 0;
    this.#draftBytes = 0;
    this.#frames.push({ type: "ops", session: this.#session, no, sections, echoes: [] });
  }

  /** The frames that leave now. */
  flush(): readonly (Message & { type: "ops" })[] {
    if (this.#owing.size > 0) this.#pump();
    this.#cut();
    const frames = this.#frames;
    if (frames.length > 0) this.#frames = [];
    return frames;
  }

  /** Who still owes comes last: a lane that owes thousands keeps none waiting that owes one. */
  #pump(): void {
    for (const sender of this.#owing) {
      if (!this.hasRoom) break;
      this.#turnBytes = 0;
      this.#owing.delete(sender);
      if (!sender.pump(this)) this.#owing.add(sender);
    }
  }

  ok(message: Message & { type: "ok" }): void {
    if (message.session !== this.#session) return;
    const sent = this.#inFlight.get(message.no);
    if (sent === undefined) return;
    this.#inFlight.delete(message.no);
    this.#ops -= sent.ops;
    this.#bytes -= sent.bytes;
    this.#adapt(sent);
    if (message.batchNo > this.echo.batchNo) this.echo = { batchNo: message.batchNo, proof: message.proof };
    const { exceptions } = message;
    sent.sections.forEach((section, at) => {
      const own = exceptions.length === 0 ? exceptions : exceptions.filter((e) => e.section === at);
      sent.senders[at]?.onOk(this, section, own);
    });
  }

  /**
   * All that was under way with this frame took so long. What is more than a link or a disk takes in a while only waits in
   * line, and leases and acknowledgements wait behind it: until their time is over, if it is slow enough.
   */
  #adapt({ sentMs, aheadBytes, bytes }: Sent): void {
    const { windowBytes, windowBytesMin, answerMs } = this.#context.tuning;
    const { monoMs } = this.#context.now;
    const tookMs = monoMs - sentMs;
    if (tookMs <= this.#leastMs) {
      this.#leastMs = tookMs;
      this.#leastAtMs = monoMs;
    }
    if (this.#drainedAtNo !== undefined) return this.#drain(this.#drainedAtNo);
    const goalMs = Math.max(answerMs, 2 * this.#leastMs); // A way that is long by itself may hold as much more.
    if (tookMs * 4 <= goalMs * 3) {
      this.#windowBytes = Math.min(windowBytes, this.#windowBytes + bytes);
      return;
    }
    if (tookMs > goalMs) {
      const fair = Math.max(windowBytesMin, (aheadBytes * goalMs) / tookMs);
      this.#windowBytes = Math.min(this.#windowBytes, fair);
    }
    const isLeast = this.#windowBytes <= 2 * windowBytesMin;
    if (isLeast && monoMs - this.#leastAtMs >= LEAST_KEEP_MS) this.#drain(this.#nextNo);
  }

  /**
   * A way that became longer than the goal would keep the window at its least for good. How long it is by itself shows only while
   * nothing waits in line: else each line would make the next one longer.
   */
  #drain(beforeNo: number): void {
    const [oldest = beforeNo] = this.#inFlight.keys();
    this.#drainedAtNo = oldest < beforeNo ? beforeNo : undefined;
    if (this.#drainedAtNo === undefined) this.#forgetLeast();
  }

  #forgetLeast(): void {
    this.#leastMs = Number.POSITIVE_INFINITY;
    this.#leastAtMs = this.#context.now.monoMs;
  }
}
