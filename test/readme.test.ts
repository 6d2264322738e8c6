import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FLAGS = [
  "--conditions=klatsch-source",
  "--disable-warning=ExperimentalWarning",
  "--input-type=module-typescript",
];

/** The first TypeScript program of a folder's README, or `undefined`. */
async function programOf(folder: string): Promise<string | undefined> {
  const text = await readFile(join(ROOT, folder, "README.md"), "utf8").catch(() => "");
  return /^```ts\n(.*?)^```/ms.exec(text)?.[1];
}

const packages = await readdir(join(ROOT, "packages"));
const names = [".", ...packages.map((name) => join("packages", name))];
const programs = await Promise.all(names.map(async (name) => ({ name, program: await programOf(name) })));

describe("README", () => {
  it.each(programs.filter(({ program }) => program !== undefined))(
    "program of $name runs as pasted",
    async (each) => {
      const cwd = join(ROOT, each.name);
      const { stdout } = await promisify(execFile)(
        process.execPath,
        [...FLAGS, "--eval", each.program ?? ""],
        { cwd },
      );
      expect(stdout).not.toBe("");
    },
  );

  it("of the project has a program", () => {
    expect(programs.find(({ name }) => name === ".")?.program).toContain("createQueues");
  });
});
