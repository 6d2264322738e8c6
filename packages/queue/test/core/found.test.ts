import { describe, expect, it } from "vitest";

import { sorted } from "../../src/core/found.ts";
import type { RecoveredRegister, Register } from "../../src/core/lane-register.ts";
import { restingRegister } from "../../src/core/lane-register.ts";
import { enqueued } from "../../src/core/register.ts";
import { RegisterTable } from "../../src/core/register-table.ts";
import { WriterRegisters } from "../../src/core/writer-registers.ts";

const BALLOT = { round: 0, pid: "0".repeat(60), step: 0 };
const BODY = new Uint8Array(7);
const MESSAGE = { body: BODY, bodyHash: "h".repeat(32), notBeforeWallMs: 0, enqueuedWallMs: 5 };
const VALUE = enqueued({ ...MESSAGE, attributes: undefined }, 1_000);

/** A store with six messages that wait, in pages of two; and a writer on it that has none of them. */
function setUp(looseMax: number): {
  readonly table: RegisterTable;
  readonly registers: WriterRegisters;
  readonly adopted: number[];
  readonly adopt: (one: RecoveredRegister) => Register;
} {
  const table = new RegisterTable(0, 1);
  for (let seq = 0; seq < 6; seq += 1) {
    table.set(seq, { ballot: BALLOT, value: VALUE, hasBody: true, rewritten: false });
  }
  const registers = new WriterRegisters({
    right: { round: 1, pid: BALLOT.pid },
    looseMax,
    stored: () => table,
    onMissing: () => expect.unreachable(),
  });
  const adopted: number[] = [];
  const adopt = ({ seq, value, heldBy }: RecoveredRegister): Register => {
    adopted.push(seq);
    const register = restingRegister(seq, value, -1, heldBy);
    registers.add(register);
    return register;
  };
  return { table, registers, adopted, adopt };
}

describe("what a steal found", () => {
  it("rests by whole pages, held by all, and only the rest becomes objects", () => {
    const { table, registers, adopted, adopt } = setUp(0);
    const found = [
      { seq: 0, value: VALUE, heldBy: 0b011, proven: false },
      { seq: 1, value: VALUE, heldBy: 0b011, proven: true },
    ];
    const whole = { registers: table, pages: [1, 2], heldBy: 0b111 };
    const { runs, count, bytes, proven, open } = sorted({ found, whole }, true, registers, adopt);
    expect([runs, count, bytes]).toEqual([[[1, 6]], 5, 35]);
    expect([adopted, proven.length, open.length]).toEqual([[0], 0, 1]);
    expect(registers.restingCount).toBe(5);
    expect(registers.peek(3)).toMatchObject({ seq: 3, value: VALUE, heldBy: 0b111, chosen: true });
  });

  it("is all awake where nothing may rest", () => {
    const { table, registers, adopted, adopt } = setUp(0);
    const whole = { registers: table, pages: [0, 1, 2], heldBy: 0b111 };
    const { runs, count, bytes, proven } = sorted({ found: [], whole }, false, registers, adopt);
    expect([runs, count, bytes, proven.length]).toEqual([[], 0, 0, 6]);
    expect([adopted, registers.restingCount]).toEqual([[0, 1, 2, 3, 4, 5], 0]);
  });
});
