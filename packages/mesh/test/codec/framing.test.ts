import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_HEADER_BYTES, FrameDecoder, writeFrameHeader } from "../../src/codec/framing.ts";

const PAYLOAD_BYTES_MAX = 100_000;

function encode(frames: readonly { channel: number; payload: Uint8Array }[]): Uint8Array {
  const parts = frames.map(({ channel, payload }) => {
    const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
    writeFrameHeader(frame, 0, channel, payload.length);
    frame.set(payload, FRAME_HEADER_BYTES);
    return frame;
  });
  return Buffer.concat(parts);
}

/** Cuts at the given places, as a network does. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...sorted].map((from, index) => bytes.slice(from, sorted[index] ?? bytes.length));
}

const frame = fc.record({
  channel: fc.integer({ min: 0, max: 0xffff }),
  payload: fc.oneof(
    fc.uint8Array({ maxLength: 40, size: "max" }),
    fc.integer({ min: 0, max: PAYLOAD_BYTES_MAX }).map((length) => new Uint8Array(length).fill(length)),
  ),
});

describe("FrameDecoder", () => {
  it("always gives back what was encoded, however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 12, size: "max" }),
        fc.array(fc.nat(), { maxLength: 30, size: "max" }),
        (frames, places) => {
          const decoder = new FrameDecoder(PAYLOAD_BYTES_MAX);
          const decoded: { channel: number; payload: Uint8Array }[] = [];
          for (const chunk of cut(encode(frames), places)) {
            const whole = decoder.push(chunk, (channel, payload) => {
              decoded.push({ channel, payload });
              return true;
            });
            expect(whole).toBe(true);
          }
          // Compared at the end: a payload must not change once it was given out.
          expect(decoded.map(({ channel }) => channel)).toEqual(frames.map(({ channel }) => channel));
          for (const [index, { payload }] of decoded.entries()) {
            expect(Buffer.compare(payload, frames[index]?.payload ?? Buffer.of(1))).toBe(0);
          }
        },
      ),
    );
  });

  it("decodes byte by byte", () => {
    const decoder = new FrameDecoder(10);
    const decoded: string[] = [];
    for (const byte of encode([{ channel: 7, payload: Buffer.from("hi") }])) {
      decoder.push(
        Uint8Array.of(byte),
        (channel, payload) => decoded.push(`${channel}:${Buffer.from(payload).toString()}`) > 0,
      );
    }
    expect(decoded).toEqual(["7:hi"]);
  });

  it("gives a view of the chunk, not a copy, where a frame came whole", () => {
    const chunk = encode([{ channel: 1, payload: Buffer.from("abc") }]);
    new FrameDecoder(10).push(chunk, (_channel, payload) => {
      expect(payload.buffer).toBe(chunk.buffer);
      return true;
    });
  });

  it.each([
    ["longer than the limit", 13],
    ["near 2³²", 0xffff_ffff],
    ["shorter than its channel number", 1],
  ])("refuses a length %s, and everything after it", (_what, length) => {
    for (const split of [6, 3]) {
      const decoder = new FrameDecoder(10);
      const bytes = Buffer.alloc(20);
      bytes.writeUInt32BE(length);
      const pushed = [
        decoder.push(bytes.subarray(0, split), () => true),
        decoder.push(bytes.subarray(split), () => true),
      ];
      expect(pushed).toContain(false);
      expect(decoder.push(encode([{ channel: 1, payload: Buffer.of(1) }]), () => true)).toBe(false);
    }
  });

  it("stops where the sink says so", () => {
    const decoder = new FrameDecoder(10);
    let seen = 0;
    const bytes = encode([1, 2, 3].map((channel) => ({ channel, payload: Buffer.of(channel) })));
    expect(decoder.push(bytes, () => (seen += 1) < 2)).toBe(false);
    expect(seen).toBe(2);
  });

  it("never holds much more than arrived, whatever a header claims", () => {
    const decoder = new FrameDecoder(2 ** 30);
    const header = Buffer.alloc(FRAME_HEADER_BYTES);
    writeFrameHeader(header, 0, 1, 2 ** 30);
    const before = process.memoryUsage().arrayBuffers;
    for (const chunk of [header, Buffer.alloc(1_000)]) expect(decoder.push(chunk, () => true)).toBe(true);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  });
});
