import { describe, expect, it } from "vitest";

import type { Message } from "../../src/core/messages.ts";
import { Tail } from "../../src/core/tail.ts";

const OWN = "1".repeat(32);
const BEFORE = "2".repeat(32);

type Echoes = readonly (readonly [store: string, batchNo: number])[];

function hello(...echoes: Echoes): Message & { type: "hello" } {
  const lists = { definitions: [], consumes: [], deleted: [] };
  const nothing = { store: undefined, boot: 1, floor: undefined, ...lists };
  return { type: "hello", ...nothing, echoes };
}

const ok = (batchNo: number): Message => ({ type: "ok", session: 1, no: 1, exceptions: [], batchNo });
const ops = (...echoes: Echoes): Message => ({ type: "ops", session: 1, no: 1, sections: [], echoes });

describe("the end of a store", () => {
  it("is missing if somebody counted on more than it had at open, however many batches came since", () => {
    const tail = new Tail(OWN, 40);
    expect([tail.missing(hello([OWN, 40])), tail.missing(hello([OWN, 41])), tail.missing(hello())]).toEqual([
      undefined,
      41,
      undefined,
    ]);
  });

  it("is there as far as others were told since, by its answers or by what it counted of itself", () => {
    const tail = new Tail(OWN, 40);
    tail.told(ok(43));
    tail.told(ok(42));
    expect([tail.missing(hello([OWN, 43])), tail.missing(hello([OWN, 44]))]).toEqual([undefined, 44]);
    tail.told(ops([BEFORE, 90], [OWN, 50]));
    expect([tail.missing(hello([OWN, 50])), tail.missing(hello([OWN, 51]))]).toEqual([undefined, 51]);
  });

  it("is not asked about a store that this node had before", () => {
    expect(new Tail(OWN, 1).missing(hello([BEFORE, 4_028], [OWN, 1]))).toBeUndefined();
  });
});
