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
/** Up to this size, in bytes, a payload is copied by {@link FrameStream.send}, and the caller may write over it. */
export const FRAME_COPIED_BYTES_MAX: number = CHUNK_BYTES_MAX - FRAME_HEADER_BYTES;

/** What a {@link FrameStream} needs and whom it tells. */
export interface FrameStreamInit {
  readonly stream: Stream;
  /** Nobody keeps the memory of what has left: it was encrypted into other memory. */
  readonly encrypted: boolean;
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
  readonly #encrypted: boolean;
  readonly #limits: ClassLimits;
  readonly #clock: Clock;
  readonly #onFrame: FrameStreamInit["onFrame"];
  readonly #onEnd: FrameStreamInit["onEnd"];
  readonly #decoder: FrameDecoder;
  readonly #meter: FrameMeter | undefined;
  /** What has not left, in order; the last one may take more frames. */
  #queue: (Chunk | Long)[] = [];
  /** Memory that left in this turn of the event loop. */
  #left: Buffer[] = [];
  #queuedFrames = 0;
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
    this.#encrypted = init.encrypted;
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
    return this.#queuedFrames;
  }

  /**
   * Queues one frame: a copy of a payload of up to {@link FRAME_COPIED_BYTES_MAX}; a longer one must stay as it is. `false`: closed, or
   * a limit is reached; then nothing was queued.
   */
  send(channel: number, payload: Uint8Array): boolean {
    const bytes = payload.length + FRAME_HEADER_BYTES;
    if (!this.#open || this.#queuedFrames >= this.#limits.queueFramesMax) return false;
    // A single frame always fits an empty queue: a limit below the longest frame would refuse it for ever.
    if (this.#queuedFrames > 0 && this.#queuedBytes + bytes > this.#limits.queueBytesMax) return false;
    this.#append(channel, payload);
    this.#queuedFrames += 1;
    this.#queuedBytes += bytes;
    this.#meter?.sent(channel, bytes);
    if (!this.#scheduled && !this.#blocked) {
      this.#scheduled = true;
      if (!this.#cooling) queueMicrotask(this.#flush);
    }
    return true;
  }

  #append(channel: number, payload: Uint8Array): void {
    if (payload.length > FRAME_COPIED_BYTES_MAX) {
      this.#queue.push(new Long(channel, payload));
      return;
    }
    let chunk = this.#queue.at(-1);
    if (!(chunk instanceof Chunk) || chunk.room < payload.length + FRAME_HEADER_BYTES) {
      this.#queue.push((chunk = new Chunk()));
    }
    chunk.add(channel, payload);
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
    // Where the stream waits for `drain`, libp2p may keep what it took; that is its own then. (Not even after `drain`
    // is it sure to have let go: a stream's window may open while the connection beneath is full.)
    if (this.#open && !this.#stream.writableNeedsDrain) giveBack(this.#left);
    this.#left = [];
    if (this.#scheduled) this.#flush();
  };

  readonly #flush = (): void => {
    this.#scheduled = false;
    if (!this.#cooling) {
      this.#sentMs = this.#clock.now().monoMs;
      this.#cooling = true;
      setImmediate(this.#turned);
    }
    while (this.#open && !this.#blocked && this.#queue.length > 0) this.#sendHead();
    if (this.#queuedBytes === 0 && this.#onIdle.length > 0) for (const then of this.#onIdle.splice(0)) then();
  };

  #sendHead(): void {
    const head = this.#queue[0] as Chunk | Long;
    const bytes = head instanceof Long ? head.next() : head.bytes;
    this.#queuedBytes -= bytes.byteLength;
    if (head instanceof Chunk || head.isDone) {
      this.#queue.shift();
      this.#queuedFrames -= head.frames;
    }
    try {
      this.#blocked = !this.#stream.send(
        this.#encrypted || bytes instanceof Uint8ArrayList ? bytes : Buffer.from(bytes),
      );
      if (head instanceof Chunk && (!this.#blocked || !this.#encrypted)) this.#left.push(head.memory);
    } catch (error) {
      this.#end({ cause: "remote", reason: messageOf(error) });
    }
  }

  /** The event, not `onDrain()`: that one resolves at once from its second use on. */
  readonly #drained = (): void => {
    if (!this.#blocked) return;
    // libp2p sends its own remainder in a microtask queued before ours, and may be full again after it.
    queueMicrotask(() => {
      this.#blocked = this.#stream.writableNeedsDrain;
      this.#flush();
    });
  };

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
    this.#queue = [];
    this.#left = [];
    this.#queuedFrames = 0;
    this.#queuedBytes = 0;
    this.#stream.removeEventListener("message", this.#receive);
    this.#stream.removeEventListener("drain", this.#drained);
    this.#stream.removeEventListener("close", this.#closed);
    this.#stream.removeEventListener("remoteCloseWrite", this.#remoteClosed);
  }
}

/** Frames that leave together, copied one behind the other. */
class Chunk {
  readonly memory: Buffer = spare.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES_MAX);
  frames = 0;
  #length = 0;

  get room(): number {
    return CHUNK_BYTES_MAX - this.#length;
  }

  get bytes(): Buffer {
    return this.memory.subarray(0, this.#length);
  }

  add(channel: number, payload: Uint8Array): void {
    writeFrameHeader(this.memory, this.#length, channel, payload.length);
    this.memory.set(payload, this.#length + FRAME_HEADER_BYTES);
    this.#length += FRAME_HEADER_BYTES + payload.length;
    this.frames += 1;
  }
}

/** A frame that leaves in several chunks, from where it is. */
class Long {
  readonly frames = 1;
  readonly #channel: number;
  readonly #payload: Uint8Array;
  #sent = 0;

  constructor(channel: number, payload: Uint8Array) {
    this.#channel = channel;
    this.#payload = payload;
  }

  get isDone(): boolean {
    return this.#sent === this.#payload.length;
  }

  next(): Uint8ArrayList {
    const chunk = new Uint8ArrayList();
    if (this.#sent === 0) {
      const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
      writeFrameHeader(header, 0, this.#channel, this.#payload.length);
      chunk.append(header);
    }
    const part = this.#payload.subarray(this.#sent, this.#sent + CHUNK_BYTES_MAX - chunk.byteLength);
    this.#sent += part.length;
    chunk.append(part);
    return chunk;
  }
}

/** Chunks of all streams of this process that are not in use: made anew each time, they kept the collector busy. */
const spare: Buffer[] = [];
const SPARE_CHUNKS_MAX = 32;

function giveBack(chunks: readonly Buffer[]): void {
  for (const chunk of chunks) if (spare.length < SPARE_CHUNKS_MAX) spare.push(chunk);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
