import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { Deadlines } from "../../src/core/deadlines.ts";

describe("deadlines", () => {
  it("always come due in time, never early, and only if they were not removed", () => {
    const entry = fc.record({ atMs: fc.nat(5_000), removed: fc.boolean() });
    fc.assert(
      fc.property(fc.array(entry), fc.nat(5_000), (entries, nowMs) => {
        const deadlines = new Deadlines<number>();
        entries.forEach(({ atMs }, no) => deadlines.add(no, atMs));
        entries.forEach(({ atMs, removed }, no) => removed && deadlines.delete(no, atMs));
        const kept = entries.flatMap(({ atMs, removed }, no) => (removed ? [] : [{ no, atMs }]));
        const due = new Set(deadlines.due(nowMs));
        for (const { no, atMs } of kept) {
          if (due.has(no)) expect(atMs).toBeLessThanOrEqual(nowMs);
          else expect(atMs).toBeGreaterThan(nowMs - 8);
        }
        expect(due.size).toBe([...due].filter((no) => entries[no]?.removed === false).length);
        const later = kept.filter(({ no }) => !due.has(no));
        expect(deadlines.next() === undefined).toBe(later.length === 0);
      }),
    );
  });
});
