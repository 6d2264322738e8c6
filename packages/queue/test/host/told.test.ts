import { expect, it } from "vitest";

import { enqueueError } from "../../src/host/told.ts";

it("says why nothing was enqueued: too few replicas, or too many before it", () => {
  const textOf = (have: number): string =>
    enqueueError({ code: "QUORUM_UNAVAILABLE", have, need: 2 }).message;
  expect(textOf(1)).toBe("1 replicas can be reached, 2 are needed");
  expect(textOf(3)).toContain("its turn did not come in time");
});
