import { Buffer } from "node:buffer";
import { MalformedError } from "./byte-reader.ts";

/** No block that is unpacked here comes near this. */
const UNPACKED_BYTES_MAX = 64 * 1024 * 1024;
/** Less is copied byte by byte: a call takes longer. */
const CALL_BYTES = 32;
const LITERAL = 0;
const SHORT_COPY = 1;
/** A longer literal says how long it is in bytes of their own. */
const LITERAL_BYTES = 60;
/** Bytes behind the tag of a copy. */
const WIDTHS = [0, 1, 2, 4];
const UNITS = [1, 0x100, 0x1_0000, 0x100_0000];
/** Bytes of the length in front at most: 32 bits. */
const LENGTH_BYTES = 5;

/** Unpacks Snappy's raw format (google/snappy, format_description.txt); throws {@link MalformedError}. */
export function unsnappy(packed: Buffer): Buffer {
  const unpacked = Buffer.alloc(unpackedBytes(packed, 0, packed.length));
  unsnappyInto(unpacked, packed, 0, packed.length);
  return unpacked;
}

/** How long what lies in `packed` from `start` to `end` is unpacked. Throws {@link MalformedError}. */
export function unpackedBytes(packed: Buffer, start: number, end: number): number {
  let length = 0;
  for (let index = 0; index < LENGTH_BYTES && start + index < end; index += 1) {
    const byte = packed[start + index] ?? 0;
    length += (byte & 0x7f) * 2 ** (7 * index);
    if (byte >= 0x80) continue;
    if (length > UNPACKED_BYTES_MAX) throw new MalformedError("unpacks to too much");
    return length;
  }
  throw new MalformedError("a length without an end");
}

/** Unpacks into the front of `unpacked`, which has room for it. Returns how many bytes. */
export function unsnappyInto(unpacked: Buffer, packed: Buffer, start: number, end: number): number {
  const length = unpackedBytes(packed, start, end);
  let from = start;
  while ((packed[from] ?? 0) >= 0x80) from += 1;
  from += 1;
  let at = 0;
  while (from < end) {
    const tag = packed[from] ?? 0;
    const kind = tag & 3;
    let bytes = (tag >>> 2) + 1;
    const width = kind !== LITERAL ? (WIDTHS[kind] ?? 0) : Math.max(0, bytes - LITERAL_BYTES);
    let number = 0;
    from += 1;
    for (let index = 0; index < width; index += 1)
      number += (packed[from + index] ?? 0) * (UNITS[index] ?? 0);
    from += width;
    if (kind === LITERAL) {
      if (width > 0) bytes = number + 1;
      if (from + bytes > end || at + bytes > length) throw new MalformedError("a literal is too long");
      if (bytes >= CALL_BYTES) packed.copy(unpacked, at, from, from + bytes);
      else for (let index = 0; index < bytes; index += 1) unpacked[at + index] = packed[from + index] ?? 0;
      from += bytes;
      at += bytes;
      continue;
    }
    let distance = number;
    if (kind === SHORT_COPY) {
      bytes = 4 + ((tag >>> 2) & 7);
      distance += (tag >>> 5) << 8;
    }
    const stop = at + bytes;
    if (distance === 0 || distance > at || stop > length) throw new MalformedError("bad copy");
    if (bytes >= CALL_BYTES && distance >= bytes) {
      unpacked.copyWithin(at, at - distance, stop - distance);
    } else if (bytes >= CALL_BYTES && distance === 1) {
      unpacked.fill(unpacked[at - 1] ?? 0, at, stop);
    } else {
      // Byte by byte: it reaches into what it is writing.
      for (let to = at; to < stop; to += 1) unpacked[to] = unpacked[to - distance] ?? 0;
    }
    at = stop;
  }
  if (from !== end) throw new MalformedError("ends too early");
  if (at !== length) throw new MalformedError("unpacks to less than it says");
  return length;
}
