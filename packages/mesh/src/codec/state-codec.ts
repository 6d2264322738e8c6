import { hash } from "node:crypto";
import type { Hash64 } from "@klatsch/kit/core";
import { STANDING_MAX } from "../core/messages.ts";
import { COUNTER_MAX } from "../core/state/hybrid-clock.ts";
import type {
  HeadsRange,
  OwnDelta,
  OwnEntry,
  OwnHead,
  SharedEntry,
  SharedHead,
  StateMessage,
} from "../core/state/messages.ts";
import { BUCKETS_COUNT } from "../core/state/sum64.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { PEER_PATTERN } from "./record-codec.ts";
import type { ScanLimits } from "./scan.ts";
import { isStateValue } from "./state-value.ts";

/** Longest key. */
export const STATE_KEY_LENGTH_MAX = 128;
/** Keys of own and shared entries: they end up in logs, URLs and file names. */
export const STATE_KEY_PATTERN: RegExp = /^[A-Za-z0-9._:@/-]{1,128}$/u;
/** A delta is cut at about this size; a RESET, never cut, is longer by what its owner's limits allow. */
export const STATE_BYTES_MAX: number = 64 * 1024;
/** A whole own state that no frame takes is sent by those who hold less of it, its owner above all. */
const RESET_BYTES_MAX: number = 90 * 1024;

const SIGNATURE_BYTES = 64;
const CREDENTIAL_BYTES_MAX = 4 * 1024;
const UINT32_MAX = 0xffff_ffff;
const ENTRIES_MAX = 4_096;
const VALUE_BYTES_MAX = 64 * 1024;
const SCAN: ScanLimits = { depthMax: 6, int64: true, binary: true, maps: false };

/** First field of a message about gossip state (frames of channel 2 of a link stream). */
const STATE = {
  hash: 1,
  buckets: 2,
  ownHeads: 3,
  ownPull: 4,
  delta: 5,
  reset: 6,
  sharedHeads: 7,
  sharedPull: 8,
  shared: 9,
  sharedAsk: 10,
  sharedAway: 11,
} as const;

/** One message; several where a delta or a list of entries is too long for one; none where a RESET is. */
export function encodeStateMessage(message: StateMessage): Uint8Array[] {
  switch (message.type) {
    case "hash":
      return [
        encodeFields([
          ...[STATE.hash, message.hash.high, message.hash.low],
          ...(message.wallMs === undefined ? [] : [message.wallMs]),
        ]),
      ];
    case "buckets":
      return [encodeFields([STATE.buckets, message.hashes.flatMap(({ high, low }) => [high, low])])];
    case "ownHeads": {
      const { bucket, after, upTo, heads } = message;
      return [encodeFields([STATE.ownHeads, bucket, after, upTo ?? null, heads.map(headFields)])];
    }
    case "ownPull":
      return [encodeFields([STATE.ownPull, message.heads.map(headFields)])];
    case "delta":
      return encodeDelta(message.delta, message.toAll);
    case "reset": {
      const bytes = encodeFields([STATE.reset, ...deltaFields(message.delta), Number(message.toAll)]);
      return bytes.length > RESET_BYTES_MAX ? [] : [bytes];
    }
    case "sharedHeads": {
      const { bucket, after, upTo, heads } = message;
      return [encodeFields([STATE.sharedHeads, bucket, after, upTo ?? null, heads.map(sharedHeadFields)])];
    }
    case "sharedPull":
      return [encodeFields([STATE.sharedPull, message.keys])];
    case "shared":
      return encodeShared(message.entries.map(sharedFields), message.toAll);
    case "sharedAsk":
      return [encodeFields([STATE.sharedAsk, message.bucket])];
    case "sharedAway":
      return [encodeFields([STATE.sharedAway])];
  }
}

/** Cut at the end only: what a part leaves out, the next one begins with. */
function encodeDelta(delta: OwnDelta, toAll: boolean): Uint8Array[] {
  const bytes = encodeFields([STATE.delta, ...deltaFields(delta), Number(toAll)]);
  const { entries } = delta;
  if (bytes.length <= STATE_BYTES_MAX || entries.length < 2) return [bytes];
  const half = entries.length >>> 1;
  const cut = entries[half - 1]?.version ?? delta.from;
  return [
    ...encodeDelta({ ...delta, to: cut, entries: entries.slice(0, half) }, toAll),
    ...encodeDelta({ ...delta, from: cut, entries: entries.slice(half) }, toAll),
  ];
}

function encodeShared(entries: readonly unknown[], toAll: boolean): Uint8Array[] {
  const bytes = encodeFields([STATE.shared, entries, Number(toAll)]);
  if (bytes.length <= STATE_BYTES_MAX || entries.length < 2) return [bytes];
  const half = entries.length >>> 1;
  return [...encodeShared(entries.slice(0, half), toAll), ...encodeShared(entries.slice(half), toAll)];
}

/** An entry as it is kept on disk. */
export function encodeSharedEntry(entry: SharedEntry): Uint8Array {
  return encodeFields(sharedFields(entry));
}

export function decodeSharedEntry(bytes: Uint8Array): SharedEntry | undefined {
  return decodeFields(bytes, readSharedEntry, SCAN);
}

function sharedFields(entry: SharedEntry): unknown[] {
  const { key, value, override, l, c, writer, signature, credential } = entry;
  return [key, value ?? null, Number(override), l, c, writer, signature, credential ?? null];
}

function sharedHeadFields({ key, override, l, c, hash }: SharedHead): unknown[] {
  return [key, Number(override), l, c, hash.high, hash.low];
}

function deltaFields({ peer, boot, floor, from, to, entries }: OwnDelta): unknown[] {
  return [
    peer,
    boot,
    floor,
    from,
    to,
    entries.map(({ key, version, value }) => [key, version, value ?? null]),
  ];
}

function headFields({ peer, boot, version }: OwnHead): unknown[] {
  return [peer, boot, version];
}

export function decodeStateMessage(bytes: Uint8Array): StateMessage | undefined {
  return decodeFields(bytes, readStateMessage, SCAN);
}

function readStateMessage(fields: Fields): StateMessage | undefined {
  const type = fields.count();
  switch (type) {
    case STATE.hash:
      return { type: "hash", hash: readHash(fields), wallMs: fields.optional(() => fields.count()) };
    case STATE.buckets:
      return { type: "buckets", hashes: fields.nested(readHashes) };
    case STATE.ownHeads:
      return { type: "ownHeads", ...readRange(fields), heads: fields.list(ENTRIES_MAX, readHead) };
    case STATE.ownPull:
      return { type: "ownPull", heads: fields.list(ENTRIES_MAX, readHead) };
    case STATE.delta:
      return readPlainDelta(fields);
    case STATE.reset: {
      const delta = readDelta(fields);
      if (delta.from !== 0) fields.refuse();
      return { type: "reset", delta, toAll: readToAll(fields) };
    }
    case STATE.sharedHeads:
      return { type: "sharedHeads", ...readRange(fields), heads: fields.list(ENTRIES_MAX, readSharedHead) };
    case STATE.sharedPull: {
      const keys = fields.texts(ENTRIES_MAX, STATE_KEY_LENGTH_MAX);
      if (!keys.every((key) => STATE_KEY_PATTERN.test(key))) fields.refuse();
      return { type: "sharedPull", keys };
    }
    case STATE.shared:
      return {
        type: "shared",
        entries: fields.list(ENTRIES_MAX, readSharedEntry),
        toAll: readToAll(fields),
      };
    case STATE.sharedAsk:
      return { type: "sharedAsk", bucket: fields.count(BUCKETS_COUNT - 1) };
    case STATE.sharedAway:
      return { type: "sharedAway" };
  }
  return undefined;
}

function readToAll(fields: Fields): boolean {
  return fields.count(1) === 1;
}

function readHash(fields: Fields): Hash64 {
  return { high: fields.count(UINT32_MAX), low: fields.count(UINT32_MAX) };
}

function readHashes(fields: Fields): Hash64[] {
  return Array.from({ length: BUCKETS_COUNT }, () => readHash(fields));
}

function readRange(fields: Fields): HeadsRange {
  const bucket = fields.count(BUCKETS_COUNT - 1);
  const after = fields.text(0, STATE_KEY_LENGTH_MAX);
  return { bucket, after, upTo: fields.optionalText(1, STATE_KEY_LENGTH_MAX) };
}

function readHead(fields: Fields): OwnHead {
  return { peer: fields.matching(PEER_PATTERN), boot: fields.count(STANDING_MAX), version: fields.count() };
}

function readPlainDelta(fields: Fields): StateMessage {
  const delta = readDelta(fields);
  // Deletions before `from` that its owner has forgotten are not in it: that takes a RESET.
  if (delta.floor > delta.from) fields.refuse();
  return { type: "delta", delta, toAll: readToAll(fields) };
}

function readDelta(fields: Fields): OwnDelta {
  const peer = fields.matching(PEER_PATTERN);
  const boot = fields.count(STANDING_MAX);
  const floor = fields.count();
  const from = fields.count();
  const to = fields.count();
  const entries = fields.list(ENTRIES_MAX, readOwnEntry);
  let last = from;
  const keys = new Set<string>();
  for (const { key, version } of entries) {
    if (version <= last || version > to || keys.has(key)) fields.refuse();
    keys.add(key);
    last = version;
  }
  if (to <= from || floor > to) fields.refuse();
  return { peer, boot, floor, from, to, entries };
}

function readOwnEntry(fields: Fields): OwnEntry {
  const key = fields.matching(STATE_KEY_PATTERN);
  return { key, version: fields.count(), value: readValue(fields) };
}

function readValue(fields: Fields): Uint8Array | undefined {
  const value = fields.optionalBytes(VALUE_BYTES_MAX);
  if (value !== undefined && !isStateValue(value)) fields.refuse();
  return copyOf(value);
}

/** A small value would else keep the whole buffer it arrived in alive. */
function copyOf(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : Uint8Array.from(bytes);
}

function readSharedHead(fields: Fields): SharedHead {
  const key = fields.matching(STATE_KEY_PATTERN);
  const override = fields.count(1) === 1;
  const l = fields.count();
  const c = fields.count(COUNTER_MAX);
  return { key, override, l, c, hash: readHash(fields) };
}

function readSharedEntry(fields: Fields): SharedEntry {
  const key = fields.matching(STATE_KEY_PATTERN);
  const value = readValue(fields);
  const override = fields.count(1) === 1;
  const l = fields.count();
  const c = fields.count(COUNTER_MAX);
  const writer = fields.matching(PEER_PATTERN);
  const signature = copyOf(fields.optionalBytes(SIGNATURE_BYTES));
  const credential = copyOf(fields.optionalBytes(CREDENTIAL_BYTES_MAX));
  if (signature?.length !== SIGNATURE_BYTES) return fields.refuse();
  return { key, value, valueHash: hashOfValue(value), override, l, c, writer, signature, credential };
}

/** SHA-256 in hexadecimal digits; empty for no value. */
export function hashOfValue(value: Uint8Array | undefined): string {
  return value === undefined ? "" : hash("sha256", value, "hex");
}

/** What the writer of an entry signs. No part can hold a line break. */
export function signedBytes(
  mesh: string,
  entry: Pick<SharedEntry, "key" | "valueHash" | "override" | "l" | "c" | "writer">,
): Uint8Array {
  const { key, valueHash, override, l, c, writer } = entry;
  const parts = ["klatsch/shared/1", mesh, key, valueHash, override ? "override" : "", l, c, writer];
  return Buffer.from(parts.join("\n"));
}
