import type { TopicTarget } from "../types.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { NAME_PATTERN, TAG_KEY_LENGTH_MAX, TAG_VALUE_LENGTH_MAX } from "./record-codec.ts";

export const TOPIC_LENGTH_MAX = 128;
/** Longest body of a message, in bytes. */
export const TOPIC_BODY_BYTES_MAX: number = 64 * 1024;

const HEADER_LENGTH_BYTES = 2;
/** How a target is told. */
const TARGET = { all: 0, cloud: 1, tag: 2 } as const;

/** A message to all who have subscribed to its topic and are meant. */
export interface TopicEnvelope {
  readonly topic: string;
  readonly target: TopicTarget;
  readonly body: Uint8Array;
}

/** u16 length of the header, the header as positional fields, and the body as it is. */
export function encodeTopicEnvelope({ topic, target, body }: TopicEnvelope): Uint8Array {
  const header = encodeFields([topic, ...targetFields(target)]);
  const bytes = Buffer.allocUnsafeSlow(HEADER_LENGTH_BYTES + header.length + body.length);
  bytes.writeUInt16BE(header.length);
  bytes.set(header, HEADER_LENGTH_BYTES);
  bytes.set(body, HEADER_LENGTH_BYTES + header.length);
  return bytes;
}

export function decodeTopicEnvelope(bytes: Uint8Array): TopicEnvelope | undefined {
  if (bytes.length < HEADER_LENGTH_BYTES) return undefined;
  const bodyFrom = HEADER_LENGTH_BYTES + (((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0));
  const body = bytes.subarray(bodyFrom);
  if (bodyFrom > bytes.length || body.length > TOPIC_BODY_BYTES_MAX) return undefined;
  const header = decodeFields(bytes.subarray(HEADER_LENGTH_BYTES, bodyFrom), (fields) => ({
    topic: fields.text(1, TOPIC_LENGTH_MAX),
    target: readTarget(fields),
  }));
  return header === undefined ? undefined : { ...header, body };
}

function targetFields(target: TopicTarget): unknown[] {
  if (target === "all") return [TARGET.all];
  if ("cloud" in target) return [TARGET.cloud, target.cloud];
  const { key, value } = target.tag;
  return value === undefined ? [TARGET.tag, key] : [TARGET.tag, key, value];
}

function readTarget(fields: Fields): TopicTarget {
  switch (fields.count()) {
    case TARGET.all:
      return "all";
    case TARGET.cloud:
      return { cloud: fields.matching(NAME_PATTERN) };
    case TARGET.tag: {
      const key = fields.text(1, TAG_KEY_LENGTH_MAX);
      return { tag: { key, value: fields.optional(() => fields.text(0, TAG_VALUE_LENGTH_MAX)) } };
    }
  }
  return fields.refuse();
}
