import type { Random } from "@klatsch/kit/core";
import type { Validity } from "./statements.ts";

const DAY_MS: number = 24 * 60 * 60 * 1_000;
/** Days before the end at which an event tells, most first. */
const WARNING_DAYS: readonly number[] = [30, 7, 1, 0];
/** A renewal is asked for from this part of a certificate's life on, give or take a tenth: not all at once. */
const RENEW_PART: number = 2 / 3;
const RENEW_JITTER = 0.1;

/** When to begin asking for a renewal, by wall clock. */
export function renewAtWallMs(validity: Validity, random: Random): number {
  const lifeMs = validity.notAfterWallMs - validity.notBeforeWallMs;
  const jitter = 1 + RENEW_JITTER * (random.uint32() / 2 ** 31 - 1);
  return validity.notBeforeWallMs + lifeMs * RENEW_PART * jitter;
}

/** The warning that is due: the fewest of {@link WARNING_DAYS} that have begun; `undefined` while none has. */
export function warningDue(notAfterWallMs: number, wallMs: number): number | undefined {
  return WARNING_DAYS.findLast((days) => wallMs >= notAfterWallMs - days * DAY_MS);
}

/** When the next warning after this instant begins, by wall clock; `undefined` after the last. */
export function nextWarningWallMs(notAfterWallMs: number, wallMs: number): number | undefined {
  return WARNING_DAYS.map((days) => notAfterWallMs - days * DAY_MS).find((atWallMs) => atWallMs > wallMs);
}
