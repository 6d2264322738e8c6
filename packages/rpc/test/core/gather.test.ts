import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { Gather } from "../../src/core/gather.ts";
import type { Reduce, Reducer } from "../../src/core/reducers.ts";
import { reducerOf } from "../../src/core/reducers.ts";
import { GatherWorld } from "../support/gather-world.ts";
import type { Outcome } from "../support/gather-world.ts";

/** What is wrong with a gather's account. */
function faultsOf({ targets, answered, failed, missing, counted }: Outcome): string[] {
  const covered = [...answered, ...failed.map(([name]) => name), ...missing];
  return [
    ...(covered.toSorted().join() === targets.toSorted().join() ? [] : ["coverage is not exact"]),
    ...(counted.toSorted().join() === answered.toSorted().join()
      ? []
      : ["the state counts others than answered"]),
  ];
}

const settings = fc.record({
  seed: fc.nat(),
  nodes: fc.integer({ min: 1, max: 60 }),
  fanout: fc.integer({ min: 1, max: 8 }),
  deadlineMs: fc.integer({ min: 20, max: 2_000 }),
  delayMs: fc.nat(10),
  jitterMs: fc.nat(10),
  degree: fc.constantFrom(0, 2, 6),
  deaths: fc.nat(50),
  breaks: fc.nat(30),
});

describe("a gather", () => {
  it("always has every target exactly once in its account, whatever fails", () => {
    fc.assert(
      fc.property(settings, (init) => {
        expect(faultsOf(new GatherWorld(init).run())).toEqual([]);
      }),
      { numRuns: 400 },
    );
  });

  it("always hears all who live, if there is time", () => {
    fc.assert(
      fc.property(settings, (init) => {
        const outcome = new GatherWorld({ ...init, deadlineMs: 1_000_000, breaks: 0, fanout: 3 }).run();
        expect(outcome.missing).toEqual([]);
        expect(outcome.failed.filter(([name]) => !outcome.dead.has(name))).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  it.each([0, 20])(
    "never takes more than 200 ms for 1,000 nodes with %i links (0: all), nor the root more than two messages a child",
    (degree) => {
      const calm = {
        seed: 1,
        degree,
        nodes: 1_000,
        fanout: 8,
        deadlineMs: 10_000,
        delayMs: 5,
        jitterMs: 0,
        deaths: 0,
        breaks: 0,
      };
      const outcome = new GatherWorld(calm).run();
      expect(outcome.answered.length).toBe(1_000);
      expect(outcome.tookMs).toBeLessThanOrEqual(200);
      expect(outcome.messagesAtRoot).toBeLessThanOrEqual(16);
      // Nearly all questions go along links, though nodes have links with 1 in 50 others only.
      expect(outcome.askedNear / outcome.asked).toBeGreaterThan(0.9);
    },
  );

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
