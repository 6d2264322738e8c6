import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { types } from "node:util";
import { crc32 } from "node:zlib";
import { excerpt } from "../core/errors.ts";
import type { RowKey } from "../core/row.ts";
import { isRow, rowOf } from "../core/row.ts";
import type { Arena, Piece } from "./arena.ts";
import { StoreError } from "./errors.ts";
import { checkArgument } from "./given.ts";
import { COMMIT_BYTES_MAX, KEY_CHARS_MAX, OPERATION_OVERHEAD_BYTES, ROW_OVERHEAD_BYTES } from "./limits.ts";

/** One change of one key. */
export interface StoreOperation {
  /** 1 to 1,024 printable ASCII characters; keys sort by code. Or a row, which is such a key in numbers. */
  readonly key: string | RowKey;
  /** New value, copied during the call; `undefined` deletes the key. */
  readonly value: Uint8Array | undefined;
  /** Stands before `value`, so that nobody has to copy the two together. */
  readonly prefix?: Uint8Array | undefined;
  /**
   * The caller knows that this key has no value now: a delete soon after then costs nothing. A false claim may
   * bring the old value back.
   */
  readonly fresh?: boolean | undefined;
}

/**
 * Told once what became of a commit: no error and the number of the last synced batch (its own, unless it was
 * relaxed), or the error and 0.
 */
export type CommitDone = (error: StoreError | undefined, batchNo: number) => void;

/*
 * Layout of a journal record, little-endian:
 *   0  u32      CRC-32 of all that follows
 *   4  32 bytes chain hash
 *  36  u64      batch number
 *  44  u32      boot
 *  48  u32      number of operations; the highest bit is set if nobody waited for a sync of this record
 *  52  …        operations: u16 key length, u32 value length (0xffffffff: delete), key, value;
 *              key length 0xffff: a row, whose key is u8 letter, u32 slot, u32 seq
 *
 * The chain hash is SHA-256 over bytes 4… with the *previous* hash in its place, so each record
 * vouches for all earlier ones. The CRC adds no safety to that; it tells an altered record from a
 * record of another history, which is what a person at a broken disk needs to know. It is CRC-32
 * (IEEE), not CRC-32C, because that is the one Node computes natively.
 */
const HASH_AT = 4;
const NO_AT = 36;
const BOOT_AT = 44;
const COUNT_AT = 48;
const HEADER_BYTES = 52;
const OPERATION_HEADER_BYTES = 6;
/** In the number of operations: the record was written without a sync. */
const RELAXED = 0x80000000;
const DELETED = 0xffffffff;
/** In the place of a key's length: a row. */
const ROW = 0xffff;
const ROW_KEY_BYTES = 9;
/** Bytes of a row operation beside its value. */
export const ROW_BYTES: number = OPERATION_HEADER_BYTES + ROW_KEY_BYTES;
const NOTHING: Buffer = Buffer.alloc(0);
/** Bytes of a chain hash. */
export const HASH_BYTES: number = 32;

/** Called for each operation of a record; `length` is −1 for a delete. */
export interface OperationVisitor {
  text(key: string, offset: number, length: number): void;
  row(family: number, slot: number, seq: number, offset: number, length: number): void;
}

/** Why a record is not the one the chain expects. */
export type RecordFault = "too short" | "CRC mismatch" | "wrong number" | "hash mismatch" | "malformed";

/**
 * One link of the chain: filled while it waits for the disk, then sealed and immutable. Its bytes
 * are at once the record LevelDB gets and the memory recent values are read from.
 */
export class JournalBatch {
  readonly no: number;
  /** Its commits were all relaxed: it is written without a sync. */
  isRelaxed = false;
  /** Called in this order once the batch is written, or lost. */
  readonly waiters: CommitDone[] = [];
  readonly #arena: Arena | undefined;
  /** Memory of the arena that the bytes lie in. */
  #piece: Piece | undefined;
  #bytes: Buffer;
  #length: number;
  /** Of all operations but rows, in order, so that folding the batch decodes no text. */
  readonly #texts: string[] = [];
  #rowCount = 0;

  private constructor(no: number, bytes: Buffer, length: number, arena?: Arena, piece?: Piece) {
    this.no = no;
    this.#arena = arena;
    this.#piece = piece;
    this.#bytes = bytes;
    this.#length = length;
  }

  /** An empty batch with room for `operationBytes`; it grows as needed, in memory of `arena`. */
  static create(no: number, operationBytes: number, arena: Arena): JournalBatch {
    const piece = arena.take(HEADER_BYTES + operationBytes);
    return new JournalBatch(no, piece.bytes, HEADER_BYTES, arena, piece);
  }

  /** Reads a record back; returns the fault where it is not batch `no` after `previousHash`. */
  static read(record: Uint8Array, no: number, previousHash: Uint8Array): JournalBatch | RecordFault {
    const bytes = Buffer.from(record);
    if (bytes.length < HEADER_BYTES) return "too short";
    if (crc32(bytes.subarray(HASH_AT)) !== bytes.readUInt32LE(0)) return "CRC mismatch";
    if (readUint64(bytes, NO_AT) !== no) return "wrong number";
    const hash = Buffer.from(bytes.subarray(HASH_AT, HASH_AT + HASH_BYTES));
    bytes.set(previousHash, HASH_AT);
    const expected = sha256(bytes.subarray(HASH_AT));
    bytes.set(hash, HASH_AT);
    if (!expected.equals(hash)) return "hash mismatch";
    const batch = new JournalBatch(no, bytes, bytes.length);
    const count = bytes.readUInt32LE(COUNT_AT);
    batch.isRelaxed = count >= RELAXED;
    return batch.#readKeys(batch.isRelaxed ? count - RELAXED : count) ? batch : "malformed";
  }

  /** Encoded size so far, in bytes. */
  get length(): number {
    return this.#length;
  }

  /** Encoded size of the operations alone, in bytes. */
  get operationBytes(): number {
    return this.#length - HEADER_BYTES;
  }

  get operationCount(): number {
    return this.#texts.length + this.#rowCount;
  }

  /** About what the batch takes in memory while it is recent, in bytes. */
  get memoryBytes(): number {
    return this.#length + this.#texts.length * OPERATION_OVERHEAD_BYTES + this.#rowCount * ROW_OVERHEAD_BYTES;
  }

  /** Whether `record`, which need not be of the chain, says that nobody waited for its sync. */
  static saysRelaxed(record: Uint8Array): boolean {
    return record.length >= HEADER_BYTES && Buffer.from(record).readUInt32LE(COUNT_AT) >= RELAXED;
  }

  /** A copy of the chain hash; meaningful once sealed. */
  get hash(): Uint8Array {
    return Buffer.from(this.#bytes.subarray(HASH_AT, HASH_AT + HASH_BYTES));
  }

  /** Number of the boot that wrote the batch; meaningful once sealed. */
  get boot(): number {
    return this.#bytes.readUInt32LE(BOOT_AT);
  }

  /** A view of a value inside the record; it is another one after {@link release}. */
  view(offset: number, length: number): Uint8Array {
    return this.#bytes.subarray(offset, offset + length);
  }

  /** A value, for as long as anybody wants it; keep it unchanged. */
  value(offset: number, length: number): Uint8Array {
    const view = this.view(offset, length);
    return this.#piece === undefined ? view : Buffer.from(view);
  }

  /** Gives its memory to later batches: nobody reads from this one any more. */
  release(): void {
    if (this.#piece === undefined) return;
    this.#arena?.release(this.#piece);
    this.#piece = undefined;
    this.#bytes = NOTHING;
  }

  /**
   * Encodes `operations`, whose {@link encodedBytes} is `byteCount`; all or none. Returns the offset
   * of the first. Throws {@link StoreError} `STORE_KEY` for a text that is not printable, and a `TypeError` for a value whose buffer is gone.
   */
  append(operations: readonly StoreOperation[], byteCount: number): number {
    this.#reserve(byteCount);
    const start = this.#length;
    const bytes = this.#bytes;
    let at = start;
    const texts: string[] = [];
    for (const operation of operations) {
      const { key, value, prefix } = operation;
      const row = rowOf(key);
      const length = value === undefined ? DELETED : valueBytes(operation);
      if (row !== undefined) {
        at = writeHeader(bytes, at, ROW, length);
        bytes[at] = row.family;
        writeUint32(bytes, at + 1, row.slot);
        writeUint32(bytes, at + 5, row.seq);
        at += ROW_KEY_BYTES;
      } else {
        at = writeText(bytes, at, key as string, length);
        texts.push(key as string);
      }
      if (value === undefined) continue;
      if (prefix !== undefined) {
        bytes.set(prefix, at);
        at += prefix.length;
      }
      bytes.set(value, at);
      at += value.length;
    }
    this.#length = at;
    this.#rowCount += operations.length - texts.length;
    for (const text of texts) this.#texts.push(text);
    return start;
  }

  /** Fixes the batch as the successor of `previousHash` and returns the record to write. */
  seal(previousHash: Uint8Array, boot: number): Uint8Array {
    if (this.#piece !== undefined) this.#piece = this.#arena?.cut(this.#piece, this.#length);
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#bytes = bytes;
    writeUint64(bytes, NO_AT, this.no);
    bytes.writeUInt32LE(boot, BOOT_AT);
    bytes.writeUInt32LE(this.operationCount + (this.isRelaxed ? RELAXED : 0), COUNT_AT);
    bytes.set(previousHash, HASH_AT);
    bytes.set(sha256(bytes.subarray(HASH_AT)), HASH_AT);
    bytes.writeUInt32LE(crc32(bytes.subarray(HASH_AT)), 0);
    return bytes;
  }

  /** Every operation in order. */
  visit(visitor: OperationVisitor): void {
    const bytes = this.#bytes;
    let at = HEADER_BYTES;
    let texts = 0;
    while (at < this.#length) {
      const stored = bytes.readUInt32LE(at + 2);
      const length = stored === DELETED ? -1 : stored;
      if (bytes.readUInt16LE(at) === ROW) {
        const keyAt = at + OPERATION_HEADER_BYTES;
        at += ROW_BYTES;
        visitor.row(
          bytes[keyAt] ?? 0,
          bytes.readUInt32LE(keyAt + 1),
          bytes.readUInt32LE(keyAt + 5),
          at,
          length,
        );
      } else {
        const key = this.#texts[texts] ?? "";
        texts += 1;
        at = textValueOffset(at, key);
        visitor.text(key, at, length);
      }
      if (length > 0) at += length;
    }
  }

  /** Finds the keys of a record read back; `false` if it does not hold `count` operations exactly. */
  #readKeys(count: number): boolean {
    let at = HEADER_BYTES;
    for (let index = 0; index < count; index += 1) {
      const keyAt = at + OPERATION_HEADER_BYTES;
      if (keyAt > this.#length) return false;
      const keyLength = this.#bytes.readUInt16LE(at);
      const length = this.#bytes.readUInt32LE(at + 2);
      const keyEnd = keyAt + (keyLength === ROW ? ROW_KEY_BYTES : keyLength);
      if (keyEnd > this.#length) return false;
      if (keyLength === ROW) this.#rowCount += 1;
      else this.#texts.push(this.#bytes.toString("latin1", keyAt, keyEnd));
      at = keyEnd + (length === DELETED ? 0 : length);
    }
    return at === this.#length;
  }

  #reserve(byteCount: number): void {
    const needed = this.#length + byteCount;
    if (needed <= this.#bytes.length) return;
    const wanted = Math.max(needed, this.#length * 2);
    const piece = this.#arena?.take(wanted);
    const grown = piece?.bytes ?? Buffer.allocUnsafeSlow(wanted);
    grown.set(this.#bytes.subarray(0, this.#length));
    if (this.#piece !== undefined) this.#arena?.release(this.#piece);
    this.#piece = piece;
    this.#bytes = grown;
  }
}

/** Bytes of an operation's value; 0 for a delete. */
export function valueBytes({ value, prefix }: StoreOperation): number {
  return value === undefined ? 0 : value.length + (prefix?.length ?? 0);
}

/** Where the value of an operation with a text key begins. */
export function textValueOffset(operationAt: number, key: string): number {
  return operationAt + OPERATION_HEADER_BYTES + key.length;
}

/**
 * Size of `operations` in a record, in bytes. What is no bytes must not get past here: the record would have zeros in
 * its place, and be confirmed. Throws {@link StoreError} `STORE_LIMIT`, `STORE_KEY`, `STORE_VALUE` or `STORE_OPTIONS`.
 */
export function encodedBytes(operations: readonly StoreOperation[]): number {
  checkArgument(Array.isArray(operations), "operations", "an array");
  let byteCount = 0;
  for (const operation of operations) {
    checkArgument(typeof operation === "object" && operation !== null, "operations", "an array of objects");
    const { key, value, prefix } = operation;
    if (typeof key !== "string" && !isRow(key)) throw badKey(key);
    if (!isBytes(value) || !isBytes(prefix)) {
      throw new StoreError("STORE_VALUE", "a value, or what stands before it, is no Uint8Array");
    }
    byteCount += valueBytes(operation);
    if (rowOf(key) !== undefined) {
      byteCount += ROW_BYTES;
      continue;
    }
    const text = key as string;
    if (text.length === 0) throw badKey(text);
    if (text.length > KEY_CHARS_MAX) {
      throw new StoreError(
        "STORE_LIMIT",
        `a key has ${text.length} characters, ${KEY_CHARS_MAX} are allowed`,
      );
    }
    byteCount += OPERATION_HEADER_BYTES + text.length;
  }
  if (byteCount > COMMIT_BYTES_MAX) {
    throw new StoreError(
      "STORE_LIMIT",
      `a commit of ${byteCount} bytes exceeds ${COMMIT_BYTES_MAX}; split it`,
    );
  }
  return byteCount;
}

function isBytes(value: unknown): boolean {
  return value === undefined || types.isUint8Array(value);
}

/** SHA-256 of `bytes`. */
export function sha256(bytes: Uint8Array): Buffer {
  return hash("sha256", bytes, "buffer");
}

/** Writes a whole number up to 2⁵³ − 1. */
export function writeUint64(bytes: Buffer, at: number, value: number): void {
  bytes.writeBigUInt64LE(BigInt(value), at);
}

/** Reads what {@link writeUint64} wrote; anything larger loses precision and so matches nothing. */
export function readUint64(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at));
}

/** Key and header of an operation whose key is text; returns where its value goes. */
function writeText(bytes: Buffer, start: number, key: string, valueLength: number): number {
  let at = writeHeader(bytes, start, key.length, valueLength);
  let codes = 0;
  for (let index = 0; index < key.length; index += 1) {
    const code = key.charCodeAt(index);
    // Either difference is negative outside 0x20 to 0x7e: one test for the whole key.
    codes |= (0x7e - code) | (code - 0x20);
    bytes[at] = code;
    at += 1;
  }
  if (codes < 0) throw badKey(key);
  return at;
}

function writeHeader(bytes: Buffer, at: number, keyLength: number, valueLength: number): number {
  bytes[at] = keyLength;
  bytes[at + 1] = keyLength >>> 8;
  writeUint32(bytes, at + 2, valueLength);
  return at + OPERATION_HEADER_BYTES;
}

function writeUint32(bytes: Buffer, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

function badKey(key: unknown): StoreError {
  const shown = typeof key === "string" ? ` ${JSON.stringify(excerpt(key))}` : "";
  return new StoreError(
    "STORE_KEY",
    `key${shown}: must be 1 to ${KEY_CHARS_MAX} printable ASCII characters, or a row of a letter and two 32-bit numbers`,
  );
}
