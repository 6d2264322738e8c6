import type { Reporter, TestModule } from "vitest/node";

/** Ends the output with `N passed, N failed` on a line of its own, for whatever reads the log. */
export class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    let passed = 0;
    let failed = unhandledErrors.length;
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      passed += tests.filter((test) => test.result().state === "passed").length;
      const failures = tests.filter((test) => test.result().state === "failed").length;
      // A file that could not even be collected has failed without having a test.
      failed += failures === 0 && module.state() === "failed" ? 1 : failures;
    }
    process.once("exit", () => process.stdout.write(`${passed} passed, ${failed} failed\n`));
  }
}
