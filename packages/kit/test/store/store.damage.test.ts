import { cp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { describe, expect, it } from "vitest";
import { randomBelow, SeededRandom } from "@klatsch/kit/core";
import type { StoreOperation } from "../../src/store.ts";
import { openLevelDisk } from "../../src/store/level/level-disk.ts";
import { findBase } from "../../src/store/recovery.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { applied, contentOf, del, put, sorted, TINY_LIMITS, withDirectory } from "../support/store-kit.ts";

type Content = ReadonlyMap<string, string>;
type Verdict = "intact" | "damage detected" | "tail lost";

const COMMITS = 160;
const LIMITS = { ...TINY_LIMITS, journalBatchesMax: 24, sliceOperations: 10 };
const DETECTED: readonly unknown[] = ["STORE_DAMAGED", "STORE_CORRUPT", "STORE_IO"];

/** A closed store, with what it held after each batch number. */
interface Sample {
  readonly directory: string;
  readonly after: ReadonlyMap<number, Content>;
  readonly lastNo: number;
}

/** `isOnce`: every commit has a key of its own as well, so that nothing later hides its loss. */
async function makeSample(directory: string, isOnce = false): Promise<Sample> {
  const random = new SeededRandom(11);
  const store = await openJournalStore(directory, { limits: LIMITS });
  let content: Content = new Map();
  const after = new Map<number, Content>([[store.batchNo, content]]);
  for (let count = 0; count < COMMITS; count += 1) {
    const operations = randomOperations(random, count);
    if (isOnce) operations.push(put(`once/${count}`, ""));
    content = applied(content, operations);
    after.set(await store.commit(operations), content);
  }
  await store.close();
  return { directory, after, lastNo: store.batchNo };
}

function randomOperations(random: SeededRandom, count: number): StoreOperation[] {
  return Array.from({ length: 1 + randomBelow(random, 4) }, () => {
    const key = `k/${randomBelow(random, 40)}`;
    return randomBelow(random, 4) === 0
      ? del(key)
      : put(key, `${count} ${"x".repeat(randomBelow(random, 300))}`);
  });
}

/** Opens a damaged copy and says what a caller would learn; throws where it would learn something false. */
async function judge(sample: Sample, directory: string): Promise<Verdict> {
  try {
    await using store = await openJournalStore(directory, { limits: LIMITS });
    const no = store.batchNo - 1; // The last one before this open.
    const content = await contentOf(store);
    expect(content, `content after batch ${no}`).toEqual(
      sorted(sample.after.get(no) ?? new Map([["no such batch", ""]])),
    );
    return no === sample.lastNo ? "intact" : "tail lost";
  } catch (error) {
    if (error instanceof Error && "code" in error && DETECTED.includes(error.code)) return "damage detected";
    throw error;
  }
}

/** Uses a store that was made good until slices went over what was lost, and opens it again. */
async function goOn(directory: string, content: Content): Promise<void> {
  const level = await openLevelDisk(join(directory, "level"), false);
  expect(await findBase(level)).toMatchObject({ beyond: [], repair: [] });
  await level.close();
  const store = await openJournalStore(directory, { limits: LIMITS });
  for (let count = 0; count < 12; count += 1) await store.commit([put("new", String(count))]);
  await store.close();
  await using again = await openJournalStore(directory, { limits: LIMITS });
  expect(await contentOf(again)).toEqual(sorted(applied(content, [put("new", "11")])));
}

async function fileOf(directory: string, extension: string): Promise<string> {
  const level = join(directory, "level");
  const names = (await readdir(level)).filter(
    (name) => name.endsWith(extension) || name.startsWith(extension),
  );
  const sized = await Promise.all(
    names.map(async (name) => ({ name, size: (await readFile(join(level, name))).length })),
  );
  const largest = sized.toSorted((a, b) => b.size - a.size)[0];
  if (largest === undefined) throw new Error(`no ${extension} file`);
  return join("level", largest.name);
}

/** Applies `harm` to one copy after the other and counts the verdicts. */
async function tally(
  sample: Sample,
  harms: readonly ((copy: string) => Promise<void>)[],
  then: (copy: string, content: Content) => Promise<void> = async () => {},
): Promise<Record<Verdict, number>> {
  const counts: Record<Verdict, number> = { intact: 0, "damage detected": 0, "tail lost": 0 };
  const copy = `${sample.directory}-copy`;
  for (const harm of harms) {
    await cp(sample.directory, copy, { recursive: true });
    await harm(copy);
    const verdict = await judge(sample, copy);
    counts[verdict] += 1;
    if (verdict === "intact") await then(copy, sample.after.get(sample.lastNo) ?? new Map<string, string>());
    await rm(copy, { recursive: true });
  }
  return counts;
}

async function flips(
  directory: string,
  file: string,
  count: number,
): Promise<((copy: string) => Promise<void>)[]> {
  const bytes = await readFile(join(directory, file));
  const stride = Math.max(1, Math.floor(bytes.length / count));
  const offsets = Array.from({ length: Math.floor(bytes.length / stride) }, (_, index) => index * stride);
  return offsets.map((offset) => async (copy) => {
    const damaged = Buffer.from(bytes);
    damaged[offset]! ^= 1 << (offset % 8);
    await writeFile(join(copy, file), damaged);
  });
}

describe("damage to LevelDB's log", () => {
  it("is made good by the journal, or detected, wherever a bit flips", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory, true);
      const counts = await tally(sample, await flips(directory, await fileOf(directory, ".log"), 80));
      expect(counts.intact).toBeGreaterThan(70);
      expect(counts["tail lost"]).toBe(0);
    }));

  it("goes unnoticed by LevelDB itself, which is why there is a chain", () =>
    withDirectory(async (directory) => {
      await makeSample(directory);
      const file = join(directory, await fileOf(directory, ".log"));
      const bytes = await readFile(file);
      bytes[Math.floor(bytes.length / 3)]! ^= 1;
      await writeFile(file, bytes);
      await using database = new ClassicLevel(join(directory, "level"));
      await database.open();
      expect(await database.get("s")).toBeDefined();
    }));

  it("by truncation is made good by the journal, or is detected", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory, true);
      const file = await fileOf(directory, ".log");
      const { length } = await readFile(join(directory, file));
      const harms = Array.from({ length: 20 }, (_, index) => async (copy: string) => {
        await truncate(join(copy, file), Math.floor((length * index) / 20));
      });
      const counts = await tally(sample, harms);
      // Nothing was ever folded that a sync of LevelDB followed, so the journal has everything still.
      expect(counts.intact).toBeGreaterThan(15);
      expect(counts["tail lost"]).toBe(0);
    }));

  it("by a lost sector is made good by the journal, or detected, and stays so when the store goes on", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory, true);
      const file = await fileOf(directory, ".log");
      const bytes = await readFile(join(directory, file));
      const harms = Array.from(
        { length: Math.floor(bytes.length / 1_536) },
        (_, index) => async (copy: string) => {
          const damaged = Buffer.from(bytes);
          damaged.fill(0, index * 1_536, index * 1_536 + 512);
          await writeFile(join(copy, file), damaged);
        },
      );
      const counts = await tally(sample, harms, goOn);
      expect(counts.intact).toBeGreaterThan(20);
      expect(counts["tail lost"]).toBe(0);
    }));
});

describe("damage to the journal's files", () => {
  /** The file with the newest records: the last that is not empty. */
  async function newestFile(directory: string): Promise<string> {
    const names = await readdir(join(directory, "journal"));
    for (const name of names.toSorted((a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10))) {
      const bytes = await readFile(join(directory, "journal", name));
      if (bytes.some((byte) => byte !== 0)) return join("journal", name);
    }
    throw new Error("the journal is empty");
  }

  it("is harmless, detected, or costs a pure tail: never a hole, wherever a bit flips", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory);
      const counts = await tally(sample, await flips(directory, await newestFile(directory), 80));
      expect(counts["damage detected"]).toBeGreaterThan(5);
      expect(counts["tail lost"]).toBeGreaterThan(0);
    }));

  it("by truncation costs a pure tail, or is detected where nothing is left", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory);
      const file = await newestFile(directory);
      const { length } = await readFile(join(directory, file));
      const harms = Array.from({ length: 20 }, (_, index) => async (copy: string) => {
        await truncate(join(copy, file), Math.floor((length * index) / 20));
      });
      const counts = await tally(sample, harms);
      expect(counts["tail lost"]).toBeGreaterThan(0);
      expect(counts["tail lost"] + counts["damage detected"]).toBeGreaterThan(5);
    }));

  it("by a file that is gone is detected", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory);
      const harms = [(copy: string) => rm(join(copy, "journal"), { recursive: true })];
      expect(await tally(sample, harms)).toMatchObject({ "damage detected": 1 });
    }));
});

describe("damage to LevelDB's other files", () => {
  it("in the manifest is harmless, detected, or costs a pure tail", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory);
      await tally(sample, await flips(directory, await fileOf(directory, "MANIFEST"), 60));
    }));

  it("in a table is always detected, before LevelDB reads it", () =>
    withDirectory(async (directory) => {
      const sample = await makeSample(directory);
      const counts = await tally(
        await withTable(sample),
        await flips(directory, await fileOf(directory, ".ldb"), 120),
      );
      expect(counts).toEqual({ intact: 0, "damage detected": 120, "tail lost": 0 });
    }));

  it("by a table that is gone or shorter is detected", () =>
    withDirectory(async (directory) => {
      const sample = await withTable(await makeSample(directory));
      const file = await fileOf(directory, ".ldb");
      const harms = [
        (copy: string) => rm(join(copy, file)),
        (copy: string) => truncate(join(copy, file), 1_000),
      ];
      expect(await tally(sample, harms)).toMatchObject({ "damage detected": 2 });
    }));

  it("in a table does not make a store that is in use look damaged", () =>
    withDirectory(async (directory) => {
      await withTable(await makeSample(directory));
      await using _store = await openJournalStore(directory, { limits: LIMITS });
      const file = join(directory, await fileOf(directory, ".ldb"));
      await truncate(file, 1_000);
      // Around the check inside this process: what another process would be told.
      await expect(openLevelDisk(join(directory, "level"), false)).rejects.toMatchObject({
        code: "STORE_LOCKED",
      });
    }));

  it("is not seen in a table that a compaction left behind", () =>
    withDirectory(async (directory) => {
      const sample = await withTable(await makeSample(directory));
      const harms = [(copy: string) => writeFile(join(copy, "level", "000999.ldb"), "half a table")];
      expect(await tally(sample, harms)).toMatchObject({ intact: 1 });
    }));
});

/** A reopen turns the log into a table and writes one batch more. */
async function withTable(sample: Sample): Promise<Sample> {
  await (await openJournalStore(sample.directory, { limits: LIMITS })).close();
  const lastNo = sample.lastNo + 1;
  const content = sample.after.get(sample.lastNo) ?? new Map<string, string>();
  return { ...sample, lastNo, after: new Map([...sample.after, [lastNo, content]]) };
}
