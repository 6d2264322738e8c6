import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { Columns, KINDS_MAX, RegisterTable } from "../../src/core/register-table.ts";
import type { StoredRegister } from "../../src/core/register-table.ts";
import { enqueued, headed } from "../../src/core/register.ts";
import { ballot, value } from "../support/arbitrary.ts";

const any = fc.record({ ballot, value, hasBody: fc.boolean(), rewritten: fc.boolean() });
const waiting: fc.Arbitrary<StoredRegister> = any.map((one) => {
  const state = { state: "READY", holder: undefined, notBeforeWallMs: 0 } as const;
  const attributes = headed(one.value.acquired % 3);
  const rare = { reason: undefined, attributes, encoded: undefined };
  const counts = { deliveries: one.value.deliveries % 70_000, acquired: one.value.acquired % 100 };
  return { ...one, hasBody: true, value: { ...one.value, ...state, ...rare, ...counts } };
});
const register: fc.Arbitrary<StoredRegister> = fc.oneof(any, waiting);

/** Bytes held by this process after a collection. */
function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
const step = fc.record({
  seq: fc.oneof(fc.nat(8), fc.nat(70_000)),
  put: fc.option(register, { nil: undefined }),
});

function headedBy(headerBytes: number): StoredRegister {
  const times = { notBeforeWallMs: 0, enqueuedWallMs: 5 };
  const message = { body: new Uint8Array(2_000), bodyHash: "h".repeat(32), ...times };
  const waits = enqueued({ ...message, attributes: headed(headerBytes) }, 1_000);
  return {
    ballot: { round: 0, pid: "0".repeat(60), step: 0 },
    value: waits,
    hasBody: true,
    rewritten: false,
  };
}

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
    const before = heldBytes();
    for (let seq = 0; seq < 65_536; seq += 1) table.set(seq, { ...one, value: { ...one.value } });
    const bytes = heldBytes() - before;
    expect(table.size).toBe(65_536);
    expect(bytes / table.size).toBeLessThan(200);
  });

  it("always arrives whole in another, in parts, whatever rights that one knows", () => {
    const filled = (
      steps: readonly (readonly [number, StoredRegister])[],
      looseMax: number,
    ): RegisterTable => {
      const table = new RegisterTable(looseMax, 2);
      for (const [seq, put] of steps) table.set(seq, put);
      return table;
    };
    const entries = fc.array(fc.tuple(fc.nat(30), register), { maxLength: 40 });
    fc.assert(
      fc.property(entries, fc.nat(3), fc.array(register, { maxLength: 3 }), (steps, looseMax, before) => {
        const table = filled(steps, looseMax);
        // Far away, so that it only brings its rights along.
        const other = filled(
          before.map((one, at) => [1_000 + at, one]),
          0,
        );
        const { loose, packed } = table.parts();
        for (const page of packed) expect(other.adopt(page)).toBe(true);
        for (const seq of loose) {
          const stored = table.get(seq);
          if (stored !== undefined) other.set(seq, stored);
        }
        before.forEach((_, at) => other.delete(1_000 + at));
        expect(contentOf(other)).toEqual(contentOf(table));
        for (const seq of table.keys()) expect(other.ballotOf(seq)).toEqual(table.get(seq)?.ballot);
        for (const { no } of packed)
          expect(other.adopt({ no, kinds: [], columns: new Columns(4) })).toBe(false);
      }),
    );
  });

  it("packs for ever, however many lengths of headers came and went", () => {
    const table = new RegisterTable(0, 6);
    for (let seq = 0; seq < 3 * KINDS_MAX; seq += 1) {
      table.set(seq, headedBy(1 + seq));
      if (seq >= 100) table.delete(seq - 100);
    }
    const counts = table.parts().packed.map(({ columns }) => columns.count);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(100);
    for (const [seq, { value: one }] of table.copy()) expect(one.attributes?.headerBytes).toBe(1 + seq);
  });

  it("takes those of another that it has room for, and of none that it refuses does it keep a kind", () => {
    const [table, first, second] = [0, 128, 128].map((count, at) => {
      const one = new RegisterTable(0, 8);
      for (let seq = 0; seq < count; seq += 1) one.set(at * 256 + seq, headedBy(at * 256 + seq));
      return one;
    });
    const pagesOf = (from = table) => from?.parts().packed ?? [];
    const adopt = (from = table): unknown => pagesOf(from).map((page) => table?.adopt(page));
    expect([adopt(first), adopt(second), table?.size]).toEqual([[true], [false], 128]);
    table?.delete(256);
    expect([adopt(second), table?.size, pagesOf().length]).toEqual([[true], 255, 2]);
    for (const [seq, { value: one }] of table ?? []) expect(one.attributes?.headerBytes).toBe(seq);
  });

  it("always knows a full page that another has too, and never one that differs", () => {
    const change = fc.record({ at: fc.nat(3), put: waiting });
    fc.assert(
      fc.property(fc.array(waiting, { minLength: 4, maxLength: 4 }), fc.option(change), (four, changed) => {
        const [one, other] = [new RegisterTable(0, 2), new RegisterTable(0, 2)];
        four.forEach((put, at) => one.set(at, put));
        four.toReversed().forEach((put, at) => other.set(3 - at, { ...put, rewritten: false }));
        if (changed !== null) other.set(changed.at, changed.put);
        const plainOf = (table: RegisterTable): unknown =>
          [...contentOf(table)].map(([seq, { ballot: at, value: what }]) => [seq, at, what]).sort();
        const isFull = [...one.fullPages()].includes(0) && [...other.fullPages()].includes(0);
        const isSame = isFull && JSON.stringify(plainOf(one)) === JSON.stringify(plainOf(other));
        expect(one.hasSamePage(0, other)).toBe(isSame);
        expect([...one.keys(new Set([0]))]).toEqual([]);
        if (isFull)
          expect(one.bytesOf(0)).toBe(four.reduce((sum, { value: { bodyBytes } }) => sum + bodyBytes, 0));
      }),
    );
  });
});
