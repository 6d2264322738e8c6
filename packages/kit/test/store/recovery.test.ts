import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Disk, DiskOperation } from "../../src/store/disk.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { BASE_RECORDS_KEPT } from "../../src/store/limits.ts";
import { findBase } from "../../src/store/recovery.ts";
import { baseKey, baseOperation, guarded } from "../../src/store/table.ts";
import { MemoryLevel } from "../support/memory-level.ts";
import { codeOf, put, TINY_LIMITS, withDirectory } from "../support/store-kit.ts";

/** Opens a store with some history, changes the disk behind its back, and opens it again. */
function afterHarm(
  harm: (keys: readonly string[], level: MemoryLevel) => readonly DiskOperation[],
): Promise<unknown> {
  return withDirectory(async (directory) => {
    const level = new MemoryLevel();
    const options = { limits: { ...TINY_LIMITS, journalBatchesMax: 14 }, openDisk: level.open };
    const store = await openJournalStore(directory, options);
    for (let count = 0; count < 60; count += 1) await store.commit([put(`k${count % 9}`, `${count}`)]);
    await store.close();
    level.tamper(harm([...level.content().keys()].toSorted(), level));
    const before = level.writes.length;
    const again = openJournalStore(directory, options);
    const code = await codeOf(again);
    if (code === "resolved") await (await again).close();
    else expect(level.writes.length, "nothing is written to a damaged store").toBe(before);
    return code;
  });
}

function withPrefix(keys: readonly string[], prefix: string): string[] {
  const found = keys.filter((key) => key.startsWith(prefix));
  expect(found.length).toBeGreaterThan(2);
  return found;
}

const remove = (key: string | undefined): DiskOperation[] =>
  key === undefined ? [] : [{ type: "del", key }];

/** What LevelDB holds of bases 0 to `lastNo` where some slices are lost: each with its base and its deletion. */
function basesWithout(lost: ReadonlySet<number>, lastNo: number): Map<string, Uint8Array> {
  const content = new Map<string, Uint8Array>();
  for (let no = 0; no <= lastNo; no += 1) {
    const deleter = no + BASE_RECORDS_KEPT;
    if (lost.has(no) || (deleter <= lastNo && !lost.has(deleter))) continue;
    const operation = baseOperation({ sliceNo: no, no: no * 10, hash: Buffer.alloc(32, no), boot: 1 });
    if (operation.type === "put") content.set(operation.key, operation.value);
  }
  return content;
}

function diskWith(content: ReadonlyMap<string, Uint8Array>): Disk {
  const refuse = (): never => {
    throw new Error("only read in pages");
  };
  return {
    write: refuse,
    get: refuse,
    getMany: refuse,
    close: refuse,
    pages: async function* pages() {
      yield [...content].sort(([a], [b]) => (a < b ? -1 : 1));
    },
  };
}

describe("the base", () => {
  it("is the last before whatever slices a power cut took, and whole again once repaired", async () => {
    const lost = fc.uniqueArray(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 301, max: 2_600 }), lost, async (lastNo, ages) => {
        const numbers = new Set(ages.map((age) => lastNo - age));
        const content = basesWithout(numbers, lastNo);
        const found = await findBase(diskWith(content));
        if (typeof found === "string") throw new Error(found);
        const { base, beyond, repair } = found;
        const first = Math.min(...numbers);
        expect(base).toMatchObject({ sliceNo: lastNo, no: (first - 1) * 10 });
        expect(beyond).toHaveLength(lastNo - first - numbers.size + 1);
        for (const operation of repair) {
          if (operation.type === "put") content.set(operation.key, operation.value);
          else content.delete(operation.key);
        }
        expect(await findBase(diskWith(content))).toEqual({ base, beyond: [], repair: [] });
      }),
      { numRuns: 30 },
    );
  });

  it("is refused where a record is gone that no lost slice explains", async () => {
    for (const no of [1_500, 1_900, 1_999]) {
      const content = basesWithout(new Set(), 2_000);
      content.delete(baseKey(no));
      expect(await findBase(diskWith(content))).toContain("missing");
    }
    const left = basesWithout(new Set([1_100]), 2_200);
    expect(await findBase(diskWith(left))).toContain("instead of");
  });
});

describe("recovery", () => {
  it("accepts an untouched store", async () => {
    expect(await afterHarm(() => [])).toBe("resolved");
  });

  it.each([
    ["the first journal record", "c/", 0],
    ["a journal record in the middle", "c/", 1],
    ["the oldest base record", "b/", 0],
    ["a base record in the middle", "b/", 1],
    ["the newest base record", "b/", -1],
  ])("detects that %s is missing", async (_, prefix, at) => {
    expect(await afterHarm((keys) => remove(withPrefix(keys, prefix).at(at)))).toBe("STORE_DAMAGED");
  });

  it.each(["c/", "b/", "s"])("detects that all of %s is missing", async (prefix) => {
    const harm = (keys: readonly string[]): DiskOperation[] =>
      keys.filter((key) => key.startsWith(prefix)).flatMap(remove);
    expect(await afterHarm(harm)).toBe("STORE_DAMAGED");
  });

  it("detects journal records that an unseen slice left behind", async () => {
    const harm = (): DiskOperation[] => [
      { type: "put", key: "c/0000000000000001", value: new Uint8Array(60) },
    ];
    expect(await afterHarm(harm)).toBe("STORE_DAMAGED");
  });

  it.each(["c/", "b/", "s"])("detects a changed byte in each record under %s", async (prefix) => {
    const code = await afterHarm((keys, level) =>
      keys
        .filter((key) => key.startsWith(prefix))
        .slice(-1)
        .map((key) => {
          const value = new Uint8Array(level.content().get(key) ?? []);
          value[value.length - 1]! ^= 1;
          return { type: "put", key, value };
        }),
    );
    expect(code).toBe("STORE_DAMAGED");
  });

  it("detects a base record under another number", async () => {
    const code = await afterHarm((keys, level) => {
      const last = withPrefix(keys, "b/").at(-1) ?? "";
      const next = `b/${String(Number(last.slice(2)) + 1).padStart(16, "0")}`;
      return [
        {
          type: "put",
          key: next,
          value: guarded(next, (level.content().get(last) ?? Buffer.alloc(0)).subarray(4)),
        },
      ];
    });
    expect(code).toBe("STORE_DAMAGED");
  });

  it("cannot see a lost tail, but shows it in batchNo", () =>
    withDirectory(async (directory) => {
      const level = new MemoryLevel();
      const store = await openJournalStore(directory, { openDisk: level.open });
      const batchNo = await store.commit([put("a", "1")]);
      await store.close();
      level.tamper(remove(`c/${String(batchNo).padStart(16, "0")}`));
      const again = await openJournalStore(directory, { openDisk: level.open });
      // This open wrote a batch of its own, so an intact store would be at batchNo + 1.
      expect(again.batchNo).toBe(batchNo);
      await again.close();
    }));
});
