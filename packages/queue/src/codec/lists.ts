import type { AcceptOp, Delivery, HeldItem, SettledItem, VerdictItem } from "../core/messages.ts";
import { PID_DIGITS } from "../core/ballot.ts";
import type { Kind, PackedPage } from "../core/register-table.ts";
import { Columns, KINDS_MAX } from "../core/register-table.ts";
import type { SettledCode, Verdict } from "../core/types.ts";
import { ByteReader } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { CodecError, Fields, ROUND_MAX, SEQ_MAX } from "./fields.ts";
import { bodyHash } from "./hash.ts";
import { pack, unpack } from "./packr.ts";
import * as shapes from "./shapes.ts";
import {
  BODY_BYTES_MAX,
  encodeValue,
  HEADER_BYTES_MAX,
  interned,
  LEASE_MS_MAX,
  PEER_MAX,
  readValue,
  REASON_MAX,
  SESSION_DIGITS,
  VALUE_BYTES_MAX,
} from "./value.ts";

/*
 * The lists that make up nearly all traffic, each written by hand as one byte string: their number as varint, then one
 * item after the other. As MessagePack they took a fifth of a node's time. Numbers and lengths are varints; what few
 * items have is a length and MessagePack, whose length is 0 where there is none. In
 *
 *   ref       = lane, seq, epoch, session
 *
 * lane (32 bytes) and session (8) stand for themselves behind a 0 where they come first in the list, and are named by
 * their place among those that came, from 1, where they come again.
 *
 *   accept    = seq, step · 2 + imported, value: length and bytes, 0 or body: length + 1 and bytes
 *   delivery  = ref, leaseMs, ageMs as double, deliveries, enqueuedWallMs, 0 or body: length + 1 and bytes,
 *               [attributes, reason]
 *   verdict   = ref, kind, [delayMs, reason]
 *   settled   = ref, kind, code, hint: 0 or length + 1 and UTF-8
 *   packed    = no, number of kinds, [round, pid: 30 bytes, leaseMs, headerBytes], number of seqs (a power of two), the columns
 *
 * A column is its numbers one after the other, little-endian: kind u8, step u32, epoch u32, deliveries u16, acquired u16,
 * bodyBytes u32, enqueuedWallMs f64, hash 32 bytes.
 */

const ITEMS_MAX = 65_536;
const LANE_BYTES: number = shapes.LANE_DIGITS / 2;
const SESSION_BYTES: number = SESSION_DIGITS / 2;
const PACKED_SEQS_MAX = 4_096;
const IS_LITTLE_ENDIAN: boolean = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const MORE_BYTES_MAX = 64 * 1_024;
const CODES: readonly SettledCode[] = ["DONE", "STALE", "FINISHED", "RETRY"];
const VERDICTS = ["ack", "nack", "release", "reject", "renew", "redrive"] as const;

const writer = new ByteWriter();

/** A frame begins: what the lists of the last one were written into is used again. */
export function resetLists(): void {
  writer.reset();
}

/** Texts that come again within one list, written once. */
class Names {
  readonly #numbers = new Map<string, number>();
  #last: string | undefined;
  #lastNumber = 0;

  write(text: string): void {
    if (text === this.#last) return writer.varint(this.#lastNumber);
    let number = this.#numbers.get(text);
    writer.varint(number ?? 0);
    if (number === undefined) {
      writer.hex(text);
      this.#numbers.set(text, (number = this.#numbers.size + 1));
    }
    this.#last = text;
    this.#lastNumber = number;
  }
}

class NamesRead {
  readonly #names: string[] = [];
  readonly #length: number;

  constructor(length: number) {
    this.#length = length;
  }

  read(reader: ByteReader): string {
    const number = reader.varint(this.#names.length);
    const known = this.#names[number - 1];
    if (known !== undefined) return known;
    const name = reader.hex(this.#length);
    this.#names.push(name);
    return name;
  }
}

class Refs {
  readonly #lanes = new Names();
  readonly #sessions = new Names();

  write({ lane, seq, epoch, session }: HeldItem): void {
    this.#lanes.write(lane);
    writer.varint(seq);
    writer.varint(epoch);
    this.#sessions.write(session);
  }
}

class RefsRead {
  readonly #lanes = new NamesRead(LANE_BYTES);
  readonly #sessions = new NamesRead(SESSION_BYTES);

  read(reader: ByteReader): HeldItem {
    const lane = this.#lanes.read(reader);
    const seq = reader.varint(SEQ_MAX);
    const epoch = reader.varint(Number.MAX_SAFE_INTEGER);
    return { lane, seq, epoch, session: this.#sessions.read(reader) };
  }
}

function readList<T>(bytes: Uint8Array, read: (reader: ByteReader) => T): readonly T[] {
  const reader = new ByteReader(bytes);
  const count = reader.varint(ITEMS_MAX);
  const items: T[] = [];
  for (let at = 0; at < count; at += 1) items.push(read(reader));
  if (!reader.isAtEnd) throw new CodecError("a list has bytes behind its end");
  return items;
}

function writeBody(body: Uint8Array | undefined): void {
  if (body === undefined) return writer.varint(0);
  writer.varint(body.length + 1);
  writer.raw(body);
}

function readBody(reader: ByteReader): Uint8Array | undefined {
  const length = reader.varint(BODY_BYTES_MAX + 1);
  return length === 0 ? undefined : reader.bytes(length - 1);
}

function readMore(reader: ByteReader): Fields | undefined {
  const length = reader.varint(MORE_BYTES_MAX);
  return length === 0 ? undefined : new Fields(unpack(reader.bytes(length)));
}

export const accepts = {
  write: (ops: readonly AcceptOp[]): Uint8Array => {
    writer.varint(ops.length);
    for (const { seq, step, value, body, imported } of ops) {
      writer.varint(seq);
      writer.varint(step * 2 + (imported === true ? 1 : 0));
      writer.sized(encodeValue(value));
      writeBody(body);
    }
    return writer.take();
  },

  /** A body is checked against its hash here: what a replica stores is what was enqueued. */
  read: (bytes: Uint8Array): readonly AcceptOp[] =>
    readList(bytes, (reader) => {
      const seq = reader.varint(SEQ_MAX);
      const tagged = reader.varint(2 * ROUND_MAX + 1);
      const step = Math.floor(tagged / 2);
      const value = readValue(reader.part(reader.varint(VALUE_BYTES_MAX)));
      const body = readBody(reader);
      if (body !== undefined && bodyHash(body) !== value.bodyHash) {
        throw new CodecError("a body does not match its hash");
      }
      return tagged % 2 === 0 ? { seq, step, value, body } : { seq, step, value, body, imported: true };
    }),
};

export const deliveries = {
  write: (items: readonly Delivery[]): Uint8Array => {
    const refs = new Refs();
    writer.varint(items.length);
    for (const item of items) {
      const { attributes, reason } = item;
      refs.write(item);
      writer.varint(item.leaseMs);
      writer.double(item.ageMs);
      writer.varint(item.deliveries);
      writer.varint(item.enqueuedWallMs);
      writeBody(item.body);
      if (attributes === undefined && reason === undefined) writer.varint(0);
      else {
        const written = attributes === undefined ? null : shapes.attributes.write(attributes);
        writer.sized(pack([written, reason ?? null]));
      }
    }
    return writer.take();
  },

  read: (bytes: Uint8Array): readonly Delivery[] => {
    const refs = new RefsRead();
    return readList(bytes, (reader) => {
      const { lane, seq, epoch, session } = refs.read(reader);
      const leaseMs = reader.varint(Number.MAX_SAFE_INTEGER);
      const ageMs = reader.double();
      const handedOut = reader.varint(Number.MAX_SAFE_INTEGER);
      const enqueuedWallMs = reader.varint(Number.MAX_SAFE_INTEGER);
      const body = readBody(reader);
      const more = readMore(reader);
      const attributes = more?.optional(shapes.attributes.read);
      const reason = more?.optional((field) => field.text(REASON_MAX));
      return {
        lane,
        seq,
        epoch,
        session,
        leaseMs,
        ageMs,
        deliveries: handedOut,
        enqueuedWallMs,
        attributes,
        reason,
        body,
      };
    });
  },
};

export const verdicts = {
  write: (items: readonly VerdictItem[]): Uint8Array => {
    const refs = new Refs();
    writer.varint(items.length);
    for (const item of items) {
      refs.write(item);
      writer.byte(VERDICTS.indexOf(item.verdict.kind));
      const more = moreOf(item.verdict);
      if (more === undefined) writer.varint(0);
      else writer.sized(pack(more));
    }
    return writer.take();
  },

  read: (bytes: Uint8Array): readonly VerdictItem[] => {
    const refs = new RefsRead();
    return readList(bytes, (reader) => {
      const { lane, seq, epoch, session } = refs.read(reader);
      const kind = pick(reader.byte(), VERDICTS);
      return { lane, seq, epoch, session, verdict: verdictOf(kind, readMore(reader)) };
    });
  },
};

function moreOf(verdict: Verdict): readonly unknown[] | undefined {
  if (verdict.kind === "nack") return [verdict.delayMs ?? null, verdict.reason ?? null];
  return verdict.kind === "reject" ? [null, verdict.reason] : undefined;
}

function verdictOf(kind: Verdict["kind"], more: Fields | undefined): Verdict {
  if (kind !== "nack" && kind !== "reject") return { kind };
  const delayMs = more?.optional((field) => field.number());
  const reason = more?.optional((field) => interned(field.text(REASON_MAX)));
  if (kind === "nack") return { kind, delayMs, reason };
  if (reason === undefined) throw new CodecError("a rejection has a reason");
  return { kind, reason };
}

export const settled = {
  write: (items: readonly SettledItem[]): Uint8Array => {
    const refs = new Refs();
    writer.varint(items.length);
    for (const item of items) {
      refs.write(item);
      writer.byte(VERDICTS.indexOf(item.kind));
      writer.byte(CODES.indexOf(item.code));
      writer.text(item.hint);
    }
    return writer.take();
  },

  read: (bytes: Uint8Array): readonly SettledItem[] => {
    const refs = new RefsRead();
    return readList(bytes, (reader) => {
      const { lane, seq, epoch, session } = refs.read(reader);
      const kind = pick(reader.byte(), VERDICTS);
      const code = pick(reader.byte(), CODES);
      return { lane, seq, epoch, session, kind, code, hint: reader.text(PEER_MAX) };
    });
  },
};

/** Parts of a lane's registers, for a take-over. */
export const packed = {
  write: (pages: readonly PackedPage[]): Uint8Array => {
    writer.varint(pages.length);
    for (const { no, kinds, columns } of pages) {
      writer.varint(no);
      writer.varint(kinds.length);
      for (const { round, pid, leaseMs, headerBytes } of kinds) {
        writer.varint(round);
        writer.hex(pid);
        writer.varint(leaseMs);
        writer.varint(headerBytes);
      }
      writer.varint(columns.seqs);
      for (const column of columnsOf(columns)) {
        const own = bytesOf(column);
        writer.raw(IS_LITTLE_ENDIAN ? own : swapped(column, own.slice()));
      }
    }
    return writer.take();
  },

  read: (bytes: Uint8Array): readonly PackedPage[] =>
    readList(bytes, (reader) => {
      const no = reader.varint(SEQ_MAX);
      const kinds: Kind[] = [];
      for (let left = reader.varint(KINDS_MAX); left > 0; left -= 1) {
        const round = reader.varint(ROUND_MAX);
        const pid = reader.hex(PID_DIGITS / 2);
        const leaseMs = reader.varint(LEASE_MS_MAX);
        kinds.push({ round, pid, leaseMs, headerBytes: reader.varint(HEADER_BYTES_MAX) });
      }
      const seqs = reader.varint(PACKED_SEQS_MAX);
      if (!isPowerOfTwo(seqs) || (no + 1) * seqs - 1 > SEQ_MAX)
        throw new CodecError("a page of seqs that are not");
      const columns = new Columns(seqs);
      columns.steps = new Uint32Array(seqs);
      columns.epochs = new Uint32Array(seqs);
      columns.deliveries = new Uint16Array(seqs);
      columns.acquired = new Uint16Array(seqs);
      for (const column of columnsOf(columns)) {
        const own = bytesOf(column);
        own.set(reader.bytes(own.length));
        swapped(column, own);
      }
      checkColumns(columns, kinds);
      columns.share();
      return { no, kinds, columns };
    }),
};

type Column = Uint8Array | Uint16Array | Uint32Array | Float64Array;

function columnsOf(columns: Columns): readonly Column[] {
  const { kinds, steps, epochs, deliveries: failed, acquired, bodyBytes, enqueuedWallMs, hashes } = columns;
  return [kinds, steps, epochs, failed, acquired, bodyBytes, enqueuedWallMs, hashes];
}

function bytesOf({ buffer, byteOffset, byteLength }: Column): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Changes the order of bytes in `bytes`, which are those of numbers as in `column`, where this machine has another. */
function swapped({ BYTES_PER_ELEMENT: width }: Column, bytes: Uint8Array): Uint8Array {
  if (IS_LITTLE_ENDIAN) return bytes;
  for (let at = 0; at < bytes.length; at += width) bytes.subarray(at, at + width).reverse();
  return bytes;
}

function isPowerOfTwo(seqs: number): boolean {
  return seqs > 0 && (seqs & (seqs - 1)) === 0;
}

/** Counts what is there; what is not is nothing. */
function checkColumns(columns: Columns, kinds: readonly Kind[]): void {
  for (const [at, number] of columns.kinds.entries()) {
    if (number === 0) continue;
    const kind = kinds[number - 1];
    const bodyBytes = columns.bodyBytes[at] ?? 0;
    const enqueuedWallMs = columns.enqueuedWallMs[at] ?? Number.NaN;
    const isTime = Number.isSafeInteger(enqueuedWallMs) && enqueuedWallMs >= 0;
    if (kind === undefined || kind.headerBytes > bodyBytes || !isTime || bodyBytes > BODY_BYTES_MAX)
      throw new CodecError("a packed register is none");
    columns.count += 1;
  }
  if (columns.count === 0) throw new CodecError("a page holds nothing");
}

function pick<T>(number: number, names: readonly T[]): T {
  const name = names[number];
  if (name === undefined) throw new CodecError("an unknown code");
  return name;
}
