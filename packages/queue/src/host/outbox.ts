import { FRAME_COPIED_BYTES_MAX } from "@klatsch/mesh";
import type { Channel } from "@klatsch/mesh";

import { encodeFrame } from "../codec/frames.ts";
import { DEFAULT_TUNING } from "../core/context.ts";
import type { Message } from "../core/messages.ts";
import type { LaneId, PeerId } from "../core/types.ts";
import type { Bulk } from "./bulk.ts";

/** A frame is closed at about this size; a single body may exceed it. It makes one message of Noise, and arrives uncut. */
const FRAME_BYTES = 56 * 1_024;
/** A longer body travels in pieces, and may be overtaken: `bulkBytes` of the core gives it a frame of its own. */
const BULK_BYTES: number = DEFAULT_TUNING.bulkBytes;
/** What one item takes beside its body, about. */
const ITEM_BYTES = 200;
/** About what a lane's descriptor takes. */
const DESCRIPTOR_BYTES = 1_024;
/** What a register takes in a page of them. */
const PACKED_BYTES = 58;
/** Frames up to this size, in bytes, need no memory of their own; the others some beyond what they come to, about. */
const SHORT_BYTES = 4_096;
/** A link whose queue is full is tried again after this long, in milliseconds. */
const FULL_MS = 10;
/** Answers to an operator's questions that wait for one peer: it has no more questions than this open at once. */
const ANSWERS_MAX = 512;
/** Messages that wait for one peer before pages among them are looked through for those that nobody wants any more. */
const TIDY_MIN = 1_024;
/** Messages that wait for a peer whose link is full, until its session is ended. */
const WAITING_MAX = 131_072;
/** Messages in one frame at most. */
const FRAME_MESSAGES = 1_024;

/** Whose body is wanted. */
export interface BodyRef {
  readonly lane: LaneId;
  readonly seq: number;
}

export type Bodies = readonly (Uint8Array | undefined)[];

/** Reads bodies from this node's store: at once where they are in memory. */
export type LoadBodies = (refs: readonly BodyRef[]) => Bodies | Promise<Bodies>;

interface Line {
  /** The hello of this session has been said. */
  greeted: boolean;
  waiting: Message[];
  /** With so many of them, what waits is tidied. */
  tidyAt: number;
  /** A body is being read: what follows waits, so that order holds. */
  loading: boolean;
  /** The link's queue was full: everything waits for a while. */
  full: boolean;
}

/** Gathers what leaves for each peer in one turn, attaches bodies, and sends whole frames. */
export class Outbox {
  readonly #channel: () => Channel | undefined;
  readonly #bulk: () => Bulk | undefined;
  readonly #load: LoadBodies;
  readonly #onFailed: (error: unknown) => void;
  readonly #lines = new Map<PeerId, Line>();
  /** Where frames are written that the mesh copies. */
  readonly #scratch: Buffer = Buffer.allocUnsafeSlow(FRAME_COPIED_BYTES_MAX);
  #scheduled = false;

  constructor(
    ways: { readonly channel: () => Channel | undefined; readonly bulk: () => Bulk | undefined },
    load: LoadBodies,
    onFailed: (error: unknown) => void,
  ) {
    this.#channel = ways.channel;
    this.#bulk = ways.bulk;
    this.#load = load;
    this.#onFailed = onFailed;
  }

  /**
   * Messages for a peer without a session are dropped: the core resends after the next link up. So is what was said in the last
   * session and leaves in this one before its hello: nobody would read it, and a long frame could overtake the hello then.
   */
  push(peer: PeerId, message: Message): void {
    const line = this.#lines.get(peer);
    if (line === undefined) return;
    if (message.type === "hello") line.greeted = true;
    if (!line.greeted) return;
    // Who asks and does not read is owed nothing: an answer that does not come is missing there.
    if (message.type === "managed" && line.waiting.length >= ANSWERS_MAX && isOwedMuch(line)) return;
    if (message.type === "deliver") line.waiting.push(...split(message));
    else line.waiting.push(message);
    if (message.type === "page" && line.waiting.length >= line.tidyAt) tidy(line);
    if (line.full && line.waiting.length > WAITING_MAX) return this.#giveUp(peer);
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(() => {
      this.#scheduled = false;
      for (const [to, one] of this.#lines) if (one.waiting.length > 0) this.#drain(to, one);
    });
  }

  /** All that is owed to it is said anew in its next session. */
  #giveUp(peer: PeerId): void {
    this.#lines.delete(peer);
    this.#channel()?.reset(peer, "the peer takes nothing of what it is told");
  }

  up(peer: PeerId): void {
    this.#lines.set(peer, { greeted: false, waiting: [], tidyAt: TIDY_MIN, loading: false, full: false });
  }

  down(peer: PeerId): void {
    this.#lines.delete(peer);
  }

  #drain(peer: PeerId, line: Line): void {
    if (line.loading || line.full || this.#lines.get(peer) !== line) return;
    let frame: Message[] = [];
    let bytes = 0;
    let taken = 0;
    for (const message of line.waiting) {
      const whole = this.whole(message);
      if (whole instanceof Promise) {
        line.waiting = line.waiting.slice(taken + 1);
        const left = this.#send(peer, frame, bytes) ? [] : frame;
        this.#wait(peer, line, left, whole);
        return;
      }
      const size = sizeOf(whole);
      const isLong = size > BULK_BYTES && hasLongBody(whole);
      if (isLong && this.#bulk()?.isFull(peer, size) === true)
        return this.#holdBack(peer, line, [...frame, ...line.waiting.slice(taken)]);
      taken += 1;
      if (isLong && this.#sendLong(peer, whole, size)) continue;
      frame.push(whole);
      bytes += size;
      if (bytes < FRAME_BYTES && frame.length < FRAME_MESSAGES) continue;
      if (!this.#send(peer, frame, bytes))
        return this.#holdBack(peer, line, [...frame, ...line.waiting.slice(taken)]);
      frame = [];
      bytes = 0;
    }
    line.waiting = [];
    if (!this.#send(peer, frame, bytes)) this.#holdBack(peer, line, frame);
  }

  /** Nothing is lost by waiting: a link that ended instead would bring all of it again, and be full again. */
  #holdBack(peer: PeerId, line: Line, left: Message[]): void {
    line.waiting = left;
    line.full = true;
    setTimeout(() => {
      line.full = false;
      this.#drain(peer, line);
    }, FULL_MS);
  }

  #wait(peer: PeerId, line: Line, before: readonly Message[], loading: Promise<Message>): void {
    line.loading = true;
    loading.then(
      (message) => {
        line.loading = false;
        if (this.#lines.get(peer) !== line) return;
        line.waiting = [...before, message, ...line.waiting];
        this.#drain(peer, line);
      },
      (error: unknown) => this.#onFailed(error),
    );
  }

  /** `false`: it has to go with the others. */
  #sendLong(peer: PeerId, message: Message, bytes: number): boolean {
    return this.#bulk()?.send(peer, encodeFrame([message], memoryFor(bytes))) === true;
  }

  /** `false`: the link's queue is full. */
  #send(peer: PeerId, messages: readonly Message[], bytes: number): boolean {
    if (messages.length === 0) return true;
    const channel = this.#channel();
    const isCopied = bytes + SHORT_BYTES <= FRAME_COPIED_BYTES_MAX;
    const memory = bytes <= SHORT_BYTES ? undefined : isCopied ? this.#scratch : memoryFor(bytes);
    const frame = encodeFrame(messages, memory);
    if (channel === undefined || channel.send(peer, frame)) return true;
    if (frame.length <= channel.frameBytesMax && channel.peers().includes(peer)) return false;
    // Nothing may be missing within a session: end it, and all that is owed is sent anew.
    channel.reset(peer, "the queue's frames exceed the link's limit");
    return true;
  }

  /** The message with the bodies it names; one that is gone meanwhile stays out. */
  whole(message: Message): Message | Promise<Message> {
    if (message.type === "deliver") {
      return this.#each(
        message.items,
        (item) => item.lane,
        (items) => ({ ...message, items }),
      );
    }
    if (message.type === "body") {
      return this.#each(
        [message],
        (one) => one.lane,
        ([one]) => one ?? message,
      );
    }
    const wants = message.type === "ops" && message.sections.some((s) => s.accepts.some(isBodiless));
    return wants ? this.#attachOps(message) : message;
  }

  #attachOps(message: Message & { type: "ops" }): Message | Promise<Message> {
    const sections = message.sections.map((section) =>
      this.#each(
        section.accepts,
        () => section.lane,
        (accepts) => ({ ...section, accepts }),
      ),
    );
    return all(sections, (whole) => ({ ...message, sections: whole }));
  }

  #each<
    T extends { readonly seq: number; readonly attach?: boolean; readonly body: Uint8Array | undefined },
    R,
  >(items: readonly T[], laneOf: (item: T) => LaneId, make: (items: readonly T[]) => R): R | Promise<R> {
    const wanted = items.filter(isBodiless);
    if (wanted.length === 0) return make(items);
    const attach = (bodies: Bodies): R => {
      let at = -1;
      return make(
        items.map((item) => (isBodiless(item) ? { ...item, attach: false, body: bodies[(at += 1)] } : item)),
      );
    };
    const bodies = this.#load(wanted.map((item) => ({ lane: laneOf(item), seq: item.seq })));
    return bodies instanceof Promise ? bodies.then(attach) : attach(bodies);
  }
}

/**
 * Whoever asks for a lane anew has given the transfer before up: of one lane's pages with one number the last counts. Else a peer
 * that asks again and again, and does not read, would be kept each page of each answer.
 */
function tidy(line: Line): void {
  const last = new Map<string, Message>();
  for (const message of line.waiting) {
    if (message.type === "page") last.set(`${message.lane} ${message.index}`, message);
  }
  line.waiting = line.waiting.filter(
    (message) => message.type !== "page" || last.get(`${message.lane} ${message.index}`) === message,
  );
  line.tidyAt = Math.max(TIDY_MIN, line.waiting.length * 2);
}

function isOwedMuch({ waiting }: Line): boolean {
  return waiting.filter(({ type }) => type === "managed").length >= ANSWERS_MAX;
}

function isBodiless(item: { readonly attach?: boolean }): boolean {
  return item.attach === true;
}

function all<T, R>(items: readonly (T | Promise<T>)[], make: (items: readonly T[]) => R): R | Promise<R> {
  if (items.some((item) => item instanceof Promise)) return Promise.all(items).then(make);
  return make(items as readonly T[]);
}

function hasLongBody(message: Message): boolean {
  const isLong = ({ body }: { readonly body: Uint8Array | undefined }): boolean =>
    (body?.length ?? 0) > BULK_BYTES;
  if (message.type === "ops") return message.sections.some(({ accepts }) => accepts.some(isLong));
  if (message.type === "deliver" || message.type === "enter") return message.items.some(isLong);
  return message.type === "body" && isLong(message);
}

function memoryFor(bytes: number): Buffer {
  return Buffer.allocUnsafeSlow(bytes + SHORT_BYTES);
}

/** Deliveries with large bodies travel in several messages: one frame must not hold them all. */
function split(message: Message & { type: "deliver" }): readonly Message[] {
  const parts: Message[] = [];
  let from = 0;
  let bytes = 0;
  const { items } = message;
  items.forEach((item, at) => {
    const length = item.body?.length ?? (item.attach === true ? (item.bodyBytes ?? BULK_BYTES) : 0);
    if (length > BULK_BYTES && at > from) {
      // Those before it must not wait for it.
      parts.push({ ...message, items: items.slice(from, at) });
      from = at;
    }
    bytes += length;
    if (bytes < FRAME_BYTES && length <= BULK_BYTES) return;
    parts.push({ ...message, items: items.slice(from, at + 1) });
    from = at + 1;
    bytes = 0;
  });
  if (parts.length === 0) return [message];
  if (from < items.length) parts.push({ ...message, items: items.slice(from) });
  return parts;
}

/** About how many bytes a message takes on the wire. */
function sizeOf(message: Message): number {
  if (message.type === "ops") {
    return message.sections.reduce((bytes, { accepts }) => bytes + 500 + withBodies(accepts), 0);
  }
  if (message.type === "deliver" || message.type === "enter") return withBodies(message.items);
  if (message.type === "body") return withBodies([message]);
  if (message.type === "page") {
    const packed = message.packed.reduce((seqs, { columns }) => seqs + columns.seqs, 0);
    return message.registers.length * ITEM_BYTES + packed * PACKED_BYTES;
  }
  if (message.type === "heirs") return message.descriptors.length * DESCRIPTOR_BYTES;
  return "items" in message ? message.items.length * ITEM_BYTES : ITEM_BYTES;
}

function withBodies(items: readonly { readonly body: Uint8Array | undefined }[]): number {
  return items.reduce((bytes, { body }) => bytes + ITEM_BYTES + (body?.length ?? 0), 0);
}
