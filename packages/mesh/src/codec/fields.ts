import { Packr } from "msgpackr";
import { isPlainArray } from "./scan.ts";
import type { ScanLimits } from "./scan.ts";

const packr = new Packr({ useRecords: false });

/** Encodes a positional array. The result is a buffer of its own. */
export function encodeFields(fields: readonly unknown[]): Uint8Array {
  return packr.pack(fields);
}

/** Thrown inside `codec/` only: the bytes are not what they should be. */
class BadField extends Error {}

/** Reads a positional array field by field. Unknown trailing fields are ignored, so that messages can grow. */
export class Fields {
  readonly #values: readonly unknown[];
  #at = 0;

  constructor(values: readonly unknown[]) {
    this.#values = values;
  }

  /** A whole number, 0 ≤ n ≤ `max`. */
  count(max: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.#next();
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > max)
      throw new BadField();
    return value;
  }

  /** A string of `min` to `max` UTF-16 units. */
  text(min: number, max: number): string {
    const value = this.#next();
    if (typeof value !== "string" || value.length < min || value.length > max) throw new BadField();
    return value;
  }

  matching(pattern: RegExp): string {
    const value = this.#next();
    if (typeof value !== "string" || !pattern.test(value)) throw new BadField();
    return value;
  }

  oneOf<Value extends string>(values: readonly Value[]): Value {
    const value = values[this.count(values.length - 1)];
    if (value === undefined) throw new BadField();
    return value;
  }

  list<Item>(max: number, read: (fields: Fields) => Item): Item[] {
    const value = this.#next();
    if (!Array.isArray(value) || value.length > max) throw new BadField();
    return value.map((item) => {
      if (!Array.isArray(item)) throw new BadField();
      return read(new Fields(item));
    });
  }

  nested<Value>(read: (fields: Fields) => Value): Value {
    const value = this.#next();
    if (!Array.isArray(value)) throw new BadField();
    return read(new Fields(value));
  }

  texts(countMax: number, lengthMax: number): string[] {
    const value = this.#next();
    if (!Array.isArray(value) || value.length > countMax) throw new BadField();
    const inner = new Fields(value);
    return value.map(() => inner.text(1, lengthMax));
  }

  counts(countMax: number, max: number): number[] {
    const value = this.#next();
    if (!Array.isArray(value) || value.length > countMax) throw new BadField();
    const inner = new Fields(value);
    return value.map(() => inner.count(max));
  }

  /** A field that older peers do not send. */
  optional<Value>(read: () => Value): Value | undefined {
    return this.#at < this.#values.length ? read() : undefined;
  }

  /** A byte string of at most `max` bytes, or `undefined` where there is nil. It is a view into what was decoded. */
  optionalBytes(max: number): Uint8Array | undefined {
    const value = this.#next();
    if (value === null) return undefined;
    if (!(value instanceof Uint8Array) || value.length > max) throw new BadField();
    return value;
  }

  /** A string, or `undefined` where there is nil. */
  optionalText(min: number, max: number): string | undefined {
    const value = this.#next();
    if (value === null) return undefined;
    if (typeof value !== "string" || value.length < min || value.length > max) throw new BadField();
    return value;
  }

  /** Ends with a refusal. */
  refuse(): never {
    throw new BadField();
  }

  #next(): unknown {
    const value = this.#values[this.#at];
    this.#at += 1;
    return value;
  }
}

/** Decodes one positional array with `read`; `undefined` if the bytes or a field are not as they should be. */
export function decodeFields<Value>(
  bytes: Uint8Array,
  read: (fields: Fields) => Value,
  limits?: ScanLimits,
): Value | undefined {
  if (!isPlainArray(bytes, limits)) return undefined;
  try {
    const values: unknown = packr.unpack(bytes);
    return Array.isArray(values) ? read(new Fields(values)) : undefined;
  } catch {
    return undefined; // A refused field, or text that is not UTF-8: both are the sender's fault.
  }
}
