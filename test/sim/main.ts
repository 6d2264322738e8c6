import { parseArgs } from "node:util";
import { runSeed } from "./world.ts";

/** Lines of a failed run's trace that are printed. */
const TAIL = 120;

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    seed: { type: "string", default: "1" },
    mutant: { type: "string" },
    trace: { type: "boolean", default: false },
    tail: { type: "string", default: String(TAIL) },
    keep: { type: "boolean", default: false },
  },
});

const first = Number(values.seed);
const count = Number(values.seeds);
const startedAt = performance.now();
let steps = 0;
let failed = 0;
const totals: Record<string, number> = {};
for (let seed = first; seed < first + count; seed += 1) {
  const result = runSeed({ seed });
  steps += result.steps;
  for (const [name, value] of Object.entries(result.stats)) totals[name] = (totals[name] ?? 0) + value;
  if (result.violation !== undefined) {
    failed += 1;
    if (values.keep) {
      console.log(`seed ${seed}: ${result.violation.message.split("\n", 1)[0]}`);
    } else {
      const { trace } = runSeed({ seed, traced: true });
      console.log(trace.slice(-Number(values.tail)).join("\n"));
      console.log(`\nseed ${seed}: ${result.violation.message}`);
      console.log(`npm run sim -- --seeds 1 --seed ${seed}`);
      break;
    }
  }
  if ((seed - first + 1) % 500 === 0) console.log(`${seed - first + 1} runs, ${steps} steps`);
}
if (values.trace && count === 1) console.log(runSeed({ seed: first, traced: true }).trace.join("\n"));
const seconds = (performance.now() - startedAt) / 1_000;
console.log(JSON.stringify(totals));
console.log(`${steps} steps, ${failed} violations, ${seconds.toFixed(1)} s`);
if (failed > 0) process.exitCode = 1;
