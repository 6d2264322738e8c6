import { parseArgs } from "node:util";
import { isCaughtBy, loadMutant, MUTANTS, patchOf } from "./mutants.ts";
import { REGRESSIONS } from "./regressions.ts";
import type { WorldInit } from "./world.ts";
import { runSeed } from "./world.ts";

const { values } = parseArgs({
  options: {
    /** How many runs. */
    seeds: { type: "string", default: "1000" },
    /** The first seed. */
    seed: { type: "string", default: "1" },
    /** Runs a broken core instead, or `all` of them: a violation is then what is wanted. */
    mutant: { type: "string" },
    /** Somebody deletes the queue in each run. */
    deletes: { type: "boolean", default: false },
    /** Machines lose power, and of a relaxed queue what was not synced. */
    "power-cuts": { type: "boolean", default: false },
    /** Somebody lists the queue page by page. */
    walks: { type: "boolean", default: false },
    /** Lines of a failed run's trace to print. */
    tail: { type: "string", default: "120" },
    /** Goes on after a violation. */
    "keep-going": { type: "boolean", default: false },
  },
});
const first = Number(values.seed);
const count = Number(values.seeds);
const startedAt = performance.now();

function seconds(): string {
  return ((performance.now() - startedAt) / 1_000).toFixed(1);
}

function report(init: WorldInit, message: string): void {
  const { trace } = runSeed({ ...init, traced: true });
  console.log(trace.slice(-Number(values.tail)).join("\n"));
  console.log(`\nseed ${init.seed}: ${message}`);
  const flags = (["deletes", "power-cuts", "walks"] as const)
    .filter((flag) => values[flag])
    .map((flag) => ` --${flag}`);
  console.log(`npm run sim -- --seeds 1 --seed ${init.seed}${flags.join("")}`);
}

/** Lanes of deleted queues go in parts of any size. */
function initOf(seed: number): WorldInit {
  const plain = { powerCuts: values["power-cuts"], walkMs: values.walks ? 300 : 0 };
  if (!values.deletes) return { seed, patch: plain };
  return { seed, patch: { ...plain, deletes: true, tuning: { dropRecords: [1, 3, 1_024][seed % 3] ?? 1 } } };
}

function runAll(): number {
  const totals: Record<string, number> = {};
  let steps = 0;
  let violations = 0;
  for (let seed = first; seed < first + count; seed += 1) {
    const { violation, stats, ...result } = runSeed(initOf(seed));
    steps += result.steps;
    for (const [name, value] of Object.entries(stats)) totals[name] = (totals[name] ?? 0) + value;
    if (violation !== undefined) {
      violations += 1;
      if (values["keep-going"]) console.log(`seed ${seed}: ${violation.message.split("\n", 1)[0]}`);
      else report(initOf(seed), violation.message);
    }
    const done = seed - first + 1;
    if (done % 1_000 === 0) console.log(`${done} runs, ${steps} steps, ${seconds()} s`);
    if (violations > 0 && !values["keep-going"]) break;
  }
  console.log(JSON.stringify(totals));
  console.log(`${steps} steps, ${violations} violations, ${seconds()} s`);
  return violations;
}

async function runMutants(id: string): Promise<number> {
  let missed = 0;
  const chosen = [...MUTANTS, ...REGRESSIONS].filter((mutant) => id === "all" || mutant.id === id);
  if (chosen.length === 0) throw new Error(`no mutant is called ${id}`);
  for (const mutant of chosen) {
    const coreClass = await loadMutant(mutant);
    const { flaws } = mutant;
    const patch = patchOf(mutant);
    const rules = new Map<string, number>();
    let needed: number | undefined;
    const last = Math.max(mutant.seeds, values.seeds === "1000" ? 0 : count);
    for (let seed = first; seed < first + last; seed += 1) {
      const { violation } = runSeed({ seed, patch, flaws, coreClass });
      if (violation === undefined || !isCaughtBy(mutant, violation.rule)) continue;
      needed ??= seed - first + 1;
      rules.set(violation.rule, (rules.get(violation.rule) ?? 0) + 1);
      if (!values["keep-going"]) break;
    }
    if (needed === undefined) missed += 1;
    const by = [...rules].map(([rule, times]) => `${rule}×${times}`).join(" ");
    console.log(
      `${mutant.id}: ${needed === undefined ? "NOT CAUGHT" : `caught by seed ${needed}`} ${by} (${mutant.what})`,
    );
  }
  console.log(`${missed} not caught, ${seconds()} s`);
  return missed;
}

const failures = values.mutant === undefined ? runAll() : await runMutants(values.mutant);
if (failures > 0) process.exitCode = 1;
