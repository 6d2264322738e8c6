import {
  CHUNK_BYTES,
  DEADLINE_MS_MAX,
  FAULT_LENGTH_MAX,
  FRAME_BYTES,
  FRAME_ITEMS_MAX,
  NAME_LENGTH_MAX,
  GATHER_TARGETS_MAX,
  STREAM_ITEMS_MAX,
  TARGET_LENGTH_MAX,
  TRACE_LENGTH_MAX,
} from "../core/limits.ts";
import { RPC_ERROR_CODES } from "../core/messages.ts";
import type { CastMessage, EmitMessage, Fault, Message } from "../core/messages.ts";
import { pack, unpack } from "./packr.ts";
import { boolAt, bytesAt, CodecError, isAbsent, textAt, uintAt } from "./read.ts";
import type { Values } from "./read.ts";

/** Version of the frames: both ends must speak the same first number. */
const WIRE_VERSION = 1;
/** array32 header and the version: what precedes the items of a frame. */
export const FRAME_HEAD_BYTES = 6;
/** Flow numbers start anew after this one. */
export const FLOW_MAX = 0xffff;

/** Their order is part of the protocol: new ones go to the end. */
const KINDS = [
  "ask",
  "reply",
  "fail",
  "cancel",
  "item",
  "end",
  "credit",
  "cast",
  "chunk",
  "took",
  "emit",
  "recall",
] as const satisfies readonly Message["type"][];

/** One item: `head`, and if there is one `body` as a byte string at its end. Both are whose they were: copy at once. */
export interface Encoded {
  readonly head: Uint8Array;
  readonly body: Uint8Array | undefined;
  /** Of the whole item. */
  readonly bytes: number;
}

/** The MessagePack of an item's positional array. Throws what the packer throws. */
export function encodeParts(message: Message): Encoded {
  const values = valuesOf(message);
  const last = values.at(-1);
  if (!(last instanceof Uint8Array) || last.length < PLAIN_BYTES_MIN) {
    const head = pack(values);
    return { head, body: undefined, bytes: head.length };
  }
  // The packer would copy it, into a buffer that it grows in powers of two. An empty byte string at the end takes two
  // bytes, in whose place the real one goes.
  const packed = pack([...values.slice(0, -1), NO_BYTES]);
  const head = packed.subarray(0, -2);
  return { head, body: last, bytes: head.length + BIN32_BYTES + last.length };
}

/** An item in one piece. */
export function wholeOf({ head, body, bytes }: Encoded): Uint8Array {
  if (body === undefined) return head;
  const item = Buffer.allocUnsafeSlow(bytes);
  item.set(head);
  writeBin32(item, head.length, body.length);
  item.set(body, head.length + BIN32_BYTES);
  return item;
}

/** A byte string's kind and length. */
export function writeBin32(target: Buffer, at: number, length: number): void {
  target[at] = 0xc6;
  target.writeUInt32BE(length, at + 1);
}

/** What precedes the items of a frame: it is a list of so many, and the version. */
export function writeFrameHead(frame: Buffer, items: number): void {
  frame[0] = 0xdd;
  frame.writeUInt32BE(items + 1, 1);
  frame[5] = WIRE_VERSION;
}

/** Byte strings from this length on are not left to the packer. */
const PLAIN_BYTES_MIN = 1_024;
const NO_BYTES = new Uint8Array(0);
/** `c6` and a length. */
export const BIN32_BYTES = 5;

function valuesOf(m: Message): Values {
  switch (m.type) {
    case "ask":
      if (m.key !== undefined || m.trace !== undefined)
        return [0, m.id, m.method, m.remainingMs ?? null, m.input, m.key ?? null, ...present(m.trace)];
      if (m.input === undefined) return [0, m.id, m.method, m.remainingMs ?? null];
      return [0, m.id, m.method, m.remainingMs ?? null, m.input];
    case "reply": // An absent field reads as `undefined`, which MessagePack itself lacks.
      return m.value === undefined ? [1, m.id] : [1, m.id, m.value];
    case "fail":
      return [2, m.id, ...faultValues(m.fault)];
    case "cancel":
      return [3, m.id];
    case "item":
      return m.value === undefined ? [4, m.id, m.up] : [4, m.id, m.up, m.value];
    case "end":
      return [5, m.id];
    case "credit":
      return [6, m.id, m.up, m.count];
    case "cast":
      if (m.no === undefined && m.trace === undefined) return [7, m.method, m.input, m.target];
      return [7, m.method, m.input, m.target, m.no ?? null, ...present(m.trace)];
    case "chunk":
      return [8, m.flow, m.last, m.bytes];
    case "took":
      return [9, m.bytes];
    case "emit":
      return [10, m.topic, m.no, m.value, m.replayed, ...(m.spread ? [true] : [])];
    case "recall":
      return [11, m.topic, m.count];
  }
}

/** A last field, left out where it is absent. */
function present(value: unknown): Values {
  return value === undefined ? [] : [value];
}

function faultValues(fault: Fault): Values {
  const { code, message, outcome, retryable, remoteCode } = fault;
  const text = message.slice(0, FAULT_LENGTH_MAX);
  return [RPC_ERROR_CODES.indexOf(code), text, outcome === "unknown", retryable, remoteCode ?? null];
}

/** Reads a peer's frame. Throws {@link CodecError} at the first thing that is not as it must be. */
export function decodeFrame(bytes: Uint8Array): readonly Message[] {
  if (bytes.length > FRAME_BYTES) throw new CodecError("a frame of a forbidden size");
  const frame = unpack(bytes);
  if (!Array.isArray(frame) || frame.length > FRAME_ITEMS_MAX + 1) throw new CodecError("not a frame");
  if (frame[0] !== WIRE_VERSION) throw new CodecError("another version of the protocol");
  const messages: Message[] = [];
  for (let at = 1; at < frame.length; at += 1) messages.push(readItem(frame[at]));
  return messages;
}

/** What is told over gossip: `[version, boot, item]`, since there is no session that would tell the sender's boot. */
export function encodeSpread({ boot, message }: Spread): Uint8Array {
  return pack([WIRE_VERSION, boot, valuesOf(message)]);
}

/** Throws {@link CodecError}. */
export function decodeSpread(bytes: Uint8Array): Spread {
  const values = unpack(bytes);
  if (!Array.isArray(values) || values[0] !== WIRE_VERSION) throw new CodecError("nothing that is spread");
  const message = readItem(values[2]);
  if (message.type !== "cast" && message.type !== "emit")
    throw new CodecError("an item that is not for many");
  return { boot: uintAt(values, 1), message };
}

/** What one member tells many. `boot`: of the process that says it. */
export interface Spread {
  readonly boot: number;
  readonly message: CastMessage | EmitMessage;
}

/** Reads an item that came in chunks. Throws {@link CodecError}. */
export function decodeItem(bytes: Uint8Array): Message {
  const message = readItem(unpack(bytes));
  if (message.type === "chunk") throw new CodecError("a chunk within chunks");
  if (message.type === "ask" || message.type === "cast" || message.type === "emit")
    return { ...message, bytes: bytes.length };
  return message.type === "item" ? { ...message, large: true } : message;
}

function readItem(values: unknown): Message {
  if (!Array.isArray(values)) throw new CodecError("an item is no array");
  const v: Values = values;
  const type: Message["type"] | undefined = KINDS[uintAt(v, 0, KINDS.length - 1)];
  if (type === undefined) throw new CodecError("an unknown kind of item");
  switch (type) {
    case "ask": {
      const id = uintAt(v, 1);
      const method = textAt(v, 2, NAME_LENGTH_MAX);
      const remainingMs = isAbsent(v, 3) ? undefined : uintAt(v, 3, DEADLINE_MS_MAX);
      const key = isAbsent(v, 5) ? undefined : textAt(v, 5, NAME_LENGTH_MAX);
      return { type, id, method, remainingMs, input: v[4], key, trace: readTrace(v, 6) };
    }
    case "reply":
      return { type, id: uintAt(v, 1), value: v[2] };
    case "fail":
      return { type, id: uintAt(v, 1), fault: readFault(v) };
    case "cancel":
    case "end":
      return { type, id: uintAt(v, 1) };
    case "item":
      return { type, id: uintAt(v, 1), up: boolAt(v, 2), value: v[3] };
    case "credit":
      return { type, id: uintAt(v, 1), up: boolAt(v, 2), count: uintAt(v, 3, STREAM_ITEMS_MAX) };
    case "cast": {
      const method = textAt(v, 1, NAME_LENGTH_MAX);
      const no = isAbsent(v, 4) ? undefined : uintAt(v, 4);
      return { type, method, input: v[2], target: readTarget(v, 3), no, trace: readTrace(v, 5) };
    }
    case "chunk":
      return { type, flow: uintAt(v, 1, FLOW_MAX), last: boolAt(v, 2), bytes: bytesAt(v, 3, CHUNK_BYTES) };
    case "took":
      return { type, bytes: uintAt(v, 1, FRAME_BYTES * 1_024) };
    case "emit":
      return {
        type,
        topic: textAt(v, 1, NAME_LENGTH_MAX),
        no: uintAt(v, 2),
        value: v[3],
        replayed: boolAt(v, 4),
        spread: !isAbsent(v, 5) && boolAt(v, 5),
      };
    case "recall":
      return { type, topic: textAt(v, 1, NAME_LENGTH_MAX), count: uintAt(v, 2) };
  }
}

function readTrace(v: Values, at: number): string | undefined {
  return isAbsent(v, at) ? undefined : textAt(v, at, TRACE_LENGTH_MAX);
}

function readTarget(v: Values, at: number): string | readonly string[] {
  const peers = v[at];
  if (!Array.isArray(peers)) return textAt(v, at, TARGET_LENGTH_MAX);
  if (peers.length > GATHER_TARGETS_MAX) throw new CodecError(`field ${at}: too many peers`);
  return peers.map((_, no) => textAt(peers, no, NAME_LENGTH_MAX));
}

function readFault(v: Values): Fault {
  // A code of a later version is a failure we have no name for: what it did is not known.
  const code = RPC_ERROR_CODES[uintAt(v, 2, 255)] ?? "HANDLER_FAILED";
  const message = textAt(v, 3, FAULT_LENGTH_MAX);
  const outcome = boolAt(v, 4) ? "unknown" : "none";
  const remoteCode = isAbsent(v, 6) ? undefined : textAt(v, 6, NAME_LENGTH_MAX);
  return { code, message, outcome, retryable: boolAt(v, 5), remoteCode };
}
