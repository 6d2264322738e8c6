import fc from "fast-check";
import { expect, it } from "vitest";
import { lengthsUpTo } from "../../src/host/lengths.ts";

function encode(length: number): Uint8Array {
  const bytes: number[] = [];
  let rest = length;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push(0x80 + (rest % 0x80));
  return Uint8Array.of(...bytes, rest);
}

/** As libp2p does it: a byte more as long as a RangeError asks for one. Gives how many it took. */
function read(decode: (bytes: Uint8Array) => number, bytes: Uint8Array): { length: number; taken: number } {
  for (let taken = 1; taken <= bytes.length; taken += 1) {
    try {
      return { length: decode(bytes.subarray(0, taken)), taken };
    } catch (error) {
      if (!(error instanceof RangeError)) return { length: -1, taken };
    }
  }
  return { length: -2, taken: bytes.length };
}

it("decodes every length up to the limit, and takes no byte more for any other", () => {
  fc.assert(
    fc.property(fc.nat(1 << 20), fc.nat(1 << 21), (max, length) => {
      const bytes = encode(length);
      const { length: found, taken } = read(lengthsUpTo(max), bytes);
      if (length <= max) expect([found, taken]).toEqual([length, bytes.length]);
      else expect([found, taken <= encode(max).length + 1]).toEqual([-1, true]);
    }),
  );
  for (const max of [127, 1_024, 160 * 1_024]) {
    const endless = read(lengthsUpTo(max), new Uint8Array(10_000).fill(0xff));
    expect([endless.length, endless.taken <= encode(max).length + 1]).toEqual([-1, true]);
  }
});

it("refuses one message more than there may be", () => {
  const decode = lengthsUpTo(10, 2);
  expect([decode(Uint8Array.of(3)), decode(Uint8Array.of(4))]).toEqual([3, 4]);
  expect(() => decode(Uint8Array.of(5))).toThrow("more than 2 messages");
});
