import { parseArgs } from "node:util";
import { runChaos } from "./chaos.ts";
import { measure } from "./curve.ts";

const { values } = parseArgs({
  options: {
    /** Sizes to measure. */
    nodes: { type: "string", default: "10,30,100,300,1000" },
    /** How many runs of random faults instead. */
    seeds: { type: "string" },
    /** The first seed. */
    seed: { type: "string", default: "1" },
    /** Prints what the nodes saw. */
    trace: { type: "boolean", default: false },
  },
});

const first = Number(values.seed);

function runFaults(count: number): void {
  const startedMs = performance.now();
  for (let seed = first; seed < first + count; seed += 1) {
    const world = runChaos({ seed });
    if (values.trace)
      for (const { atMs, node, event } of world.checks.seen) {
        const about =
          "member" in event ? `${event.member.record.peer} ${event.member.evidence}` : JSON.stringify(event);
        console.log(`${atMs.toFixed(1)} ${node} ${event.type} ${about}`);
      }
    if (values.trace) console.log(world.log.join("\n"));
    if (world.checks.violations.length === 0) continue;
    console.log(world.describe());
    console.log(`npm run sim:mesh -- --seeds 1 --seed ${seed} --trace`);
    process.exitCode = 1;
  }
  console.log(`${count} runs, ${((performance.now() - startedMs) / 1_000).toFixed(1)} s`);
}

if (values.seeds !== undefined) runFaults(Number(values.seeds));
else for (const nodes of values.nodes.split(",")) measure(Number(nodes), first);
