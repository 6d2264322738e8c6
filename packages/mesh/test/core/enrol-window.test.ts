import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { newCode, readCode } from "../../src/admission/enrol-code.ts";
import { CODE_LIFE_MS, EnrolWindow } from "../../src/core/trust/enrol-window.ts";
import { nextWarningWallMs, renewAtWallMs, warningDue } from "../../src/core/trust/renewal.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;

describe("a one-time code", () => {
  it("never outlives five wrong proofs or ten minutes", () => {
    const step = fc.record({ afterMs: fc.integer({ min: 0, max: CODE_LIFE_MS }), isWrong: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let made = 0;
        const window = new EnrolWindow(() => `code ${(made += 1)}`);
        const wrong = new Map<string, number>();
        const since = new Map<string, number>();
        let nowMs = 0;
        for (const { afterMs, isWrong } of steps) {
          nowMs += afterMs;
          const { code } = window.current(nowMs);
          if (!since.has(code)) since.set(code, nowMs);
          expect(nowMs - (since.get(code) ?? 0)).toBeLessThan(CODE_LIFE_MS);
          expect(wrong.get(code) ?? 0).toBeLessThan(5);
          if (!isWrong) continue;
          window.failed(code);
          wrong.set(code, (wrong.get(code) ?? 0) + 1);
        }
      }),
    );
  });

  it("is read as a person types it, and otherwise not at all", () => {
    for (let round = 0; round < 100; round += 1) {
      const code = newCode();
      expect(code).toMatch(/^[0-9A-Z]{5}-[0-9A-Z]{5}-[0-9A-Z]{5}$/);
      expect(readCode(` ${code.toLowerCase().replaceAll("-", " ").replaceAll("0", "o")} `)).toBe(code);
      expect([readCode(code.slice(1)), readCode(`${code}0`), readCode(code.replace(/.$/, "U"))]).toEqual([
        undefined,
        undefined,
        undefined,
      ]);
    }
  });
});

describe("a renewal", () => {
  it("is always asked for at two thirds of the life, give or take a tenth", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (drawn) => {
        const validity = { notBeforeWallMs: 100, notAfterWallMs: 100 + 90 * DAY_MS };
        const at = (renewAtWallMs(validity, { uint32: () => drawn }) - 100) / DAY_MS;
        expect(at).toBeGreaterThanOrEqual(54);
        expect(at).toBeLessThanOrEqual(66.1);
      }),
    );
  });

  it("that does not come is warned of 30, 7, 1 and 0 days before the end", () => {
    const end = 100 * DAY_MS;
    expect([69, 70, 92.9, 93, 99, 100, 200].map((day) => warningDue(end, day * DAY_MS))).toEqual([
      undefined,
      30,
      30,
      7,
      1,
      0,
      0,
    ]);
    expect([0, 70, 99, 100].map((day) => nextWarningWallMs(end, day * DAY_MS))).toEqual([
      70 * DAY_MS,
      93 * DAY_MS,
      100 * DAY_MS,
      undefined,
    ]);
  });
});
