import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { plant, subtreesOf } from "../../src/core/tree.ts";
import type { Forest } from "../../src/core/tree.ts";

const graph = fc
  .record({ nodes: fc.integer({ min: 1, max: 40 }), fanout: fc.integer({ min: 1, max: 8 }) })
  .chain(({ nodes, fanout }) => {
    const link = fc.tuple(fc.nat(nodes), fc.nat(nodes));
    return fc.record({
      fanout: fc.constant(fanout),
      members: fc.constant(Array.from({ length: nodes }, (_, no) => `n${no + 1}`)),
      links: fc.array(link, { maxLength: 200 }),
    });
  });

/** Every member with its depth, after checking that nobody asks too many. */
function walk(forest: Forest, fanout: number, depth = 1): readonly (readonly [string, number])[] {
  const subtrees = subtreesOf(forest, fanout) ?? expect.unreachable();
  return subtrees.flatMap(({ peers: [head = "", ...peers], sizes: [, ...sizes] }) => [
    [head, depth] as const,
    ...walk({ peers, sizes }, fanout, depth + 1),
  ]);
}

describe("a tree", () => {
  it("always has every member once, and nobody who asks more than the fanout", () => {
    fc.assert(
      fc.property(graph, ({ members, links, fanout }) => {
        const neighbours = (peer: string): string[] =>
          links.flatMap(([a, b]) => (`n${a}` === peer ? [`n${b}`] : `n${b}` === peer ? [`n${a}`] : []));
        const walked = walk(plant("n0", members, fanout, neighbours), fanout);
        expect(walked.map(([peer]) => peer).toSorted()).toEqual(members.toSorted());
      }),
    );
  });

  it("is as shallow as it can be where all have links with all, or none are known", () => {
    const members = Array.from({ length: 584 }, (_, no) => `n${no}`); // 8 + 64 + 512.
    for (const known of [[], members])
      expect(
        Math.max(
          ...walk(
            plant("r", members, 8, () => known),
            8,
          ).map(([, depth]) => depth),
        ),
      ).toBe(3);
  });

  it("follows a row of links, and asks along no other", () => {
    const row = ["a", "b", "c", "d"];
    const neighbours = (peer: string): string[] =>
      row.filter((_, at) => Math.abs(at - row.indexOf(peer)) === 1);
    expect(plant("b", ["a", "c", "d"], 8, neighbours)).toEqual({ peers: ["a", "c", "d"], sizes: [1, 2, 1] });
  });

  it("is refused where its sizes do not fit", () => {
    for (const sizes of [[], [1], [3, 1], [0, 1], [1, 2]])
      expect(subtreesOf({ peers: ["a", "b"], sizes }, 8)).toBeUndefined();
    expect(subtreesOf({ peers: ["a", "b"], sizes: [1, 1] }, 1)).toBeUndefined();
  });
});
