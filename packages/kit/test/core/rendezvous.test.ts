import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hash64, rendezvousOrder } from "@klatsch/kit/core";

function hex(text: string): string {
  const { high, low } = hash64(text);
  return high.toString(16).padStart(8, "0") + low.toString(16).padStart(8, "0");
}

describe("hash64", () => {
  // The first two are published vectors of MurmurHash3_x86_128; the others pin what nodes in the field compute.
  it.each([
    ["The quick brown fox jumps over the lazy dog", "2f1583c3ecee2c67"],
    ["MurmurHash3 was written by Austin Appleby, and is placed in the public", "6d3583489d9d1e5a"],
    ["", "0000000000000000"],
    ["hello", "2b2444a0db91def7"],
  ])("of %j is %s", (text, expected) => {
    expect(hex(text)).toBe(expected);
  });

  it("treats text as UTF-8, whatever the plane, and lone surrogates as U+FFFD", () => {
    expect(hex("\ud800")).toBe(hex("\ufffd"));
    const texts = ["é", "e\u0301", "ह", "𐍈", "\ufffd", "a\u{1f98a}b"];
    expect(new Set(texts.map(hex)).size).toBe(texts.length);
  });

  it("spreads keys that differ in one digit over 64 buckets evenly", () => {
    const buckets = new Uint32Array(64);
    for (let index = 0; index < 64_000; index += 1) buckets[hash64(`key-${index}`).low & 63]! += 1;
    // Expected 1,000 each with a standard deviation of 31.
    expect(Math.min(...buckets)).toBeGreaterThan(850);
    expect(Math.max(...buckets)).toBeLessThan(1_150);
  });
});

describe("rendezvousOrder", () => {
  const names = fc.uniqueArray(fc.string({ maxLength: 12 }), { maxLength: 12 });

  it("always gives the same order, however the candidates were listed", () => {
    fc.assert(
      fc.property(fc.string(), names, (key, candidates) => {
        const order = rendezvousOrder(key, candidates);
        expect(rendezvousOrder(key, candidates.toReversed())).toEqual(order);
        expect(order.toSorted()).toEqual(candidates.toSorted());
      }),
    );
  });

  it("never moves anyone else when a candidate leaves", () => {
    fc.assert(
      fc.property(fc.string(), names, fc.nat(), (key, candidates, pick) => {
        const gone = candidates[pick % Math.max(1, candidates.length)];
        const order = rendezvousOrder(key, candidates).filter((name) => name !== gone);
        expect(
          rendezvousOrder(
            key,
            candidates.filter((name) => name !== gone),
          ),
        ).toEqual(order);
      }),
    );
  });

  it("is the order that nodes in the field compute", () => {
    expect(rendezvousOrder("lane-1", ["a", "b", "c", "d", "e"]).join("")).toBe("daebc");
    expect(rendezvousOrder("lane-2", ["a", "b", "c", "d", "e"]).join("")).toBe("ecabd");
  });

  it("gives each of five candidates its share of first places", () => {
    const first = new Map<string | undefined, number>();
    for (let index = 0; index < 5_000; index += 1) {
      const [winner] = rendezvousOrder(`lane-${index}`, ["a", "b", "c", "d", "e"]);
      first.set(winner, (first.get(winner) ?? 0) + 1);
    }
    for (const count of first.values()) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  });
});
