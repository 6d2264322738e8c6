import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { Gather } from "../../src/core/gather.ts";
import type { Reduce, Reducer } from "../../src/core/reducers.ts";
import { reducerOf } from "../../src/core/reducers.ts";

describe("a gather", () => {
  it("drops a child that speaks of others, twice, or nonsense, and asks its members through others", () => {
    const claims: readonly (readonly [string[], unknown])[] = [
      [["stranger"], 1],
      [["a", "a"], 2],
      [["a"], "x"],
    ];
    for (const [answered, state] of claims) {
      const { merge } = reducerOf({ by: "sum" }, new Map());
      const gather = new Gather({
        self: "r",
        asked: true,
        neighbours: () => [],
        below: { peers: ["a", "b"], sizes: [2, 1] },
        fanout: 1,
        deadlineAt: 1_000,
        holdMs: 20,
        merge,
      });
      gather.step({ type: "start" }, { monoMs: 0, wallMs: 0 });
      gather.step({ type: "own", result: { state: 1 } }, { monoMs: 0, wallMs: 0 });
      const part = { answered, failed: [], state };
      const effects = gather.step({ type: "part", child: "a", part }, { monoMs: 1, wallMs: 0 });
      expect(effects).toMatchObject([
        { type: "cancel", child: "a" },
        { type: "ask", child: "b", below: { peers: [], sizes: [] } },
      ]);
    }
  });
});

describe("a reducer", () => {
  const reduces: readonly Reduce[] = [
    { by: "count" },
    { by: "sum" },
    { by: "min" },
    { by: "max" },
    { by: "avg" },
    { by: "set" },
    { by: "concat" },
    { by: "top", k: 3 },
    { by: "histogram", bounds: [10, 50] },
  ];

  /** Folds in an order and a grouping that `cuts` chooses. */
  function fold(reducer: Reducer, states: readonly unknown[], cuts: readonly number[]): unknown {
    let left = states;
    for (let turn = 0; left.length > 1; turn += 1) {
      const at = (cuts[turn % cuts.length] ?? 0) % (left.length - 1);
      left = [...left.slice(0, at), reducer.merge(left[at + 1], left[at]), ...left.slice(at + 2)];
    }
    return reducer.done(left[0]);
  }

  it.each(reduces)("$by always gives the same for any grouping", (reduce) => {
    const reducer = reducerOf(reduce, new Map());
    const cuts = fc.array(fc.nat(), { minLength: 1 });
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 20 }), cuts, (answers, cuts) => {
        const states = answers.map((answer, no) => reducer.map(answer, `p${no}`));
        expect(fold(reducer, states, cuts)).toEqual(fold(reducer, states, [0]));
      }),
    );
  });

  it("gives what it says", () => {
    const of = (reduce: Reduce, ...answers: readonly unknown[]): unknown => {
      const reducer = reducerOf(reduce, new Map());
      return fold(
        reducer,
        answers.map((answer, no) => reducer.map(answer, `p${no}`)),
        [0],
      );
    };
    expect(of({ by: "avg", of: "cpu.load" }, { cpu: { load: 1 } }, { cpu: { load: 4 } })).toBe(2.5);
    expect(of({ by: "set" }, "b", "a", "b")).toEqual(["a", "b"]);
    expect(of({ by: "concat" }, 7, 8)).toEqual([
      { peerId: "p0", value: 7 },
      { peerId: "p1", value: 8 },
    ]);
    expect(of({ by: "top", k: 2 }, 3, 9, 5)).toEqual([
      { peerId: "p1", value: 9 },
      { peerId: "p2", value: 5 },
    ]);
    expect(of({ by: "histogram", bounds: [1, 10] }, 0, 1, 5, 99)).toEqual([2, 1, 1]);
    expect([of({ by: "count" }), of({ by: "min" })]).toEqual([0, undefined]);
    expect(() => of({ by: "sum" }, "x")).toThrow(TypeError);
  });
});
