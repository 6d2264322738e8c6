import { describe, expect, it } from "vitest";
import { loadMeshMutant, MESH_MUTANTS } from "./mutants.ts";
import { SCENARIOS } from "./scenarios.ts";
import type { ScenarioInit } from "./scenarios.ts";

/** A scenario that never gets to its point has found something, too. */
function run(scenario: keyof typeof SCENARIOS, init: ScenarioInit): readonly string[] {
  try {
    return SCENARIOS[scenario](init);
  } catch (error) {
    return [error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error)];
  }
}

describe("a mesh without one of its rules", () => {
  it.each(Object.entries(MESH_MUTANTS).map(([id, mutant]) => [id, mutant.what, mutant] as const))(
    "%s is caught: %s",
    { timeout: 120_000 },
    async (id, _what, { edits, flaws, scenario, seeds }) => {
      const membershipClass = await loadMeshMutant(id, edits);
      for (let seed = 1; seed <= seeds; seed += 1) {
        if (run(scenario, { seed, membershipClass, flaws }).length === 0) continue;
        // The same run goes well with the rule.
        expect(run(scenario, { seed })).toEqual([]);
        return;
      }
      expect.fail(`${id} is not caught within ${seeds} seeds`);
    },
  );

  it("is refused when its patch no longer fits the source", async () => {
    const edits = [{ file: "overlay.ts", find: "never written", replace: "" }];
    await expect(loadMeshMutant("stale", edits)).rejects.toThrow("stale");
  });
});
