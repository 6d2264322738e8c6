import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { IntervalSet } from "@klatsch/kit/core";
import type { Interval } from "@klatsch/kit/core";

const LIMIT = 60;
const range: fc.Arbitrary<Interval> = fc
  .tuple(fc.nat(LIMIT), fc.nat(LIMIT))
  .map(([a, b]) => [Math.min(a, b), Math.max(a, b)]);
const ranges = fc.array(range, { maxLength: 12 });

function numbersIn(list: Iterable<Interval>): number[] {
  return [...list].flatMap(([start, end]) =>
    Array.from({ length: end - start }, (_, index) => start + index),
  );
}

describe("IntervalSet", () => {
  it("always holds what a set of numbers holds", () => {
    fc.assert(
      fc.property(ranges, (list) => {
        const set = new IntervalSet();
        const model = new Set<number>();
        for (const [start, end] of list) {
          const fresh = numbersIn([[start, end]]).filter((value) => !model.has(value));
          expect(set.addRange(start, end)).toBe(fresh.length);
          for (const value of fresh) model.add(value);
        }
        const expected = [...model].toSorted((a, b) => a - b);
        expect(numbersIn(set.ranges())).toEqual(expected);
        expect(set.size).toBe(model.size);
        for (let value = -1; value <= LIMIT + 1; value += 1) expect(set.has(value)).toBe(model.has(value));
      }),
    );
  });

  it("always needs as few ranges as there can be", () => {
    fc.assert(
      fc.property(ranges, (list) => {
        const found = [...IntervalSet.of(list).ranges()];
        for (const [index, [start, end]] of found.entries()) {
          expect(start).toBeLessThan(end);
          if (index > 0) expect(found[index - 1]?.[1]).toBeLessThan(start);
        }
        expect(IntervalSet.of(list).rangeCount).toBe(found.length);
      }),
    );
  });

  it("always finds the holes and the first missing number", () => {
    fc.assert(
      fc.property(ranges, range, (list, [start, end]) => {
        const set = IntervalSet.of(list);
        const missing = numbersIn([[start, end]]).filter((value) => !set.has(value));
        expect(numbersIn(set.holes(start, end))).toEqual(missing);
        const expected = numbersIn([[start, LIMIT + 1]]).find((value) => !set.has(value)) ?? LIMIT + 1;
        expect(set.firstMissing(start)).toBe(Math.max(expected, start));
      }),
    );
  });

  it("unites two sets into a third and leaves both alone", () => {
    fc.assert(
      fc.property(ranges, ranges, (left, right) => {
        const [a, b] = [IntervalSet.of(left), IntervalSet.of(right)];
        const union = a.union(b);
        expect([...union.ranges()]).toEqual([...IntervalSet.of([...left, ...right]).ranges()]);
        expect(union.size).toBe(numbersIn(union.ranges()).length);
        union.addRange(0, LIMIT + 5);
        expect([...a.ranges()]).toEqual([...IntervalSet.of(left).ranges()]);
        expect([...b.ranges()]).toEqual([...IntervalSet.of(right).ranges()]);
      }),
    );
  });

  it("tells whether a number was new", () => {
    const set = new IntervalSet();
    expect([set.add(3), set.add(3), set.add(4)]).toEqual([true, false, true]);
    expect([...set.ranges()]).toEqual([[3, 5]]);
  });

  it.each([
    [0.5, 1],
    [2, 1],
    [0, Infinity],
    [Number.NaN, 1],
  ])("refuses the range %d to %d", (start, end) => {
    expect(() => new IntervalSet().addRange(start, end)).toThrow(
      expect.objectContaining({ code: "INVARIANT_BROKEN" }),
    );
  });
});
