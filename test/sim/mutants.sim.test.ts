import { describe, expect, it } from "vitest";
import type { Mutant } from "./mutants.ts";
import { isCaughtBy, loadMutant, MUTANTS, patchOf } from "./mutants.ts";
import { REGRESSIONS } from "./regressions.ts";
import { runSeed } from "./world.ts";

/** The first run that shows the mutant, and by which rule. */
async function hunt(mutant: Mutant): Promise<{ seed: number; rule: string } | undefined> {
  const coreClass = await loadMutant(mutant);
  const { flaws, from = 1 } = mutant;
  const patch = patchOf(mutant);
  for (let seed = from; seed < from + mutant.seeds; seed += 1) {
    const { violation } = runSeed({ seed, patch, flaws, coreClass });
    if (violation !== undefined && isCaughtBy(mutant, violation.rule)) return { seed, rule: violation.rule };
  }
  return undefined;
}

describe("a queue without one of its rules", () => {
  it.each(MUTANTS.map((mutant) => [mutant.id, mutant.what, mutant] as const))(
    "%s is caught: %s",
    { timeout: 60_000 },
    async (id, _what, mutant) => {
      expect(await hunt(mutant), `${id} within ${mutant.seeds} seeds`).toBeDefined();
    },
  );

  it.each(REGRESSIONS.map((mutant) => [mutant.id, mutant.what, mutant] as const))(
    "%s is found again: %s",
    { timeout: 60_000 },
    async (id, _what, mutant) => {
      expect(await hunt(mutant), `${id} within ${mutant.seeds} seeds`).toBeDefined();
    },
  );

  it("is refused when its patch no longer fits the source", async () => {
    const stale = {
      id: "M0",
      what: "nothing",
      file: "ballot.ts",
      find: "never written",
      replace: "",
      seeds: 1,
    };
    await expect(loadMutant(stale)).rejects.toThrow("M0");
  });
});
