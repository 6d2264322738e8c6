import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { keyText } from "@klatsch/kit/core";
import { openStore } from "@klatsch/kit/store";
import type { StoreOperation, StoreVisitor } from "@klatsch/kit/store";
import { rowText } from "../../src/core/row.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { MemoryLevel } from "../support/memory-level.ts";
import { applied, codeOf, put, sorted, TINY_LIMITS, withDirectory } from "../support/store-kit.ts";

/** Takes down what it is shown; a key that comes twice is marked. */
function recorder(): { readonly seen: Map<string, string>; readonly visitor: StoreVisitor } {
  const seen = new Map<string, string>();
  const show = (key: string, value: string): void => {
    seen.set(key, seen.has(key) ? "twice" : value);
  };
  const visitor: StoreVisitor = {
    row: (family, slot, seq, bytes, from, to) =>
      show(rowText(family, slot, seq), bytes.toString("utf8", from, to)),
    text: (key, value) => show(key, Buffer.from(value).toString()),
  };
  return { seen, visitor };
}

const key: fc.Arbitrary<StoreOperation["key"]> = fc.oneof(
  fc.constantFrom("a", "b/0000000g/00000001", "n/00000001", "zz"),
  fc.record({ family: fc.constantFrom(0x62, 0x72), slot: fc.nat(2), seq: fc.nat(9) }),
);
const operation: fc.Arbitrary<StoreOperation> = fc.record({
  key,
  value: fc.option(
    fc.string({ unit: "grapheme-ascii", maxLength: 40 }).map((text) => Buffer.from(text)),
    { nil: undefined },
  ),
});
const boots = fc.array(fc.array(fc.array(operation, { maxLength: 8 }), { maxLength: 12 }), { maxLength: 6 });

describe("a visitor", () => {
  it("is always shown what the store holds, each key once", async () => {
    const run = async (
      lives: readonly (readonly (readonly StoreOperation[])[])[],
      disk: MemoryLevel | undefined,
    ): Promise<void> => {
      await withDirectory(async (directory) => {
        let model = new Map<string, string>();
        for (const commits of [...lives, []]) {
          const { seen, visitor } = recorder();
          const internals = disk === undefined ? {} : { openDisk: disk.open };
          const store = await openJournalStore(directory, { limits: TINY_LIMITS, visitor, ...internals });
          expect(sorted(seen)).toEqual(sorted(model));
          for (const operations of commits) {
            await store.commit(operations);
            model = applied(model, operations);
          }
          await store.close();
        }
      });
    };
    await fc.assert(
      fc.asyncProperty(boots, (lives) => run(lives, undefined)),
      { numRuns: 25 },
    );
    await fc.assert(
      fc.asyncProperty(boots, (lives) => run(lives, new MemoryLevel())),
      { numRuns: 100 },
    );
  });

  it("ends the opening with what it throws, and nothing is lost by that", () =>
    withDirectory(async (directory) => {
      const row = { family: 0x62, slot: 1, seq: 2 };
      const store = await openStore({ directory });
      await store.commit([put("a", "1"), { key: row, value: Buffer.from("body") }]);
      await store.close();
      const fault = new RangeError("not what I want");
      const visitor: StoreVisitor = {
        ...recorder().visitor,
        row: () => {
          throw fault;
        },
      };
      await expect(openStore({ directory, visitor })).rejects.toBe(fault);
      await using again = await openStore({ directory });
      expect(Buffer.from((await again.get(keyText(row))) ?? []).toString()).toBe("body");
    }));

  it("is checked like every option", async () => {
    // @ts-expect-error: what a JavaScript caller may pass
    expect(await codeOf(openStore({ directory: "x", visitor: 1 }))).toBe("STORE_OPTIONS");
  });

  it("is not shown a value whose CRC is wrong", () =>
    withDirectory(async (directory) => {
      const disk = new MemoryLevel();
      const open = { limits: TINY_LIMITS, openDisk: disk.open };
      const store = await openJournalStore(directory, open);
      for (let at = 0; at < 40; at += 1) await store.commit([put(`k${at}`, "sound")]);
      await store.close();
      disk.tamper([{ type: "put", key: "d/k0", value: Buffer.from("rotten") }]);
      const { visitor } = recorder();
      expect(await codeOf(openJournalStore(directory, { ...open, visitor }))).toBe("STORE_DAMAGED");
    }));
});
