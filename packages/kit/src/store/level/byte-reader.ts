import type { Buffer } from "node:buffer";

/** Thrown by {@link ByteReader} and whoever uses it; never leaves this folder. */
export class MalformedError extends Error {}

/** Walks through bytes that may be anything. Every method throws {@link MalformedError} at the end of them. */
export class ByteReader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  constructor(bytes: Buffer, start = 0, end: number = bytes.length) {
    if (start < 0 || start > end || end > bytes.length) throw new MalformedError("range outside the file");
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#end;
  }

  byte(): number {
    const value = this.#at < this.#end ? this.#bytes[this.#at] : undefined;
    if (value === undefined) throw new MalformedError("ends too early");
    this.#at += 1;
    return value;
  }

  /** A whole number in seven bits a byte, lowest first, at most 64 bits; inexact above 2⁵³. */
  varint(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 63; factor *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw new MalformedError("number without an end");
  }

  /** The next `length` bytes, as a view. */
  take(length: number): Buffer {
    if (length > this.#end - this.#at) throw new MalformedError("ends too early");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** A little-endian number of `width` bytes, 1 to 4. */
  littleEndian(width: number): number {
    return this.take(width).readUIntLE(0, width);
  }

  /** Bytes preceded by their length. */
  chunk(): Buffer {
    return this.take(this.varint());
  }
}
