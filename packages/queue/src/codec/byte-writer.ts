import { VARINT_BYTES } from "./byte-reader.ts";

/** What the writer holds between frames, in bytes. */
const KEPT_BYTES = 2 * 1_024 * 1_024;

/** Writes by hand what {@link ByteReader} reads: one piece after the other, in memory that is used again after `reset`. */
export class ByteWriter {
  #bytes: Buffer = Buffer.allocUnsafeSlow(64 * 1_024);
  #from = 0;
  #at = 0;

  /** Everything taken so far is nobody's any more. */
  reset(): void {
    if (this.#bytes.length > KEPT_BYTES) this.#bytes = Buffer.allocUnsafeSlow(KEPT_BYTES);
    this.#from = 0;
    this.#at = 0;
  }

  /** What was written since the last time; good until the next `reset`. */
  take(): Uint8Array {
    const piece = this.#bytes.subarray(this.#from, this.#at);
    this.#from = this.#at;
    return piece;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#at] = value;
    this.#at += 1;
  }

  varint(number: number): void {
    this.#reserve(VARINT_BYTES);
    let rest = number;
    while (rest >= 0x80) {
      this.#bytes[this.#at] = (rest % 0x80) | 0x80;
      this.#at += 1;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[this.#at] = rest;
    this.#at += 1;
  }

  double(value: number): void {
    this.#reserve(8);
    this.#at = this.#bytes.writeDoubleBE(value, this.#at);
  }

  hex(digits: string): void {
    this.#reserve(digits.length / 2);
    this.#at += this.#bytes.write(digits, this.#at, digits.length / 2, "hex");
  }

  text(text: string | undefined): void {
    if (text === undefined) return this.varint(0);
    const bytes = Buffer.byteLength(text, "utf8");
    this.varint(bytes + 1);
    this.#reserve(bytes);
    this.#at += this.#bytes.write(text, this.#at, bytes, "utf8");
  }

  /** Behind their length. */
  sized(bytes: Uint8Array): void {
    this.varint(bytes.length);
    this.raw(bytes);
  }

  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #reserve(count: number): void {
    if (this.#at + count <= this.#bytes.length) return;
    const written = this.#bytes.subarray(this.#from, this.#at);
    const larger = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, written.length + count));
    larger.set(written);
    this.#bytes = larger;
    this.#from = 0;
    this.#at = written.length;
  }
}
