import { rename } from "node:fs/promises";
import { describe, expect, it, vi } from "vitest";
import type { JournalStore } from "../../src/store/journal-store.ts";
import type { StoreLimits } from "../../src/store/limits.ts";
import type { StoreOperation } from "../../src/store.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { MemoryLevel } from "../support/memory-level.ts";
import { codeOf, contentOf, del, put, TINY_LIMITS, withDirectory } from "../support/store-kit.ts";

interface Bench {
  readonly level: MemoryLevel;
  readonly store: JournalStore;
  readonly directory: string;
}

function withStore(use: (bench: Bench) => Promise<void>, limits: Partial<StoreLimits> = {}): Promise<void> {
  return withDirectory(async (directory) => {
    const level = new MemoryLevel();
    const store = await openJournalStore(directory, { limits, openDisk: level.open });
    level.writes.length = 0;
    await use({ level, store, directory });
    await store.close();
  });
}

/** Holds back the disk until `release`, or `fail`. */
function holdWrites(level: MemoryLevel): { release(): void; fail(error: Error): void } {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  level.beforeWrite = () => promise;
  return { release: resolve, fail: reject };
}

describe("a store to which nothing is written", () => {
  const filled = async ({ level, store }: Bench, count: number): Promise<() => number> => {
    await store.commit(Array.from({ length: count }, (_, no) => put(`k${no}`, "1")));
    await store.commit(Array.from({ length: count }, (_, no) => del(`k${no}`)));
    await store.commit([put("last", "1")]);
    return () => level.writes.filter(({ keys }) => keys.some((key) => key.endsWith("k0"))).length;
  };

  it("has its journal folded, and takes what comes meanwhile", () =>
    withStore(
      async (bench) => {
        const folds = await filled(bench, 200);
        expect(folds()).toBe(0);
        await vi.waitFor(() => expect(folds()).toBe(1));
        await bench.store.commit([put("k0", "2")]);
        expect(await contentOf(bench.store)).toEqual([
          ["k0", "2"],
          ["last", "1"],
        ]);
      },
      { idleMs: 20 },
    ));

  /** After the last write it was asked to give disk space back. */
  const reclaimed = async ({ level }: Bench): Promise<void> => {
    await vi.waitFor(() => expect(level.reclaims.at(-1)).toBe(level.writes.length));
  };

  it("keeps a short one, and has what is deleted already cleared away", () =>
    withStore(
      async (bench) => {
        const folds = await filled(bench, 20);
        await reclaimed(bench);
        expect(folds()).toBe(0);
      },
      { idleMs: 20 },
    ));

  it("has a long one's deletes cleared away once they are folded", () =>
    withStore(
      async (bench) => {
        const folds = await filled(bench, 200);
        await reclaimed(bench);
        expect(folds()).toBe(1);
        await bench.store.commit([put("k0", "2")]);
        await reclaimed(bench);
      },
      { idleMs: 20 },
    ));
});

describe("commit", () => {
  it("resolves with consecutive numbers", () =>
    withStore(async ({ store }) => {
      const first = await store.commit([put("a", "1")]);
      expect(await store.commit([put("b", "2")])).toBe(first + 1);
      expect(store.batchNo).toBe(first + 1);
    }));

  it("writes one synced record however many operations it has", () =>
    withStore(async ({ level, store }) => {
      await store.commit([put("a", "1"), put("b", "2"), del("a")]);
      expect(level.writes).toEqual([{ keys: [expect.stringMatching(/^c\//)], sync: true }]);
    }));

  it("merges what arrives while a sync runs into the next one", () =>
    withStore(async ({ level, store }) => {
      const held = holdWrites(level);
      const numbers = [
        store.commit([put("a", "1")]),
        store.commit([put("b", "2")]),
        store.commit([del("a")]),
      ];
      held.release();
      const [first = 0, ...rest] = await Promise.all(numbers);
      expect(rest).toEqual([first + 1, first + 1]);
      expect(level.writes).toHaveLength(2);
      expect(await contentOf(store)).toEqual([["b", "2"]]);
    }));

  it("cuts the merged write at its limit and keeps the order", () =>
    withStore(
      async ({ level, store }) => {
        const held = holdWrites(level);
        const settled: string[] = [];
        const commits = ["a", "b", "c", "d"].map((key) =>
          store.commit([put(key, "x".repeat(40))]).then(() => settled.push(key)),
        );
        held.release();
        await Promise.all(commits);
        expect(settled).toEqual(["a", "b", "c", "d"]);
        expect(level.writes.length).toBe(3);
      },
      { groupBytesMax: 160 },
    ));

  it("never calls back before it returns", () =>
    withStore(async ({ store }) => {
      const order: string[] = [];
      const done = new Promise<void>((resolve) => {
        store.commitWith([put("a", "1")], () => {
          order.push("done");
          resolve();
        });
      });
      order.push("returned");
      await done;
      expect(order).toEqual(["returned", "done"]);
    }));

  it("copies the values it is given", () =>
    withStore(async ({ store }) => {
      const value = Buffer.from("before");
      const commit = store.commit([{ key: "a", value }]);
      value.write("after!");
      await commit;
      expect(Buffer.from((await store.get("a")) ?? []).toString()).toBe("before");
    }));

  it("refuses more than may wait for the disk, and recovers", () =>
    withStore(
      async ({ level, store }) => {
        const held = holdWrites(level);
        const accepted = [store.commit([put("a", "1")]), store.commit([put("b", "x".repeat(90))])];
        const refused = store.commit([put("c", "x".repeat(90))]);
        expect(await codeOf(refused)).toBe("STORE_BUSY");
        held.release();
        await Promise.all(accepted);
        expect(await contentOf(store, "c")).toEqual([]);
        await store.commit([put("c", "3")]);
      },
      { pendingBytesMax: 150 },
    ));

  it("counts a row named by its text as what it takes, so that nothing waits for ever", () =>
    withStore(
      async ({ store }) => {
        for (let times = 0; times < 20; times += 1) await store.commit([put("r/0000000a/00000001", "1")]);
        await store.commit([put("c", "x".repeat(90))]);
        expect(await contentOf(store, "c")).toHaveLength(1);
      },
      { pendingBytesMax: 150 },
    ));

  it("throws for a bad key and changes nothing", () =>
    withStore(async ({ level, store }) => {
      expect(await codeOf(store.commit([put("ok", "1"), put("ümlaut", "2")]))).toBe("STORE_KEY");
      expect(store.peek("ok")).toBeUndefined();
      expect(level.writes).toEqual([]);
    }));

  it.each<[string, (value: Uint8Array) => StoreOperation]>([
    ["value", (value) => ({ key: "gone", value })],
    ["prefix", (prefix) => ({ key: "gone", prefix, value: Buffer.from("1") })],
    ["row", (value) => ({ key: { family: 0x72, slot: 1, seq: 1 }, value })],
  ])("refuses a batch whose %s lost its memory, as a whole, and goes on", (_, operationWith) =>
    withDirectory(async (directory) => {
      const level = new MemoryLevel();
      const options = { limits: TINY_LIMITS, openDisk: level.open };
      const store = await openJournalStore(directory, options);
      level.writes.length = 0;
      const done = vi.fn<() => void>();
      for (const lost of [detached(), shrunk()]) {
        const batch = [put("half", "1"), operationWith(lost), put("more", "x".repeat(300))];
        // Alone, and where it would have joined one that waits.
        expect(() => store.commitWith(batch, done)).toThrow(expect.objectContaining({ code: "STORE_VALUE" }));
        expect(level.writes).toEqual([]);
        const commits = [store.commit([put("a", "1")]), store.commit([put("b", "2")])];
        expect(() => store.commitWith(batch, done)).toThrow(expect.objectContaining({ code: "STORE_VALUE" }));
        await Promise.all([...commits, store.commit([put("c", "3")])]);
        level.writes.length = 0;
      }
      expect(done).not.toHaveBeenCalled();
      const expected = [
        ["a", "1"],
        ["b", "2"],
        ["c", "3"],
      ];
      expect(await contentOf(store)).toEqual(expected);
      await store.close();
      await using again = await openJournalStore(directory, options);
      expect(await contentOf(again)).toEqual(expected);
    }),
  );
});

/** Bytes whose buffer went elsewhere. */
function detached(): Uint8Array {
  const value = new Uint8Array(8);
  structuredClone(value.buffer, { transfer: [value.buffer] });
  return value;
}

/** Bytes beyond the end of their buffer. */
function shrunk(): Uint8Array {
  const buffer = new ArrayBuffer(16, { maxByteLength: 16 });
  const value = new Uint8Array(buffer, 8, 8);
  buffer.resize(4);
  return value;
}

describe("reading", () => {
  it("sees a commit at once, before its sync", () =>
    withStore(async ({ level, store }) => {
      const held = holdWrites(level);
      const commit = store.commit([put("a", "1")]);
      expect(store.peek("a")).toEqual(Buffer.from("1"));
      expect(await contentOf(store)).toEqual([["a", "1"]]);
      held.release();
      await commit;
    }));

  it("knows a recent delete from an old value", () =>
    withStore(async ({ store }) => {
      for (let index = 0; index < 20; index += 1) await store.commit([put(`k${index}`, "old")]);
      expect(store.peek("k0")).toBeUndefined();
      expect(await store.get("k0")).toEqual(Buffer.from("old"));
      await store.commit([del("k0")]);
      expect(await store.get("k0")).toBeUndefined();
      expect((await contentOf(store, "k0")).length).toBe(0);
    }, TINY_LIMITS));

  it("scans the state of one moment in key order", () =>
    withStore(async ({ store }) => {
      const keys = Array.from(
        { length: 12 },
        (_, index) => `k${String.fromCharCode(97 + ((index * 5) % 12))}`,
      );
      for (const key of keys) await store.commit([put(key, "1"), put(`other/${key}`, "2")]);
      const found: string[] = [];
      for await (const [key] of store.scan("k")) {
        found.push(key);
        await store.commit([put(key, "changed"), put(`${key}+`, "new"), del("kl")]);
      }
      expect(found).toEqual(keys.toSorted());
    }, TINY_LIMITS));

  it("gives values that stay what they were, whatever is written into their memory later", () =>
    withStore(async ({ store }) => {
      await store.commit([put("a", "1".repeat(50)), put("b", "2".repeat(50))]);
      const scan = store.scan("");
      const kept = [store.peek("a"), await store.get("b"), (await scan.next()).value?.[1]];
      for (let at = 0; at < 100; at += 1) await store.commit([put("c", "3".repeat(100))]);
      kept.push((await scan.next()).value?.[1]);
      expect(kept.map((value) => Buffer.from(value ?? []).toString("latin1", 0, 1))).toEqual([
        "1",
        "2",
        "1",
        "2",
      ]);
    }, TINY_LIMITS));

  it("reports a table value that does not fit its CRC", () =>
    withStore(async ({ level, store }) => {
      for (let index = 0; index < 20; index += 1) await store.commit([put(`k${index}`, "value")]);
      const stored = level.content().get("d/k0");
      if (stored === undefined) throw new Error("k0 is not in the table");
      level.tamper([{ type: "put", key: "d/k1", value: stored }]);
      expect(await codeOf(store.get("k1"))).toBe("STORE_DAMAGED");
      expect(await codeOf(contentOf(store, "k"))).toBe("STORE_DAMAGED");
      expect(await store.get("k0")).toEqual(Buffer.from("value"));
    }, TINY_LIMITS));
});

describe("materialisation", () => {
  it("keeps the journal within its limits", () =>
    withStore(async ({ level, store }) => {
      const commits = Array.from({ length: 50 }, (_, index) =>
        store.commit([put(`k${index % 7}`, `${index}`)]),
      );
      await Promise.all(commits);
      const journal = [...level.content().keys()].filter((key) => key.startsWith("c/"));
      expect(journal.length).toBeLessThanOrEqual(TINY_LIMITS.journalBatchesMax);
    }, TINY_LIMITS));

  it("writes the net effect only", () =>
    withStore(async ({ level, store }) => {
      for (let index = 0; index < 30; index += 1)
        await store.commit([put("again", `${index}`), put("x", ""), del("x")]);
      const puts = [...level.content().keys()].filter((key) => key.startsWith("d/"));
      expect(puts).not.toContain("d/x");
      const rewrites = level.writes.flatMap(({ keys }) => keys).filter((key) => key === "d/again");
      expect(rewrites.length).toBeLessThan(10);
    }, TINY_LIMITS));

  it("keeps the old value of a key whose newer one is not synced yet", () =>
    withDirectory(async (directory) => {
      const level = new MemoryLevel();
      const options = { limits: TINY_LIMITS, openDisk: level.open };
      const store = await openJournalStore(directory, options);
      // No slice may end before the new value waits for its sync.
      const slices = Promise.withResolvers<void>();
      level.beforeWrite = (_operations, sync) => (sync ? undefined : slices.promise);
      for (const key of ["a", "x", "y"]) await store.commit([put(key, "old")]);
      const sync = new Promise<void>(() => {});
      level.beforeWrite = (_operations, isSync) => (isSync ? sync : undefined);
      slices.resolve();
      void store.commit([put("z", "under way")]);
      void store.commit([put("a", "new")]);
      await new Promise((resolve) => setImmediate(resolve));
      expect(level.content().has("c/0000000000000003"), "the old value's record is folded").toBe(false);
      level.crash(3);
      level.beforeWrite = () => undefined;
      await rename(directory, `${directory}+`);
      const again = await openJournalStore(`${directory}+`, options);
      expect(await contentOf(again, "a")).toEqual([["a", "old"]]);
      await again.close();
    }));

  it("makes commits wait when it cannot keep up", () =>
    withStore(async ({ level, store }) => {
      const slices = Promise.withResolvers<void>();
      level.beforeWrite = (_operations, sync) => (sync ? undefined : slices.promise);
      let done = 0;
      const commits = Array.from({ length: 30 }, async (_, index) => {
        // Larger than a merged write may be, so that each stays a batch of its own.
        await store.commit([put(`k${index}`, "x".repeat(200))]);
        done += 1;
      });
      await new Promise((resolve) => setImmediate(resolve));
      expect(done).toBeLessThan(TINY_LIMITS.journalBatchesMax);
      slices.resolve();
      await Promise.all(commits);
      expect((await contentOf(store)).length).toBe(30);
    }, TINY_LIMITS));

  it("is not stopped by one batch larger than the journal may be", () =>
    withStore(async ({ store }) => {
      for (const key of ["a", "b", "c"]) await store.commit([put(key, "x".repeat(9_000))]);
      expect((await contentOf(store)).map(([key]) => key)).toEqual(["a", "b", "c"]);
    }, TINY_LIMITS));
});

describe("failure", () => {
  it("answers nothing after a failed sync, and says what may have happened", () =>
    withStore(async ({ level, store }) => {
      const held = holdWrites(level);
      const started = store.commit([put("a", "1")]);
      const waiting = store.commit([put("b", "2")]);
      held.fail(new Error("disk on fire"));
      await expect(started).rejects.toMatchObject({
        code: "STORE_FAILED",
        outcome: "unknown",
        storeId: store.storeId,
      });
      await expect(waiting).rejects.toMatchObject({ code: "STORE_FAILED", outcome: "none" });
      expect(await codeOf(store.commit([put("c", "3")]))).toBe("STORE_FAILED");
      expect(await codeOf(store.get("a"))).toBe("STORE_FAILED");
      expect(await codeOf(contentOf(store))).toBe("STORE_FAILED");
      expect(() => store.peek("a")).toThrow(expect.objectContaining({ code: "STORE_FAILED" }));
      expect(level.writes).toHaveLength(1);
    }));

  it("follows a failed slice as well", () =>
    withStore(async ({ level, store }) => {
      level.beforeWrite = (_operations, sync) =>
        sync ? undefined : Promise.reject(new Error("no space left"));
      const codes = new Set<unknown>();
      for (let index = 0; index < 12; index += 1)
        codes.add(await codeOf(store.commit([put(`k${index}`, "1")])));
      expect([...codes]).toEqual(["resolved", "STORE_FAILED"]);
    }, TINY_LIMITS));

  it("loses nothing acknowledged when the store is opened again", () =>
    withDirectory(async (directory) => {
      const level = new MemoryLevel();
      const broken = await openJournalStore(directory, { openDisk: level.open });
      await broken.commit([put("a", "1")]);
      level.beforeWrite = () => Promise.reject(new Error("disk on fire"));
      expect(await codeOf(broken.commit([put("b", "2")]))).toBe("STORE_FAILED");
      await broken.close();
      level.beforeWrite = () => undefined;
      const store = await openJournalStore(directory, { openDisk: level.open });
      expect(await contentOf(store)).toEqual([["a", "1"]]);
      await store.close();
    }));

  it("gives an exception of one callback to nobody else", () =>
    withStore(async ({ store }) => {
      const thrown = new Promise<unknown>((resolve) => process.once("uncaughtException", resolve));
      const listeners = process
        .listeners("uncaughtException")
        .filter((listener) => listener !== process.listeners("uncaughtException").at(-1));
      for (const listener of listeners) process.removeListener("uncaughtException", listener);
      store.commitWith([put("a", "1")], () => {
        throw new Error("mine");
      });
      const other = store.commit([put("b", "2")]);
      expect(await other).toBe(store.batchNo);
      expect(await thrown).toMatchObject({ message: "mine" });
      for (const listener of listeners) process.on("uncaughtException", listener);
    }));
});

/** A commit that waits for no sync: the number it is told. */
function relaxed(store: JournalStore, key: string, value = "1"): Promise<number> {
  return new Promise((resolve, reject) => {
    const done = (error: Error | undefined, no: number): void => (error ? reject(error) : resolve(no));
    store.commitWith([put(key, value)], done, true);
  });
}

const syncsOf = (level: MemoryLevel): boolean[] => level.writes.map(({ sync }) => sync);

describe("a relaxed commit", () => {
  it("is written without a sync and told the number of the last batch that has one", () =>
    withStore(async ({ level, store }) => {
      const before = store.batchNo;
      expect(await relaxed(store, "a")).toBe(before);
      expect(await relaxed(store, "b")).toBe(before);
      expect(store.batchNo).toBe(before);
      expect(await store.commit([put("c", "1")])).toBe(before + 3);
      expect(syncsOf(level)).toEqual([false, false, true]);
    }));

  it("is synced with a commit that is not and waits beside it", () =>
    withStore(async ({ level, store }) => {
      const held = holdWrites(level);
      const commits = [
        relaxed(store, "a"),
        relaxed(store, "b"),
        store.commit([put("c", "1")]),
        relaxed(store, "d"),
      ];
      held.release();
      const [first, ...rest] = await Promise.all(commits);
      expect(rest).toEqual([store.batchNo, store.batchNo, store.batchNo]);
      expect(first).toBe(store.batchNo - 2);
      expect(syncsOf(level)).toEqual([false, true]);
    }));

  it("is synced a while later, and when the store is closed", () =>
    withStore(
      async ({ level, store }) => {
        await relaxed(store, "a");
        await vi.waitFor(() => expect(syncsOf(level)).toEqual([false, true]));
        await relaxed(store, "b");
        await store.close();
        expect(syncsOf(level)).toEqual([false, true, false, true]);
      },
      { relaxedMs: 20 },
    ));

  it("is folded only once it is synced, and never fills the journal", () =>
    withStore(
      async ({ level, store }) => {
        for (let no = 0; no < 200; no += 1) await relaxed(store, `k${no % 7}`, "x".repeat((no * 37) % 900));
        let syncedNo = 2; // Written at open.
        let lastNo = 0;
        for (const { keys, sync } of level.writes) {
          const numbers = keys.filter((key) => key.startsWith("c/")).map((key) => Number(key.slice(2)));
          if (keys.length > 1) expect(Math.max(...numbers)).toBeLessThanOrEqual(syncedNo);
          else lastNo = Math.max(lastNo, ...numbers);
          if (sync) syncedNo = lastNo;
        }
        expect(syncedNo).toBeGreaterThan(100);
      },
      { ...TINY_LIMITS, relaxedMs: 60_000 },
    ));

  it("may be lost with all that is not folded: the last synced batch never is", () =>
    withDirectory(async (directory) => {
      const level = new MemoryLevel();
      const limits = { ...TINY_LIMITS, relaxedMs: 60_000 };
      const open = (): Promise<JournalStore> => openJournalStore(directory, { limits, openDisk: level.open });
      const store = await open();
      for (let no = 0; no < 12; no += 1) await store.commit([put(`s${no}`, "1")]);
      const { batchNo } = store;
      for (let no = 0; no < 2; no += 1) await relaxed(store, `r${no}`);
      await vi.waitFor(() => expect(level.writes.at(-1)?.keys.length).toBeGreaterThan(0));
      await new Promise((resolve) => setImmediate(resolve));
      // The table kept its slices, the journal nothing that was relaxed.
      const gone = [...level.content().keys()].filter(
        (key) => key.startsWith("c/") && Number(key.slice(2)) > batchNo,
      );
      expect(gone).toHaveLength(2);
      level.crash(100);
      level.tamper(gone.map((key) => ({ type: "del", key })));
      await rename(directory, `${directory}+`);
      const again = await openJournalStore(`${directory}+`, { limits, openDisk: level.open });
      expect((await contentOf(again)).map(([key]) => key)).toEqual(
        Array.from({ length: 12 }, (_, no) => `s${no}`).toSorted(),
      );
      await again.close();
    }));

  it("may be lost with what follows it, and the next synced one proves that it is not", () =>
    withDirectory(async (directory) => {
      const level = new MemoryLevel();
      const open = (): Promise<JournalStore> => openJournalStore(directory, { openDisk: level.open });
      let store = await open();
      const { batchNo } = store;
      for (const key of ["a", "b", "c", "d"]) await relaxed(store, key);
      const key = (no: number): string => `c/${String(no).padStart(16, "0")}`;
      const left = level.content().get(key(batchNo + 4)) ?? Buffer.alloc(0);
      await store.close();
      const emptied = level.content().get(key(batchNo + 5)) ?? Buffer.alloc(0);
      const harm = (...gone: number[]): void =>
        level.tamper(gone.map((no) => ({ type: "del", key: key(batchNo + no) })));

      harm(2);
      expect(await codeOf(open())).toBe("STORE_DAMAGED");
      harm(2, 3, 5);
      store = await open();
      expect(await contentOf(store)).toEqual([["a", "1"]]);
      await store.commit([put("e", "1")]);
      await store.commit([put("f", "1")]);
      expect(level.content().get(key(batchNo + 4))).not.toEqual(left);
      expect(level.content().get(key(batchNo + 4))).not.toEqual(emptied);
      await store.close();
      store = await open();
      expect(await contentOf(store)).toEqual([
        ["a", "1"],
        ["e", "1"],
        ["f", "1"],
      ]);
      await store.close();
    }));
});

describe("close", () => {
  it("waits for commits under way, refuses later ones and may be called twice", () =>
    withStore(async ({ level, store }) => {
      const held = holdWrites(level);
      const commits = [store.commit([put("a", "1")]), store.commit([put("b", "2")])];
      const closed = [store.close(), store.close()];
      expect(await codeOf(store.commit([put("c", "3")]))).toBe("STORE_CLOSED");
      held.release();
      expect(await Promise.all(commits)).toHaveLength(2);
      await Promise.all(closed);
      expect(await codeOf(store.get("a"))).toBe("STORE_CLOSED");
    }));

  it("leaves nothing writing behind", () =>
    withStore(async ({ level, store }) => {
      const commits = Array.from({ length: 30 }, (_, index) =>
        store.commit([put(`k${index}`, "x".repeat(100))]),
      );
      await store.close();
      await Promise.all(commits);
      const { length } = level.writes;
      await new Promise((resolve) => setImmediate(resolve));
      expect(level.writes).toHaveLength(length);
    }, TINY_LIMITS));
});
