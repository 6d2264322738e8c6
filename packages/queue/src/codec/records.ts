import type { Ballot } from "../core/ballot.ts";
import { PID_DIGITS } from "../core/ballot.ts";
import { CHUNK_SEQS } from "../core/finished.ts";
import type { StoredRecord } from "../core/records.ts";
import type { Value } from "../core/types.ts";
import { CodecError, Fields } from "./fields.ts";
import { pack, unpack } from "./packr.ts";
import * as shapes from "./shapes.ts";
import { decodeValue, encodeValueBehind, PEER_MAX } from "./value.ts";

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

function pidDigits(record: Buffer): string {
  if (record.compare(lastPid.bytes, 0, lastPid.bytes.length, PID_AT, VALUE_AT) !== 0) {
    const bytes = Uint8Array.prototype.slice.call(record, PID_AT, VALUE_AT);
    lastPid = { digits: record.toString("hex", PID_AT, VALUE_AT), bytes };
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

function decodeRegister(key: string, record: Uint8Array): StoredRecord {
  const bytes = Buffer.from(record.buffer, record.byteOffset, record.length);
  const kind = bytes[0];
  const bodyAt = bytes.length < VALUE_AT ? Infinity : VALUE_AT + bytes.readUInt16BE(1);
  if (bodyAt > bytes.length) throw new CodecError(`record ${key} ends too early`);
  const ballot = {
    round: bytes.readUIntBE(ROUND_AT, NUMBER_BYTES),
    step: bytes.readUIntBE(STEP_AT, NUMBER_BYTES),
    pid: pidDigits(bytes),
  };
  const value = decodeValue(bytes.subarray(VALUE_AT, bodyAt));
  value.encoded = undefined;
  if (key.startsWith("b") && kind === MESSAGE)
    return { kind: "message", ballot, value, body: bodyOf(record) };
  if (!key.startsWith("r") || (kind !== REGISTER && kind !== BODILESS)) {
    throw new CodecError(`record ${key} is of kind ${kind}`);
  }
  return { kind: "register", ballot, value, hasBody: kind === REGISTER };
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
      return [record.batchNo];
    case "definition":
      return [shapes.definition.write(record.definition)];
  }
}

/** Reads a record by the letter of its key. Throws {@link CodecError}: the store is damaged or too new. */
export function decodeRecord(key: string, bytes: Uint8Array): StoredRecord {
  const letter = key.charAt(0);
  if (letter === "b" || letter === "r") return decodeRegister(key, bytes);
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
      return { kind: "echo", batchNo: fields.uint() };
    case "q":
      return { kind: "definition", definition: shapes.definition.read(fields) };
    default:
      throw new CodecError(`no record has the key ${key}`);
  }
}
