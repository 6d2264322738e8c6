import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const FLAGS = ["--conditions=klatsch-source", "--disable-warning=ExperimentalWarning"];

describe("the work queue", () => {
  it("does each job and ends by itself", async () => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [...FLAGS, MAIN]);
    expect(stderr).toBe("");
    const lines = stdout.trimEnd().split("\n");
    for (const line of lines) expect(line).toMatch(/^(ada|bob|eve) did job [1-9]$/);
    const jobs = lines.map((line) => line.slice(-1));
    expect(jobs.toSorted().join("")).toBe("123456789");
  });
});
