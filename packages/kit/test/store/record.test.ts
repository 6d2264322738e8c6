import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Arena } from "../../src/store/arena.ts";
import { encodedBytes, HASH_BYTES, JournalBatch } from "../../src/store/record.ts";
import type { StoreOperation } from "../../src/store/record.ts";
import { del, put } from "../support/store-kit.ts";

const arena = new Arena(1_024);
const GENESIS = new Uint8Array(HASH_BYTES);
const keys = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
  minLength: 1,
  maxLength: 40,
});
const values = fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined });
const number = fc.nat(2 ** 32 - 1);
const rows = fc.record({ family: fc.integer({ min: 0x61, max: 0x7a }), slot: number, seq: number });
const operations: fc.Arbitrary<StoreOperation[]> = fc.array(
  fc.record({ key: fc.oneof(keys, rows), value: values }),
  { maxLength: 20 },
);

function batchOf(no: number, ...commits: readonly (readonly StoreOperation[])[]): JournalBatch {
  const batch = JournalBatch.create(no, 0, arena);
  for (const commit of commits) batch.append(commit, encodedBytes(commit));
  return batch;
}

function visited(batch: JournalBatch): StoreOperation[] {
  const found: StoreOperation[] = [];
  const push = (key: StoreOperation["key"], offset: number, length: number): void => {
    found.push({ key, value: length < 0 ? undefined : new Uint8Array(batch.value(offset, length)) });
  };
  batch.visit({
    text: push,
    row: (family, slot, seq, offset, length) => push({ family, slot, seq }, offset, length),
  });
  return found;
}

describe("journal record", () => {
  it("always gives back the operations it was made of", () => {
    fc.assert(
      fc.property(operations, operations, fc.nat(2 ** 40), (first, second, no) => {
        const record = batchOf(no, first, second).seal(GENESIS, 7);
        const read = JournalBatch.read(record, no, GENESIS);
        if (!(read instanceof JournalBatch)) throw new Error(read);
        expect(visited(read)).toEqual([...first, ...second]);
        expect([read.no, read.boot, read.operationCount]).toEqual([no, 7, first.length + second.length]);
      }),
    );
  });

  it("never accepts a record with any bit changed", () => {
    const record = batchOf(3, [put("a", "one"), del("b")]).seal(GENESIS, 1);
    for (let bit = 0; bit < record.length * 8; bit += 1) {
      const altered = new Uint8Array(record);
      altered[bit >> 3]! ^= 1 << (bit & 7);
      expect(JournalBatch.read(altered, 3, GENESIS)).toBe("CRC mismatch");
    }
  });

  it("names what is wrong with a record", () => {
    const record = batchOf(3, [put("a", "one")]).seal(GENESIS, 1);
    expect(JournalBatch.read(record.subarray(0, 20), 3, GENESIS)).toBe("too short");
    expect(JournalBatch.read(record, 4, GENESIS)).toBe("wrong number");
    expect(JournalBatch.read(record, 3, new Uint8Array(HASH_BYTES).fill(1))).toBe("hash mismatch");
  });

  it("differs in its hash from an equal batch with another past", () => {
    const here = batchOf(3, [put("a", "one")]);
    const there = batchOf(3, [put("a", "one")]);
    here.seal(GENESIS, 1);
    there.seal(new Uint8Array(HASH_BYTES).fill(1), 1);
    expect(here.hash).not.toEqual(there.hash);
  });

  it("takes all operations of a commit or none", () => {
    const batch = batchOf(1, [put("kept", "1")]);
    const bad = [put("lost", "2"), put("k\u00e4se", "3")];
    expect(() => batch.append(bad, encodedBytes(bad))).toThrow(
      expect.objectContaining({ code: "STORE_KEY" }),
    );
    expect(visited(batch).map(({ key }) => key)).toEqual(["kept"]);
  });

  it.each([["\u001f"], ["\u007f"], ["a\u0100"], ["\ud800"], ["tab\t"]])("refuses key %j", (key) => {
    const bad = [put(key, "")];
    expect(() => batchOf(1).append(bad, encodedBytes(bad))).toThrow(
      expect.objectContaining({ code: "STORE_KEY" }),
    );
  });

  it("refuses what is empty or too large before it copies anything", () => {
    expect(() => encodedBytes([put("", "")])).toThrow(expect.objectContaining({ code: "STORE_KEY" }));
    expect(() => encodedBytes([put("k".repeat(1_025), "")])).toThrow(
      expect.objectContaining({ code: "STORE_LIMIT" }),
    );
    const large = { key: "k", value: new Uint8Array(32 * 1024 * 1024) };
    expect(() => encodedBytes([large])).toThrow(expect.objectContaining({ code: "STORE_LIMIT" }));
  });
});
