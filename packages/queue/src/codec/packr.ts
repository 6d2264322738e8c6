import { Packr } from "msgpackr";

import { CodecError } from "./fields.ts";

// Records off: every frame stands alone, and every other MessagePack implementation reads it.
const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });

/** Above this size the packer is given memory for the whole result, in bytes. */
const LARGE_BYTES = 4_096;

/**
 * MessagePack of a positional array. The result is the caller's. `bytes` is about how long it will be: left to
 * itself the packer takes four times what it has written each time its memory ends.
 */
export function pack(wire: readonly unknown[], bytes = 0): Uint8Array {
  if (bytes > LARGE_BYTES) packr.useBuffer(Buffer.allocUnsafeSlow(bytes + LARGE_BYTES));
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
