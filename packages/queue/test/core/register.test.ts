import { SeededRandom } from "@klatsch/kit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { deadViewOf, isInDeadView } from "../../src/core/dead-queue.ts";
import {
  earliestWallMs,
  ended,
  endsAtWallMs,
  enqueued,
  failed,
  FAILURES_MAX,
  leased,
  PLAIN,
  redriven,
  rejected,
  released,
  superseded,
} from "../../src/core/register.ts";
import { retryDelayMs } from "../../src/core/retry.ts";
import type { RetryPolicy, Value } from "../../src/core/types.ts";

const content = { body: new Uint8Array(1), bodyHash: "h", notBeforeWallMs: 0, enqueuedWallMs: 1 };
const fresh = enqueued({ ...content, attributes: undefined }, 1_000);
const definition = { queue: "a", name: "jobs", replicas: 3, leaseMs: 1_000, maxDeliveries: 3 };
const holder = { peer: "p", session: "s" };
const hold = (value: Value): Value => leased(value, holder, 1_000);
const reject = (value: Value, reason: string): Value => rejected(value, reason, { atWallMs: 7, reason });
const fail = (value: Value): Value => failed(value, definition, { atWallMs: 5, reason: "no" }, 0);

describe("a message that fails", () => {
  it("is dead at the limit, and has its history", () => {
    let value = fresh;
    for (let times = 0; times < 3; times += 1) value = fail(hold(value));
    expect([value.state, value.deliveries, value.reason]).toEqual(["DEAD", 3, "maxDeliveries"]);
    expect(value.attributes?.failures).toEqual(
      [1, 2, 3].map((epoch) => ({ epoch, atWallMs: 5, peer: "p", reason: "no" })),
    );
  });

  it("stays dead whatever happens to its lease, until it is redriven", () => {
    const ends = [fail, released, superseded, (value: Value) => reject(value, "again")];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...ends), { maxLength: 30 }), (steps) => {
        let value = reject(hold(fresh), "poison");
        for (const end of steps) {
          value = end(hold(value));
          expect([value.state, isInDeadView(value), value.deliveries]).toEqual(["DEAD", true, 0]);
        }
        expect(value.attributes?.failures.length ?? 0).toBeLessThanOrEqual(FAILURES_MAX);
        expect(redriven(hold(value)).state).toBe("READY");
      }),
    );
  });

  it("has all its deliveries before it again once it is redriven", () => {
    let value = fresh;
    for (let times = 0; times < 3; times += 1) value = fail(hold(value));
    value = redriven(value);
    for (let times = 0; times < 2; times += 1) value = fail(hold(value));
    expect([value.state, value.deliveries]).toEqual(["READY", 5]);
    expect(fail(hold(value)).state).toBe("DEAD");
  });

  it("never passes for one whose time ran out because a consumer said so", () => {
    expect(reject(hold(fresh), "expired").reason).toBe("rejected: expired");
    expect(reject(hold(fresh), "retired").reason).toBe("rejected: retired");
  });

  it("is over by itself, if ever, so long after it died or failed again, and not before", () => {
    const killed = reject(hold(fresh), "poison");
    expect(killed.attributes?.failures).toEqual([{ epoch: 1, atWallMs: 7, peer: "p", reason: "poison" }]);
    expect([endsAtWallMs(fresh, 100), endsAtWallMs(killed, undefined)]).toEqual([Infinity, Infinity]);
    expect(endsAtWallMs(killed, 100)).toBe(107);
    const again = failed(hold(killed), definition, { atWallMs: 50, reason: "no" }, 0);
    expect(endsAtWallMs(again, 100)).toBe(150);
    const timed = enqueued({ ...content, attributes: { ...PLAIN, expiresAtWallMs: 30 } }, 1_000);
    expect(endsAtWallMs(timed, 100)).toBe(30);
    expect(endsAtWallMs(ended(timed, 30), 100)).toBe(130);
    const over = ended(again, 150);
    expect([over.state, over.epoch, earliestWallMs(over)]).toEqual(["DONE", 3, 150]);
  });
});

describe("the name of a dead view", () => {
  it("is another one, and leads back", () => {
    const queue = "0123456789abcdef".repeat(4);
    expect(deadViewOf(queue)).not.toBe(queue);
    expect(deadViewOf(deadViewOf(queue))).toBe(queue);
  });
});

describe("a retry policy", () => {
  const policy = (more: Partial<RetryPolicy>): RetryPolicy => {
    return { kind: "fixed", delayMs: 100, maxMs: 1_000, jitter: 0, ...more };
  };
  const waits = (more: Partial<RetryPolicy>): readonly number[] =>
    [1, 2, 3, 4, 5, 6].map((failed) => retryDelayMs(policy(more), failed, new SeededRandom(1)));

  it("is fixed, linear or exponential, up to its limit", () => {
    expect(waits({})).toEqual([100, 100, 100, 100, 100, 100]);
    expect(waits({ kind: "linear", maxMs: 350 })).toEqual([100, 200, 300, 350, 350, 350]);
    expect(waits({ kind: "exponential" })).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  });

  it("always stays between what its jitter leaves and its limit", () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 31),
        fc.nat(200),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (seed, failed, jitter) => {
          const random = new SeededRandom(seed);
          const wait = retryDelayMs(policy({ kind: "exponential", jitter }), failed, random);
          const whole = retryDelayMs(policy({ kind: "exponential" }), failed, random);
          expect(wait).toBeLessThanOrEqual(whole);
          expect(wait).toBeGreaterThanOrEqual(Math.floor(whole * (1 - jitter)));
        },
      ),
    );
  });
});
