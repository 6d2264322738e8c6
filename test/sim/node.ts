import type { EffectPhase, Instant } from "@klatsch/kit/core";
import { EffectRunner, hash64, keyText } from "@klatsch/kit/core";
import type { Message } from "../../packages/queue/src/core/messages.ts";
import type { QueueEffect, QueueInput } from "../../packages/queue/src/core/inputs.ts";
import type { QueueCore } from "../../packages/queue/src/core/queue-core.ts";
import type { Persist, RecordKey, StoredRecord } from "../../packages/queue/src/core/records.ts";
import { isRelaxed, keyOf } from "../../packages/queue/src/core/records.ts";
import { Tail } from "../../packages/queue/src/core/tail.ts";
import type { LaneId, PeerId, StoreId } from "../../packages/queue/src/core/types.ts";
import type { Session } from "./network.ts";
import { describeMessage } from "./trace.ts";
import type { World } from "./world.ts";

/** Batches that a disk may lose again: synced ones, and those that wait for a sync. */
const UNDO_SYNCED = 30;
const UNDO_RELAXED = 1_000;
/** What nobody waited for is synced after as long, in milliseconds, as kit's store does it. */
const RELAXED_MS = 1_000;

/** A record as the core named it, and its key as text. */
export interface Written {
  readonly key: string;
  readonly row: RecordKey;
  readonly record: StoredRecord | undefined;
}

/** A store: what is synced, and what the process wrote since. */
class Disk {
  /** How many batches may be undone; 0 where no disk loses any. */
  readonly #undoMax: number;
  readonly synced = new Map<string, StoredRecord>();
  /** What the newest batches replaced. */
  readonly #undo: {
    readonly batchNo: number;
    readonly before: readonly (readonly [key: string, record: StoredRecord | undefined])[];
  }[] = [];
  /** Synced and not: what the process itself reads. */
  view = new Map<string, StoredRecord>();
  /** Local numbers of lanes, in `view`, and back. */
  readonly slots = new Map<LaneId, number>();
  readonly lanes = new Map<number, LaneId>();

  constructor(undoMax: number) {
    this.#undoMax = undoMax;
  }

  write(key: string, record: StoredRecord | undefined): void {
    if (record?.kind === "lane") this.#number(key, record.lane);
    if (record === undefined) this.view.delete(key);
    else this.view.set(key, record);
  }

  sync(records: readonly Written[], batchNo: number): void {
    if (this.#undoMax > 0) this.#keep(records, batchNo);
    for (const { key, record } of records) {
      if (record === undefined) this.synced.delete(key);
      else this.synced.set(key, record);
    }
  }

  #keep(records: readonly Written[], batchNo: number): void {
    const before = records.map(({ key }) => [key, this.synced.get(key)] as const);
    this.#undo.push({ batchNo, before });
    if (this.#undo.length > this.#undoMax) this.#undo.shift();
  }

  /** What it held before that batch; `undefined` if so much was not kept. */
  before(batchNo: number): Map<string, StoredRecord> | undefined {
    if ((this.#undo[0]?.batchNo ?? Infinity) > batchNo) return undefined;
    const content = new Map(this.synced);
    for (const { before } of this.#undo.filter((one) => one.batchNo >= batchNo).toReversed()) {
      for (const [key, record] of before) {
        if (record === undefined) content.delete(key);
        else content.set(key, record);
      }
    }
    return content;
  }

  /** Loses its end, although that was synced. */
  cut(content: ReadonlyMap<string, StoredRecord>): void {
    this.#undo.length = 0;
    this.synced.clear();
    for (const [key, record] of content) this.synced.set(key, record);
  }

  /** The process ended: what was not synced is gone. */
  revert(): void {
    this.view = new Map(this.synced);
    this.slots.clear();
    this.lanes.clear();
    for (const [key, record] of this.synced) if (record.kind === "lane") this.#number(key, record.lane);
  }

  #number(key: string, lane: LaneId): void {
    const slot = Number.parseInt(key.slice(2), 16);
    this.slots.set(lane, slot);
    this.lanes.set(slot, lane);
  }

  body(slot: number | undefined, seq: number): Uint8Array | undefined {
    const record = slot === undefined ? undefined : this.view.get(keyText(keyOf.message(slot, seq)));
    return record?.kind === "message" ? record.body : undefined;
  }
}

/** One machine: a process that comes and goes, and a disk that stays. */
export class SimNode {
  readonly peer: PeerId;
  store: StoreId;
  disk: Disk;
  /** What its host tells others of its batches. */
  tail = new Tail("", 0, () => 0);
  /** Left for good. */
  hasLeft = false;
  boot = 0;
  /** Batches written, and the last that was synced. */
  batchNo = 0;
  #syncedNo = 0;
  core: QueueCore | undefined;
  /** `down`: no process. `failed`: its store stopped and it answers nothing until it is restarted. */
  state: "down" | "up" | "failed" = "down";
  stalledUntil = 0;
  readonly links = new Map<PeerId, Session>();
  /** Those of them whose hello has left. */
  readonly #greeted = new Set<PeerId>();
  readonly #world: World;
  readonly #index: number;
  #runner: EffectRunner<QueueInput, QueueEffect> | undefined;
  #writing: readonly Written[] | undefined;
  /** What the process wrote since the batch that is being written began. */
  #unwritten: Written[] = [];
  /** Raised at the end of each process: what it left waiting in the world's queue does nothing. */
  #life = 0;
  #disks = 0;
  #rate = 1;
  #monoBase = 0;
  #wallBase = 0;
  #wallStep = 0;

  constructor(world: World, index: number) {
    this.#world = world;
    this.#index = index;
    this.peer = `node-${"abcde"[index]}`;
    this.store = (index + 1).toString(16).repeat(32);
    this.disk = this.#newDisk();
  }

  #newDisk(): Disk {
    const { powerCuts, faults } = this.#world.scenario;
    return new Disk(powerCuts ? UNDO_RELAXED : faults.tail > 0 ? UNDO_SYNCED : 0);
  }

  // Clocks.

  now(): Instant {
    const { now } = this.#world.events;
    return { monoMs: this.#monoBase + now * this.#rate, wallMs: this.#wallBase + this.#wallStep + now };
  }

  /** Somebody sets the wall clock. */
  stepClock(offMs: number): void {
    this.#wallStep = offMs;
  }

  #worldTime(monoMs: number): number {
    // A little late rather than early: a timer that fires early is set again at once, for ever.
    return (monoMs - this.#monoBase) / this.#rate + 0.001;
  }

  // The process.

  start(): void {
    const { scenario, dice, flaws } = this.#world;
    if (flaws.samePid !== true || this.boot === 0) this.boot += 1;
    const seed = flaws.samePid === true ? this.boot : dice.random.uint32();
    this.#rate = 1 + dice.real(-scenario.drift, scenario.drift);
    this.#monoBase = dice.real(0, 1_000_000);
    this.#wallBase = 1.7e12 + dice.real(-scenario.wallSkewMs, scenario.wallSkewMs);
    if (this.#index === 0) this.#wallBase += scenario.wrongClockMs;
    if (this.boot > 1 && flaws.amnesia === true && dice.chance(0.5)) this.disk.synced.clear();
    this.disk.revert();
    this.state = "up";
    this.#syncedNo = this.batchNo;
    const { store } = this;
    this.tail = new Tail(store, this.batchNo, (no) => hash64(`${store}${no}`).low);
    const core = this.#world.makeCore(this, seed);
    this.core = core;
    this.#runner = this.#makeRunner(core, this.#life);
    this.enter({ type: "tick" });
  }

  #makeRunner(core: QueueCore, life: number): EffectRunner<QueueInput, QueueEffect> {
    return new EffectRunner<QueueInput, QueueEffect>({
      core,
      clock: { now: () => this.now() },
      tick: { type: "tick" },
      phase: (effect) => this.#phase(effect),
      perform: (effect, batchNo) => this.#perform(effect, batchNo),
      commit: (records, done) => this.#commit(records as readonly Persist[], done, life),
      soon: (task) => this.#world.events.in(this.#world.dice.real(0, 0.1), () => this.#whenAwake(life, task)),
      at: (monoMs, task) => {
        return this.#world.events.timer(this.#worldTime(monoMs), () => this.#whenAwake(life, task));
      },
      onFailed: (error) => this.#onFailed(error),
    });
  }

  /** A stopped process runs nothing; what was due meanwhile runs late. */
  #whenAwake(life: number, task: () => void): void {
    if (life !== this.#life) return;
    if (this.stalledUntil <= this.#world.events.now) return task();
    this.#world.events.at(this.stalledUntil, () => this.#whenAwake(life, task));
  }

  /** Another disk, empty: the same peer with another store. */
  replaceDisk(): void {
    this.#disks += 1;
    this.store = this.store.slice(0, 24) + this.#disks.toString(16).padStart(8, "0");
    this.disk = this.#newDisk();
    this.boot = 0;
    this.batchNo = 0;
    this.#syncedNo = 0;
  }

  /** What this node's disk has of a message's body. */
  body(lane: LaneId, seq: number): Uint8Array | undefined {
    return this.disk.body(this.core?.acceptor.bodySlot(lane, seq), seq);
  }

  /** Ends the process. A batch being written is kept whole or not at all. */
  kill(): void {
    if (this.state === "down") return;
    this.state = "down";
    this.#end();
    this.links.clear();
    this.stalledUntil = 0;
  }

  #end(): void {
    this.#life += 1;
    this.#runner?.stop();
    this.#runner = undefined;
    this.core = undefined;
    const writing = this.#writing;
    this.#writing = undefined;
    this.#unwritten = [];
    if (writing !== undefined && this.#world.dice.chance(0.5)) this.#written(writing);
    if (this.#world.scenario.powerCuts) this.#losePower();
  }

  /** Of what was not synced, a beginning is left. */
  #losePower(): void {
    const { dice, stats } = this.#world;
    const kept = dice.whole(this.#syncedNo, this.batchNo);
    const content = kept < this.batchNo ? this.disk.before(kept + 1) : undefined;
    if (content === undefined) return;
    this.#world.trace(
      () => `${this.peer} loses its batches from ${kept + 1} to ${this.batchNo} with the power`,
    );
    stats.cuts += 1;
    this.disk.cut(content);
    this.batchNo = kept;
  }

  /** Relaxed batches wait a while for a sync that takes them along. */
  #syncSoon(life: number): void {
    this.#world.events.in(RELAXED_MS, () => {
      if (life === this.#life && this.#writing === undefined) this.#syncedNo = this.batchNo;
    });
  }

  #onFailed(error: unknown): void {
    if (!(error instanceof DiskError)) this.#world.broke(error);
    this.state = "failed";
    this.#end();
    this.#world.onStoreFailed(this);
  }

  enter(input: QueueInput): void {
    this.#runner?.enter(input);
  }

  // The disk.

  #phase(effect: QueueEffect): EffectPhase {
    switch (effect.type) {
      case "persist": {
        const { key: row, record } = effect;
        const key = keyText(row);
        if (effect.fresh && this.disk.view.has(key)) {
          this.#world.violate("FRESH_IS_FRESH", `${this.peer} calls ${key} fresh`);
        }
        const written = { key, row, record };
        this.#unwritten.push(written);
        this.disk.write(key, record);
        this.#world.checker.onWritten(this, written);
        return "persist";
      }
      case "send":
        return this.#world.flaws.earlyPages === true && effect.message.type === "page" ? "now" : "after";
      default:
        return "now";
    }
  }

  #commit(records: readonly Persist[], done: (error: unknown, batchNo: number) => void, life: number): void {
    const { events, dice, scenario } = this.#world;
    // All that was written since the batch before is one batch.
    const written = this.#unwritten;
    this.#unwritten = [];
    this.#writing = written;
    const fails = this.#world.takeCommitFailure(this);
    const relaxed = isRelaxed(records);
    const syncMs = relaxed || this.#world.network.calm ? Math.min(1, scenario.syncMs) : scenario.syncMs;
    events.in(dice.wait(syncMs) + 0.01, () => {
      if (life !== this.#life) return;
      if (!fails) {
        this.#writing = undefined;
        this.#written(written);
        if (!relaxed) this.#syncedNo = this.batchNo;
        else if (this.#world.scenario.powerCuts) this.#syncSoon(life);
      }
      const syncedNo = this.#syncedNo;
      this.#whenAwake(life, () => done(fails ? new DiskError() : undefined, syncedNo));
    });
  }

  /** The operating system has it: enough for all that happens to processes. */
  #written(written: readonly Written[]): void {
    this.batchNo += 1;
    this.disk.sync(written, this.batchNo);
    this.#world.checker.onSynced(this, written);
  }

  // The world.

  #perform(effect: QueueEffect, batchNo: number): void {
    if (effect.type === "send" || effect.type === "sendNow") this.#send(effect.to, effect.message, batchNo);
    else if (effect.type !== "persist") this.#world.onEffect(this, effect);
  }

  #send(to: PeerId, draft: Message, batchNo: number): void {
    if (to === this.peer) {
      // Bodies of deliveries are read as they are handed over.
      const message = draft.type === "ok" || draft.type === "body" ? this.#complete(draft, batchNo) : draft;
      if (this.#world.isTraced) this.#world.trace(() => `${this.peer} ↺ ${describeMessage(message)}`);
      this.enter({ type: "message", from: to, message });
      return;
    }
    if (draft.type === "hello") this.#greeted.add(to);
    if (!this.#greeted.has(to)) return;
    const message = this.#complete(draft, batchNo);
    this.tail.told(message);
    this.#world.onSent(this, to, message);
    const session = this.links.get(to);
    if (session !== undefined) {
      this.#world.network.send(session, this.peer, this.#world.overWire(message));
    }
  }

  /** What the core leaves to its host: bodies that lie on disk, the number of the batch. */
  #complete(message: Message, batchNo: number): Message {
    switch (message.type) {
      case "ok":
        return { ...message, batchNo, proof: this.tail.prove(batchNo) };
      case "body":
        if (message.attach !== true) return message;
        return { ...message, attach: false, body: this.body(message.lane, message.seq) };
      case "deliver": {
        if (!message.items.some(({ attach }) => attach)) return message;
        const items = message.items.map((item) =>
          item.attach === true ? { ...item, attach: false, body: this.body(item.lane, item.seq) } : item,
        );
        return { ...message, items };
      }
      case "ops": {
        if (!message.sections.some(({ accepts }) => accepts.some(({ attach }) => attach))) return message;
        const sections = message.sections.map((section) => ({
          ...section,
          accepts: section.accepts.map((op) =>
            op.attach === true ? { ...op, attach: false, body: this.body(section.lane, op.seq) } : op,
          ),
        }));
        return { ...message, sections };
      }
      default:
        return message;
    }
  }

  linkUp(other: PeerId, session: Session): void {
    if (this.state === "down") return;
    if (this.links.has(other)) this.enter({ type: "link", peer: other, up: false });
    this.links.set(other, session);
    this.#greeted.delete(other);
    this.enter({ type: "link", peer: other, up: true });
  }

  linkDown(other: PeerId, session: Session): void {
    if (this.links.get(other) !== session) return;
    this.links.delete(other);
    this.enter({ type: "link", peer: other, up: false });
  }
}

/** The disk refused a batch. */
class DiskError extends Error {
  override readonly name = "DiskError";
}
