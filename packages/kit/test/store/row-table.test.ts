import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RowTable } from "../../src/store/row-table.ts";
import { rowOf, rowText } from "../../src/core/row.ts";

const family = fc.constantFrom(0x61, 0x62, 0x7a);
const small = fc.record({ family, slot: fc.nat(2), seq: fc.nat(40) });
const wide = fc.record({ family, slot: fc.nat(2 ** 32 - 1), seq: fc.nat(2 ** 32 - 1) });
const step = fc.record({ remove: fc.boolean(), row: fc.oneof(small, wide), length: fc.integer({ min: -1 }) });

describe("a row table", () => {
  it("always holds what a map of the rows' texts holds", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 3_000, size: "max" }), (steps) => {
        const table = new RowTable();
        const model = new Map<string, number>();
        steps.forEach(({ remove, row, length }, no) => {
          const text = rowText(row.family, row.slot, row.seq);
          const at = table.find(row.family, row.slot, row.seq);
          expect(at >= 0).toBe(model.has(text));
          if (!remove) {
            table.set(row.family, row.slot, row.seq, no, no, length, true);
            model.set(text, length);
          } else if (at >= 0) {
            table.delete(at);
            table.trim();
            model.delete(text);
          }
        });
        expect(table.size).toBe(model.size);
        for (const { family: letter, slot, seq, at } of table.places()) {
          expect(table.length(at)).toBe(model.get(rowText(letter, slot, seq)));
        }
        for (const text of model.keys()) {
          const row = rowOf(text);
          expect(row && table.find(row.family, row.slot, row.seq)).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe("a row's text", () => {
  it("names that row and no other key does", () => {
    fc.assert(
      fc.property(wide, (row) => {
        expect(rowOf(rowText(row.family, row.slot, row.seq))).toEqual(row);
      }),
    );
    const others = [
      "",
      "r/0000000a/0000000",
      "R/0000000a/00000000",
      "r/0000000A/00000000",
      "r-0000000a/00000000",
    ];
    for (const text of others) expect(rowOf(text)).toBeUndefined();
  });
});
