import { Packr } from "msgpackr";

import { CodecError } from "./read.ts";

// Records off: every frame stands alone, and every other MessagePack implementation reads it.
const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });

/** MessagePack of a positional array. The result is the caller's. */
export function pack(wire: readonly unknown[]): Uint8Array {
  return packr.pack(wire);
}

/** Byte strings in the result are views into `bytes`. Throws {@link CodecError}. */
export function unpack(bytes: Uint8Array): unknown {
  try {
    return packr.unpack(bytes) as unknown;
  } catch (error) {
    throw new CodecError("not MessagePack", { cause: error });
  }
}
