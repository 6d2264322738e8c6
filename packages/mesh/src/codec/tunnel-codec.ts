import { HOP_REFUSALS, HOPS_MAX } from "../core/routing/types.ts";
import type { RouteClass, TunnelAnswer, TunnelRequest } from "../core/routing/types.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { PEER_PATTERN } from "./record-codec.ts";

/** First words of a tunnel: u16 length, then a MessagePack array. A route of 17 peers takes about 930 bytes. */
const TUNNEL_WORD_BYTES_MAX = 1_024;
const LENGTH_BYTES = 2;

const TUNNEL = { request: 1, opened: 2, refused: 3 } as const;
const CLASSES: readonly RouteClass[] = ["control", "high", "normal", "bulk"];
const DEADLINE_MS_MAX = 60_000;

export function encodeTunnelRequest(request: TunnelRequest): Uint8Array {
  const { class: trafficClass, route, index, deadlineMs } = request;
  return prefixed(
    encodeFields([TUNNEL.request, CLASSES.indexOf(trafficClass), index, Math.round(deadlineMs), route]),
  );
}

export function encodeTunnelAnswer(answer: TunnelAnswer): Uint8Array {
  if (answer.type === "opened") return prefixed(encodeFields([TUNNEL.opened]));
  return prefixed(encodeFields([TUNNEL.refused, answer.hop, HOP_REFUSALS.indexOf(answer.code)]));
}

export function decodeTunnelRequest(word: Uint8Array): TunnelRequest | undefined {
  return decodeFields(word, (fields) => {
    if (fields.count() !== TUNNEL.request) return undefined;
    const trafficClass = fields.oneOf(CLASSES);
    const index = fields.count(HOPS_MAX);
    const deadlineMs = fields.count(DEADLINE_MS_MAX);
    return { class: trafficClass, index, deadlineMs, route: readRoute(fields) };
  });
}

/** Peer ids of a route, as many as one may have. */
export function readRoute(fields: Fields): string[] {
  const route = fields.texts(HOPS_MAX + 1, 64);
  if (!route.every((peer) => PEER_PATTERN.test(peer))) fields.refuse();
  return route;
}

export function decodeTunnelAnswer(word: Uint8Array): TunnelAnswer | undefined {
  return decodeFields(word, (fields): TunnelAnswer | undefined => {
    switch (fields.count()) {
      case TUNNEL.opened:
        return { type: "opened" };
      case TUNNEL.refused:
        return { type: "refused", hop: fields.count(HOPS_MAX), code: fields.oneOf(HOP_REFUSALS) };
    }
    return undefined;
  });
}

/** The length that a word announces, once its first bytes are there; `undefined` before, 0 for what is none. */
export function tunnelWordBytes(bytes: Uint8Array): number | undefined {
  if (bytes.length < LENGTH_BYTES) return undefined;
  const length = ((bytes[0] as number) << 8) | (bytes[1] as number);
  return length > TUNNEL_WORD_BYTES_MAX ? 0 : length;
}

/** The word itself and what follows it, if it is there whole. */
export function splitTunnelWord(
  bytes: Uint8Array,
): { readonly word: Uint8Array; readonly rest: Uint8Array } | undefined {
  const length = tunnelWordBytes(bytes);
  if (length === undefined || bytes.length < LENGTH_BYTES + length) return undefined;
  return {
    word: bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length),
    rest: bytes.subarray(LENGTH_BYTES + length),
  };
}

function prefixed(word: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(LENGTH_BYTES + word.length);
  bytes[0] = word.length >>> 8;
  bytes[1] = word.length & 0xff;
  bytes.set(word, LENGTH_BYTES);
  return bytes;
}
