import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { readmePrograms } from "./support/readme-programs.ts";

const FLAGS = [
  "--conditions=klatsch-source",
  "--disable-warning=ExperimentalWarning",
  "--input-type=module-typescript",
];
const programs = await readmePrograms();

describe("README", () => {
  it.each(programs)("program $name runs as pasted", async ({ folder, text }) => {
    const { stdout } = await promisify(execFile)(process.execPath, [...FLAGS, "--eval", text], {
      cwd: folder,
    });
    expect(stdout).not.toBe("");
  });

  it.each(programs)("program $name is for Node 22 as well", ({ text }) => {
    expect(text).not.toMatch(/^\s*(await )?using /m); // `npm run test:pack` has it run there.
  });

  it("of the project and of each package has a program", () => {
    const names = ["readme", "packages-kit", "packages-mesh", "packages-queue", "packages-rpc"];
    expect(programs.map(({ name }) => name)).toEqual(
      expect.arrayContaining(names.map((name) => `${name}-1`)),
    );
    expect(programs.find(({ name }) => name === "readme-1")?.text).toContain("createQueues");
  });
});
