import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { formatTarget, matches, parseTarget, TargetError } from "../../src/core/target.ts";
import type { Facts, Target } from "../../src/core/target.ts";

const key = fc.constantFrom("role", "zone", "draining", "cloud", "all", "two words", 'a"b\\c', "__proto__");
const value = fc.constantFrom("a", "b", "web", "", "x y", "&|!()");
const leaf: fc.Arbitrary<Target> = fc.oneof(
  fc.constant({ type: "all" } as const),
  fc.record({ type: fc.constant("is" as const), field: fc.constantFrom("peer", "name", "cloud"), value }),
  fc.record({ type: fc.constant("tag" as const), key, value }),
  fc.record({ type: fc.constant("has" as const), key }),
);
const { target } = fc.letrec<{ target: Target }>((tie) => ({
  target: fc.oneof(
    { depthSize: "small" },
    leaf,
    fc.record({ type: fc.constant("not" as const), of: tie("target") }),
    fc.record({
      type: fc.constantFrom("and", "or"),
      of: fc.array(tie("target"), { minLength: 2, maxLength: 3 }),
    }),
  ),
}));
const facts: fc.Arbitrary<Facts> = fc.record({
  peerId: value,
  name: value,
  cloud: value,
  tags: fc.dictionary(key, value),
});

/** The same by another way: sets of members, as in a textbook. */
function select(one: Target, members: readonly Facts[]): Set<Facts> {
  const where = (test: (member: Facts) => boolean): Set<Facts> => new Set(members.filter(test));
  switch (one.type) {
    case "all":
      return new Set(members);
    case "is":
      return where(({ peerId, name, cloud }) => ({ peer: peerId, name, cloud })[one.field] === one.value);
    case "tag":
      return where(({ tags }) =>
        Object.entries(tags).some(([name, its]) => name === one.key && its === one.value),
      );
    case "has":
      return where(({ tags }) => Object.keys(tags).includes(one.key));
    case "not":
      return where((member) => !select(one.of, members).has(member));
    case "and":
      return where((member) => one.of.every((each) => select(each, members).has(member)));
    case "or":
      return new Set(one.of.flatMap((each) => [...select(each, members)]));
  }
}

describe("a target", () => {
  it("always survives being written and parsed again", () => {
    fc.assert(
      fc.property(target, (one) => {
        expect(parseTarget(formatTarget(one))).toEqual(one);
      }),
    );
  });

  it("always means what sets say", () => {
    fc.assert(
      fc.property(target, fc.array(facts, { maxLength: 12 }), (one, members) => {
        const chosen = members.filter((member) => matches(one, member));
        expect(new Set(chosen)).toEqual(select(one, members));
      }),
    );
  });

  it("never throws anything but TargetError, with a position inside the text", () => {
    const sign = fc.constantFrom("a", "role", "=", "&", "|", "!", "(", ")", '"', "\\", " ", "all", "é");
    fc.assert(
      fc.property(fc.array(sign), (signs) => {
        const text = signs.join("");
        try {
          parseTarget(text);
        } catch (error) {
          expect(error).toBeInstanceOf(TargetError);
          expect((error as TargetError).at).toBeLessThanOrEqual(text.length);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it("binds & closer than |, and ! closest", () => {
    const web: Facts = { peerId: "p", name: "n", cloud: "c", tags: { role: "web", zone: "b" } };
    const means = (text: string): boolean => matches(parseTarget(text), web);
    expect(means("role=web & (zone=a | zone=b) & !draining")).toBe(true);
    expect(means("role=db & zone=a | zone=b")).toBe(true);
    expect(means("role=db & (zone=a | zone=b)")).toBe(false);
    expect(means('cloud=c & !"cloud" & name=n & peer=p & role')).toBe(true);
  });

  it.each([
    ["role=", 5],
    ["role=web &", 10],
    ["(a", 2],
    ["a b", 2],
    ['a="b', 2],
    ["cloud", 5],
    ["", 0],
    ["!".repeat(100), 65],
  ])("names where %j is wrong", (text, at) => {
    expect(() => parseTarget(text)).toThrow(expect.objectContaining({ at }) as Error);
  });
});
