import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadMutant, MUTANTS } from "./mutants.ts";
import type { Mutant } from "./mutants.ts";
import { faultsOf, GatherWorld, unheard } from "./world.ts";
import type { WorldInit } from "./world.ts";

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

/** With as much time as it takes, and links that break only with their ends. */
function inTime(init: WorldInit): WorldInit {
  return { ...init, deadlineMs: 1_000_000, breaks: 0, fanout: 3 };
}

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
        expect(unheard(new GatherWorld(inTime(init)).run())).toEqual([]);
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
});

describe("a gather without one of its rules", () => {
  /** The first seed that shows it. */
  async function hunt(mutant: Mutant): Promise<number | undefined> {
    const coreClass = await loadMutant(mutant);
    for (let seed = 1; seed <= mutant.seeds; seed += 1) {
      const busy = { seed, nodes: 40, fanout: 3, deadlineMs: 2_000, delayMs: 5, jitterMs: 5 };
      const init = { ...busy, degree: 6, deaths: 30, breaks: 20, coreClass };
      const isCaught =
        faultsOf(new GatherWorld(init).run()).length > 0 ||
        unheard(new GatherWorld(inTime(init)).run()).length > 0;
      if (isCaught) return seed;
    }
    return undefined;
  }

  it.each(MUTANTS.map((mutant) => [mutant.what, mutant] as const))("is caught: %s", async (_what, mutant) => {
    expect(await hunt(mutant), `within ${mutant.seeds} seeds`).toBeDefined();
  });

  it("is refused when its patch no longer fits the source", async () => {
    await expect(
      loadMutant({ what: "nothing", find: "never written", replace: "", seeds: 1 }),
    ).rejects.toThrow("0 times");
  });
});
