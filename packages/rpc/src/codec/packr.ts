import { isWithinMeans } from "@klatsch/kit/core";
import { Packr } from "msgpackr";

import { ITEM_PARTS_MAX } from "../core/limits.ts";
import { CodecError } from "./read.ts";

/**
 * The packer asks for `moreTypes` at each typed array that is no Buffer, at sets, errors and the like, for `mapAsEmptyObject` at
 * maps, and for neither elsewhere: only what has such a value is looked through after it was packed. Functions it would write as
 * nothing. It asks for `encodeUndefinedAsNil` at each `undefined`: a list with one item at 1,000,000,000 has as many of them, and would take all
 * memory before anybody saw how long it is.
 */
class NoticingPackr extends Packr {
  hasNoticed = false;
  undefinedCount = 0;

  get encodeUndefinedAsNil(): boolean {
    this.undefinedCount += 1;
    if (this.undefinedCount > ITEM_PARTS_MAX)
      throw new TooMuchError("too many fields or items are undefined");
    return false;
  }

  get moreTypes(): boolean {
    this.hasNoticed = true;
    return false;
  }

  writeFunction(): never {
    throw new TypeError("a function cannot travel");
  }

  get mapAsEmptyObject(): boolean {
    this.hasNoticed = true;
    return false;
  }
}

/** What is packed exceeds what an item may have. */
export class TooMuchError extends Error {
  override readonly name: string = "TooMuchError";
}

// Records off: every frame stands alone, and every other MessagePack implementation reads it.
const packr = new NoticingPackr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });

type Values = Readonly<Record<string, unknown>>;

/** MessagePack of a positional array. The result is the caller's. Throws what the packer throws, and at {@link refuseOdd}. */
export function pack(wire: readonly unknown[]): Uint8Array {
  packr.undefinedCount = 0;
  const bytes = packr.pack(wire);
  if (packr.hasNoticed) {
    packr.hasNoticed = false;
    refuseOdd(wire);
  }
  return bytes;
}

/**
 * Throws TypeError at a typed array that is no Uint8Array, or a DataView: the packer cuts each element to a byte, and what its
 * memory held before goes after them. So too at a map whose keys are objects: the decoder reads none such, and would end the session.
 * Goes where the packer went; that came to an end, so this does.
 */
function refuseOdd(value: unknown): void {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
  if (ArrayBuffer.isView(value))
    throw new TypeError(`${value.constructor.name}: of typed arrays only a Uint8Array can travel`);
  if (Array.isArray(value)) for (const one of value as readonly unknown[]) refuseOdd(one);
  else if (value instanceof Map)
    for (const [key, one] of value as ReadonlyMap<unknown, unknown>) {
      if (typeof key === "object" && key !== null)
        throw new TypeError("of maps, only those whose keys are no objects can travel");
      refuseOdd(one);
    }
  else if (value.constructor !== Object && "toJSON" in value && typeof value.toJSON === "function")
    refuseOdd(value.toJSON());
  else if (value instanceof Set) for (const one of value) refuseOdd(one);
  else if (value instanceof Error) refuseOdd(value.cause);
  else for (const key in value) if (Object.hasOwn(value, key)) refuseOdd((value as Values)[key]);
}

/** Byte strings in the result are views into `bytes`. Throws {@link CodecError}. */
export function unpack(bytes: Uint8Array): unknown {
  if (!isWithinMeans(bytes, ITEM_PARTS_MAX)) throw new CodecError("not MessagePack, or too much of it");
  try {
    return packr.unpack(bytes) as unknown;
  } catch (error) {
    throw new CodecError("not MessagePack", { cause: error });
  }
}

/** A value as it is now, in bytes that belong to nothing else, for {@link unpackValue}. Throws what {@link pack} throws. */
export function packValue(value: unknown): Uint8Array {
  return Uint8Array.from(pack([value]));
}

/** A value of its own each time. Throws {@link CodecError} where it has too many parts for an item. */
export function unpackValue(bytes: Uint8Array): unknown {
  const [value] = unpack(bytes) as readonly unknown[];
  return value;
}
