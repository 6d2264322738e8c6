/** What precedes a payload on every stream: u32 length of all that follows it, u16 channel number; big-endian. */
export const FRAME_HEADER_BYTES = 6;
/** Highest channel number a frame can name. */
export const CHANNEL_NUMBER_MAX = 0xffff;

const LENGTH_BYTES = 4;
const NUMBER_BYTES = 2;
/**
 * A frame that spans chunks gets the memory its header claims up to this size, in bytes; beyond it, memory
 * doubles with what really arrived. (Doubling from the start took three times the bytes of most frames.)
 */
const CLAIM_BYTES_MAX: number = 256 * 1024;

/** Writes a frame header at `at`. */
export function writeFrameHeader(
  target: Uint8Array,
  at: number,
  channel: number,
  payloadBytes: number,
): void {
  const length = payloadBytes + NUMBER_BYTES;
  target[at] = length >>> 24;
  target[at + 1] = length >>> 16;
  target[at + 2] = length >>> 8;
  target[at + 3] = length;
  target[at + 4] = channel >>> 8;
  target[at + 5] = channel;
}

/** Given each frame; `false` ends decoding, as after the stream was closed from within. */
export type FrameSink = (channel: number, payload: Uint8Array) => boolean;

/**
 * Cuts a byte stream into frames. A payload is a view of the chunk it came in, or of a buffer of its own if
 * it spans chunks; neither is used again. Memory held is at most twice the bytes received of one frame, or
 * {@link CLAIM_BYTES_MAX}.
 */
export class FrameDecoder {
  readonly #payloadBytesMax: number;
  /** The beginning of a frame that has not arrived whole; the first `#heldBytes` bytes count. */
  #held: Uint8Array = new Uint8Array(0);
  #heldBytes = 0;
  #refused = false;

  constructor(payloadBytesMax: number) {
    this.#payloadBytesMax = payloadBytesMax;
  }

  /** Decodes what is whole. `false`: the bytes are no frames (nothing is decoded ever after), or `sink` said so. */
  push(chunk: Uint8Array, sink: FrameSink): boolean {
    if (this.#refused) return false;
    let at = 0;
    if (this.#heldBytes > 0) {
      at = this.#finishHeld(chunk, sink);
      if (at < 0) return false;
    }
    while (chunk.length - at >= FRAME_HEADER_BYTES) {
      const end = at + LENGTH_BYTES + this.#frameLength(chunk, at);
      if (this.#refused) return false;
      if (end > chunk.length) break;
      if (!sink(channelOf(chunk, at), chunk.subarray(at + FRAME_HEADER_BYTES, end))) return this.#refuse();
      at = end;
    }
    if (at < chunk.length) {
      const known = chunk.length - at >= FRAME_HEADER_BYTES;
      this.#hold(
        chunk.subarray(at),
        known ? LENGTH_BYTES + this.#frameLength(chunk, at) : FRAME_HEADER_BYTES,
      );
    }
    return true;
  }

  /** Completes the held frame from `chunk`; the offset behind it, or −1 where decoding ends. */
  #finishHeld(chunk: Uint8Array, sink: FrameSink): number {
    let at = 0;
    if (this.#heldBytes < FRAME_HEADER_BYTES) {
      at = Math.min(FRAME_HEADER_BYTES - this.#heldBytes, chunk.length);
      this.#hold(chunk.subarray(0, at), FRAME_HEADER_BYTES);
      if (this.#heldBytes < FRAME_HEADER_BYTES) return at;
    }
    const total = LENGTH_BYTES + this.#frameLength(this.#held, 0);
    if (this.#refused) return -1;
    const rest = Math.min(total - this.#heldBytes, chunk.length - at);
    this.#hold(chunk.subarray(at, at + rest), total);
    if (this.#heldBytes < total) return at + rest;
    const frame = this.#held;
    this.#held = new Uint8Array(0);
    this.#heldBytes = 0;
    if (sink(channelOf(frame, 0), frame.subarray(FRAME_HEADER_BYTES, total))) return at + rest;
    this.#refuse();
    return -1;
  }

  /** Appends to the held bytes. Copying also lets go of the chunk, so many tiny chunks cost what they weigh. */
  #hold(bytes: Uint8Array, total: number): void {
    const needed = this.#heldBytes + bytes.length;
    if (needed > this.#held.length) {
      const grown = Math.max(this.#held.length * 2, CLAIM_BYTES_MAX);
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, Math.min(grown, total)));
      larger.set(this.#held.subarray(0, this.#heldBytes));
      this.#held = larger;
    }
    this.#held.set(bytes, this.#heldBytes);
    this.#heldBytes = needed;
  }

  #frameLength(bytes: Uint8Array, at: number): number {
    const length =
      (bytes[at] as number) * 0x1_00_00_00 +
      (((bytes[at + 1] as number) << 16) | ((bytes[at + 2] as number) << 8) | (bytes[at + 3] as number));
    if (length < NUMBER_BYTES || length > this.#payloadBytesMax + NUMBER_BYTES) this.#refuse();
    return length;
  }

  #refuse(): false {
    this.#refused = true;
    this.#held = new Uint8Array(0);
    this.#heldBytes = 0;
    return false;
  }
}

function channelOf(bytes: Uint8Array, at: number): number {
  return ((bytes[at + 4] as number) << 8) | (bytes[at + 5] as number);
}
