import { describe, expect, it } from "vitest";
import { loadMutant, MUTANTS } from "./mutants.ts";
import { SCENARIOS } from "./scenarios.ts";

describe("gossip state", () => {
  it.each([
    ["chaos", 40],
    ["lowBoot", 10],
    ["longAway", 10],
    ["restartsForWeeks", 5],
  ])("%s: %d seeds break no rule", { timeout: 60_000 }, (name, seeds) => {
    for (let seed = 1; seed <= seeds; seed += 1) {
      expect(SCENARIOS[name]?.(seed), `${name}, seed ${seed}`).toBeUndefined();
    }
  });
});

describe("gossip state without one of its rules", () => {
  it.each(MUTANTS.map((mutant) => [mutant.id, mutant] as const))(
    "is caught: %s",
    { timeout: 60_000 },
    async (id, mutant) => {
      const coreClass = await loadMutant(mutant);
      let rule: string | undefined;
      for (let seed = 1; seed <= mutant.seeds && rule === undefined; seed += 1) {
        rule = mutant.scenario(seed, coreClass)?.rule;
      }
      expect(rule, `${id} within ${mutant.seeds} seeds`).toBe(mutant.rule);
    },
  );
});
