import fc from "fast-check";
import { describe, expect, it } from "vitest";

import type { Timer } from "../../src/core/timers.ts";
import { Timers } from "../../src/core/timers.ts";

const BUCKET_MS = 10;

describe("timers", () => {
  const command = fc.oneof(
    fc.record({ set: fc.nat(200) }),
    fc.record({ cancel: fc.nat(50) }),
    fc.record({ fire: fc.nat(80) }),
  );

  it("fire once each, never early, in the order of their buckets, unless they were cancelled", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 80 }), (commands) => {
        const timers = new Timers();
        const set: Timer[] = [];
        const due = new Map<number, number>();
        const fired: number[] = [];
        let nowMs = 0;
        for (const one of commands) {
          if ("set" in one) {
            const id = set.length;
            due.set(id, Math.ceil((nowMs + one.set) / BUCKET_MS));
            set.push(timers.set(nowMs + one.set, () => void (fired.push(id), due.delete(id))));
          } else if ("cancel" in one) {
            timers.cancel(set[one.cancel]);
            due.delete(one.cancel);
          } else {
            nowMs += one.fire;
            const expected = [...due]
              .filter(([, bucket]) => bucket * BUCKET_MS <= nowMs)
              .sort((a, b) => a[1] - b[1] || a[0] - b[0])
              .map(([id]) => id);
            timers.fire(nowMs);
            expect(fired.splice(0)).toEqual(expected);
          }
          const next = Math.min(...due.values()) * BUCKET_MS;
          expect(timers.next() ?? Infinity).toBe(next);
        }
      }),
    );
  });

  it("may be cancelled by one that fires before them", () => {
    const timers = new Timers();
    let fired = 0;
    timers.set(5, () => timers.cancel(second));
    const second = timers.set(6, () => (fired += 1));
    timers.fire(10);
    expect(fired).toBe(0);
  });

  it("keep nothing of the thousands that were cancelled beside one that waits", () => {
    const timers = new Timers();
    let fired = 0;
    const first = timers.set(1_000, () => (fired += 1));
    for (let count = 0; count < 10_000; count += 1) timers.cancel(timers.set(1_000, () => (fired += 100)));
    expect(first.bucket.timers.length).toBeLessThan(2_000);
    const last = timers.set(1_000, () => (fired += 10));
    timers.cancel(first);
    timers.fire(1_000);
    expect([fired, last.bucket.timers.length]).toEqual([10, 0]);
  });
});
