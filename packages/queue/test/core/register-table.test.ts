import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { RegisterTable } from "../../src/core/register-table.ts";
import type { StoredRegister } from "../../src/core/register-table.ts";
import { ballot, value } from "../support/arbitrary.ts";

const any = fc.record({ ballot, value, hasBody: fc.boolean(), rewritten: fc.boolean() });
const waiting: fc.Arbitrary<StoredRegister> = any.map((one) => {
  const state = { state: "READY", holder: undefined, notBeforeWallMs: 0 } as const;
  const rare = { reason: undefined, attributes: undefined, encoded: undefined };
  const counts = { deliveries: one.value.deliveries % 70_000, acquired: one.value.acquired % 100 };
  return { ...one, hasBody: true, value: { ...one.value, ...state, ...rare, ...counts } };
});
const register: fc.Arbitrary<StoredRegister> = fc.oneof(any, waiting);
const step = fc.record({
  seq: fc.oneof(fc.nat(8), fc.nat(70_000)),
  put: fc.option(register, { nil: undefined }),
});

function contentOf(table: Iterable<readonly [number, StoredRegister]>): Map<number, StoredRegister> {
  return new Map(
    [...table].map(([seq, one]) => [seq, { ...one, value: { ...one.value, encoded: undefined } }]),
  );
}

describe("a register table", () => {
  it("always holds what a map holds, and a copy of it what it held then", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.nat(4), fc.nat(59), (steps, looseMax, copyAt) => {
        const table = new RegisterTable(looseMax);
        const model = new Map<number, StoredRegister>();
        let copy = table.copy();
        let copied = contentOf(model);
        steps.forEach(({ seq, put }, at) => {
          if (at === copyAt) {
            copy = table.copy();
            copied = contentOf(model);
          }
          if (put === undefined) {
            table.delete(seq);
            model.delete(seq);
          } else {
            table.set(seq, put);
            model.set(seq, put);
          }
          expect(table.has(seq)).toBe(model.has(seq));
        });
        expect(table.size).toBe(model.size);
        expect(contentOf(table)).toEqual(contentOf(model));
        expect(contentOf(copy)).toEqual(copied);
      }),
      { numRuns: 500 },
    );
  });

  it("takes about 60 bytes for a message that waits", () => {
    const [one] = fc.sample(
      waiting.filter(({ value: { deliveries } }) => deliveries < 65_536),
      1,
    );
    if (one === undefined) throw new Error("no sample");
    const table = new RegisterTable(0);
    const before = process.memoryUsage();
    for (let seq = 0; seq < 65_536; seq += 1) table.set(seq, { ...one, value: { ...one.value } });
    const after = process.memoryUsage();
    // What the loop leaves behind may not be collected yet: 16 MB and more if it is all kept.
    const bytes = after.arrayBuffers + after.heapUsed - before.arrayBuffers - before.heapUsed;
    expect(table.size).toBe(65_536);
    expect(bytes / table.size).toBeLessThan(200);
  });
});
