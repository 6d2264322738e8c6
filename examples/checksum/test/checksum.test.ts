import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const FILES = 500;
const TIMEOUT_MS = 60_000;

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the command. It ends when every process that holds its output has: nodes left behind would keep it open. */
async function call(args: readonly string[], onOutput?: (text: string, pid: number) => void): Promise<Ended> {
  const flags = ["--conditions=klatsch-source", "--disable-warning=ExperimentalWarning"];
  const child = spawn(process.execPath, [...flags, MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => {
    stdout += data.toString();
    onOutput?.(stdout, child.pid ?? 0);
  });
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  const [code] = (await once(child, "close")) as [number];
  return { code, stdout, stderr };
}

/** The row of a node as text and numbers. */
function rowOf(stdout: string, node: string): readonly string[] {
  const line = stdout.split("\n").find((line) => line.startsWith(node)) ?? "";
  return line.split(/ {2,}/);
}

describe("npm start", () => {
  let directory = "";
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "checksum-test-"));
    await mkdir(join(directory, "below", "deeper"), { recursive: true });
    await mkdir(join(directory, "below", ".cache"));
    for (let index = 0; index < FILES - 4; index += 1) {
      const below = index % 3 === 0 ? "below/deeper" : "below";
      await writeFile(join(directory, below, `${index}.txt`), `file ${index}`.repeat(index));
    }
    await writeFile(join(directory, "empty"), "");
    await writeFile(join(directory, "two\nlines"), "a name of two lines");
    await writeFile(Buffer.from(`${directory}/not \xFF UTF-8`, "latin1"), "a name that is not UTF-8");
    await writeFile(join(directory, "ünïcode"), Buffer.alloc(3_000_000, "x"));
    await writeFile(join(directory, "below", ".cache", "fleeting"), "not to be summed");
    await symlink(process.execPath, join(directory, "link"));
  });
  afterAll(async () => await rm(directory, { recursive: true, force: true }));

  it(
    "sums every regular file on three nodes, and checks each digest",
    async () => {
      const { code, stdout, stderr } = await call([directory]);
      expect(stderr).toBe("");
      expect(stdout).toContain(`${FILES} files below ${directory}, 3 nodes`);
      expect(stdout).toContain(`all ${FILES} digests are right`);
      const nodes = [1, 2, 3].map((number) => rowOf(stdout, `node-${number}`));
      const files = nodes.map((row) => Number(row[1]));
      expect(Math.min(...files)).toBeGreaterThan(0);
      expect(files.reduce((sum, count) => sum + count, 0)).toBe(FILES);
      expect(rowOf(stdout, "all ")).toEqual(["all", `${FILES}`, expect.anything(), `${FILES}`, "0"]);
      expect(code).toBe(0);
    },
    TIMEOUT_MS,
  );

  it(
    "loses no file when a node is killed half-way",
    async () => {
      const { code, stdout, stderr } = await call([directory, "--kill", "--seed", "5"]);
      expect(stderr).toBe("");
      const [, victim] = /^killing (node-\d) \(process \d+\) after \d+ results$/m.exec(stdout) ?? [];
      expect(rowOf(stdout, victim ?? "?")[0]).toBe(`${victim} (killed)`);
      expect(stdout).toMatch(/^\d+ messages were redelivered, \d+ results came twice/m);
      expect(stdout).toContain(`all ${FILES} digests are right`);
      expect(code).toBe(0);
    },
    TIMEOUT_MS,
  );

  it(
    "leaves no process behind when it is interrupted",
    async () => {
      let told = false;
      const { code, stderr } = await call([directory], (stdout, pid) => {
        if (told || !stdout.includes("files below")) return;
        told = true;
        process.kill(pid, "SIGINT");
      });
      expect(stderr).toContain("stopped by SIGINT");
      expect(code).toBe(130);
    },
    TIMEOUT_MS,
  );

  it.each([
    { args: ["/does/not/exist"], problem: "cannot list /does/not/exist: ENOENT" },
    { args: [MAIN], problem: "ENOTDIR" },
    { args: ["--nodes", "0"], problem: "--nodes must be a whole number from 1 to 15" },
    { args: ["--nodes", "2", "--kill"], problem: "--kill needs at least 3 nodes" },
    { args: ["--seeds", "1"], problem: "Unknown option '--seeds'" },
    { args: ["a", "b"], problem: "one directory" },
  ])("says what is wrong with $args", async ({ args, problem }) => {
    const { code, stdout, stderr } = await call(args);
    expect(stderr).toContain(problem);
    expect(stderr).not.toContain("    at ");
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });
});
