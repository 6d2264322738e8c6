import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";

import type { Register } from "../../src/core/lane-register.ts";
import { restingRegister } from "../../src/core/lane-register.ts";
import { enqueued } from "../../src/core/register.ts";
import { RegisterTable } from "../../src/core/register-table.ts";
import { WriterRegisters } from "../../src/core/writer-registers.ts";

const BALLOT = { round: 0, pid: "0".repeat(60), step: 0 };
const MESSAGE = { body: new Uint8Array(7), bodyHash: "h".repeat(32), notBeforeWallMs: 0, enqueuedWallMs: 5 };
const VALUE = enqueued({ ...MESSAGE, attributes: undefined }, 1_000);
/** At both ends of pages, and on pages that have nothing else. */
const SEQS = [0, 1, 63, 64, 1_023, 1_024, 2_047, 2_048, 70_000];

function setUp(): { readonly registers: WriterRegisters; readonly found: (seq: number) => Register } {
  const table = new RegisterTable(0, 1);
  for (const seq of SEQS) table.set(seq, { ballot: BALLOT, value: VALUE, hasBody: true, rewritten: false });
  const registers = new WriterRegisters({
    right: { round: 1, pid: BALLOT.pid },
    looseMax: 0,
    stored: () => table,
    onMissing: () => expect.unreachable(),
  });
  return { registers, found: (seq) => restingRegister(seq, VALUE, -1, 0b111) };
}

afterEach(() => void vi.restoreAllMocks());

describe("the messages of a lane", () => {
  it("are always listed in the order of seqs, whichever came, went, rested and woke", () => {
    const step = fc.tuple(fc.constantFrom("add", "rest", "wake", "delete"), fc.constantFrom(...SEQS));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.constantFrom(...SEQS, 1_500), (steps, from) => {
        const { registers, found } = setUp();
        const there = new Map<number, "awake" | "resting">();
        for (const [act, seq] of steps) {
          if (act === "add" && there.get(seq) !== "resting") {
            registers.add(found(seq));
            there.set(seq, "awake");
          } else if (act === "rest" && there.get(seq) === "awake") {
            registers.rest(registers.get(seq) ?? expect.unreachable());
            there.set(seq, "resting");
          } else if (act === "wake" && there.has(seq)) {
            registers.get(seq);
            there.set(seq, "awake");
          } else if (act === "delete") {
            registers.delete(seq);
            there.delete(seq);
          }
        }
        const expected = SEQS.filter((seq) => seq >= from && there.has(seq));
        expect([...registers.inOrder(from)].map(({ seq }) => seq)).toEqual(expected);
        const awake = expected.filter((seq) => there.get(seq) === "awake");
        expect([...registers.awakeInOrder(from)].map(({ seq }) => seq)).toEqual(awake);
        expect([registers.size, registers.restingCount]).toEqual([
          there.size,
          [...there.values()].filter((one) => one === "resting").length,
        ]);
      }),
    );
  });

  it("are not all put in order for one part of a list", () => {
    const { registers, found } = setUp();
    for (let seq = 0; seq < 50_000; seq += 1) registers.add(found(seq));
    const sorts = vi.spyOn(Array.prototype, "toSorted");
    const firsts = [registers.inOrder(40_000), registers.awakeInOrder(40_000)].map(
      (list) => list.next().value,
    );
    expect(firsts).toMatchObject([{ seq: 40_000 }, { seq: 40_000 }]);
    const sorted = sorts.mock.contexts.map((list) => (list as readonly unknown[]).length);
    expect(Math.max(0, ...sorted)).toBeLessThan(1_000);
  });

  it("are not looked for at every place between those that a list has", () => {
    const { registers, found } = setUp();
    for (let no = 0; no < 100; no += 1) registers.add(found(no * 2_000));
    const looks = vi.spyOn(Map.prototype, "get");
    const counts = [registers.inOrder(0), registers.awakeInOrder(0)].map((list) => [...list].length);
    const looked = looks.mock.calls.length;
    expect(counts).toEqual([100, 100]);
    expect(looked).toBeLessThan(50_000);
  });
});
