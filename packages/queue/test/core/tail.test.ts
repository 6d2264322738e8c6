import { describe, expect, it } from "vitest";

import { Tail } from "../../src/core/tail.ts";

describe("the end of a store", () => {
  it("is missing if somebody counted on more than it had at open, however many batches came since", () => {
    const tail = new Tail(40);
    expect([tail.isMissing(40), tail.isMissing(41)]).toEqual([false, true]);
  });

  it("is there as far as others were told since", () => {
    const tail = new Tail(40);
    tail.told(43);
    tail.told(42);
    expect([tail.isMissing(43), tail.isMissing(44)]).toEqual([false, true]);
  });
});
