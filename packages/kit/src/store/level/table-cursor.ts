import { Buffer } from "node:buffer";
import { MalformedError } from "./byte-reader.ts";
import { unpackedBytes, unsnappyInto } from "./snappy.ts";
import type { Handle } from "./table-file.ts";
import { dataBlocks, SNAPPY } from "./table-file.ts";

/** Behind each key: what kind of entry it is, and its sequence number in 7 bytes. */
const TAG_BYTES = 8;
const PUT = 1;
const KEY_BYTES = 256;
/** Each place in a block where a key is written whole, and their number. */
const RESTART_BYTES = 4;
const BLOCK_BYTES = 8 * 1024;

/**
 * Walks through the entries of one table file, by key, the newest version of a key first. What it shows of an entry
 * is good until it moves on. Throws {@link MalformedError}.
 */
export class TableCursor {
  /** The key in its first {@link keyLength} bytes. */
  key: Buffer = Buffer.allocUnsafeSlow(KEY_BYTES);
  keyLength = 0;
  isDelete = false;
  /** The value from {@link from} up to {@link to}. */
  block: Buffer;
  from = 0;
  to = 0;
  readonly file: Buffer;
  readonly #blocks: readonly Handle[];
  #blockNo = 0;
  #unpacked: Buffer = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  #at = 0;
  #end = 0;
  #number = 0;

  /** `file`: its first `bytes` bytes are the table. */
  constructor(file: Buffer, bytes: number) {
    this.file = file;
    this.block = file;
    this.#blocks = dataBlocks(file.subarray(0, bytes));
  }

  /** When the version was written: higher is later. */
  get sequence(): number {
    const at = this.keyLength + 1;
    return this.key.readUIntLE(at, 6) + (this.key[at + 6] ?? 0) * 2 ** 48;
  }

  /** Moves on; `false` at the end. */
  next(): boolean {
    while (this.#at >= this.#end) if (!this.#nextBlock()) return false;
    const { block } = this;
    // Each key says how much of the one before it shares.
    let at = this.#varint(block, this.#at);
    const shared = this.#number;
    at = this.#varint(block, at);
    const added = this.#number;
    at = this.#varint(block, at);
    const valueAt = at + added;
    const bytes = shared + added;
    this.to = valueAt + this.#number;
    const isSound = bytes >= TAG_BYTES && this.to <= this.#end;
    if (!isSound || (shared > 0 && shared > this.keyLength + TAG_BYTES))
      throw new MalformedError("an entry ends outside its block");
    if (bytes > this.key.length) this.key = Buffer.concat([this.key], 2 * bytes);
    const { key } = this;
    for (let index = 0; index < added; index += 1) key[shared + index] = block[at + index] ?? 0;
    this.keyLength = bytes - TAG_BYTES;
    const kind = key[this.keyLength] ?? 0;
    if (kind > PUT) throw new MalformedError(`unknown kind of entry ${kind}`);
    this.isDelete = kind !== PUT;
    this.from = valueAt;
    this.#at = this.to;
    return true;
  }

  #nextBlock(): boolean {
    const handle = this.#blocks[this.#blockNo];
    if (handle === undefined) return false;
    this.#blockNo += 1;
    const { file } = this;
    const { offset, size } = handle;
    let stop = offset + size;
    this.#at = offset;
    this.block = file;
    const compression = file[stop] ?? 0;
    if (compression > SNAPPY) throw new MalformedError(`unknown compression ${compression}`);
    if (compression === SNAPPY) {
      const bytes = unpackedBytes(file, offset, stop);
      if (bytes > this.#unpacked.length) this.#unpacked = Buffer.allocUnsafeSlow(2 * bytes);
      stop = unsnappyInto(this.#unpacked, file, offset, stop);
      this.#at = 0;
      this.block = this.#unpacked;
    }
    if (stop - this.#at < RESTART_BYTES) throw new MalformedError("a block without restarts");
    this.#end = stop - RESTART_BYTES * (1 + this.block.readUInt32LE(stop - RESTART_BYTES));
    if (this.#end < this.#at) throw new MalformedError("a block without room for its restarts");
    return true;
  }

  /** Reads {@link #number} and returns where it ends. */
  #varint(bytes: Buffer, from: number): number {
    let byte = bytes[from] ?? 0;
    this.#number = byte & 0x7f;
    let at = from + 1;
    for (let shift = 7; byte >= 0x80; shift += 7) {
      if (shift > 28) throw new MalformedError("a number without an end");
      byte = bytes[at] ?? 0;
      this.#number += (byte & 0x7f) * 2 ** shift;
      at += 1;
    }
    return at;
  }
}
