import { describe, expect, it } from "vitest";

import type { Echoes, Message } from "../../src/core/messages.ts";
import { Tail } from "../../src/core/tail.ts";

const OWN = "1".repeat(32);
const BEFORE = "2".repeat(32);

type Echo = readonly [store: string, batchNo: number];

const prove = (batchNo: number): number => 7 * batchNo;
const opened = (openedNo: number): Tail => new Tail(OWN, openedNo, prove);
const proved = (echoes: readonly Echo[]): Echoes => echoes.map(([store, no]) => [store, no, prove(no)]);

function hello(...echoes: readonly Echo[]): Message & { type: "hello" } {
  const lists = { definitions: [], consumes: [], deleted: [] };
  const nothing = { store: undefined, boot: 1, floor: undefined, ...lists };
  return { type: "hello", ...nothing, echoes: proved(echoes) };
}

const ok = (batchNo: number): Message => {
  return { type: "ok", session: 1, no: 1, exceptions: [], batchNo, proof: prove(batchNo) };
};
const ops = (...echoes: readonly Echo[]): Message => {
  return { type: "ops", session: 1, no: 1, sections: [], echoes: proved(echoes) };
};

describe("the end of a store", () => {
  it("is missing if somebody counted on more than it had at open, however many batches came since", () => {
    const tail = opened(40);
    expect([tail.missing(hello([OWN, 40])), tail.missing(hello([OWN, 41])), tail.missing(hello())]).toEqual([
      undefined,
      41,
      undefined,
    ]);
  });

  it("is there as far as others were told since, by its answers or by what it counted of itself", () => {
    const tail = opened(40);
    tail.told(ok(43));
    tail.told(ok(42));
    expect([tail.missing(hello([OWN, 43])), tail.missing(hello([OWN, 44]))]).toEqual([undefined, 44]);
    tail.told(ops([BEFORE, 90], [OWN, 50]));
    expect([tail.missing(hello([OWN, 50])), tail.missing(hello([OWN, 51]))]).toEqual([undefined, 51]);
  });

  it("is there whatever is said of batches that it never told of", () => {
    const made = [40, 41, 2 ** 40].map((no) => [OWN, no, no] as const);
    expect(opened(40).missing({ ...hello(), echoes: made })).toBeUndefined();
    expect(opened(40).missing({ ...hello(), echoes: [...made, [OWN, 42, prove(42)]] })).toBe(42);
  });

  it("is not asked about a store that this node had before", () => {
    expect(opened(1).missing(hello([BEFORE, 4_028], [OWN, 1]))).toBeUndefined();
  });
});
