import { FRAME_BYTES, FRAME_ITEMS_MAX } from "../core/limits.ts";
import { BIN32_BYTES, FRAME_HEAD_BYTES, writeBin32, writeFrameHead } from "./frames.ts";
import type { Encoded } from "./frames.ts";

/** A frame of a few small items takes no more, in bytes. */
const SHORT_BYTES = 512;
/** Buffers that wait for the next frames; what leaves was copied. */
const spare: Buffer[] = [];
const SPARES_MAX = 8;

/** One frame in the making: items are copied into it where they will travel, and nowhere else. */
export class FrameWriter {
  #buffer: Buffer;
  #at: number = FRAME_HEAD_BYTES;
  #items = 0;

  constructor() {
    this.#buffer = spare.pop() ?? Buffer.allocUnsafe(SHORT_BYTES);
  }

  get bytes(): number {
    return this.#at;
  }

  /** Whether an item still belongs into this frame. An empty frame takes any. */
  takes(bytes: number): boolean {
    return this.#items === 0 || (this.#items < FRAME_ITEMS_MAX && this.#at + bytes <= FRAME_BYTES);
  }

  add({ head, body, bytes }: Encoded): void {
    if (this.#at + bytes > this.#buffer.length) this.#grow(this.#at + bytes);
    this.#buffer.set(head, this.#at);
    if (body !== undefined) {
      writeBin32(this.#buffer, this.#at + head.length, body.length);
      this.#buffer.set(body, this.#at + head.length + BIN32_BYTES);
    }
    this.#at += bytes;
    this.#items += 1;
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, FRAME_BYTES));
    larger.set(this.#buffer.subarray(0, this.#at));
    this.#buffer = larger;
  }

  /** The frame, until {@link release}. Nothing may be added any more. */
  finish(): Uint8Array {
    writeFrameHead(this.#buffer, this.#items);
    return this.#buffer.subarray(0, this.#at);
  }

  /** The same for good: a copy if its memory can serve another frame, and released then. */
  keep(): Uint8Array {
    const frame = this.finish();
    if (!this.#isCommon) return frame;
    const copy = Buffer.from(frame);
    this.release();
    return copy;
  }

  /** Its memory serves another frame. */
  release(): void {
    if (this.#isCommon && spare.length < SPARES_MAX) spare.push(this.#buffer);
  }

  get #isCommon(): boolean {
    return this.#buffer.length === FRAME_BYTES;
  }
}
