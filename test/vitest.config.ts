import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { SummaryReporter } from "./summary-reporter.ts";

export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  resolve: { conditions: ["klatsch-source"] },
  ssr: { resolve: { conditions: ["klatsch-source"], externalConditions: ["klatsch-source"] } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts", "examples/**/*.test.ts"],
    // Files run two at a time: the machines this must pass on have two cores.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    execArgv: ["--conditions=klatsch-source"],
    reporters: ["default", new SummaryReporter()],
  },
});
