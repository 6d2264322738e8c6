import type { Clock } from "@klatsch/kit";
import type { Stream, StreamCloseEvent, StreamMessageEvent } from "@libp2p/interface";
import { Uint8ArrayList } from "uint8arraylist";
import { FRAME_HEADER_BYTES, FrameDecoder, writeFrameHeader } from "../codec/framing.ts";
import type { ClassLimits } from "../types.ts";

/**
 * Bytes handed to libp2p at once: with yamux's header of 12 they make one message of Noise, which has 65,519. So a frame
 * that fits arrives in one piece, and is not copied to be put together. It is also what may stand unsent per class before we wait for `drain`, so
 * it bounds how long an urgent frame waits behind a lesser one.
 */
const CHUNK_BYTES_MAX = 65_507;
/** Shorter frames are copied together. */
const VIEW_BYTES_MIN: number = 16 * 1024;

/** What a {@link FrameStream} needs and whom it tells. */
export interface FrameStreamInit {
  readonly stream: Stream;
  readonly payloadBytesMax: number;
  readonly limits: ClassLimits;
  readonly clock: Clock;
  /** Counts frames by their number, headers included. */
  readonly meter?: FrameMeter | undefined;
  /** One frame. May throw; the stream then ends with `threw`. `false`: the frame breaks the protocol. */
  readonly onFrame: (channel: number, payload: Uint8Array) => boolean;
  /** Called once. Nothing is delivered or taken afterwards. */
  readonly onEnd: (end: FrameStreamEnd) => void;
}

export interface FrameMeter {
  sent(channel: number, bytes: number): void;
  received(channel: number, bytes: number): void;
}

/** Why a stream ended: `remote` and `local` are orderly or the connection's fault, the others somebody's mistake. */
export interface FrameStreamEnd {
  readonly cause: "remote" | "local" | "bad" | "threw";
  readonly reason: string;
}

/**
 * Frames over one libp2p stream, both ways. Outgoing frames leave in few large sends: the first of a turn of
 * the event loop as soon as the running code is done, the rest at the end of the turn. So an answer waits for
 * nobody, and a thousand independent senders still cost two sends. At most one chunk is handed over beyond what
 * the connection takes, the rest waits in a queue with limits. Incoming frames are delivered synchronously.
 */
export class FrameStream {
  readonly #stream: Stream;
  readonly #limits: ClassLimits;
  readonly #clock: Clock;
  readonly #onFrame: FrameStreamInit["onFrame"];
  readonly #onEnd: FrameStreamInit["onEnd"];
  readonly #decoder: FrameDecoder;
  readonly #meter: FrameMeter | undefined;
  /** Queue as two rings in step; `#head` is the next to leave, `#sentOfHead` how much of it has left, header included. */
  #frames: Uint8Array[] = [];
  #channels: number[] = [];
  #head = 0;
  #sentOfHead = 0;
  #queuedBytes = 0;
  #scheduled = false;
  /** We have sent in this turn of the event loop already. */
  #cooling = false;
  #blocked = false;
  #open = true;
  #onIdle: (() => void)[] = [];
  /** Monotonic instants of the last arrival and the last departure, in milliseconds. */
  #heardMs = 0;
  #sentMs = 0;

  constructor(init: FrameStreamInit) {
    this.#stream = init.stream;
    this.#limits = init.limits;
    this.#clock = init.clock;
    this.#onFrame = init.onFrame;
    this.#onEnd = init.onEnd;
    this.#meter = init.meter;
    this.#decoder = new FrameDecoder(init.payloadBytesMax);
    this.#stream.addEventListener("message", this.#receive);
    this.#stream.addEventListener("drain", this.#drained);
    this.#stream.addEventListener("close", this.#closed);
    this.#stream.addEventListener("remoteCloseWrite", this.#remoteClosed);
    // It may have ended while it was negotiated, before anybody listened.
    if (this.#stream.status !== "open")
      queueMicrotask(() => this.#end({ cause: "remote", reason: "closed at once" }));
  }

  get open(): boolean {
    return this.#open;
  }

  /** Monotonic instant at which bytes last arrived, in milliseconds; 0 if none did. */
  get heardMs(): number {
    return this.#heardMs;
  }

  /** The same of when they last left. */
  get sentMs(): number {
    return this.#sentMs;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get queuedFrames(): number {
    return this.#frames.length - this.#head;
  }

  /** Queues one frame. `false`: closed, or a limit is reached; then nothing was queued. */
  send(channel: number, payload: Uint8Array): boolean {
    const bytes = payload.length + FRAME_HEADER_BYTES;
    const waiting = this.#frames.length - this.#head;
    if (!this.#open || waiting >= this.#limits.queueFramesMax) return false;
    // A single frame always fits an empty queue: a limit below the longest frame would refuse it for ever.
    if (waiting > 0 && this.#queuedBytes + bytes > this.#limits.queueBytesMax) return false;
    this.#frames.push(payload);
    this.#channels.push(channel);
    this.#queuedBytes += bytes;
    this.#meter?.sent(channel, bytes);
    if (!this.#scheduled && !this.#blocked) {
      this.#scheduled = true;
      if (!this.#cooling) queueMicrotask(this.#flush);
    }
    return true;
  }

  /** Ends the stream now; what is queued is dropped. */
  end(end: FrameStreamEnd): void {
    this.#end(end);
  }

  /** Lets go of the stream without ending it: what was handed over still leaves. */
  release(): void {
    if (this.#open) this.#detach();
  }

  /** Calls `then` once all queued frames were handed to the connection, or the stream ended. */
  whenIdle(then: () => void): void {
    if (!this.#open || this.#queuedBytes === 0) then();
    else this.#onIdle.push(then);
  }

  /** A turn of the event loop is over: what gathered since its first send leaves. */
  readonly #turned = (): void => {
    this.#cooling = false;
    if (this.#scheduled) this.#flush();
  };

  readonly #flush = (): void => {
    this.#scheduled = false;
    if (!this.#cooling) {
      this.#sentMs = this.#clock.now().monoMs;
      this.#cooling = true;
      setImmediate(this.#turned);
    }
    while (this.#open && !this.#blocked && this.#queuedBytes > 0) {
      const chunk = this.#takeChunk();
      try {
        if (!this.#stream.send(chunk)) this.#blocked = true;
      } catch (error) {
        this.#end({ cause: "remote", reason: messageOf(error) });
      }
    }
    if (this.#queuedBytes === 0 && this.#onIdle.length > 0) for (const then of this.#onIdle.splice(0)) then();
  };

  /** The event, not `onDrain()`: that one resolves at once from its second use on. */
  readonly #drained = (): void => {
    if (!this.#blocked) return;
    // libp2p sends its own remainder in a microtask queued before ours, and may be full again after it.
    queueMicrotask(() => {
      this.#blocked = this.#stream.writableNeedsDrain;
      this.#flush();
    });
  };

  /** The next bytes of the queue: small frames gathered into one buffer, large ones where they are. */
  #takeChunk(): Uint8ArrayList {
    const chunk = new Uint8ArrayList();
    while (this.#queuedBytes > 0) {
      const room = CHUNK_BYTES_MAX - chunk.byteLength;
      const head = this.#frames[this.#head] as Uint8Array;
      // What fits a chunk of its own is not cut to fill this one.
      const isNew = this.#sentOfHead === 0 && chunk.byteLength > 0;
      if (isNew && head.length + FRAME_HEADER_BYTES > room) break;
      const piece = head.length < VIEW_BYTES_MIN ? this.#gather(room) : this.#takePart(head, room);
      if (piece === undefined) break;
      chunk.append(piece);
    }
    return chunk;
  }

  /** As many small frames as there is room for, headers included. */
  #gather(room: number): Uint8Array | undefined {
    let bytes = 0;
    for (let at = this.#head; at < this.#frames.length; at += 1) {
      const { length } = this.#frames[at] as Uint8Array;
      if (length >= VIEW_BYTES_MIN || bytes + length + FRAME_HEADER_BYTES > room) break;
      bytes += length + FRAME_HEADER_BYTES;
    }
    if (bytes === 0) return undefined;
    const piece = Buffer.allocUnsafe(bytes);
    for (let at = 0; at < bytes;) {
      const frame = this.#frames[this.#head] as Uint8Array;
      writeFrameHeader(piece, at, this.#channels[this.#head] as number, frame.length);
      piece.set(frame, at + FRAME_HEADER_BYTES);
      at += frame.length + FRAME_HEADER_BYTES;
      this.#took(frame.length + FRAME_HEADER_BYTES, frame);
    }
    return piece;
  }

  /** The header of a large frame, or what follows of its inside. A header is never cut; it opens the next chunk. */
  #takePart(head: Uint8Array, room: number): Uint8Array | undefined {
    if (room < FRAME_HEADER_BYTES) return undefined;
    if (this.#sentOfHead === 0) {
      const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
      writeFrameHeader(header, 0, this.#channels[this.#head] as number, head.length);
      this.#took(FRAME_HEADER_BYTES, head);
      return header;
    }
    const from = this.#sentOfHead - FRAME_HEADER_BYTES;
    const part = head.subarray(from, from + room);
    this.#took(part.length, head);
    return part;
  }

  #took(bytes: number, head: Uint8Array): void {
    this.#queuedBytes -= bytes;
    this.#sentOfHead += bytes;
    if (this.#sentOfHead < head.length + FRAME_HEADER_BYTES) return;
    this.#sentOfHead = 0;
    this.#frames[this.#head] = NOTHING;
    this.#head += 1;
    if (this.#head < this.#frames.length && this.#head < COMPACT_FROM) return;
    this.#frames = this.#frames.slice(this.#head);
    this.#channels = this.#channels.slice(this.#head);
    this.#head = 0;
  }

  readonly #receive = (event: StreamMessageEvent): void => {
    this.#heardMs = this.#clock.now().monoMs;
    if (event.data instanceof Uint8Array) {
      this.#decode(event.data);
      return;
    }
    for (const part of event.data) if (this.#open) this.#decode(part);
  };

  /** Nothing may be thrown from here: an exception in an event listener ends the process. */
  #decode(chunk: Uint8Array): void {
    try {
      const whole = this.#decoder.push(chunk, this.#deliver);
      if (!whole && this.#open) this.#end({ cause: "bad", reason: "bytes that are no frames" });
    } catch (error) {
      this.#end({ cause: "threw", reason: messageOf(error) });
    }
  }

  readonly #deliver = (channel: number, payload: Uint8Array): boolean => {
    this.#meter?.received(channel, payload.length + FRAME_HEADER_BYTES);
    if (!this.#onFrame(channel, payload))
      this.#end({ cause: "bad", reason: `bad frame on channel ${channel}` });
    return this.#open;
  };

  readonly #closed = (event: StreamCloseEvent): void => {
    this.#end({ cause: "remote", reason: event.error === undefined ? "stream closed" : event.error.message });
  };

  /** Streams here are never half open: the other end is done, so are we. */
  readonly #remoteClosed = (): void => {
    this.#end({ cause: "remote", reason: "the other end closed the stream" });
  };

  #end(end: FrameStreamEnd): void {
    if (!this.#open) return;
    this.#detach();
    if (this.#stream.status === "open" || this.#stream.status === "closing") {
      this.#stream.abort(new Error(end.reason));
    }
    for (const then of this.#onIdle.splice(0)) then();
    this.#onEnd(end);
  }

  #detach(): void {
    this.#open = false;
    this.#frames = [];
    this.#channels = [];
    this.#queuedBytes = 0;
    this.#stream.removeEventListener("message", this.#receive);
    this.#stream.removeEventListener("drain", this.#drained);
    this.#stream.removeEventListener("close", this.#closed);
    this.#stream.removeEventListener("remoteCloseWrite", this.#remoteClosed);
  }
}

/** Stands in the place of a frame that has left, so that its bytes can be collected. */
const NOTHING = new Uint8Array(0);
/** Places of frames that have left are given back in strides, not one by one. */
const COMPACT_FROM = 1_024;

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
