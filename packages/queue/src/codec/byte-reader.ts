import { CodecError } from "./fields.ts";

/** Bytes of a varint at most: 56 bits. */
export const VARINT_BYTES = 8;

/** Reads what was written by hand, from the front. Throws {@link CodecError} where the bytes end too early or say too much. */
export class ByteReader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, from = 0, end: number = bytes.length) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = from;
    this.#end = end;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#end;
  }

  byte(): number {
    const value = this.#bytes[this.#at];
    if (value === undefined || this.#at >= this.#end) throw new CodecError("a value ends too early");
    this.#at += 1;
    return value;
  }

  /** Seven bits a byte, least significant first. */
  varint(max: number): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < VARINT_BYTES; count += 1) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (value > max) throw new CodecError(`a number exceeds ${max}`);
        return value;
      }
      factor *= 0x80;
    }
    throw new CodecError("a number is too long");
  }

  /** A finite number ≥ 0. */
  double(): number {
    const value = this.#bytes.readDoubleBE(this.#take(8));
    if (!Number.isFinite(value) || value < 0) throw new CodecError("not a number");
    return value;
  }

  latin1(length: number): string {
    const from = this.#take(length);
    return this.#bytes.toString("latin1", from, this.#at);
  }

  utf8(length: number): string {
    const from = this.#take(length);
    return this.#bytes.toString("utf8", from, this.#at);
  }

  /** Twice as many lower-case digits. */
  hex(length: number): string {
    const from = this.#take(length);
    return this.#bytes.toString("hex", from, this.#at);
  }

  /** Text behind its length and one; a length of 0 means that there is none. */
  text(lengthMax: number): string | undefined {
    const length = this.varint(4 * lengthMax + 1);
    if (length === 0) return undefined;
    const text = this.utf8(length - 1);
    if (text.length > lengthMax) throw new CodecError("a text is too long");
    return text;
  }

  /** A view of the next bytes. Not a Buffer: applications get what they sent, with the methods it had. */
  bytes(length: number): Uint8Array {
    const from = this.#take(length);
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + from, length);
  }

  /** A reader of the next bytes alone. */
  part(length: number): ByteReader {
    const from = this.#take(length);
    return new ByteReader(this.#bytes, from, this.#at);
  }

  #take(length: number): number {
    const from = this.#at;
    if (from + length > this.#end) throw new CodecError("a value ends too early");
    this.#at = from + length;
    return from;
  }
}
