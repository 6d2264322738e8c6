import type { MessageHeaders } from "../types.ts";
import { pack, unpack } from "./packr.ts";

/**
 * Headers travel and lie on disk in front of the body, as one flat array `[name, value, name, value, …]`: a
 * message costs its lane no more memory for them, and one hash covers both.
 */
export function encodeHeaders(headers: MessageHeaders): Uint8Array {
  return pack(Object.entries(headers).flat());
}

/** What is not as {@link encodeHeaders} makes it reads as no headers: a producer's mistake is not the consumer's. */
export function decodeHeaders(bytes: Uint8Array): MessageHeaders {
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  const flat = bytes.length === 0 ? [] : tryUnpack(bytes);
  if (!Array.isArray(flat)) return headers;
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const name: unknown = flat[at];
    const value: unknown = flat[at + 1];
    if (typeof name === "string" && typeof value === "string") headers[name] = value;
  }
  return Object.freeze(headers);
}

function tryUnpack(bytes: Uint8Array): unknown {
  try {
    return unpack(bytes);
  } catch {
    return undefined;
  }
}
