import { bodyHash } from "../codec/hash.ts";
import { encodeHeaders } from "../codec/headers.ts";
import { HEADER_BYTES_MAX } from "../codec/value.ts";
import { PLAIN } from "../core/register.ts";
import type { Enqueued } from "../core/register.ts";
import type { Attributes } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import type { MessageOptions } from "../options.ts";

/**
 * Bytes that nobody else has: what the application does to its own, to change or transfer them, changes nothing here, and
 * the other way round. Short ones lie in Node's pool, which cannot be transferred. Not a Buffer, for its `slice` is another one.
 */
export function copyOf(...bytes: readonly Uint8Array[]): Uint8Array {
  const copy = Buffer.concat(bytes);
  return new Uint8Array(copy.buffer, copy.byteOffset, copy.length);
}

/** What the core is told of a message: headers in front of the body, and attributes only if it has any. */
export function makeContent(
  body: Uint8Array,
  options: MessageOptions,
  wallMs: number,
): Omit<Enqueued, "enqueuedWallMs"> {
  const { delayMs, priority, ttlMs, group, dedupKey } = options;
  const headers = options.headers === undefined ? undefined : encodeHeaders(options.headers);
  const headerBytes = headers?.length ?? 0;
  if (headerBytes > HEADER_BYTES_MAX) {
    const text = `headers of ${headerBytes} bytes exceed the limit of ${HEADER_BYTES_MAX} bytes`;
    throw new QueueError("MESSAGE_TOO_LARGE", text);
  }
  const content = headers === undefined ? copyOf(body) : copyOf(headers, body);
  const expiresAtWallMs = ttlMs === undefined ? 0 : Math.ceil(wallMs + ttlMs);
  const keys = group === undefined && dedupKey === undefined ? undefined : { group, dedupKey };
  const attributes: Attributes | undefined =
    priority === 0 && headerBytes === 0 && expiresAtWallMs === 0 && keys === undefined
      ? undefined
      : { ...PLAIN, priority, headerBytes, expiresAtWallMs, ...keys };
  return {
    body: content,
    bodyHash: bodyHash(content),
    notBeforeWallMs: delayMs > 0 ? Math.ceil(wallMs + delayMs) : 0,
    attributes,
  };
}
