import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { ReadyList } from "../../src/core/ready.ts";

describe("what waits for a consumer", () => {
  it("always comes by priority, then in the order it came", () => {
    const push = fc.record({ priority: fc.nat(9), lane: fc.nat(1), gap: fc.boolean() });
    fc.assert(
      fc.property(fc.array(fc.oneof(push, fc.constant("drop" as const)), { maxLength: 300 }), (steps) => {
        const list = new ReadyList<number>();
        let model: { readonly no: number; readonly priority: number; readonly at: [number, number] }[] = [];
        const seqs = [0, 0];
        steps.forEach((step, no) => {
          if (step === "drop") {
            list.drop();
            model = model.slice(1);
          } else {
            const { lane, gap, priority } = step;
            const seq = (seqs[lane] ?? 0) + (gap ? 1 : 0);
            seqs[lane] = seq + 1;
            list.push(lane, seq, priority);
            model.push({ no, priority, at: [lane, seq] });
            model.sort((a, b) => b.priority - a.priority || a.no - b.no);
          }
          expect([list.size, list.peek()]).toEqual([model.length, model[0]?.at]);
        });
      }),
    );
  });

  it("keeps the order of what is kept", () => {
    const entries = fc.array(fc.nat(9), { maxLength: 100 });
    fc.assert(
      fc.property(entries, fc.nat(5), (priorities, dropped) => {
        const list = new ReadyList<"lane">();
        priorities.forEach((priority, no) => list.push("lane", no, priority));
        for (let times = 0; times < dropped; times += 1) list.drop();
        const sorted = priorities.map((priority, no) => [no, priority] as const);
        sorted.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
        const left = sorted.slice(dropped).filter(([no]) => no % 3 !== 0);
        list.keep((_lane, no) => no % 3 !== 0);
        for (const [no] of left) {
          expect([list.peek(), list.size > 0]).toEqual([["lane", no], true]);
          list.drop();
        }
        expect(list.size).toBe(0);
      }),
    );
  });

  it("keeps its order while its head is cut off", () => {
    const list = new ReadyList<number>();
    for (let no = 0; no < 20_000; no += 1) list.push(no % 2, no, 0);
    for (let no = 0; no < 20_000; no += 1) {
      expect(list.peek()).toEqual([no % 2, no]);
      list.drop();
    }
    expect(list.size).toBe(0);
  });
});
