import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import { openStore, quarantineStore } from "@klatsch/kit/store";
import type { Store } from "@klatsch/kit/store";
import { openJournalStore } from "../../src/store/open.ts";
import { childOperations } from "../support/child-operations.ts";
import { TINY_LIMITS, codeOf, contentOf, keyText, put, withDirectory } from "../support/store-kit.ts";

const IDENTITY = "klatsch-store.json";

function withStore(use: (store: Store, directory: string) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    const store = await openStore({ directory });
    await use(store, directory);
    await store.close();
  });
}

describe("openStore", () => {
  it("keeps id and content over a reopen, and counts boots and batches", () =>
    withDirectory(async (directory) => {
      const first = await openStore({ directory });
      const batchNo = await first.commit([put("a", "1")]);
      await first.close();
      await using second = await openStore({ directory });
      expect(second.storeId).toMatch(/^[0-9a-f]{32}$/);
      expect([second.storeId, second.boot, second.batchNo]).toEqual([first.storeId, 2, batchNo + 1]);
      expect(await contentOf(second)).toEqual([["a", "1"]]);
    }));

  it("gives every directory an id of its own", () =>
    withStore((one) =>
      withStore(async (two) => {
        expect(one.storeId).not.toBe(two.storeId);
      }),
    ));

  it.each([
    [{}, "directory"],
    [{ directory: "" }, "directory"],
    [{ directory: 7 }, "directory"],
    [{ directory: "x", directry: "y" }, "directry"],
    [undefined, "options"],
  ])("refuses %j and names the field", async (options, field) => {
    // @ts-expect-error: what a JavaScript caller may pass
    const opened = openStore(options);
    await expect(opened).rejects.toMatchObject({
      code: "STORE_OPTIONS",
      message: expect.stringContaining(field),
    });
  });

  it("refuses a second open in this process and in another", () =>
    withStore(async (store, directory) => {
      await store.commit([put("a", "1")]);
      expect(await codeOf(openStore({ directory }))).toBe("STORE_LOCKED");
      const child = startChild(directory);
      let stderr = "";
      child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
      expect((await once(child, "close"))[0]).not.toBe(0);
      expect(stderr).toContain("STORE_LOCKED");
      await store.commit([put("b", "2")]);
    }));

  it("lets exactly one of two concurrent opens create the store", () =>
    withDirectory(async (directory) => {
      const opens = await Promise.allSettled([openStore({ directory }), openStore({ directory })]);
      const stores = opens.flatMap((open) => (open.status === "fulfilled" ? [open.value] : []));
      expect(stores).toHaveLength(1);
      await stores[0]?.close();
    }));

  it("does not touch a directory that holds something else", () =>
    withDirectory(async (directory) => {
      await mkdir(directory);
      await writeFile(join(directory, "thesis.txt"), "mine");
      expect(await codeOf(openStore({ directory }))).toBe("STORE_CORRUPT");
      expect(await readdir(directory)).toEqual(["thesis.txt"]);
    }));

  it("accepts the root of a fresh file system, and directories that do not exist yet", () =>
    withDirectory(async (parent) => {
      const directory = join(parent, "a", "b");
      await mkdir(join(directory, "lost+found"), { recursive: true });
      await (await openStore({ directory })).close();
      await (await openStore({ directory: join(parent, "c", "d", "e") })).close();
    }));

  it.each([
    ['{"format":1,"storeId":"00000000000000000000000000000000"}', "STORE_FORMAT"],
    ['{"format":2,"storeId":"00000000000000000000000000000000"}', "STORE_FORMAT"],
    ['{"format":3}', "STORE_DAMAGED"],
    ['{"format":3,"storeId":"0000000000000000000000000000000g"}', "STORE_DAMAGED"],
    ["\0\0\0", "STORE_DAMAGED"],
    ["", "STORE_DAMAGED"],
  ])("refuses identity file %j", (text, code) =>
    withDirectory(async (directory) => {
      await (await openStore({ directory })).close();
      await writeFile(join(directory, IDENTITY), text);
      expect(await codeOf(openStore({ directory }))).toBe(code);
    }),
  );

  it("names the store whose identity file is damaged, and changes nothing", () =>
    withDirectory(async (directory) => {
      const store = await openStore({ directory });
      await store.commit([put("a", "1")]);
      await store.close();
      const intact = await readFile(join(directory, IDENTITY));
      await writeFile(join(directory, IDENTITY), intact.subarray(0, 20));
      await expect(openStore({ directory })).rejects.toMatchObject({
        code: "STORE_DAMAGED",
        message: expect.stringContaining(IDENTITY),
        storeId: store.storeId,
      });
      await writeFile(join(directory, IDENTITY), intact);
      await using again = await openStore({ directory });
      expect(await contentOf(again)).toEqual([["a", "1"]]);
    }));

  it("does not call a store damaged that another process has open, whatever its identity file says", () =>
    withDirectory(async (directory) => {
      const child = startChild(directory);
      if (child.stdout === null) throw new Error("the child has no output");
      await once(child.stdout, "data"); // It is open.
      await writeFile(join(directory, IDENTITY), "garbage");
      expect(await codeOf(openStore({ directory }))).toBe("STORE_LOCKED");
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      expect(await codeOf(openStore({ directory }))).toBe("STORE_DAMAGED");
    }));

  it("finishes a creation that was cut short, with a new id", () =>
    withDirectory(async (directory) => {
      const first = await openStore({ directory });
      await first.close();
      await rm(join(directory, IDENTITY));
      await using second = await openStore({ directory });
      expect(second.storeId).not.toBe(first.storeId);
      expect([second.boot, second.batchNo]).toEqual([1, 2]);
    }));

  it("does not take a used store without its identity file for a new one", () =>
    withDirectory(async (directory) => {
      const first = await openStore({ directory });
      await first.commit([put("a", "1")]);
      await first.close();
      await rm(join(directory, IDENTITY));
      await expect(openStore({ directory })).rejects.toMatchObject({
        code: "STORE_DAMAGED",
        storeId: first.storeId,
      });
    }));

  it("reports a database that LevelDB itself cannot open, with the id", () =>
    withDirectory(async (directory) => {
      const first = await openStore({ directory });
      await first.close();
      await writeFile(join(directory, "level", "CURRENT"), "garbage");
      await expect(openStore({ directory })).rejects.toMatchObject({
        code: "STORE_DAMAGED",
        storeId: first.storeId,
      });
      await rm(join(directory, "level"), { recursive: true });
      await expect(openStore({ directory })).rejects.toMatchObject({
        code: "STORE_DAMAGED",
        storeId: first.storeId,
      });
    }));

  it("tells the database of another store", () =>
    withStore((_, directory) =>
      withDirectory(async (other) => {
        const first = await openStore({ directory: other });
        await first.close();
        await writeFile(join(other, IDENTITY), await readFile(join(directory, IDENTITY)));
        expect(await codeOf(openStore({ directory: other }))).toBe("STORE_DAMAGED");
      }),
    ));
});

describe("quarantineStore", () => {
  it("moves a damaged store aside so that a new one can begin", () =>
    withDirectory(async (directory) => {
      const old = await openStore({ directory });
      await old.close();
      await writeFile(join(directory, "level", "CURRENT"), "garbage");
      expect(await quarantineStore(directory)).toBe(`${directory}.quarantined-1`);
      const fresh = await openStore({ directory });
      expect(fresh.storeId).not.toBe(old.storeId);
      await fresh.close();
      expect(await quarantineStore(directory)).toBe(`${directory}.quarantined-2`);
      expect(await readdir(`${directory}.quarantined-1`)).toContain(IDENTITY);
    }));

  it("refuses a store that is open, and one that is not there", () =>
    withStore(async (_, directory) => {
      expect(await codeOf(quarantineStore(directory))).toBe("STORE_LOCKED");
      expect(await codeOf(quarantineStore(`${directory}-absent`))).toBe("STORE_IO");
    }));
});

describe("a store on LevelDB", () => {
  it("scans the state of one moment although slices move it meanwhile", () =>
    withDirectory(async (directory) => {
      await using store = await openJournalStore(directory, { limits: TINY_LIMITS });
      const keys = Array.from({ length: 700 }, (_, index) => `k${String(index).padStart(4, "0")}`);
      for (const key of keys) store.commitWith([put(key, "before")], () => {});
      await store.commit([]);
      const found: string[] = [];
      for await (const [key, value] of store.scan("k")) {
        if (found.length % 50 === 0) {
          for (const changed of keys)
            store.commitWith([put(changed, "after"), put(`${changed}x`, "")], () => {});
          await store.commit([]);
        }
        expect(Buffer.from(value).toString()).toBe("before");
        found.push(key);
      }
      expect(found).toEqual(keys);
    }));

  it("frees its iterator when a scan is left early", () =>
    withStore(async (store) => {
      for (let index = 0; index < 50; index += 1) store.commitWith([put(`k${index}`, "1")], () => {});
      await store.commit([]);
      for await (const [key] of store.scan("k")) if (key === "k10") break;
    }));

  it("has everything acknowledged after SIGKILL, three times over", () =>
    withDirectory(async (directory) => {
      const acknowledged: { boot: number; rounds: number }[] = [];
      for (let kill = 1; kill <= 3; kill += 1) acknowledged.push(await killAfter(directory, 150 * kill));
      await using store = await openStore({ directory });
      expect(acknowledged.map(({ boot }) => boot)).toEqual([1, 2, 3]);
      expect(store.boot).toBe(4);
      const content = new Map(await contentOf(store));
      for (const { boot, rounds } of acknowledged) {
        for (let round = 0; round < rounds; round += 1) {
          for (const operation of [0, 1, 2, 3].flatMap((lane) => childOperations(boot, round, lane))) {
            const { value } = operation;
            const key = keyText(operation);
            if (key.startsWith("stay/")) expect(content.get(key)).toBe(Buffer.from(value ?? []).toString());
            if (value === undefined) expect(content.has(key)).toBe(false);
          }
        }
      }
    }));
});

function startChild(directory: string): ChildProcess {
  const script = new URL("../support/writer-child.ts", import.meta.url);
  return fork(script, [directory], { execArgv: ["--conditions=klatsch-source"], silent: true });
}

/** Lets a child write until it has acknowledged `rounds`, kills it, and says what it had acknowledged. */
async function killAfter(directory: string, rounds: number): Promise<{ boot: number; rounds: number }> {
  const child = startChild(directory);
  if (child.stdout === null) throw new Error("the child has no output");
  const result = { boot: 0, rounds: 0 };
  for await (const line of createInterface(child.stdout)) {
    const [word, number] = line.split(" ");
    if (word === "open") result.boot = Number(number);
    // Lines that arrive after the signal were acknowledged too.
    if (word === "ack") result.rounds = Number(number) + 1;
    if (result.rounds === rounds) child.kill("SIGKILL");
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return result;
}
