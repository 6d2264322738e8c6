import { describe, expect, it } from "vitest";

import { LISTED_LANES_MAX, listedLanes, restricted } from "../../src/core/listed-lanes.ts";

const laneOf = (no: number): string => String(no).padStart(64, "0");

describe("the lanes of a list", () => {
  it("are told in order, from where it begins, each once, with the most messages any of its line has", () => {
    const served = [laneOf(3), laneOf(1), laneOf(3)];
    const kept = [
      [laneOf(2), 5] as const,
      [laneOf(0), 1] as const,
      [laneOf(2), 7] as const,
      [laneOf(1), 2] as const,
    ];
    expect(listedLanes(served, kept, { lane: laneOf(1), seq: 9 })).toEqual({
      lanes: {
        served: [laneOf(1), laneOf(3)],
        kept: [
          [laneOf(1), 2],
          [laneOf(2), 7],
        ],
      },
      end: undefined,
    });
  });

  it("end where one answer has no room for more, and where its messages do", () => {
    const all = Array.from({ length: LISTED_LANES_MAX + 5 }, (_, no) => laneOf(no));
    const { lanes, end } = listedLanes(
      all.slice(0, 3),
      all.map((lane) => [lane, 1] as const),
      undefined,
    );
    expect(end).toBe(laneOf(LISTED_LANES_MAX - 1));
    const { served, kept } = restricted(lanes, { lane: end ?? "", seq: 0 });
    expect([served.length, kept.length]).toEqual([3, LISTED_LANES_MAX]);
    expect(restricted(lanes, { lane: laneOf(0), seq: 4 })).toEqual({
      served: [laneOf(0)],
      kept: [[laneOf(0), 1]],
    });
  });
});
