import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { Assembly } from "../../src/codec/assembly.ts";
import { FrameWriter } from "../../src/codec/frame-writer.ts";
import { decodeFrame, decodeSpread, encodeParts, encodeSpread, wholeOf } from "../../src/codec/frames.ts";
import { pack } from "../../src/codec/packr.ts";
import { CodecError } from "../../src/codec/read.ts";
import { CHUNK_BYTES, FLOWS_MAX } from "../../src/core/limits.ts";
import { fault } from "../../src/core/messages.ts";
import type { CastMessage, EmitMessage, Message } from "../../src/core/messages.ts";

const id = fc.nat();
const value = fc.oneof(
  fc.string(),
  fc.double({ noNaN: true }).map((number) => number + 0),
  fc.boolean(),
  fc.array(fc.nat()),
  fc.constant(null),
);
const up = fc.boolean();
const name = fc.string({ maxLength: 40 });
const optional = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(one, { nil: undefined });
const type = <T extends string>(of: T): fc.Arbitrary<T> => fc.constant(of);

const cast: fc.Arbitrary<CastMessage> = fc.record({
  type: type("cast"),
  method: name,
  input: value,
  target: fc.oneof(name, fc.array(name)),
  no: optional(id),
  trace: optional(name),
});
const emit: fc.Arbitrary<EmitMessage> = fc.record({
  type: type("emit"),
  topic: name,
  no: id,
  value,
  replayed: up,
  spread: up,
});

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    type: type("ask"),
    id,
    method: name,
    remainingMs: optional(id),
    input: value,
    key: optional(name),
    trace: optional(name),
  }),
  fc.record({ type: type("reply"), id, value }),
  fc.record({ type: type("fail"), id, fault: name.map((text) => fault("DENIED", text, "unknown")) }),
  fc.record({ type: type("cancel"), id }),
  fc.record({ type: type("item"), id, up, value }),
  fc.record({ type: type("end"), id }),
  fc.record({ type: type("credit"), id, up, count: fc.nat(64) }),
  cast,
  fc.record({ type: type("took"), bytes: fc.nat(1_000_000) }),
  emit,
  fc.record({ type: type("recall"), topic: name, count: id }),
);

function frameOf(messages: readonly Message[]): Uint8Array {
  const writer = new FrameWriter();
  for (const one of messages) writer.add(encodeParts(one));
  return writer.finish();
}

describe("a frame", () => {
  it("always decodes to the messages it was made of", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 20 }), (messages) => {
        expect(decodeFrame(frameOf(messages))).toEqual(messages);
      }),
    );
  });

  it("always reads what is told over gossip, and nothing else there", () => {
    fc.assert(
      fc.property(fc.oneof(cast, emit), id, (message, boot) => {
        expect(decodeSpread(encodeSpread({ boot, message }))).toEqual({ boot, message });
      }),
    );
    for (const bad of [[1, 5, [3, 7]], [1, -1, [7, "m", 1, "all"]], [2, 5, [7, "m", 1, "all"]], "x"])
      expect(() => decodeSpread(pack(bad as never))).toThrow(CodecError);
  });

  it("carries byte strings of any length as what they are", () => {
    for (const length of [0, 1, 255, 1_023, 1_024, 20_000]) {
      const value = Uint8Array.from({ length }, (_, at) => at & 255);
      const messages = [
        { type: "reply", id: 1, value },
        { type: "ask", id: 2, method: "m", remainingMs: 5, input: value, key: undefined, trace: undefined },
        { type: "item", id: 3, up: true, value },
      ] as const;
      const decoded = decodeFrame(frameOf(messages)) as typeof messages;
      expect(decoded.map(({ id }) => id)).toEqual([1, 2, 3]);
      const bytes = [decoded[0].value, decoded[1].input, decoded[2].value];
      expect(bytes.every((one) => Buffer.compare(one, value) === 0)).toBe(true);
    }
  });

  it("never throws anything but CodecError, whatever the bytes", () => {
    let refused = 0;
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 6 }),
        fc.infiniteStream(fc.nat()),
        (messages, numbers) => {
          const frame = frameOf(messages).slice();
          for (let times = 0; times < 10; times += 1) {
            const [at = 0, byte = 0] = [numbers.next().value, numbers.next().value];
            frame[at % frame.length] = byte;
            try {
              decodeFrame(byte % 5 === 0 ? frame.slice(0, at % frame.length) : frame);
            } catch (error) {
              expect(error).toBeInstanceOf(CodecError);
              refused += 1;
            }
          }
        },
      ),
      { numRuns: 1_000 },
    );
    expect(refused).toBeGreaterThan(1_000);
  });

  it("ignores fields that a later version added, and refuses another version", () => {
    expect(decodeFrame(pack([1, [3, 7, "later"], [1, 8, "x", {}]]))).toEqual([
      { type: "cancel", id: 7 },
      { type: "reply", id: 8, value: "x" },
    ]);
    for (const bad of [
      [2, [3, 7]],
      [1, [99, 7]],
      [1, [3]],
      [1, [3, -1]],
      [1, 3],
      "x",
      [1, [4, 1, "up", 0]],
    ]) {
      expect(() => decodeFrame(pack(bad as never))).toThrow(CodecError);
    }
  });
});

describe("an assembly", () => {
  const chunk = (flow: number, last: boolean, bytes: Uint8Array) =>
    ({ type: "chunk", flow, last, bytes }) as const;

  it("puts interleaved items together", () => {
    const assembly = new Assembly();
    const items = ["a", "b"].map((letter) =>
      wholeOf(encodeParts({ type: "reply", id: 1, value: letter.repeat(CHUNK_BYTES) })),
    );
    const heads = items.map((item, flow) => assembly.add(chunk(flow, false, item.subarray(0, CHUNK_BYTES))));
    expect(heads).toEqual([undefined, undefined]);
    const whole = items.map((item, flow) => assembly.add(chunk(flow, true, item.subarray(CHUNK_BYTES))));
    expect(whole).toEqual(
      ["a", "b"].map((one) => ({ type: "reply", id: 1, value: one.repeat(CHUNK_BYTES) })),
    );
  });

  it("refuses more than its limits", () => {
    const many = new Assembly();
    const open = (count: number): void => {
      for (let flow = 0; flow < count; flow += 1) many.add(chunk(flow, false, new Uint8Array(CHUNK_BYTES)));
    };
    expect(() => open(FLOWS_MAX)).not.toThrow();
    expect(() => open(FLOWS_MAX + 1)).toThrow(CodecError);
    const long = new Assembly();
    expect(() => {
      for (;;) long.add(chunk(0, false, new Uint8Array(CHUNK_BYTES)));
    }).toThrow(CodecError);
    expect(() => new Assembly().add(chunk(0, false, new Uint8Array(CHUNK_BYTES - 1)))).toThrow(CodecError);
  });

  it("keeps bytes of its own, and not the buffers that they came in", () => {
    const assembly = new Assembly();
    const item = wholeOf(encodeParts({ type: "reply", id: 1, value: "x".repeat(CHUNK_BYTES) }));
    const received = Buffer.from(item);
    assembly.add(chunk(0, false, received.subarray(0, CHUNK_BYTES)));
    received.fill(0, 0, CHUNK_BYTES); // Whoever looks into it later finds something else.
    expect(assembly.add(chunk(0, true, received.subarray(CHUNK_BYTES)))).toEqual({
      type: "reply",
      id: 1,
      value: "x".repeat(CHUNK_BYTES),
    });
  });
});
