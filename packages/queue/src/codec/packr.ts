import { isWithinMeans } from "@klatsch/kit/core";
import { Packr } from "msgpackr";

import { CodecError } from "./fields.ts";

// Records off: every frame stands alone, and every other MessagePack implementation reads it.
const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });

/**
 * Lists, maps, byte strings and the like in what is decoded. A hello with 10,000 ordered queues, each with all the stores it may have, has
 * some 210,000; what there is more of travels as lists of their own bytes.
 */
const PARTS_MAX: number = 512 * 1_024;
/** What the packer gets for later results when it has used a caller's memory, in bytes. */
const OWN_BYTES = 8_192;

/**
 * MessagePack of a positional array. The result is the caller's. It lies in `memory` if that is given and long enough: left to
 * itself the packer takes four times what it has written each time its memory ends.
 */
export function pack(wire: readonly unknown[], memory?: Buffer): Uint8Array {
  if (memory === undefined) return packr.pack(wire);
  packr.useBuffer(memory);
  try {
    return packr.pack(wire);
  } finally {
    packr.useBuffer(Buffer.allocUnsafeSlow(OWN_BYTES));
  }
}

/** Byte strings in the result are views into `bytes`. Throws {@link CodecError}. */
export function unpack(bytes: Uint8Array): unknown {
  if (!isWithinMeans(bytes, PARTS_MAX)) throw new CodecError("not MessagePack, or too much of it");
  try {
    return packr.unpack(bytes) as unknown;
  } catch (error) {
    throw new CodecError("not MessagePack", { cause: error });
  }
}
