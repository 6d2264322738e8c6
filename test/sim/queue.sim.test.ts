import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { runSeed } from "./world.ts";

const TIMEOUT_MS = 180_000;
/** Runs of one test case: a failing one then names its neighbourhood. */
const CHUNK = 250;
const SEEDS = 2_000;

function expectSound(seed: number): void {
  const { violation } = runSeed({ seed });
  const found = violation && `${violation.message}\nnpm run sim -- --seeds 1 --seed ${seed}`;
  expect(found, `seed ${seed}`).toBeUndefined();
}

describe("queue core under faults", () => {
  it.each(Array.from({ length: SEEDS / CHUNK }, (_, index) => 1 + index * CHUNK))(
    "never breaks a rule in the runs from seed %i",
    { timeout: TIMEOUT_MS },
    (first) => {
      for (let seed = first; seed < first + CHUNK; seed += 1) expectSound(seed);
    },
  );

  it.each([3, 14, 159])("always runs seed %i the same way", (seed) => {
    const digest = (): string => {
      const { trace, steps } = runSeed({ seed, traced: true });
      return createHash("sha256")
        .update(`${steps}\n${trace.join("\n")}`)
        .digest("hex");
    };
    expect(digest()).toBe(digest());
  });
});

describe("seeds that found a mistake once", () => {
  it.each([
    [73, "a session is handed one epoch once, although its verdict timed out before a steal"],
    [298, "a floor raised between a hello and its answer reaches that peer"],
    [836, "a DONE that meets only replicas which learnt it finished still closes its lane"],
    [2_468, "a lease is not superseded before it was sent"],
    [2_944, "a writer's last unused credit is asked back when another has messages"],
    [2_995, "the nomination of a lost lane gives its credit back"],
    [3_145, "a lane whose owner gave it up is taken over by who knows its round"],
    [545, "a lane whose owner denies it needs no quorum of suspicion"],
  ])("seed %i: %s", (seed) => {
    expectSound(seed);
  });
});
