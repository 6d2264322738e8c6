import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { SummaryReporter } from "./summary-reporter.ts";

const MOCKED = "**/*.mocked.test.ts";
const root = fileURLToPath(new URL("..", import.meta.url));

export default defineConfig({
  root,
  resolve: { conditions: ["klatsch-source"] },
  ssr: { resolve: { conditions: ["klatsch-source"], externalConditions: ["klatsch-source"] } },
  test: {
    // The machines this must pass on have two cores, and much of the time is spent on waiting.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    execArgv: ["--conditions=klatsch-source"],
    // Hundreds of processes are started, and all compile the same modules.
    env: { NODE_COMPILE_CACHE: `${root}node_modules/.cache/klatsch-tests` },
    reporters: ["default", new SummaryReporter()],
    projects: [
      {
        extends: true,
        test: {
          name: "shared",
          include: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts", "examples/**/*.test.ts"],
          exclude: ["**/node_modules/**", MOCKED],
          // Files share their process and what is loaded there: that saves a fifth of the time.
          isolate: false,
        },
      },
      // A module is replaced before it is loaded, or not at all.
      { extends: true, test: { name: "mocked", include: [`packages/*/test/${MOCKED}`] } },
    ],
  },
});
