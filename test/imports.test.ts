import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { importViolations } from "./support/import-rules.ts";
import type { Doors, Sources } from "./support/import-rules.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const SKIPPED = new Set(["node_modules", "dist", ".mutants", ".turbo"]);

async function readSources(folder: string): Promise<[string, string][]> {
  const entries = await readdir(join(ROOT, folder), { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries.map(async (entry): Promise<[string, string][]> => {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : await readSources(path);
      return entry.name.endsWith(".ts") ? [[path, await readFile(join(ROOT, path), "utf8")]] : [];
    }),
  );
  return found.flat();
}

async function readDoors(): Promise<Doors> {
  const names = await readdir(join(ROOT, "packages"));
  const doors = names.map(async (name): Promise<[string, Set<string>]> => {
    const manifest: unknown = JSON.parse(
      await readFile(join(ROOT, "packages", name, "package.json"), "utf8"),
    );
    const isManifest = typeof manifest === "object" && manifest !== null && "exports" in manifest;
    return [name, new Set(isManifest ? Object.keys(manifest.exports ?? {}) : [])];
  });
  return new Map(await Promise.all(doors));
}

let doors: Doors;
let sources: Sources;

beforeAll(async () => {
  doors = await readDoors();
  const found = (await Promise.all(["packages", "examples", "bench", "test"].map(readSources))).flat();
  // This file quotes bad imports.
  sources = new Map(found.filter(([path]) => path !== "test/imports.test.ts"));
});

/** The violations that one more file brings. */
function planted(path: string, text: string): string[] {
  const before = new Set(importViolations(sources, doors));
  return importViolations(new Map([...sources, [path, text]]), doors).filter((line) => !before.has(line));
}

describe("imports", () => {
  it("keep every rule", () => {
    expect(sources.size).toBeGreaterThan(40);
    expect(importViolations(sources, doors)).toEqual([]);
  });

  it.each([
    ["packages/kit/src/planted.ts", 'import { createMesh } from "@klatsch/mesh";', "kit may not know mesh"],
    ["packages/mesh/src/planted.ts", 'export * from "@klatsch/queue";', "mesh may not know queue"],
    ["packages/unlisted/src/planted.ts", 'import "@klatsch/kit";', "unlisted may not know kit"],
    [
      "packages/kit/test/planted.test.ts",
      'import { createMesh } from "@klatsch/mesh";',
      "kit may not know mesh",
    ],
    ["packages/queue/src/planted.ts", 'import { a } from "@klatsch/kit/src/store.ts";', "no such door"],
    [
      "packages/queue/src/planted.ts",
      'import type { A } from "../../kit/src/store.ts";',
      "use the name of the package",
    ],
    [
      "packages/queue/src/planted.ts",
      'const a = await import("../../../bench/a.ts");',
      "use the name of the package",
    ],
    [
      "packages/queue/src/core/planted.ts",
      'import { hash } from "node:crypto";',
      "a core imports cores only",
    ],
    ["packages/queue/src/core/planted.ts", 'import { pack } from "msgpackr";', "a core imports cores only"],
    [
      "packages/queue/src/core/planted.ts",
      'import { systemClock } from "@klatsch/kit";',
      "a core imports cores only",
    ],
    [
      "packages/queue/src/core/planted.ts",
      'import {\n  encode,\n} from "../codec/frames.ts";',
      "core may not reach codec",
    ],
    [
      "packages/queue/src/codec/planted.ts",
      'import { links } from "../host/links.ts";',
      "codec may not reach host",
    ],
    ["packages/mesh/src/planted.ts", 'import { createMesh } from "./index.ts";', "index.ts is for others"],
    ["packages/mesh/src/core/planted.ts", 'import { a } from "./index.ts";', "index.ts is for others"],
    [
      "examples/checksum/src/planted.ts",
      'import { a } from "../../../packages/kit/src/store.ts";',
      "use the name",
    ],
    ["bench/planted.ts", 'import { a } from "../packages/queue/src/core/acceptor.ts";', "use the name"],
    ["test/planted.test.ts", 'import { a } from "../packages/queue/src/core/acceptor.ts";', "use the name"],
    ["test/sim/planted.ts", 'import { a } from "../../packages/queue/src/queue.ts";', "use the name"],
  ])("of %s may not be %s", (path, text, reason) => {
    expect(planted(path, text)).toEqual([expect.stringContaining(reason)]);
  });

  it.each([
    ["test/sim/planted.ts", 'import { a } from "../../packages/queue/src/core/acceptor.ts";'],
    ["packages/queue/src/core/planted.ts", 'import { assert } from "@klatsch/kit/core";'],
    ["packages/queue/test/planted.test.ts", 'import { a } from "../src/core/acceptor.ts";'],
    ["examples/checksum/src/planted.ts", 'import { openStore } from "@klatsch/kit/store";'],
  ])("of %s may be %s", (path, text) => {
    expect(planted(path, text)).toEqual([]);
  });

  it("may not form a cycle, types included", () => {
    const cycle = new Map([
      ["packages/kit/src/a.ts", 'import type { B } from "./b.ts";'],
      ["packages/kit/src/b.ts", 'import { c } from "./core/c.ts";\nimport { a } from "./a.ts";'],
    ]);
    const expected = "cycle: packages/kit/src/a.ts → packages/kit/src/b.ts → packages/kit/src/a.ts";
    expect(importViolations(cycle, doors)).toEqual([expected]);
  });

  it("may form a cycle of types among tests, not of values", () => {
    const back = ["test/sim/b.ts", 'import { a } from "./a.ts";'] as const;
    expect(
      importViolations(new Map([["test/sim/a.ts", 'import type { B } from "./b.ts";'], back]), doors),
    ).toEqual([]);
    const values = importViolations(new Map([["test/sim/a.ts", 'import { b } from "./b.ts";'], back]), doors);
    expect(values).toEqual([expect.stringContaining("cycle")]);
  });
});

async function inTemporaryFolder<Result>(use: (folder: string) => Promise<Result>): Promise<Result> {
  const folder = await mkdtemp(join(tmpdir(), "klatsch-planted-"));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a tool of this repository prints, whatever its exit code. */
async function outputOf(tool: string, args: readonly string[], cwd: string): Promise<string> {
  const bin = join(ROOT, "node_modules", ".bin", tool);
  const run = promisify(execFile)(process.execPath, [bin, ...args], { cwd });
  const { stdout, stderr } = await run.catch((error: unknown) => error as { stdout: string; stderr: string });
  return stdout + stderr;
}

/** Lints one planted file under the rules of this repository. */
function lint(path: string, text: string): Promise<string> {
  return inTemporaryFolder(async (folder) => {
    const config = await readFile(join(ROOT, ".oxlintrc.json"), "utf8");
    // The planted file has no project, and none of the rules tried here needs types.
    await writeFile(
      join(folder, ".oxlintrc.json"),
      config.replace('"typeAware": true', '"typeAware": false'),
    );
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text);
    return await outputOf("oxlint", ["--format=unix"], folder);
  });
}

describe("the linter", () => {
  it.each([
    ["Date", "export const a: number = Date.now();", "no-restricted-globals"],
    ["globalThis", "export const a: unknown = globalThis;", "no-restricted-globals"],
    ["process", "export const a: unknown = process.env;", "no-restricted-globals"],
    ["Math.random", "export const a: number = Math.random();", "no-restricted-properties"],
    ["node:", 'export { readFile } from "node:fs/promises";', "no-restricted-imports"],
    ["a dependency", 'export { pack } from "msgpackr";', "no-restricted-imports"],
    ["a scoped dependency", 'export { tcp } from "@libp2p/tcp";', "no-restricted-imports"],
    ["the impure part of kit", 'export { systemClock } from "@klatsch/kit";', "no-restricted-imports"],
    ["another package", 'export { createMesh } from "@klatsch/mesh";', "no-restricted-imports"],
  ])("refuses %s in a core", async (_, text, rule) => {
    expect(await lint("packages/queue/src/core/planted.ts", text)).toContain(rule);
  });

  it("lets a core use another core", async () => {
    const text = 'export { assert } from "@klatsch/kit/core";\n';
    expect(await lint("packages/queue/src/core/planted.ts", text)).not.toContain("planted.ts");
  });
});

describe("the compiler", () => {
  it.each(["setTimeout(() => {}, 1)", "process.exit()", "performance.now()", "new TextEncoder()"])(
    "refuses %s in a core",
    (text) =>
      inTemporaryFolder(async (folder) => {
        const base = join(ROOT, "packages", "kit", "src", "core", "tsconfig.json");
        const options = {
          rootDir: ".",
          noEmit: true,
          composite: false,
          declarationMap: false,
          isolatedDeclarations: false,
        };
        const tsconfig = { extends: base, compilerOptions: options, include: ["planted.ts"] };
        await writeFile(join(folder, "tsconfig.json"), JSON.stringify(tsconfig));
        await writeFile(join(folder, "planted.ts"), `${text};\nexport {};\n`);
        const output = await outputOf("tsc", ["-p", "."], folder);
        expect(output).toMatch(/planted\.ts\(1,\d+\): error TS(2304|2580|2591|2584)/);
      }),
  );
});
