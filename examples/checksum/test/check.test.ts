import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { check } from "../src/check.ts";
import { digestOf, listFiles } from "../src/files.ts";
import type { Done, Outcome } from "../src/protocol.ts";
import { Progress } from "../src/report.ts";
import { Tally } from "../src/tally.ts";

const WRONG = "0".repeat(64);

function done(file: number, outcome: Outcome): Done {
  return { file, node: "node-1", outcome, enqueuedAt: 0, doneAt: 1 };
}

describe("check", () => {
  let directory = "";
  let files: readonly string[] = [];
  let outcomes: Outcome[] = [];
  let tally = new Tally(0, []);

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "checksum-test-"));
    for (const name of ["a", "b", "c"]) await writeFile(join(directory, name), name);
    ({ files } = await listFiles(directory));
    outcomes = await Promise.all(files.map((path) => digestOf(directory, path, () => undefined)));
    tally = new Tally(files.length, ["node-1"]);
  });
  afterEach(async () => await rm(directory, { recursive: true }));

  async function faults(): Promise<string[]> {
    const out = new PassThrough() as unknown as NodeJS.WriteStream;
    const progress = new Progress("checking", files.length, out);
    return await check(directory, files, tally, progress, new AbortController().signal);
  }

  it("finds nothing wrong with what is right", async () => {
    for (const [file, outcome] of outcomes.entries()) tally.add(done(file, outcome));
    expect(files).toEqual(["a", "b", "c"]);
    expect(await faults()).toEqual([]);
  });

  it("names a wrong digest, a file that could not be read, and one without a result", async () => {
    tally.add(done(0, { sha256: WRONG, bytes: 1 }));
    tally.add(done(1, { error: "EACCES" }));
    expect([...(await faults())].toSorted()).toEqual([
      expect.stringMatching(/^a: digest 0+, should be ca978112ca1b/),
      "b: could not be read (EACCES)",
      "c: no result",
    ]);
  });

  it("names a file that has gone", async () => {
    for (const [file, outcome] of outcomes.entries()) tally.add(done(file, outcome));
    await rm(join(directory, "b"));
    expect(await faults()).toEqual(["b: summed by a node, and cannot be read any more (ENOENT)"]);
  });

  it("counts a second result as a double, and names the file if they differ", async () => {
    for (const [file, outcome] of outcomes.entries()) tally.add(done(file, outcome));
    tally.add(done(0, outcomes[0]!));
    tally.add(done(2, { sha256: WRONG, bytes: 1 }));
    expect(tally.doubles).toBe(2);
    expect(tally.doneCount).toBe(3);
    expect(await faults()).toEqual(["c: two nodes read different bytes"]);
  });
});
