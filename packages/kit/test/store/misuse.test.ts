import { describe, expect, it, vi } from "vitest";
import type { StoreVisitor } from "../../src/store.ts";
import { openStore, quarantineStore } from "../../src/store.ts";
import type { JournalStore } from "../../src/store/journal-store.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { MemoryLevel } from "../support/memory-level.ts";
import { contentOf, put, withDirectory } from "../support/store-kit.ts";

const refusal = (code: string, text = ""): unknown =>
  expect.objectContaining({ name: "StoreError", code, message: expect.stringContaining(text) });

function withStore(use: (store: JournalStore) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    await using store = await openJournalStore(directory, { openDisk: new MemoryLevel().open });
    await use(store);
  });
}

const noBytes: readonly unknown[] = [
  "two coffees",
  null,
  5,
  [1, 2],
  {},
  { length: 1, 0: 1 },
  new Float64Array(1),
  new DataView(new ArrayBuffer(1)),
  new ArrayBuffer(1),
];

describe("what plain JavaScript passes by mistake", () => {
  it.each(noBytes)("is no value, and no prefix: %o", (given) =>
    withStore(async (store) => {
      const wrong = given as Uint8Array;
      const value = Buffer.from("1");
      for (const operation of [
        { key: "a", value: wrong },
        { key: { family: 0x72, slot: 1, seq: 1 }, value: wrong },
        { key: "a", value, prefix: wrong },
        { key: "a", value: undefined, prefix: wrong },
      ]) {
        await expect(store.commit([put("b", "2"), operation])).rejects.toEqual(refusal("STORE_VALUE"));
      }
      expect(await contentOf(store)).toEqual([]);
      await store.commit([put("a", "1")]);
    }),
  );

  it.each([
    undefined,
    null,
    5,
    Symbol("a"),
    {},
    ["a"],
    { family: "r", slot: 1, seq: 1 },
    { family: 0x72, slot: 1n, seq: 1 },
    { family: 97.5, slot: 1, seq: 1 },
    { family: 0x72, slot: -1, seq: 1 },
  ])("is no key: %o", (given) =>
    withStore(async (store) => {
      const key = given as unknown as string;
      await expect(store.commit([{ key, value: undefined }])).rejects.toEqual(refusal("STORE_KEY"));
      await expect(store.get(key)).rejects.toEqual(refusal("STORE_KEY", "key: "));
      expect(() => store.peek(key)).toThrow(refusal("STORE_KEY", "key: "));
      await expect(store.getMany([key])).rejects.toEqual(refusal("STORE_KEY", "keys: "));
      const scan = async (): Promise<unknown> => await store.scan(key).next();
      await expect(scan()).rejects.toEqual(refusal("STORE_KEY", "prefix: "));
    }),
  );

  it.each([null, {}, "ab", [null], [5]])("are no operations: %o", (given) =>
    withStore(async (store) => {
      await expect(store.commit(given as never)).rejects.toEqual(refusal("STORE_OPTIONS", "operations: "));
    }),
  );

  it("is no list of keys", () =>
    withStore(async (store) => {
      await expect(store.getMany("ab" as never)).rejects.toEqual(refusal("STORE_OPTIONS", "keys: "));
    }));

  it("is nobody to call, and is refused before anything is written", () =>
    withStore(async (store) => {
      const commit = (): void => store.commitWith([put("a", "1")], null as never);
      expect(commit).toThrow(refusal("STORE_OPTIONS", "done: "));
      expect(store.peek("a")).toBeUndefined();
    }));

  it.each([{}, null, { row: () => undefined }, { row: 1, text: 1 }])("is no visitor: %o", async (given) => {
    const visitor = given as StoreVisitor;
    await expect(openStore({ directory: "x", visitor })).rejects.toEqual(
      refusal("STORE_OPTIONS", "visitor: "),
    );
  });

  it.each([null, "", 5, "x".repeat(4_097)])("is no directory", async (given) => {
    const wrong = refusal("STORE_OPTIONS", "directory: ");
    await expect(quarantineStore(given as string)).rejects.toEqual(wrong);
    await expect(openStore({ directory: given as string })).rejects.toEqual(wrong);
  });

  it("is not repeated whole in the error", () =>
    withStore(async (store) => {
      const long = "x".repeat(100_000);
      const seen = vi.fn<(error: unknown) => void>();
      await openStore({ directory: "x", [long]: 1 }).catch(seen);
      await store.commit([put(`${"x".repeat(900)}ü`, "")]).catch(seen);
      const texts = seen.mock.calls.map(([error]) => String(error));
      expect(texts.map(({ length }) => length < 300)).toEqual([true, true]);
    }));
});
