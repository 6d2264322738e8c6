import { describe, expect, it } from "vitest";
import { randomBelow, randomHex, SeededRandom } from "@klatsch/kit/core";

describe("SeededRandom", () => {
  it("gives the same sequence for the same seed, now and in later versions", () => {
    const random = new SeededRandom(42);
    expect([random.uint32(), random.uint32(), random.uint32()]).toEqual([1849552023, 4223452576, 118919111]);
  });

  it("differs for seeds that differ above 32 bits only", () => {
    expect(new SeededRandom(1).uint32()).not.toBe(new SeededRandom(1 + 2 ** 32).uint32());
  });

  it("uses every bit about half of the time", () => {
    const random = new SeededRandom(7);
    const counts = new Uint32Array(32);
    for (let draw = 0; draw < 10_000; draw += 1) {
      const value = random.uint32();
      for (let bit = 0; bit < 32; bit += 1) counts[bit]! += (value >>> bit) & 1;
    }
    // Standard deviation 50.
    for (const count of counts) expect(Math.abs(count - 5_000)).toBeLessThan(300);
  });
});

describe("randomBelow", () => {
  it("stays below its bound and reaches all of it", () => {
    const random = new SeededRandom(3);
    const seen = new Set(Array.from({ length: 200 }, () => randomBelow(random, 5)));
    expect([...seen].toSorted()).toEqual([0, 1, 2, 3, 4]);
  });
});

describe("randomHex", () => {
  it("has as many digits as asked for", () => {
    for (const digits of [0, 1, 8, 13, 32])
      expect(randomHex(new SeededRandom(1), digits)).toMatch(new RegExp(`^[0-9a-f]{${digits}}$`));
  });
});
