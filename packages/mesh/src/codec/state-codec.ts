import type { Hash64 } from "@klatsch/kit/core";
import type { HeadsRange, OwnDelta, OwnEntry, OwnHead, StateMessage } from "../core/state/messages.ts";
import { BUCKETS_COUNT } from "../core/state/sum64.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { PEER_PATTERN } from "./record-codec.ts";
import type { ScanLimits } from "./scan.ts";
import { isStateValue } from "./state-value.ts";

/** Keys of own and shared entries: they end up in logs, URLs and file names. */
export const STATE_KEY_PATTERN: RegExp = /^[A-Za-z0-9._:@/-]{1,128}$/u;
/** A delta is cut at about this size; a RESET, never cut, is longer by what its owner's limits allow. */
export const STATE_BYTES_MAX: number = 64 * 1024;
/** A whole own state that no frame takes is sent by those who hold less of it, its owner above all. */
const RESET_BYTES_MAX: number = 90 * 1024;

const UINT32_MAX = 0xffff_ffff;
const ENTRIES_MAX = 4_096;
const VALUE_BYTES_MAX = 64 * 1024;
const SCAN: ScanLimits = { depthMax: 6, int64: true, binary: true, maps: false };

/** First field of a message about gossip state (frames of channel 2 of a link stream). */
const STATE = { hash: 1, buckets: 2, ownHeads: 3, ownPull: 4, delta: 5, reset: 6 } as const;

/** One message; several where a delta is too long for one; none where a RESET is. */
export function encodeStateMessage(message: StateMessage): Uint8Array[] {
  switch (message.type) {
    case "hash":
      return [encodeFields([STATE.hash, message.hash.high, message.hash.low])];
    case "buckets":
      return [encodeFields([STATE.buckets, message.hashes.flatMap(({ high, low }) => [high, low])])];
    case "ownHeads": {
      const { bucket, after, upTo, heads } = message;
      return [encodeFields([STATE.ownHeads, bucket, after, upTo ?? null, heads.map(headFields)])];
    }
    case "ownPull":
      return [encodeFields([STATE.ownPull, message.heads.map(headFields)])];
    case "delta":
      return encodeDelta(message.delta);
    case "reset": {
      const bytes = encodeFields([STATE.reset, ...deltaFields(message.delta)]);
      return bytes.length > RESET_BYTES_MAX ? [] : [bytes];
    }
  }
}

/** Cut at the end only: what a part leaves out, the next one begins with. */
function encodeDelta(delta: OwnDelta): Uint8Array[] {
  const bytes = encodeFields([STATE.delta, ...deltaFields(delta)]);
  const { entries } = delta;
  if (bytes.length <= STATE_BYTES_MAX || entries.length < 2) return [bytes];
  const half = entries.length >>> 1;
  const cut = entries[half - 1]?.version ?? delta.from;
  return [
    ...encodeDelta({ ...delta, to: cut, entries: entries.slice(0, half) }),
    ...encodeDelta({ ...delta, from: cut, entries: entries.slice(half) }),
  ];
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
      return { type: "hash", hash: readHash(fields) };
    case STATE.buckets:
      return { type: "buckets", hashes: fields.nested(readHashes) };
    case STATE.ownHeads:
      return { type: "ownHeads", ...readRange(fields), heads: fields.list(ENTRIES_MAX, readHead) };
    case STATE.ownPull:
      return { type: "ownPull", heads: fields.list(ENTRIES_MAX, readHead) };
    case STATE.delta:
      return { type: "delta", delta: readDelta(fields) };
    case STATE.reset: {
      const delta = readDelta(fields);
      if (delta.from !== 0 || delta.entries.some(({ value }) => value === undefined)) fields.refuse();
      return { type: "reset", delta };
    }
  }
  return undefined;
}

function readHash(fields: Fields): Hash64 {
  return { high: fields.count(UINT32_MAX), low: fields.count(UINT32_MAX) };
}

function readHashes(fields: Fields): Hash64[] {
  return Array.from({ length: BUCKETS_COUNT }, () => readHash(fields));
}

function readRange(fields: Fields): HeadsRange {
  const bucket = fields.count(BUCKETS_COUNT - 1);
  const after = fields.text(0, 128);
  return { bucket, after, upTo: fields.optionalText(1, 128) };
}

function readHead(fields: Fields): OwnHead {
  return { peer: fields.matching(PEER_PATTERN), boot: fields.count(), version: fields.count() };
}

function readDelta(fields: Fields): OwnDelta {
  const peer = fields.matching(PEER_PATTERN);
  const boot = fields.count();
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
  const version = fields.count();
  const value = fields.optionalBytes(VALUE_BYTES_MAX);
  if (value !== undefined && !isStateValue(value)) fields.refuse();
  // A copy: a small value would else keep the whole buffer it arrived in alive.
  return { key, version, value: value === undefined ? undefined : Uint8Array.from(value) };
}
