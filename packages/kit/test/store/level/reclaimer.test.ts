import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { describe, expect, it, vi } from "vitest";
import { DeadRanges } from "../../../src/store/level/dead-ranges.ts";
import { Reclaimer } from "../../../src/store/level/reclaimer.ts";
import type { Compactable } from "../../../src/store/level/reclaimer.ts";

const MIB = 1024 * 1024;
const BODY_BYTES = 64 * 1024;
const BODIES = 512;

async function bytesIn(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
    const found = await stat(join(directory, name)).catch(() => undefined); // LevelDB removes some meanwhile.
    bytes += found?.size ?? 0;
  }
  return bytes;
}

const keyOf = (lane: number, seq: number): string => `b/${lane}/${seq.toString(16).padStart(8, "0")}`;

describe("what was deleted", () => {
  it("gives its disk space back, and leaves what lives", { timeout: 60_000 }, async () => {
    const directory = await mkdtemp(join(tmpdir(), "klatsch-reclaim-"));
    const database = new ClassicLevel<string, Uint8Array>(directory, { valueEncoding: "view" });
    const reclaimer = new Reclaimer(database);
    try {
      const alive = randomBytes(BODY_BYTES);
      await database.put(keyOf(1, 0), alive);
      for (let seq = 0; seq < BODIES; seq += 1) await database.put(keyOf(2, seq), randomBytes(BODY_BYTES));
      await database.put(keyOf(3, 0), alive);
      expect(await bytesIn(directory)).toBeGreaterThan(30 * MIB);
      for (let seq = 0; seq < BODIES; seq += 1) {
        reclaimer.note(keyOf(2, seq));
        await database.del(keyOf(2, seq));
      }
      await reclaimer.reclaim();
      // LevelDB removes what it compacted when it comes to it.
      await vi.waitFor(async () => expect(await bytesIn(directory)).toBeLessThan(8 * MIB), {
        timeout: 50_000,
        interval: 50,
      });
      const found = await database.getMany([keyOf(1, 0), keyOf(2, 7), keyOf(3, 0)]);
      expect(found.map((value) => value && alive.equals(value))).toEqual([true, undefined, true]);
    } finally {
      await reclaimer.stop();
      await database.close();
      await rm(directory, { recursive: true });
    }
  });

  it("is left alone where it is little, and at the end", async () => {
    const asked: string[] = [];
    let bytes = 4 * MIB;
    let whileCompacting = (): void => undefined;
    const database: Compactable = {
      approximateSize: (first, end) => {
        asked.push(`${first} ${JSON.stringify(end)}`);
        return Promise.resolve(bytes);
      },
      compactRange: (first, last) => {
        asked.push(`${first} to ${last}`);
        whileCompacting();
        return Promise.resolve();
      },
    };
    const reclaimer = new Reclaimer(database);
    reclaimer.note("b/1/1");
    reclaimer.note("b/1/2");
    await reclaimer.reclaim();
    expect(asked.splice(0)).toEqual(['b/1/1 "b/1/2\\u0000"']);
    bytes = 16 * MIB;
    reclaimer.note("b/1/3");
    await Promise.all([reclaimer.reclaim(), reclaimer.reclaim()]);
    expect(asked.splice(0)).toEqual(['b/1/3 "b/1/3\\u0000"', "b/1/3 to b/1/3"]);
    await reclaimer.reclaim();
    whileCompacting = () => {
      whileCompacting = () => undefined;
      reclaimer.note("b/2/1");
      void reclaimer.reclaim();
    };
    reclaimer.note("b/1/4");
    await reclaimer.reclaim();
    expect(asked.splice(0).filter((one) => one.includes(" to "))).toEqual([
      "b/1/4 to b/1/4",
      "b/2/1 to b/2/1",
    ]);
    reclaimer.note("b/1/5");
    await reclaimer.stop();
    await reclaimer.reclaim();
    expect(asked).toEqual([]);
  });

  it("is kept apart by what stands before its number, and bounded", () => {
    const dead = new DeadRanges();
    for (const key of ["b/1/3", "r/1/1", "b/1/1", "b/2/1", "b/1/2"]) dead.add(key);
    expect(dead.take()).toEqual([
      { first: "b/1/1", last: "b/1/3" },
      { first: "r/1/1", last: "r/1/1" },
      { first: "b/2/1", last: "b/2/1" },
    ]);
    expect(dead.take()).toEqual([]);
    for (let lane = 0; lane < 5_000; lane += 1) dead.add(`b/${lane}/1`);
    expect(dead.take()).toHaveLength(1_024);
  });
});
