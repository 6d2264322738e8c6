import type { Buffer } from "node:buffer";
import { ByteReader, MalformedError } from "./byte-reader.ts";
import { crc32c, unmask } from "./crc32c.ts";
import { unsnappy } from "./snappy.ts";

/*
 * A table (leveldb/doc/table_format.md): blocks, each followed by one byte of compression type and a
 * masked CRC-32C over block and type; then a footer with the places of the metaindex and the index.
 */
const FOOTER_BYTES = 48;
const TRAILER_BYTES = 5;
const MAGIC = "57fb808b247547db";
/** Compression type of a block. */
export const SNAPPY: number = 1;

/** Where a block lies in its file. */
export interface Handle {
  readonly offset: number;
  readonly size: number;
}

/** Checks the CRC of every block of a table file. Throws {@link MalformedError}. */
export function checkTable(file: Buffer): void {
  const { metaindex, index } = readFooter(file);
  for (const list of [metaindex, index]) {
    for (const block of handlesIn(readBlock(file, list))) checkBlock(file, block);
  }
}

/** Where the entries of a table lie, in key order; only the list's own CRC is checked. Throws {@link MalformedError}. */
export function dataBlocks(file: Buffer): readonly Handle[] {
  const blocks = handlesIn(readBlock(file, readFooter(file).index));
  const isOutside = blocks.some(({ offset, size }) => offset + size + TRAILER_BYTES > file.length);
  if (isOutside) throw new MalformedError("a block ends outside the file");
  return blocks;
}

function readFooter(file: Buffer): { readonly metaindex: Handle; readonly index: Handle } {
  if (file.length < FOOTER_BYTES) throw new MalformedError("too short for a footer");
  const footer = new ByteReader(file, file.length - FOOTER_BYTES);
  if (file.toString("hex", file.length - 8) !== MAGIC) throw new MalformedError("no footer");
  return { metaindex: readHandle(footer), index: readHandle(footer) };
}

function checkBlock(file: Buffer, { offset, size }: Handle): void {
  const end = offset + size;
  if (end + TRAILER_BYTES > file.length) throw new MalformedError(`block at ${offset} ends outside the file`);
  const stored = unmask(file.readUInt32LE(end + 1));
  if (crc32c(file, offset, end + 1) !== stored)
    throw new MalformedError(`block at ${offset} has a wrong CRC`);
}

function readBlock(file: Buffer, handle: Handle): Buffer {
  checkBlock(file, handle);
  const end = handle.offset + handle.size;
  const content = file.subarray(handle.offset, end);
  return file[end] === SNAPPY ? unsnappy(content) : content;
}

/** The handles an index block holds as values; keys do not matter here. */
function handlesIn(block: Buffer): Handle[] {
  if (block.length < 4) throw new MalformedError("index without restarts");
  const restartsBytes = 4 * (1 + block.readUInt32LE(block.length - 4));
  const reader = new ByteReader(block, 0, block.length - restartsBytes);
  const handles: Handle[] = [];
  while (!reader.isAtEnd) {
    reader.varint(); // Bytes shared with the key before.
    const keyBytes = reader.varint();
    const valueBytes = reader.varint();
    reader.take(keyBytes);
    handles.push(readHandle(new ByteReader(reader.take(valueBytes))));
  }
  return handles;
}

function readHandle(reader: ByteReader): Handle {
  return { offset: reader.varint(), size: reader.varint() };
}
