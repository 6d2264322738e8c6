import type { ChannelNotice } from "../core/channel-sessions.ts";
import { STANDING_MAX } from "../core/messages.ts";
import type { LinkMessage, MemberMessage, RefusalCode } from "../core/messages.ts";
import { BUCKETS } from "../core/roster.ts";
import { HOP_REFUSALS, HOPS_MAX } from "../core/routing/types.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { WITH_SIGNATURES } from "./scan.ts";
import { CHANNEL_NUMBER_MAX } from "./framing.ts";
import {
  NAME_LENGTH_MAX,
  PEER_PATTERN,
  readRecord,
  readView,
  recordFields,
  viewFields,
} from "./record-codec.ts";
import { readRoute } from "./tunnel-codec.ts";

/** Of the link protocol; a hello of another one is refused. */
const PROTOCOL_VERSION = 1;
/** Longest frame on a link stream: a chunk of views, with slack for one record. */
export const LINK_PAYLOAD_BYTES_MAX: number = 96 * 1024;
/** Views are cut into messages of about this size. */
export const VIEWS_BYTES_MAX: number = 64 * 1024;
/** Longest name of a channel. */
export const CHANNEL_NAME_LENGTH_MAX = 64;

const VIEWS_MAX = 4_096;
const ID_PATTERN = /^[0-9a-z:]{1,80}$/u;
const INSTANCE_PATTERN = /^[0-9a-f]{32}$/u;
const NONCE_MAX = 0xffff_ffff;
const REFUSALS: readonly RefusalCode[] = [
  "MESH_NAME",
  "PROTOCOL_VERSION",
  "MEMBERS_MAX",
  "DUPLICATE",
  "SUPERSEDED",
  "BOOT_LOW",
  "UNCERTIFIED",
  "BUSY",
  "FORBIDDEN",
];
const DETAIL_LENGTH_MAX = 200;
/** Members that a busy node names. */
const REFERRALS_MAX = 30;

/** First field of a message about the connection (frames of channel 0 of a link stream). */
const LINK = { hello: 1, accept: 2, refuse: 3, test: 4, testAck: 5, busy: 6, probe: 7 } as const;
/** First field of a membership message (channel 1 of a link stream). */
const MEMBER = {
  ping: 1,
  ack: 2,
  pingReq: 3,
  indirectAck: 4,
  suspect: 5,
  heard: 6,
  gone: 7,
  views: 8,
  buckets: 9,
  neighbours: 10,
  closeRequest: 11,
  closeOk: 12,
  closeNo: 13,
  present: 14,
} as const;
/** First field of a notice (channel 0 of a class stream). */
const NOTICE = { open: 1, close: 2 } as const;

/** A hello of another version: no more of it can be read. */
export interface ForeignHello {
  readonly type: "foreign";
  readonly version: number;
}

export function encodeLinkMessage(message: LinkMessage): Uint8Array {
  switch (message.type) {
    case "hello": {
      const { mesh, instance, wallMs, knownBoot, frameBytesMax, record, digest } = message.hello;
      const about = [mesh, instance, wallMs, knownBoot, frameBytesMax];
      const fields = [LINK.hello, PROTOCOL_VERSION, ...about, recordFields(record)];
      return encodeFields(digest === undefined ? fields : [...fields, digest]);
    }
    case "refuse":
      return encodeFields([
        LINK.refuse,
        REFUSALS.indexOf(message.code),
        message.detail.slice(0, DETAIL_LENGTH_MAX),
      ]);
    case "busy":
      return encodeFields([LINK.busy, message.records.slice(0, REFERRALS_MAX).map(recordFields)]);
    case "probe": {
      const { nonce, index, back, code, route } = message;
      const refusal = code === undefined ? 0 : HOP_REFUSALS.indexOf(code) + 1;
      return encodeFields([LINK.probe, nonce, index, back ? 1 : 0, refusal, route]);
    }
    case "accept":
    case "test":
    case "testAck":
      return encodeFields([LINK[message.type]]);
  }
}

export function decodeLinkMessage(bytes: Uint8Array): LinkMessage | ForeignHello | undefined {
  return decodeFields(bytes, readLinkMessage, WITH_SIGNATURES);
}

function readLinkMessage(fields: Fields): LinkMessage | ForeignHello | undefined {
  switch (fields.count()) {
    case LINK.hello: {
      const version = fields.count();
      if (version !== PROTOCOL_VERSION) return { type: "foreign", version };
      const mesh = fields.text(1, NAME_LENGTH_MAX);
      const instance = fields.matching(INSTANCE_PATTERN);
      const wallMs = fields.count();
      const knownBoot = fields.count(STANDING_MAX);
      const frameBytesMax = fields.count();
      const record = fields.nested(readRecord);
      const digest = fields.optional(() => fields.count(NONCE_MAX));
      const hello = { mesh, instance, wallMs, knownBoot, frameBytesMax, record, digest };
      return { type: "hello", hello };
    }
    case LINK.accept:
      return { type: "accept" };
    case LINK.refuse:
      return { type: "refuse", code: fields.oneOf(REFUSALS), detail: fields.text(0, DETAIL_LENGTH_MAX) };
    case LINK.busy:
      return { type: "busy", records: fields.list(REFERRALS_MAX, readRecord) };
    case LINK.test:
      return { type: "test" };
    case LINK.testAck:
      return { type: "testAck" };
    case LINK.probe: {
      const nonce = fields.count(NONCE_MAX);
      const index = fields.count(HOPS_MAX);
      const back = fields.count(1) === 1;
      const refusal = fields.count(HOP_REFUSALS.length);
      const code = refusal === 0 ? undefined : HOP_REFUSALS[refusal - 1];
      return { type: "probe", nonce, index, back, code, route: readRoute(fields) };
    }
  }
  return undefined;
}

/** One message, or several where a list of views is too long for one. */
export function encodeMemberMessage(message: MemberMessage): Uint8Array[] {
  switch (message.type) {
    case "ping":
    case "ack":
      return [encodeFields([MEMBER[message.type], message.nonce, message.hash])];
    case "pingReq":
      return [encodeFields([MEMBER.pingReq, message.nonce, message.target])];
    case "indirectAck":
      return [encodeFields([MEMBER.indirectAck, message.nonce])];
    case "suspect": {
      const { subject, boot, inc, id, accuser } = message;
      return [encodeFields([MEMBER.suspect, subject, boot, inc, id, accuser])];
    }
    case "heard":
    case "gone": {
      const { type, subject, boot, id, witness } = message;
      return [encodeFields([MEMBER[type], subject, boot, id, witness])];
    }
    case "views":
      return encodeViews(message.views.map(viewFields));
    case "buckets":
    case "neighbours":
    case "present":
      return [encodeFields([MEMBER[message.type], message.hashes])];
    case "closeRequest":
    case "closeOk":
    case "closeNo":
      return [encodeFields([MEMBER[message.type]])];
  }
}

function encodeViews(views: readonly unknown[]): Uint8Array[] {
  const bytes = encodeFields([MEMBER.views, views]);
  if (bytes.length <= VIEWS_BYTES_MAX || views.length < 2) return [bytes];
  const half = views.length >>> 1;
  return [...encodeViews(views.slice(0, half)), ...encodeViews(views.slice(half))];
}

export function decodeMemberMessage(bytes: Uint8Array): MemberMessage | undefined {
  return decodeFields(bytes, readMemberMessage, WITH_SIGNATURES);
}

function readMemberMessage(fields: Fields): MemberMessage | undefined {
  const type = fields.count();
  switch (type) {
    case MEMBER.ping:
      return { type: "ping", nonce: fields.count(NONCE_MAX), hash: fields.count(NONCE_MAX) };
    case MEMBER.ack:
      return { type: "ack", nonce: fields.count(NONCE_MAX), hash: fields.count(NONCE_MAX) };
    case MEMBER.pingReq:
      return { type: "pingReq", nonce: fields.count(NONCE_MAX), target: fields.matching(PEER_PATTERN) };
    case MEMBER.indirectAck:
      return { type: "indirectAck", nonce: fields.count(NONCE_MAX) };
    case MEMBER.suspect: {
      const subject = fields.matching(PEER_PATTERN);
      const boot = fields.count(STANDING_MAX);
      const inc = fields.count(STANDING_MAX);
      const id = fields.matching(ID_PATTERN);
      return { type: "suspect", subject, boot, inc, id, accuser: fields.matching(PEER_PATTERN) };
    }
    case MEMBER.heard:
    case MEMBER.gone: {
      const subject = fields.matching(PEER_PATTERN);
      const boot = fields.count(STANDING_MAX);
      const id = fields.matching(ID_PATTERN);
      const witness = fields.matching(PEER_PATTERN);
      return { type: type === MEMBER.heard ? "heard" : "gone", subject, boot, id, witness };
    }
    case MEMBER.views:
      return { type: "views", views: fields.list(VIEWS_MAX, readView) };
    case MEMBER.buckets: {
      const hashes = fields.counts(BUCKETS, NONCE_MAX);
      return hashes.length === BUCKETS ? { type: "buckets", hashes } : undefined;
    }
    case MEMBER.neighbours:
      return { type: "neighbours", hashes: fields.counts(VIEWS_MAX, NONCE_MAX) };
    case MEMBER.present:
      return { type: "present", hashes: fields.counts(VIEWS_MAX, NONCE_MAX) };
    case MEMBER.closeRequest:
      return { type: "closeRequest" };
    case MEMBER.closeOk:
      return { type: "closeOk" };
    case MEMBER.closeNo:
      return { type: "closeNo" };
  }
  return undefined;
}

export function encodeNotice(notice: ChannelNotice): Uint8Array {
  switch (notice.type) {
    case "open":
      return encodeFields([NOTICE.open, notice.number, notice.name, notice.seen]);
    case "close":
      return encodeFields([NOTICE.close, notice.number, notice.name]);
  }
}

export function decodeNotice(bytes: Uint8Array): ChannelNotice | undefined {
  return decodeFields(bytes, readNotice);
}

function readNotice(fields: Fields): ChannelNotice | undefined {
  const type = fields.count();
  if (type !== NOTICE.open && type !== NOTICE.close) return undefined;
  const number = fields.count(CHANNEL_NUMBER_MAX);
  const name = fields.text(1, CHANNEL_NAME_LENGTH_MAX);
  if (number === 0) return undefined;
  if (type === NOTICE.close) return { type: "close", number, name };
  return { type: "open", number, name, seen: fields.count(CHANNEL_NUMBER_MAX) };
}
