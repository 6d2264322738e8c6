import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { queueIdOf } from "../../src/codec/hash.ts";
import { Names } from "../../src/host/names.ts";

const AGREED = { name: "replies", replicas: 3, leaseMs: 30_000, maxDeliveries: 20 };

describe("a name that was given away before", () => {
  it("is the first queue like it that nobody deleted, found with a few questions however often that was", () => {
    fc.assert(
      fc.property(fc.nat(2_000), (times) => {
        const deleted = new Set(
          Array.from({ length: times }, (_, generation) =>
            queueIdOf(generation === 0 ? AGREED : { ...AGREED, generation }),
          ),
        );
        let asked = 0;
        const names = new Names({
          definitions: () => [],
          isDeleted: (queue) => {
            asked += 1;
            return deleted.has(queue);
          },
        });
        const made = names.make(AGREED);
        expect([made.generation ?? 0, made.queue]).toEqual([
          times,
          queueIdOf(times === 0 ? AGREED : { ...AGREED, generation: times }),
        ]);
        expect(asked).toBeLessThan(30);
      }),
      { numRuns: 20 },
    );
  });
});
