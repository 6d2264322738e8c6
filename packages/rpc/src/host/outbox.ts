import { FRAME_COPIED_BYTES_MAX } from "@klatsch/mesh";
import { FrameWriter } from "../codec/frame-writer.ts";
import { encodeParts, FLOW_MAX, FRAME_HEAD_BYTES, wholeOf } from "../codec/frames.ts";
import type { Encoded } from "../codec/frames.ts";
import {
  CHUNK_BYTES,
  CHUNK_WINDOW_BYTES,
  CONFIRM_BYTES,
  FLOWS_MAX,
  OUTBOX_BYTES_MAX,
  OUTBOX_SHORT_BYTES_MAX,
  SHORT_BYTES,
  WINDOW_BYTES,
} from "../core/limits.ts";

/** Where frames go. */
export interface OutboxInit {
  /** `false`: it was not taken. */
  readonly send: (frame: Uint8Array) => boolean;
  /** Whether `send` keeps what it is given. Otherwise it copies frames of up to `FRAME_COPIED_BYTES_MAX`, as a channel does. */
  readonly keeps: boolean;
  readonly onRefused: () => void;
  /** Told whenever it may have come to {@link Outbox.isAtRest}. */
  readonly onRest: () => void;
}

/** A frame that is filled, or waits for the window. */
interface Draft {
  readonly writer: FrameWriter;
  /** Ids of the asks in it. */
  readonly asks: number[];
}

/** An item behind a large one, or that one itself. */
interface Waiting {
  readonly bytes: Uint8Array;
  /** Id of the ask in it, if it is one. */
  readonly ask: number | undefined;
}

/** Items of one call that must keep their order behind a large one. */
interface Flow {
  readonly no: number;
  readonly key: number;
  readonly items: Waiting[];
  /** Bytes of the first item that have left. */
  sent: number;
}

/**
 * What leaves for one peer in one class. Small items go first and together; large ones are cut, a few at a
 * time, one chunk each in turn. At most a window of unconfirmed bytes is under way, so that the queues
 * below stay short and a small item never waits behind a large one.
 */
export class Outbox {
  readonly #init: OutboxInit;
  /** Small items; the last one is being filled. */
  #drafts: Draft[] = [];
  /** By call; the first `FLOWS_MAX` are being cut. */
  readonly #flows = new Map<number, Flow>();
  #lastFlow = 0;
  #waitingBytes = 0;
  #underWayBytes = 0;
  #owedBytes = 0;
  /** Who waits for room, in order. */
  readonly #waiting: ((open: boolean) => void)[] = [];
  #scheduled = false;
  #open = true;

  constructor(init: OutboxInit) {
    this.#init = init;
  }

  /** No more is taken of what may as well be refused, unless it is short. */
  get full(): boolean {
    return this.#waitingBytes >= OUTBOX_BYTES_MAX;
  }

  /** Whether an item of so many bytes is taken, where it may as well be refused, or wait. */
  takes(bytes: number): boolean {
    return this.#waitingBytes < (bytes <= SHORT_BYTES ? OUTBOX_SHORT_BYTES_MAX : OUTBOX_BYTES_MAX);
  }

  /** Even what nothing holds back, answers that refuse, is too much by now: the peer asks on and takes nothing. */
  get isFlooded(): boolean {
    return this.#waitingBytes >= 2 * OUTBOX_BYTES_MAX;
  }

  /** Nothing waits, and of what left the peer has taken all but what it need not confirm yet. */
  get isAtRest(): boolean {
    return this.#waitingBytes === 0 && this.#waiting.length === 0 && this.#underWayBytes < CONFIRM_BYTES;
  }

  /** How many wait for room. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Calls `then` when there is room again, or with `false` when nothing leaves any more. Once, and never before it returns. */
  whenRoom(then: (open: boolean) => void): void {
    this.#waiting.push(then);
    this.#schedule();
  }

  /** Queues an item, and copies it. `key`: items of the same call leave in order. */
  push(key: number, item: Encoded, ask: number | undefined): void {
    if (!this.#open) return;
    this.#waitingBytes += item.bytes;
    const flow = this.#flows.get(key);
    if (flow !== undefined) flow.items.push({ bytes: wholeOf(item), ask });
    else if (item.bytes > CHUNK_BYTES)
      this.#flows.set(key, { no: this.#nextFlow(), key, items: [{ bytes: wholeOf(item), ask }], sent: 0 });
    else this.#draft(item, ask);
    this.#schedule();
  }

  #draft(item: Encoded, ask: number | undefined): void {
    let draft = this.#drafts.at(-1);
    if (draft?.writer.takes(item.bytes) !== true) {
      draft = { writer: new FrameWriter(), asks: [] };
      this.#drafts.push(draft);
    }
    draft.writer.add(item);
    if (ask !== undefined) draft.asks.push(ask);
  }

  /** The peer has taken this many bytes. */
  confirmed(bytes: number): void {
    this.#underWayBytes = Math.max(0, this.#underWayBytes - bytes);
    if (this.#waitingBytes > 0) this.#schedule();
    else this.#init.onRest();
  }

  /** A frame came from the peer: it will want to know. */
  took(bytes: number): void {
    this.#owedBytes += bytes;
    if (this.#owedBytes >= CONFIRM_BYTES) this.#schedule();
  }

  /** Asks that have not left whole, and the end: nothing leaves any more. */
  close(): ReadonlySet<number> {
    this.#open = false;
    const flowing = [...this.#flows.values()].flatMap(({ items }) => items.map(({ ask }) => ask));
    const asks = [...this.#drafts.flatMap((draft) => draft.asks), ...flowing];
    this.#drafts = [];
    this.#flows.clear();
    for (const then of this.#waiting.splice(0)) then(false);
    return new Set(asks.filter((ask) => ask !== undefined));
  }

  #nextFlow(): number {
    this.#lastFlow = this.#lastFlow === FLOW_MAX ? 0 : this.#lastFlow + 1;
    return this.#lastFlow;
  }

  #schedule(): void {
    if (this.#scheduled || !this.#open) return;
    this.#scheduled = true;
    // After all promises that are settled now: their callers' next calls share the frame.
    process.nextTick(this.#flush);
  }

  readonly #flush = (): void => {
    this.#scheduled = false;
    this.#confirm();
    while (this.#open && this.#drafts.length > 0 && this.#underWayBytes < WINDOW_BYTES) {
      const { writer } = this.#drafts.shift() as Draft;
      this.#waitingBytes -= writer.bytes - FRAME_HEAD_BYTES;
      this.#put(writer);
    }
    this.#cut();
    if (this.#waitingBytes === 0) this.#init.onRest();
    if (!this.#open || this.#waiting.length === 0 || this.full) return;
    // One at a time: what it has may fill the place.
    this.#waiting.shift()?.(true);
    setImmediate(this.#flush);
  };

  /** Confirmations need no window: two full ends would wait for each other. */
  #confirm(): void {
    if (this.#owedBytes < CONFIRM_BYTES) return;
    const took = encodeParts({ type: "took", bytes: this.#owedBytes });
    this.#owedBytes = 0;
    const [draft] = this.#drafts;
    if (draft?.writer.takes(took.bytes) === true && this.#underWayBytes < WINDOW_BYTES) {
      this.#waitingBytes += took.bytes;
      draft.writer.add(took);
      return;
    }
    const alone = new FrameWriter();
    alone.add(took);
    this.#put(alone);
  }

  #put(writer: FrameWriter): void {
    const { send, keeps, onRefused } = this.#init;
    const frame = keeps ? writer.keep() : writer.finish();
    this.#underWayBytes += frame.length;
    if (!send(frame)) onRefused();
    if (!keeps && frame.length <= FRAME_COPIED_BYTES_MAX) writer.release();
  }

  /** One chunk, or one small item, of each large flow in turn. */
  #cut(): void {
    let writer: FrameWriter | undefined;
    const isFull = (): boolean => this.#underWayBytes + (writer?.bytes ?? 0) >= CHUNK_WINDOW_BYTES;
    while (this.#open && this.#flows.size > 0 && !isFull()) {
      for (const flow of [...this.#flows.values()].slice(0, FLOWS_MAX)) {
        const item = this.#nextPart(flow);
        if (writer?.takes(item.bytes) === false) {
          this.#put(writer);
          writer = undefined;
        }
        writer ??= new FrameWriter();
        writer.add(item);
      }
    }
    if (writer !== undefined) this.#put(writer);
  }

  #nextPart(flow: Flow): Encoded {
    const { bytes } = flow.items[0] as Waiting;
    const part = bytes.subarray(flow.sent, flow.sent + CHUNK_BYTES);
    flow.sent += part.length;
    const last = flow.sent === bytes.length;
    if (last) this.#next(flow);
    if (bytes.length <= CHUNK_BYTES) return { head: bytes, body: undefined, bytes: bytes.length };
    return encodeParts({ type: "chunk", flow: flow.no, last, bytes: part });
  }

  /** The first item of a flow has left whole. */
  #next(flow: Flow): void {
    this.#waitingBytes -= flow.items.shift()?.bytes.length ?? 0;
    flow.sent = 0;
    // Back at the end: with more flows than are cut at a time, all have their turn.
    this.#flows.delete(flow.key);
    if (flow.items.length > 0) this.#flows.set(flow.key, flow);
  }
}
