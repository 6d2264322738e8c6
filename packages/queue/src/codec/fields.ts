/** Bytes that are not what the protocol says. Caught at the frame: the peer's session ends, nothing else. */
export class CodecError extends Error {
  override readonly name: string = "CodecError";
}

/** Highest seq anybody may name: lanes hold at most 65,536 messages by default, ordered ones never more than this. */
export const SEQ_MAX = 0x7fff_ffff;

/** Highest round or step of a ballot: it takes 6 bytes on disk, and nobody gets there by counting. */
export const ROUND_MAX: number = 2 ** 48 - 1;

const PROOF_MAX: number = 2 ** 48 - 1;

/**
 * Reads the positional array of one record. Fields beyond those read are a later version's and ignored;
 * a field that is missing or of the wrong type throws {@link CodecError}.
 */
export class Fields {
  readonly #values: readonly unknown[];
  #at = 0;

  constructor(value: unknown) {
    if (!Array.isArray(value)) throw new CodecError("expected an array");
    this.#values = value;
  }

  #next(): unknown {
    const value = this.#values[this.#at];
    this.#at += 1;
    return value;
  }

  uint(max: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.#next();
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max) {
      throw new CodecError(`field ${this.#at}: expected a whole number up to ${max}`);
    }
    return value;
  }

  /** A store's proof of a batch; 0, which proves nothing, where an earlier version wrote none. */
  proof(): number {
    return this.optional((at) => at.uint(PROOF_MAX)) ?? 0;
  }

  /** A whole number that may be −1. */
  int(): number {
    const value = this.#next();
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < -1) {
      throw new CodecError(`field ${this.#at}: expected a whole number from −1`);
    }
    return value;
  }

  /** A finite number ≥ 0. */
  number(): number {
    const value = this.#next();
    if (typeof value !== "number" || !Number.isFinite(value) || value < 0) {
      throw new CodecError(`field ${this.#at}: expected a number`);
    }
    return value;
  }

  /** A number from 0 to 1. */
  ratio(): number {
    const value = this.number();
    if (value > 1) throw new CodecError(`field ${this.#at}: expected a number up to 1`);
    return value;
  }

  bool(): boolean {
    const value = this.#next();
    if (typeof value !== "boolean") throw new CodecError(`field ${this.#at}: expected a boolean`);
    return value;
  }

  text(lengthMax: number): string {
    const value = this.#next();
    if (typeof value !== "string" || value.length > lengthMax) {
      throw new CodecError(`field ${this.#at}: expected text of up to ${lengthMax} characters`);
    }
    return value;
  }

  /** Lower-case hexadecimal of exactly `digits` digits. */
  hex(digits: number): string {
    const value = this.text(digits);
    if (value.length !== digits || !/^[0-9a-f]*$/.test(value)) {
      throw new CodecError(`field ${this.#at}: expected ${digits} hexadecimal digits`);
    }
    return value;
  }

  bytes(lengthMax: number): Uint8Array {
    const value = this.#next();
    if (!(value instanceof Uint8Array) || value.length > lengthMax) {
      throw new CodecError(`field ${this.#at}: expected up to ${lengthMax} bytes`);
    }
    // Not a Buffer: applications get what they sent, with the methods it had.
    return new Uint8Array(value.buffer, value.byteOffset, value.length);
  }

  /** Bytes as they lie in the frame, for a reader of their own. */
  raw(): Uint8Array {
    const value = this.#next();
    if (!(value instanceof Uint8Array)) throw new CodecError(`field ${this.#at}: expected bytes`);
    return value;
  }

  /** `undefined` for a field that is absent or null. */
  optional<T>(read: (fields: Fields) => T): T | undefined {
    const value = this.#values[this.#at];
    if (value !== undefined && value !== null) return read(this);
    this.#at += 1;
    return undefined;
  }

  list<T>(lengthMax: number, read: (value: unknown) => T): readonly T[] {
    const value = this.#next();
    if (!Array.isArray(value) || value.length > lengthMax) {
      throw new CodecError(`field ${this.#at}: expected a list of up to ${lengthMax}`);
    }
    return value.map(read);
  }

  nested(): Fields {
    return new Fields(this.#next());
  }
}
