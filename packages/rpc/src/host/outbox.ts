import { FLOW_MAX, encodeItem, joinFrame } from "../codec/frames.ts";
import {
  CHUNK_BYTES,
  CHUNK_WINDOW_BYTES,
  CONFIRM_BYTES,
  FLOWS_MAX,
  FRAME_BYTES,
  FRAME_ITEMS_MAX,
  OUTBOX_BYTES_MAX,
  WINDOW_BYTES,
} from "../core/limits.ts";

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
  readonly #send: (frame: Uint8Array) => boolean;
  readonly #onRefused: () => void;
  #small: Waiting[] = [];
  /** By call; the first `FLOWS_MAX` are being cut. */
  readonly #flows = new Map<number, Flow>();
  #lastFlow = 0;
  #waitingBytes = 0;
  #underWayBytes = 0;
  #owedBytes = 0;
  #scheduled = false;
  #open = true;

  constructor(send: (frame: Uint8Array) => boolean, onRefused: () => void) {
    this.#send = send;
    this.#onRefused = onRefused;
  }

  /** No more is taken of what may as well be refused. */
  get full(): boolean {
    return this.#waitingBytes >= OUTBOX_BYTES_MAX;
  }

  /** Queues an item. `key`: items of the same call leave in order. */
  push(key: number, bytes: Uint8Array, ask: number | undefined): void {
    if (!this.#open) return;
    const waiting: Waiting = { bytes, ask };
    this.#waitingBytes += bytes.length;
    const flow = this.#flows.get(key);
    if (flow !== undefined) flow.items.push(waiting);
    else if (bytes.length > CHUNK_BYTES)
      this.#flows.set(key, { no: this.#nextFlow(), key, items: [waiting], sent: 0 });
    else this.#small.push(waiting);
    this.#schedule();
  }

  /** The peer has taken this many bytes. */
  confirmed(bytes: number): void {
    this.#underWayBytes = Math.max(0, this.#underWayBytes - bytes);
    if (this.#waitingBytes > 0) this.#schedule();
  }

  /** A frame came from the peer: it will want to know. */
  took(bytes: number): void {
    this.#owedBytes += bytes;
    if (this.#owedBytes >= CONFIRM_BYTES) this.#schedule();
  }

  /** Asks that have not left whole, and the end: nothing leaves any more. */
  close(): ReadonlySet<number> {
    this.#open = false;
    const waiting = [...this.#small, ...[...this.#flows.values()].flatMap(({ items }) => items)];
    this.#small = [];
    this.#flows.clear();
    return new Set(waiting.flatMap(({ ask }) => (ask === undefined ? [] : [ask])));
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
    while (this.#open && this.#frame());
  };

  /** Sends one frame; `false` if nothing may leave now. */
  #frame(): boolean {
    const items: Uint8Array[] = [];
    let bytes = 0;
    const put = (item: Uint8Array): void => {
      items.push(item);
      bytes += item.length;
    };
    // Confirmations need no window: two full ends would wait for each other.
    if (this.#owedBytes >= CONFIRM_BYTES) {
      put(encodeItem({ type: "took", bytes: this.#owedBytes }));
      this.#owedBytes = 0;
    }
    const room = (): boolean => bytes < FRAME_BYTES && items.length < FRAME_ITEMS_MAX;
    let taken = 0;
    while (taken < this.#small.length && room() && this.#underWayBytes + bytes < WINDOW_BYTES) {
      const item = (this.#small[taken] as Waiting).bytes;
      put(item);
      this.#waitingBytes -= item.length;
      taken += 1;
    }
    this.#small = taken === this.#small.length ? [] : this.#small.slice(taken);
    while (this.#flows.size > 0 && room() && this.#underWayBytes + bytes < CHUNK_WINDOW_BYTES) this.#cut(put);
    if (items.length === 0) return false;
    const frame = joinFrame(items, bytes);
    this.#underWayBytes += frame.length;
    if (!this.#send(frame)) this.#onRefused();
    return true;
  }

  /** One chunk, or one small item, of each large flow whose turn it is. */
  #cut(put: (item: Uint8Array) => void): void {
    let turns = 0;
    for (const flow of this.#flows.values()) {
      if (turns === FLOWS_MAX) return;
      turns += 1;
      const { bytes } = flow.items[0] as Waiting;
      if (bytes.length <= CHUNK_BYTES) {
        put(bytes);
        flow.sent = bytes.length;
      } else {
        const part = bytes.subarray(flow.sent, flow.sent + CHUNK_BYTES);
        flow.sent += part.length;
        put(encodeItem({ type: "chunk", flow: flow.no, last: flow.sent === bytes.length, bytes: part }));
      }
      if (flow.sent < bytes.length) continue;
      this.#waitingBytes -= bytes.length;
      flow.items.shift();
      flow.sent = 0;
      if (flow.items.length === 0) this.#flows.delete(flow.key);
    }
  }
}
