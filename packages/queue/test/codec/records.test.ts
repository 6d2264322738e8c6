import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { decodeRegister, encodeRecord, PlainReader } from "../../src/codec/records.ts";
import { RegisterTable } from "../../src/core/register-table.ts";
import { headed } from "../../src/core/register.ts";
import { ballot, value } from "../support/arbitrary.ts";

const MESSAGE = 0x62;
const waiting = value.map((one) => ({
  ...one,
  epoch: one.epoch % 0x1_0000_0001,
  deliveries: one.deliveries % 0x1_0001,
  acquired: one.acquired % 0x1_0001,
  state: "READY" as const,
  holder: undefined,
  notBeforeWallMs: 0,
  reason: undefined,
  attributes: headed(Math.min(one.bodyBytes, one.acquired % 300)),
}));
const message = fc.record({
  ballot: fc.oneof(
    ballot,
    ballot.map((one) => ({ ...one, step: one.step % 3 })),
  ),
  value: fc.oneof(value, waiting),
  body: fc.uint8Array({ maxLength: 40 }),
  front: fc.nat(5),
});

describe("the record of a message", () => {
  it("is always read plainly as it is read otherwise, or not at all", () => {
    let plain = 0;
    fc.assert(
      fc.property(fc.array(message, { maxLength: 9 }), (messages) => {
        const reader = new PlainReader();
        const packed = new RegisterTable(0);
        const expected = new RegisterTable(0);
        messages.forEach(({ body, front, ...register }, seq) => {
          const head = encodeRecord({ kind: "message", ...register, body });
          const bytes = Buffer.concat([Buffer.alloc(front, 7), head, body, Buffer.alloc(3, 7)]);
          const to = front + head.length + body.length;
          const read = decodeRegister(MESSAGE, bytes.subarray(front, to));
          const stored = { ballot: read.ballot, value: read.value, hasBody: true, rewritten: false };
          expected.set(seq, stored);
          if (!reader.read(bytes, front, to) || !packed.setPlain(seq, reader)) packed.set(seq, stored);
          else plain += 1;
        });
        expect([...packed]).toEqual([...expected]);
      }),
    );
    expect(plain).toBeGreaterThan(50);
  });

  it("is never read plainly when it ends too early", () => {
    fc.assert(
      fc.property(message, fc.nat(), ({ body, ballot: at, value: what }, cut) => {
        const head = encodeRecord({ kind: "message", ballot: at, value: what, body });
        const bytes = Buffer.from(head.subarray(0, cut % head.length));
        expect(new PlainReader().read(bytes, 0, bytes.length)).toBe(false);
      }),
    );
  });
});
