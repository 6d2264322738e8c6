import { CHUNK_SEQS } from "../core/finished.ts";
import type { StoredRecord } from "../core/records.ts";
import type { Value } from "../core/types.ts";
import { CodecError, Fields } from "./fields.ts";
import { pack, unpack } from "./packr.ts";
import * as shapes from "./shapes.ts";
import { decodeValue, encodeValue, PEER_MAX, VALUE_BYTES_MAX } from "./value.ts";

const VERSION = 1;
/** Memory of a value's own bytes comes in pieces no larger than this. */
const POOL_BYTES: number = 2 * Buffer.poolSize;

/** A record as the store keeps it. Bodies stand as they are; all else is a versioned array. */
export function encodeRecord(record: StoredRecord): Uint8Array {
  return record.kind === "body" ? record.body : pack([VERSION, ...wireOf(record)]);
}

function wireOf(record: Exclude<StoredRecord, { kind: "body" }>): shapes.Wire {
  switch (record.kind) {
    case "lane": {
      const { lane, descriptor, promise, end, closed } = record;
      const ended = end && [shapes.ballot.write(end.ballot), shapes.endValue.write(end.value)];
      const written = shapes.descriptor.write(descriptor);
      return [lane, written, shapes.right.write(promise), ended ?? null, closed];
    }
    case "digest":
      return [record.count, record.digest];
    case "register": {
      const { ballot, value, hasBody } = record;
      const bytes = encodeValue(value);
      // A view into a received frame would keep all of it in memory.
      if (bytes.buffer.byteLength > POOL_BYTES) value.encoded = undefined;
      return [shapes.ballot.write(ballot), bytes, hasBody];
    }
    case "finished":
      return [record.bits];
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
  if (letter === "b") return { kind: "body", body: bytes };
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
    case "r":
      return {
        kind: "register",
        ballot: shapes.ballot.read(fields),
        value: decodeRegister(fields),
        hasBody: fields.bool(),
      };
    case "g":
      return { kind: "finished", bits: fields.bytes(CHUNK_SEQS / 8) };
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

function decodeRegister(fields: Fields): Value {
  const value = decodeValue(fields.bytes(VALUE_BYTES_MAX));
  value.encoded = undefined;
  return value;
}
