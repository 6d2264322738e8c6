import { defineConfig } from "vitest/config";

export default defineConfig({
  root: new URL("..", import.meta.url).pathname,
  resolve: { conditions: ["klatsch-source"] },
  ssr: { resolve: { conditions: ["klatsch-source"], externalConditions: ["klatsch-source"] } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts", "examples/**/*.test.ts"],
    // Files run two at a time: the machines this must pass on have two cores.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    execArgv: ["--conditions=klatsch-source"],
  },
});
