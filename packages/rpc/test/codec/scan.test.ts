import { isWithinMeans } from "@klatsch/kit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { decodeFrame, decodeItem } from "../../src/codec/frames.ts";
import { pack } from "../../src/codec/packr.ts";
import { CodecError } from "../../src/codec/read.ts";
import { FRAME_BYTES, ITEM_PARTS_MAX } from "../../src/core/limits.ts";

/** `[1, [0, 1, "x", nil, value]]`: a frame with one ask. */
function askOf(value: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.of(0x92, 1, 0x95, 0, 1, 0xa1, 0x78, 0xc0), value]);
}

/** A list whose elements have each the one before it twice, by extensions of msgpackr's: 2 to the power of `levels` texts. */
function growing(levels: number): Uint8Array {
  const named = (level: number): Buffer => Buffer.of(0xd6, 0x69, 0, 0, 0, level);
  const again = (level: number): Buffer => Buffer.of(0xd6, 0x70, 0, 0, 0, level);
  const lists = Array.from({ length: levels }, (_, level) =>
    level === 0
      ? [named(0), Buffer.of(0x91, 0xa1, 0x78)]
      : [named(level), Buffer.of(0x92), again(level - 1), again(level - 1)],
  );
  return Buffer.concat([Buffer.of(0xdc, 0, levels), ...lists.flat()]);
}

/** A list of so many of one value. */
function listOf(count: number, value: readonly number[]): Uint8Array {
  const head = Buffer.of(0xdd, 0, 0, 0, 0);
  head.writeUInt32BE(count, 1);
  return Buffer.concat([head, Buffer.alloc(count * value.length, Buffer.from(value))]);
}

describe("what a decoder is let loose on", () => {
  it("has no extension that lets little stand for much, or makes more than data", () => {
    const extensions: Readonly<Record<string, Uint8Array>> = {
      "the same again": growing(16),
      "an error": Buffer.of(0xd4, 0x65, 0, 0x90),
      "a pattern": Buffer.of(0xd4, 0x78, 0, 0x92, 0xa1, 0x61, 0xa0),
      "a set": Buffer.of(0xd4, 0x73, 0, 0x90),
      floats: Buffer.of(0xc7, 1, 0x74, 8),
      "a record": Buffer.of(0xd4, 0x72, 0x40, 0x90),
      "two texts for all": Buffer.of(0xd6, 0x62, 0, 0, 0, 6, 0xc0, 0xa0, 0xa0),
      "a long number": Buffer.of(0xc7, 2, 0x42, 1, 1),
    };
    for (const [name, value] of Object.entries(extensions))
      expect(() => decodeFrame(askOf(value)), name).toThrow(CodecError);
    expect(decodeFrame(askOf(pack([new Date(5), undefined])))).toMatchObject([
      { input: [new Date(5), undefined] },
    ]);
  });

  it("is no longer than a frame, and has no more parts than an item may", () => {
    expect(decodeFrame(askOf(listOf(FRAME_BYTES - 13, [0x01])))).toHaveLength(1);
    expect(() => decodeFrame(askOf(listOf(FRAME_BYTES - 12, [0x01])))).toThrow("size");
    const item = (value: Uint8Array): Uint8Array => askOf(value).subarray(2);
    const parts = ITEM_PARTS_MAX - 2; // The item itself and its list are two.
    for (const value of [[0x90], [0x80], [0xc4, 0], [0xd6, 0xff, 0, 0, 0, 1]]) {
      expect(decodeItem(item(listOf(parts, value)))).toMatchObject({ type: "ask" });
      expect(() => decodeItem(item(listOf(parts + 1, value)))).toThrow(CodecError);
    }
    expect(() => decodeItem(item(listOf(parts / 2 + 1, [0x81, 0xa0, 0x01])))).toThrow(CodecError);
    expect(decodeItem(item(listOf(parts * 2, [0x01])))).toMatchObject({ type: "ask" }); // Numbers are no parts.
  });
});

describe("the scan before it", () => {
  it("always admits what a packer makes, and nothing of it that is cut off or goes on", () => {
    const value = fc.anything({ withDate: true, withNullPrototype: true, withSparseArray: true });
    const bytes = fc.uint8Array({ maxLength: 70_000, size: "max" });
    fc.assert(
      fc.property(fc.oneof(value, bytes), fc.nat(), (one, cut) => {
        const packed = pack([one]);
        expect(isWithinMeans(packed, 1_000)).toBe(true);
        expect(isWithinMeans(packed.subarray(0, cut % packed.length), 1_000)).toBe(false);
        expect(isWithinMeans(Buffer.concat([packed, Buffer.of(0)]), 1_000)).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  it("knows numbers and texts of every width", () => {
    const numbers = [
      0,
      127,
      128,
      255,
      256,
      65_535,
      65_536,
      2 ** 32,
      -1,
      -32,
      -33,
      -129,
      -32_769,
      -(2 ** 31),
      0.5,
    ];
    const texts = [0, 31, 32, 255, 256, 65_535, 65_536].map((length) => "x".repeat(length));
    const packed = pack([...numbers, 2n ** 63n, -5n, ...texts, null, true, undefined]);
    expect(isWithinMeans(packed, 2)).toBe(true); // The list and `undefined`.
    expect(isWithinMeans(packed, 1)).toBe(false);
  });

  it("counts lists, maps with their entries, byte strings and instants", () => {
    const packed = pack([[], { a: 1, b: 2 }, new Uint8Array(3), new Date(0)]);
    expect(isWithinMeans(packed, 7)).toBe(true);
    expect(isWithinMeans(packed, 6)).toBe(false);
  });

  it("never looks for what is claimed beyond the bytes", () => {
    for (const head of [
      [0xdd, 0xff, 0xff, 0xff, 0xff],
      [0xdf, 0xff, 0xff, 0xff, 0xff],
      [0xc6, 0xff, 0xff, 0xff, 0xff],
      [0xdc, 0xff],
      [0xd6, 0xff, 0],
      [0xc7, 12],
    ])
      expect(isWithinMeans(Uint8Array.from(head), Infinity)).toBe(false);
  });
});
