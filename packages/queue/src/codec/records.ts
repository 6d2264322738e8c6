import type { Ballot } from "../core/ballot.ts";
import { PID_DIGITS } from "../core/ballot.ts";
import { CHUNK_SEQS } from "../core/finished.ts";
import type { Echo } from "../core/messages.ts";
import type { StoredRecord } from "../core/records.ts";
import type { PlainRegister } from "../core/register-table.ts";
import type { Value } from "../core/types.ts";
import { VARINT_BYTES } from "./byte-reader.ts";
import { CodecError, Fields } from "./fields.ts";
import { pack, unpack } from "./packr.ts";
import * as shapes from "./shapes.ts";
import {
  BODY_BYTES_MAX,
  decodeValue,
  encodeValueBehind,
  HASH_BYTES,
  HEADER_BYTES_MAX,
  LEASE_MS_MAX,
  PEER_MAX,
  READY,
} from "./value.ts";

const VERSION = 1;

/** Without its body a message: that follows. Messages and registers are written by hand, for the reason that their values are; all else is a versioned array. */
export function encodeRecord(record: StoredRecord): Uint8Array {
  switch (record.kind) {
    case "message":
      return encodeRegister(MESSAGE, record);
    case "register":
      return encodeRegister(record.hasBody ? REGISTER : BODILESS, record);
    default:
      return pack([VERSION, ...wireOf(record)]);
  }
}

/*
 * A register: `kind 1 ‖ length of the value 2, big-endian ‖ round, step 6 each ‖ pid ‖ value ‖ body`.
 */
const REGISTER = 2;
const BODILESS = 3;
const MESSAGE = 4;
const ROUND_AT = 3;
const STEP_AT = 9;
const PID_AT = 15;
const PID_BYTES: number = PID_DIGITS / 2;
const VALUE_AT: number = PID_AT + PID_BYTES;
const NUMBER_BYTES = 6;
/** Of attributes behind the length of the headers, all zero: when it expires, group, key, failures, redrives, forgiven; no token. */
const REST_BYTES = 6;

function encodeRegister(
  kind: number,
  { ballot, value }: { readonly ballot: Ballot; readonly value: Value },
): Uint8Array {
  const bytes = encodeValueBehind(value, VALUE_AT);
  bytes[0] = kind;
  bytes.writeUInt16BE(bytes.length - VALUE_AT, 1);
  bytes.writeUIntBE(ballot.round, ROUND_AT, NUMBER_BYTES);
  bytes.writeUIntBE(ballot.step, STEP_AT, NUMBER_BYTES);
  bytes.set(pidBytes(ballot.pid), PID_AT);
  return bytes;
}

/** One pid writes very many registers. */
function pidBytes(pid: string): Uint8Array {
  if (pid !== lastPid.digits) lastPid = { digits: pid, bytes: Buffer.from(pid, "hex") };
  return lastPid.bytes;
}

/** Of the record that begins at `from`. */
function pidDigits(bytes: Buffer, from: number): string {
  const start = from + PID_AT;
  const last = lastPid.bytes;
  let same = last.length === PID_BYTES;
  for (let at = 0; same && at < PID_BYTES; at += 1) same = last[at] === bytes[start + at];
  if (!same) {
    const end = start + PID_BYTES;
    lastPid = {
      digits: bytes.toString("hex", start, end),
      bytes: Uint8Array.prototype.slice.call(bytes, start, end),
    };
  }
  return lastPid.digits;
}

let lastPid: { readonly digits: string; readonly bytes: Uint8Array } = { digits: "", bytes: Buffer.alloc(0) };

/** The body in a message's record. Throws {@link CodecError}. */
export function bodyOf(record: Uint8Array): Uint8Array {
  const from = VALUE_AT + (record[1] ?? 0) * 0x100 + (record[2] ?? 0);
  if (record[0] !== MESSAGE || record.length < from) throw new CodecError("not the record of a message");
  // Not a Buffer: applications get what they sent, with the methods it had.
  return new Uint8Array(record.buffer, record.byteOffset + from, record.length - from);
}

/** Reads the record of a row, by its letter's code. Throws {@link CodecError}. */
export function decodeRegister(
  family: number,
  bytes: Buffer,
): StoredRecord & { readonly kind: "message" | "register" } {
  const key = String.fromCharCode(family);
  const kind = bytes[0];
  const bodyAt = bytes.length < VALUE_AT ? Infinity : VALUE_AT + bytes.readUInt16BE(1);
  if (bodyAt > bytes.length) throw new CodecError(`a record of ${key} ends too early`);
  const ballot = {
    round: bytes.readUIntBE(ROUND_AT, NUMBER_BYTES),
    step: bytes.readUIntBE(STEP_AT, NUMBER_BYTES),
    pid: pidDigits(bytes, 0),
  };
  const value = decodeValue(bytes.subarray(VALUE_AT, bodyAt));
  value.encoded = undefined;
  if (key === "b" && kind === MESSAGE) return { kind: "message", ballot, value, body: bodyOf(bytes) };
  if (key !== "r" || (kind !== REGISTER && kind !== BODILESS)) {
    throw new CodecError(`a record of ${key} is of kind ${kind}`);
  }
  return { kind: "register", ballot, value, hasBody: kind === REGISTER };
}

/** Reads the records of messages as they came, which are all of a backlog, one after the other into the same object. */
export class PlainReader implements PlainRegister {
  round = 0;
  pid = "";
  step = 0;
  leaseMs = 0;
  headerBytes = 0;
  epoch = 0;
  deliveries = 0;
  acquired = 0;
  bodyBytes = 0;
  enqueuedWallMs = 0;
  bytes: Buffer = Buffer.alloc(0);
  hashAt = 0;
  #at = 0;
  #end = 0;

  /** `false`: more is to be said of it, or something is wrong with it, and {@link decodeRegister} knows. */
  read(bytes: Buffer, from: number, to: number): boolean {
    const valueAt = from + VALUE_AT;
    this.#end = valueAt + (bytes[from + 1] ?? 0) * 0x100 + (bytes[from + 2] ?? 0);
    if (bytes[from] !== MESSAGE || this.#end > to || bytes[valueAt] !== READY) return false;
    this.bytes = bytes;
    this.#at = valueAt + 1;
    this.epoch = this.#varint();
    this.leaseMs = this.#varint();
    this.deliveries = this.#varint();
    this.acquired = this.#varint();
    const notBeforeWallMs = this.#varint();
    this.bodyBytes = this.#varint();
    this.hashAt = this.#at;
    const noHolderAt = this.hashAt + HASH_BYTES;
    const isPlain = bytes[noHolderAt] === 0 && bytes[noHolderAt + 1] === 0 && bytes[noHolderAt + 2] === 0;
    this.#at = noHolderAt + 3;
    this.enqueuedWallMs = this.#varint();
    if (!isPlain || notBeforeWallMs !== 0 || !this.#readHeaders()) return false;
    if (this.leaseMs > LEASE_MS_MAX || this.bodyBytes > BODY_BYTES_MAX) return false;
    this.round = bytes.readUIntBE(from + ROUND_AT, NUMBER_BYTES);
    this.step = bytes.readUIntBE(from + STEP_AT, NUMBER_BYTES);
    this.pid = pidDigits(bytes, from);
    return true;
  }

  /** Of attributes, if there are any, nothing but how long the headers are. */
  #readHeaders(): boolean {
    this.headerBytes = 0;
    if (this.#at === this.#end) return true;
    const bytes = this.#varint();
    const isWhole = this.#at + bytes === this.#end;
    const priority = this.#varint();
    this.headerBytes = this.#varint();
    if (!isWhole || priority !== 0 || this.headerBytes === 0) return false;
    if (this.headerBytes > Math.min(HEADER_BYTES_MAX, this.bodyBytes)) return false;
    if (this.#end - this.#at !== REST_BYTES) return false;
    for (; this.#at < this.#end; this.#at += 1) if (this.bytes[this.#at] !== 0) return false;
    return true;
  }

  /** Seven bits a byte, least significant first; too large to be plain if it is longer than it may be. */
  #varint(): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < VARINT_BYTES; count += 1) {
      const byte = this.bytes[this.#at] ?? 0;
      this.#at += 1;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 0x80;
    }
    return Infinity;
  }
}

function wireOf(record: Exclude<StoredRecord, { kind: "message" | "register" }>): shapes.Wire {
  switch (record.kind) {
    case "lane": {
      const { lane, descriptor, promise, end, closed } = record;
      const ended = end && [shapes.ballot.write(end.ballot), shapes.endValue.write(end.value)];
      const written = shapes.descriptor.write(descriptor);
      return [lane, written, shapes.right.write(promise), ended ?? null, closed];
    }
    case "digest":
      return [record.count, record.digest];
    case "finished":
      return [record.bits];
    case "keys":
      return shapes.keys.write(record.keys);
    case "opened":
      return [record.lane];
    case "floor":
      return shapes.floor.write(record.floor);
    case "member":
      return [record.peer, record.boot, record.retired];
    case "echo":
      return [record.said, record.heard].flatMap(({ batchNo, proof }) => [batchNo, proof]);
    case "definition":
      return [shapes.definition.write(record.definition)];
    case "deleted":
      return [record.atWallMs];
  }
}

/** Reads a record by the letter of its key. Throws {@link CodecError}: the store is damaged or too new. */
export function decodeRecord(key: string, bytes: Uint8Array): StoredRecord {
  const letter = key.charAt(0);
  if (letter === "b" || letter === "r") {
    return decodeRegister(key.charCodeAt(0), Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  }
  const fields = new Fields(unpack(bytes));
  const version = fields.uint();
  if (version !== VERSION) throw new CodecError(`record ${key} has version ${version}`);
  switch (letter) {
    case "l":
      return {
        kind: "lane",
        lane: fields.hex(shapes.LANE_DIGITS),
        descriptor: shapes.descriptor.read(fields),
        promise: shapes.right.read(fields),
        end: fields.optional((f) => {
          const inner = f.nested();
          return { ballot: shapes.ballot.read(inner), value: shapes.endValue.read(inner) };
        }),
        closed: fields.bool(),
      };
    case "n":
      return { kind: "digest", count: fields.uint(), digest: fields.uint() };
    case "g":
      return { kind: "finished", bits: fields.bytes(CHUNK_SEQS / 8) };
    case "d":
      return { kind: "keys", keys: shapes.keys.read(fields) };
    case "o":
      return { kind: "opened", lane: fields.hex(shapes.LANE_DIGITS) };
    case "f":
      return { kind: "floor", floor: { boot: fields.uint(), laneNo: fields.uint() } };
    case "m":
      return {
        kind: "member",
        peer: fields.text(PEER_MAX),
        boot: fields.uint(),
        retired: fields.bool(),
      };
    case "e":
      return { kind: "echo", said: readEcho(fields), heard: readEcho(fields) };
    case "q":
      return { kind: "definition", definition: shapes.definition.read(fields) };
    case "x":
      return { kind: "deleted", atWallMs: fields.uint() };
    default:
      throw new CodecError(`no record has the key ${key}`);
  }
}

/** Nothing of it is there where an earlier version wrote none. */
function readEcho(fields: Fields): Echo {
  return { batchNo: fields.optional((at) => at.uint()) ?? 0, proof: fields.proof() };
}
