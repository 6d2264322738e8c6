import { Buffer } from "node:buffer";
import { crc32 } from "node:zlib";
import { rowOf } from "../core/row.ts";
import type { Disk, DiskVisitor } from "./disk.ts";
import { prefixRange } from "./disk.ts";
import type { Overlay } from "./overlay.ts";
import { CRC_BYTES, DATA_PREFIX, damagedValue } from "./table.ts";

/** Shown everything a store holds while it is opened: bytes are good until the method returns. */
export interface StoreVisitor {
  /** A row, or a key whose text has that form, and its value, which are the bytes from `from` up to `to`. */
  row(family: number, slot: number, seq: number, bytes: Buffer, from: number, to: number): void;
  /** Any other key. */
  text(key: string, value: Uint8Array): void;
}

/** Carries what a visitor threw past those who take it for a fault of the disk. */
export class VisitFailure extends Error {}

const SLASH = 0x2f;
const DIGITS = 8;
const FAMILY_AT: number = DATA_PREFIX.length;
const SLOT_AT: number = FAMILY_AT + 2;
const SEQ_AT: number = SLOT_AT + DIGITS + 1;
const ROW_KEY_BYTES: number = SEQ_AT + DIGITS;

const CRC_TABLE: Int32Array = Int32Array.from({ length: 256 }, (_, value) => {
  let crc = value;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  return crc;
});

/**
 * Shows `visitor` what the table holds, by key, and then what is recent, by key as well: all that is there, each key once. Each
 * value's CRC is checked. Throws `STORE_DAMAGED`, and {@link VisitFailure}.
 */
export async function visitAll(
  disk: Disk,
  overlay: Overlay,
  storeId: string,
  visitor: StoreVisitor,
): Promise<void> {
  // Set while the visitor is at work: what is thrown then is its own.
  let isShowing = false;
  const entry = (key: Buffer, keyLength: number, bytes: Buffer, start: number, to: number): void => {
    const from = start + CRC_BYTES;
    const crc = from > to ? -1 : bytes.readUInt32LE(start);
    if (crc !== crc32(viewOf(bytes, from, to), crcOf(key, keyLength)))
      throw damagedValue(key.toString("latin1", 0, keyLength), storeId);
    const family = key[FAMILY_AT] ?? 0;
    const slot = isRowKey(key, keyLength) ? digits(key, SLOT_AT) : -1;
    const seq = slot < 0 ? -1 : digits(key, SEQ_AT);
    if (seq >= 0) {
      if (overlay.hasRow(family, slot, seq)) return;
      isShowing = true;
      visitor.row(family, slot, seq, bytes, from, to);
    } else {
      const text = key.toString("latin1", DATA_PREFIX.length, keyLength);
      if (overlay.recent(text) !== undefined) return;
      isShowing = true;
      visitor.text(text, viewOf(bytes, from, to).slice());
    }
    isShowing = false;
  };
  try {
    await visitTable(disk, entry);
    for (const [key, value] of overlay.snapshot("")) {
      if (value === undefined) continue;
      const row = rowOf(key);
      isShowing = true;
      if (row === undefined) visitor.text(key, value);
      else visitor.row(row.family, row.slot, row.seq, bufferOf(value), 0, value.length);
      isShowing = false;
    }
  } catch (cause) {
    throw isShowing ? new VisitFailure("a visitor failed", { cause }) : cause;
  }
}

async function visitTable(disk: Disk, visit: DiskVisitor): Promise<void> {
  const range = prefixRange(DATA_PREFIX);
  if ((await disk.visit?.(range, visit)) === true) return;
  for await (const page of disk.pages(range)) {
    for (const [key, value] of page) {
      visit(Buffer.from(key, "latin1"), key.length, bufferOf(value), 0, value.length);
    }
  }
}

/** Not a Buffer, which takes twice as long to make. */
function viewOf({ buffer, byteOffset }: Buffer, from: number, to: number): Uint8Array {
  return new Uint8Array(buffer, byteOffset + from, Math.max(0, to - from));
}

function bufferOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}

/** The CRC-32 of a key: for so few bytes a call of zlib's takes three times as long. */
function crcOf(key: Buffer, keyLength: number): number {
  let crc = -1;
  for (let at = 0; at < keyLength; at += 1) {
    crc = (CRC_TABLE[(crc ^ (key[at] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}

/** Whether it has a row's form, but for its digits. */
function isRowKey(key: Buffer, keyLength: number): boolean {
  const family = key[FAMILY_AT] ?? 0;
  const isFramed = key[SLOT_AT - 1] === SLASH && key[SEQ_AT - 1] === SLASH;
  return keyLength === ROW_KEY_BYTES && isFramed && family >= 0x61 && family <= 0x7a;
}

/** Eight lower-case hexadecimal digits from `at` on; −1 if they are not. */
function digits(key: Buffer, at: number): number {
  let value = 0;
  for (let index = at; index < at + DIGITS; index += 1) {
    const code = key[index] ?? 0;
    const digit = code <= 0x39 ? code - 0x30 : code >= 0x61 ? code - 0x61 + 10 : -1;
    if (digit < 0 || digit > 15) return -1;
    value = value * 16 + digit;
  }
  return value;
}
