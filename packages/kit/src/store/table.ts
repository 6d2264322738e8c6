import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import type { DiskOperation } from "./disk.ts";
import { StoreError } from "./errors.ts";
import { HASH_BYTES, readUint64, writeUint64 } from "./record.ts";

/*
 * Keys inside LevelDB:
 *   s       storeId, written at creation
 *   j       seal of the journal's files, likewise
 *   c/<n>   journal record n
 *   b/<k>   base record k: up to where the journal was folded into d/ by slice k
 *   d/<key> CRC-32 over key ‖ value, then the value
 */
export const STORE_ID_KEY: string = "s";
export const SEAL_KEY: string = "j";
export const JOURNAL_PREFIX: string = "c/";
export const BASE_PREFIX: string = "b/";
export const DATA_PREFIX: string = "d/";

/** Bytes of the CRC in front of a value. */
export const CRC_BYTES: number = 4;

/** LevelDB key of journal record `no`. */
export function journalKey(no: number): string {
  return JOURNAL_PREFIX + String(no).padStart(16, "0");
}

/** LevelDB key of base record `sliceNo`. */
export function baseKey(sliceNo: number): string {
  return BASE_PREFIX + String(sliceNo).padStart(16, "0");
}

/** Where the journal begins: everything up to batch `no` is in the table. */
export interface Base {
  /** Count of slices materialised so far. Base records are numbered without a gap. */
  readonly sliceNo: number;
  readonly no: number;
  readonly hash: Uint8Array;
  readonly boot: number;
}

const BASE_BYTES = 3 * 8 + HASH_BYTES;

/** The put that records `base`. */
export function baseOperation(base: Base): DiskOperation {
  const value = Buffer.alloc(BASE_BYTES);
  writeUint64(value, 0, base.sliceNo);
  writeUint64(value, 8, base.no);
  writeUint64(value, 16, base.boot);
  value.set(base.hash, 24);
  const key = baseKey(base.sliceNo);
  return { type: "put", key, value: guarded(key, value) };
}

/** Reads a base record; `undefined` if its CRC or size is wrong. */
export function readBase(key: string, stored: Uint8Array): Base | undefined {
  const value = unguarded(key, stored);
  if (value?.length !== BASE_BYTES) return undefined;
  return {
    sliceNo: readUint64(value, 0),
    no: readUint64(value, 8),
    boot: readUint64(value, 16),
    hash: value.subarray(24),
  };
}

/** `value` with a CRC over `key ‖ value` in front: LevelDB hands out renamed and flipped values. */
export function guarded(key: string, value: Uint8Array, scratch?: Scratch): Buffer {
  const bytes = CRC_BYTES + value.length;
  const stored = scratch?.take(bytes) ?? Buffer.allocUnsafe(bytes);
  stored.writeUInt32LE(crc32(value, crc32(key)), 0);
  stored.set(value, CRC_BYTES);
  return stored;
}

/** Memory for what is needed until a write is done, and then by nobody. */
export class Scratch {
  readonly #byteCount: number;
  #memory: Buffer | undefined;
  #at = 0;

  constructor(byteCount: number) {
    this.#byteCount = byteCount;
  }

  /** What was taken may be written over from now on. */
  reset(): void {
    this.#at = 0;
  }

  /** `undefined`: so much is not left. */
  take(byteCount: number): Buffer | undefined {
    if (this.#at + byteCount > this.#byteCount) return undefined;
    this.#memory ??= Buffer.allocUnsafeSlow(this.#byteCount);
    const from = this.#at;
    this.#at += byteCount;
    return this.#memory.subarray(from, this.#at);
  }
}

/** Undoes {@link guarded}; `undefined` if the CRC is wrong. */
export function unguarded(key: string, stored: Uint8Array): Buffer | undefined {
  const bytes = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (bytes.length < CRC_BYTES) return undefined;
  const value = bytes.subarray(CRC_BYTES);
  return crc32(value, crc32(key)) === bytes.readUInt32LE(0) ? value : undefined;
}

/** The value of table key `diskKey`. Throws {@link StoreError} `STORE_DAMAGED`. */
export function tableValue(diskKey: string, stored: Uint8Array, storeId: string): Uint8Array {
  const value = unguarded(diskKey, stored);
  if (value !== undefined) return value;
  throw damagedValue(diskKey, storeId);
}

/** What is said of a value whose CRC is wrong. */
export function damagedValue(diskKey: string, storeId: string): StoreError {
  const key = diskKey.slice(DATA_PREFIX.length);
  const message = `the value of ${key} in store ${storeId} has a wrong CRC`;
  return new StoreError("STORE_DAMAGED", message, { storeId });
}
