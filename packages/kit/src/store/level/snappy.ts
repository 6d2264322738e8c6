import { Buffer } from "node:buffer";
import { ByteReader, MalformedError } from "./byte-reader.ts";

/** No block that is unpacked here, an index or a list of filters, comes near this. */
const UNPACKED_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Unpacks Snappy's raw format (google/snappy, format_description.txt). Only for the small blocks
 * that say where the others are; throws `MalformedError`.
 */
export function unsnappy(packed: Buffer): Buffer {
  const reader = new ByteReader(packed);
  const length = reader.varint();
  if (length > UNPACKED_BYTES_MAX) throw new MalformedError("unpacks to too much");
  const unpacked = Buffer.alloc(length);
  let at = 0;
  while (!reader.isAtEnd) {
    const tag = reader.byte();
    if ((tag & 3) === 0) {
      const literal = reader.take(literalLength(reader, tag >>> 2));
      if (at + literal.length > length) throw new MalformedError("unpacks to more than it says");
      unpacked.set(literal, at);
      at += literal.length;
    } else {
      at = copy(unpacked, at, copyOf(reader, tag));
    }
  }
  if (at !== length) throw new MalformedError("unpacks to less than it says");
  return unpacked;
}

interface Copy {
  readonly length: number;
  readonly distance: number;
}

function literalLength(reader: ByteReader, code: number): number {
  return 1 + (code < 60 ? code : reader.littleEndian(code - 59));
}

function copyOf(reader: ByteReader, tag: number): Copy {
  if ((tag & 3) === 1) return { length: 4 + ((tag >>> 2) & 7), distance: ((tag >>> 5) << 8) | reader.byte() };
  return { length: 1 + (tag >>> 2), distance: reader.littleEndian((tag & 3) === 2 ? 2 : 4) };
}

/** Byte by byte: a copy may reach into what it is writing. */
function copy(bytes: Buffer, at: number, { length, distance }: Copy): number {
  if (distance === 0 || distance > at || at + length > bytes.length) throw new MalformedError("bad copy");
  for (let index = at; index < at + length; index += 1) bytes[index] = bytes[index - distance] ?? 0;
  return at + length;
}
