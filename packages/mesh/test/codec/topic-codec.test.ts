import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeTopicEnvelope,
  encodeTopicEnvelope,
  TOPIC_BODY_BYTES_MAX,
} from "../../src/codec/topic-codec.ts";
import type { TopicEnvelope } from "../../src/codec/topic-codec.ts";

const target: fc.Arbitrary<TopicEnvelope["target"]> = fc.oneof(
  fc.constant("all" as const),
  fc.record({ cloud: fc.stringMatching(/^[A-Za-z0-9._-]{1,64}$/u) }),
  fc.record({
    tag: fc.record({
      key: fc.string({ minLength: 1, maxLength: 64 }),
      value: fc.option(fc.string({ maxLength: 256 }), { nil: undefined }),
    }),
  }),
);
const envelope: fc.Arbitrary<TopicEnvelope> = fc.record({
  topic: fc.string({ minLength: 1, maxLength: 128 }),
  target,
  body: fc.uint8Array({ maxLength: 1_000 }),
});

describe("a message on a topic", () => {
  it("always reads as it was written", () => {
    fc.assert(
      fc.property(envelope, (written) => {
        const read = decodeTopicEnvelope(encodeTopicEnvelope(written));
        expect(read).toEqual({ ...written, body: Buffer.from(written.body) });
      }),
    );
  });

  it("never makes the reader throw, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        decodeTopicEnvelope(bytes);
      }),
    );
  });

  it("is refused where it is longer than a body may be, or shorter than its header", () => {
    const bytes = encodeTopicEnvelope({
      topic: "t",
      target: "all",
      body: new Uint8Array(TOPIC_BODY_BYTES_MAX + 1),
    });
    expect(decodeTopicEnvelope(bytes)).toBeUndefined();
    expect(decodeTopicEnvelope(Buffer.of(0, 9, 0x91))).toBeUndefined();
  });
});
