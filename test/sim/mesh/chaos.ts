import { breakSomething } from "./faults.ts";
import { World } from "./world.ts";
import type { WorldInit } from "./world.ts";

const FAULTS = 12;
const FAULT_MS_MAX = 15_000;
/** Time to settle after the last fault, and time to stay so. */
const SETTLE_MS = 25_000;
const QUIET_MS = 20_000;

/** A run of random faults, some of them at once; it ends well or with a violation. */
export function runChaos(init: Omit<WorldInit, "nodes"> & { readonly nodes?: number }): World {
  const world = new World({ ...init, nodes: init.nodes ?? 3 + (init.seed % 6) });
  world.run(5_000);
  for (let fault = 0; fault < FAULTS; fault += 1) {
    breakSomething(world);
    world.runChecked(1_000 + (world.random.uint32() % FAULT_MS_MAX));
  }
  if (world.checks.violations.length > 0) return world;
  world.run(SETTLE_MS);
  world.runChecked(QUIET_MS);
  return world;
}
