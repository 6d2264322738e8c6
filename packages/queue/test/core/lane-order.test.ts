import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { LaneOrder } from "../../src/core/lane-order.ts";

const DEDUP_MS = 1_000;
const TOKEN_MS = 300;

describe("what an ordered lane's writer knows by name", () => {
  it("counts for as long as its window, from the last time it was taken", () => {
    const step = fc.record({ key: fc.nat(5), token: fc.nat(5), afterMs: fc.nat(400) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const order = new LaneOrder(DEDUP_MS, TOKEN_MS);
        const keys = new Map<string, readonly [seq: number, atMs: number]>();
        const tokens = new Map<string, readonly [seq: number, atMs: number]>();
        let nowMs = 0;
        for (const [seq, { key, token, afterMs }] of steps.entries()) {
          nowMs += afterMs;
          order.sweep({ awakeMs: nowMs, now: { monoMs: nowMs, wallMs: nowMs } });
          for (const [name, [, atMs]] of keys) if (atMs + DEDUP_MS <= nowMs) keys.delete(name);
          for (const [name, [, atMs]] of tokens) if (atMs + TOKEN_MS <= nowMs) tokens.delete(name);
          const names = { token: `t${token}`, group: undefined, dedupKey: `k${key}` };
          const same = tokens.get(names.token);
          const known = same ?? keys.get(names.dedupKey);
          const expected = known && { seq: known[0], same: same !== undefined };
          expect(order.find(names, nowMs)).toEqual(expected);
          order.take({ seq, keys: { ...names, atWallMs: nowMs } }, nowMs);
          keys.set(names.dedupKey, [seq, nowMs]);
          tokens.set(names.token, [seq, nowMs]);
        }
      }),
    );
  });

  // A new look for the oldest of 100,000 passed all that had gone before it: minutes, where the test's time limit is half of one.
  it("leaves in time that does not grow with how much has left", () => {
    const order = new LaneOrder(0, 100_000);
    for (let seq = 0; seq < 600_000; seq += 1) {
      const keys = { token: `t${seq}`, group: undefined, dedupKey: undefined, atWallMs: seq };
      order.sweep({ awakeMs: seq, now: { monoMs: seq, wallMs: seq } });
      order.take({ seq, keys }, seq);
    }
    expect(order.find({ token: "t499998", group: undefined, dedupKey: undefined }, 0)).toBeUndefined();
    expect(order.find({ token: "t500000", group: undefined, dedupKey: undefined }, 0)).toBeDefined();
  });
});
