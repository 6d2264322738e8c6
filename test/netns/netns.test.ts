import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { namespaceObstacle } from "./namespace.ts";

const SCENARIO = fileURLToPath(new URL("scenario.ts", import.meta.url));
const LIMIT_MS = 120_000;

async function play(scenario: string): Promise<unknown> {
  const program = [process.execPath, "--conditions=klatsch-source", SCENARIO, scenario];
  const child = spawn("unshare", ["-rn", ...program], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let said = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (said += data.toString()));
  const timer = setTimeout(() => child.kill("SIGTERM"), LIMIT_MS - 5_000);
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  if (code !== 0) throw new Error(`the scenario ended with ${String(code)}: ${said}${out}`);
  return JSON.parse(out);
}

const reason = namespaceObstacle();
if (reason !== undefined) process.stderr.write(`network namespaces: skipped, ${reason}\n`);

describe.skipIf(reason !== undefined)("between network namespaces", { timeout: LIMIT_MS }, () => {
  it("a chain of four carries frames from end to end", async () => {
    const all = { hops: ["b", "c", "d"] };
    expect(await play("chain")).toEqual({
      linked: false,
      frames: expect.any(Number),
      trace: ["high", "normal", "bulk"].map((name) => ({ class: name, ...all })),
    });
  });

  it("a ring goes on over the other way when a cable is pulled, and nobody dies of it", async () => {
    expect(await play("ring")).toEqual({
      first: expect.any(Number),
      second: expect.any(Number),
      names: ["a", "b", "c", "d"],
    });
  });

  it("two clouds reach each other over their gateways", async () => {
    const all = { hops: ["g", "h", "d"] };
    expect(await play("clouds")).toEqual({
      linked: false,
      frames: expect.any(Number),
      trace: ["high", "normal", "bulk"].map((name) => ({ class: name, ...all })),
    });
  });
});
