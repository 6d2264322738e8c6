import type * as Files from "node:fs/promises";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { randomBelow, SeededRandom } from "@klatsch/kit/core";
import { JournalFiles } from "../../src/store/journal-files.ts";
import { openLevelDisk } from "../../src/store/level/level-disk.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { codeOf, contentOf, put, withDirectory } from "../support/store-kit.ts";

const { files } = await vi.hoisted(async () => {
  const support = await import("../support/crash-files.ts");
  return { files: new support.CrashFiles() };
});
vi.mock("node:fs/promises", async (original) => files.watch(await original<typeof Files>()));

const FILE_BYTES = 4_096;
const seal = Buffer.alloc(16, 7);

function open(directory: string, doneNo = 0): Promise<JournalFiles> {
  return JournalFiles.open({ directory, fileBytes: FILE_BYTES, doneNo, seal });
}

/** A record that differs from any other of the same number. */
function record(no: number, version: number, length: number, sync = true): Buffer {
  const bytes = Buffer.alloc(length, `${no}/${version} `);
  bytes[51] = sync ? 0 : 0x80;
  bytes.writeUInt32LE(crc32(bytes.subarray(4)), 0);
  return bytes;
}

type Step =
  | { readonly type: "append"; readonly bytes: number; readonly sync: boolean }
  | { readonly type: "done"; readonly keep: number }
  | {
      readonly type: "kill" | "EIO" | "short";
      readonly bytes: number;
      readonly sync: boolean;
      readonly calls: number;
    }
  | { readonly type: "reopen" | "power cut"; readonly folded: number };

const bytes = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 52, max: 1_500 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1_500, max: 3 * FILE_BYTES }) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ type: fc.constant("append" as const), bytes, sync: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant("done" as const), keep: fc.nat(5) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constantFrom("kill" as const, "EIO" as const, "short" as const),
      bytes,
      sync: fc.boolean(),
      calls: fc.nat(6),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constantFrom("reopen" as const, "power cut" as const),
      folded: fc.nat(3),
    }),
  },
);

interface Written {
  readonly no: number;
  readonly bytes: Buffer;
  readonly sync: boolean;
}

/**
 * A journal beside what it must hold: every synced record; then those that were not, which a power cut may take; then
 * a part of those that may have been lost.
 */
class Modelled {
  readonly #directory: string;
  #journal: JournalFiles | undefined;
  #sure: Written[] = [];
  #relaxed: Written[] = [];
  #unsure: Written[] = [];
  #doneNo = 0;
  #versions = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  get #lastNo(): number {
    return this.#unsure.at(-1)?.no ?? this.#relaxed.at(-1)?.no ?? this.#sure.at(-1)?.no ?? 0;
  }

  async start(): Promise<void> {
    this.#journal = await open(this.#directory);
    for (let count = 0; count < 3; count += 1) await this.append(300);
  }

  async append(length: number, sync = true): Promise<void> {
    const written = this.#make(length, sync);
    this.#unsure.push(written);
    await this.#journal?.append(written.no, written.bytes, sync);
    this.#relaxed.push(...this.#unsure.splice(0));
    if (sync) this.#sure.push(...this.#relaxed.splice(0));
  }

  #make(length: number, sync: boolean): Written {
    this.#versions += 1;
    const no = this.#lastNo + 1;
    return { no, bytes: record(no, this.#versions, length, sync), sync };
  }

  /** The newest acknowledged record is never done. */
  done(keep: number): void {
    this.#doneNo = Math.max(this.#doneNo, (this.#sure.at(-1)?.no ?? 0) - 1 - keep);
    this.#sure = this.#sure.filter(({ no }) => no > this.#doneNo);
    this.#journal?.done(this.#doneNo);
  }

  /** Lets one append end as `type` says, in one of its calls or in the first it makes beyond them. */
  async disturb({ type, bytes: length, sync, calls }: Extract<Step, { calls: number }>): Promise<void> {
    const ended = Promise.withResolvers<void>();
    let left = calls;
    files.fate = (call) => {
      left -= 1;
      // Only writes can be short; nothing follows the call that the process ended in.
      if (left >= 0 || (type === "short" && call !== "write" && call !== "writev")) return undefined;
      if (type === "kill") setImmediate(ended.resolve);
      return type;
    };
    const before = this.#unsure.length;
    await Promise.race([this.append(length, sync).catch(() => undefined), ended.promise]);
    files.fate = () => undefined;
    // What failed was a file made early, and the record is safe: or it is not, and the store is opened again.
    if (this.#unsure.length > before || type === "kill")
      await this.reopen(type === "kill" ? "kill" : "close", 0);
  }

  async reopen(how: "close" | "kill" | "power cut", folded: number): Promise<void> {
    if (how === "close") await this.#journal?.close();
    if (how === "kill") await files.kill();
    if (how === "power cut") await files.cutPower(this.#directory);
    // A slice that nobody synced may have reached the table all the same.
    const lastSure = this.#sure.at(-1)?.no ?? 0;
    this.#doneNo = Math.max(this.#doneNo, Math.min(lastSure - 1, this.#doneNo + folded));
    this.#sure = this.#sure.filter(({ no }) => no > this.#doneNo);
    this.#journal = await open(this.#directory, this.#doneNo);
    if (how === "power cut") await this.#removeStray(this.#journal);
    this.#compare(this.#journal.records);
    this.#journal.release();
  }

  /** What lies behind a gap nobody waited for: the store's recovery knows, and does away with it. */
  async #removeStray(journal: JournalFiles): Promise<void> {
    const found = new Set(journal.records.map(({ no }) => no));
    const written = [...this.#relaxed.splice(0), ...this.#unsure.splice(0)];
    const gap = written.findIndex(({ no }) => !found.has(no));
    const kept = gap < 0 ? written : written.slice(0, gap);
    const stray = written.slice(kept.length).filter(({ no }) => found.has(no));
    expect(stray.filter(({ sync }) => sync)).toEqual([]);
    this.#unsure = kept;
    if (stray.length === 0) return;
    await journal.remove(stray.map(({ no }) => no));
    await journal.close();
    this.#journal = await open(this.#directory, this.#doneNo);
  }

  #compare(found: JournalFiles["records"]): void {
    const sure = [...this.#sure, ...this.#relaxed];
    const expected = [...sure, ...this.#unsure].slice(0, Math.max(found.length, sure.length));
    expect(found.map(({ no }) => no)).toEqual(expected.map(({ no }) => no));
    for (const [index, each] of expected.entries()) {
      expect(each.bytes.equals(found[index]?.bytes ?? Buffer.alloc(0)), `bytes of ${each.no}`).toBe(true);
    }
    this.#unsure = this.#unsure.slice(0, found.length - sure.length);
  }

  async close(): Promise<void> {
    await this.#journal?.close();
  }
}

async function perform(model: Modelled, next: Step): Promise<void> {
  switch (next.type) {
    case "append":
      return await model.append(next.bytes, next.sync);
    case "done":
      return model.done(next.keep);
    case "kill":
    case "EIO":
    case "short":
      return await model.disturb(next);
    case "reopen":
      return await model.reopen("close", next.folded);
    case "power cut":
      return await model.reopen("power cut", next.folded);
  }
}

describe("journal files", () => {
  it("keep what was acknowledged, and nothing else, through kills, power cuts and failing disks", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), fc.nat(), (steps, seed) =>
        withDirectory(async (directory) => {
          files.reset(new SeededRandom(seed));
          const model = new Modelled(directory);
          await model.start();
          for (const next of steps) await perform(model, next);
          await model.reopen("power cut", 0);
          await model.append(300);
          await model.close();
          expect((await readdir(directory)).length).toBeLessThan(60);
        }),
      ),
      { numRuns: Number(process.env.CRASH_RUNS ?? 150) },
    );
  }, 600_000);

  it("leave nothing on a full disk, and ask it once in each use of a file", () =>
    withDirectory(async (directory) => {
      files.reset(new SeededRandom(1));
      const journal = await open(directory);
      await journal.append(1, record(1, 1, 300));
      files.fate = (call) => (call === "write" ? "short" : undefined);
      for (let no = 2; no <= 10; no += 1) {
        await journal.append(no, record(no, 1, 300));
        await vi.waitFor(async () => expect(await readdir(directory)).toEqual(["0.journal"]));
      }
      expect(files.calls.filter(({ call }) => call === "write")).toHaveLength(2);
      const long = journal.append(11, record(11, 1, FILE_BYTES));
      await expect(long).rejects.toMatchObject({
        code: "STORE_IO",
        message: expect.stringContaining("full"),
      });
      expect(await readdir(directory)).toEqual(["0.journal"]);
      await journal.close();
      files.fate = () => undefined;
      const again = await open(directory);
      expect(again.records).toHaveLength(10);
      await again.append(11, record(11, 1, FILE_BYTES));
      await again.close();
    }));

  it("end with the record that is being written, whoever closes them meanwhile", () =>
    withDirectory(async (directory) => {
      files.reset(new SeededRandom(1));
      const journal = await open(directory);
      const appended = journal.append(1, record(1, 1, 300));
      await journal.close();
      const seen = files.calls.length;
      await appended;
      expect(files.calls).toHaveLength(seen);
    }));
});

describe("a store on a failing disk", () => {
  it.each(["EIO", "short"] as const)(
    "stops for ever at a write that ends in %s, and has all it acknowledged when it is opened again",
    (fate) =>
      withDirectory(async (directory) => {
        files.reset(new SeededRandom(3));
        const store = await openJournalStore(directory);
        await store.commit([put("a", "1")]);
        files.fate = (call) => (call === "writev" ? fate : undefined);
        await expect(store.commit([put("b", "2")])).rejects.toMatchObject({
          code: "STORE_FAILED",
          outcome: "unknown",
        });
        files.fate = () => undefined;
        const seen = files.calls.length;
        expect(await codeOf(store.commit([put("c", "3")]))).toBe("STORE_FAILED");
        await store.close();
        expect(files.calls, "nothing is written after a failure").toHaveLength(seen);
        await using again = await openJournalStore(directory);
        const keys = (await contentOf(again)).map(([key]) => key);
        expect(keys.filter((key) => key !== "b")).toEqual(["a"]);
        await again.commit([put("c", "3")]);
      }),
  );
});

describe("a store at work", () => {
  it("writes over a file of its journal only after the table was synced", () =>
    withDirectory(async (directory) => {
      files.reset(new SeededRandom(4));
      await using store = await openJournalStore(directory);
      const used: string[] = [];
      for (let no = 0; no < 60; no += 1) {
        await store.commit([put("again", "x".repeat(600_000))]);
        const path = files.calls.findLast(({ call }) => call === "writev")?.path ?? "";
        if (used.includes(path) && used.at(-1) !== path) break;
        used.push(path);
      }
      const names = files.calls.map(({ call, path }) => `${call} ${path}`);
      const again = names.lastIndexOf(`writev ${used[0]}`);
      const before = names.slice(names.lastIndexOf(`writev ${used[0]}`, again - 1), again);
      expect(new Set(used).size).toBeGreaterThan(2);
      expect(before).toContainEqual(expect.stringMatching(/^datasync .*\.log$/));
      expect(before).toContain("sync directory level");
    }));
});

describe("LevelDB", () => {
  it("has every log on the disk before a synced write, and its names after that and after it was opened", () =>
    withDirectory(async (parent) => {
      await mkdir(parent);
      const location = join(parent, "level");
      files.reset(new SeededRandom(1));
      const level = await openLevelDisk(location, true);
      expect(files.calls).toContainEqual({ call: "sync directory", path: "level" });
      const noise = new SeededRandom(5);
      const value = Buffer.from(Array.from({ length: 1_000_000 }, () => randomBelow(noise, 256)));
      // More than a log takes: LevelDB begins another.
      for (let no = 0; no < 9; no += 1) await level.write([{ type: "put", key: `d/${no}`, value }], false);
      const logs = (await readdir(location)).filter((name) => name.endsWith(".log"));
      files.calls.length = 0;
      await level.write([{ type: "put", key: "d/x", value: Buffer.from("y") }], true);
      const synced = files.calls.filter(({ call }) => call === "datasync").map(({ path }) => path);
      const left = await readdir(location);
      expect(synced.length).toBeGreaterThan(0);
      expect(synced).toEqual(expect.arrayContaining(logs.filter((name) => left.includes(name))));
      expect(files.calls.at(-1)).toEqual({ call: "sync directory", path: "level" });
      await level.close();
    }));
});
