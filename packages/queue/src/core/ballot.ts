/**
 * Proposer id: `storeId` (32 digits) ‖ boot (12) ‖ 64 random bits of this boot (16), all hexadecimal,
 * so that text order is (store, boot, nonce) order. Never used again after a restart.
 */
export type Pid = string;

const STORE_DIGITS = 32;
const BOOT_DIGITS = 12;
const NONCE_DIGITS = 16;
/** Length of every {@link Pid}. */
export const PID_DIGITS: number = STORE_DIGITS + BOOT_DIGITS + NONCE_DIGITS;

/** The right to write a lane: one promise covers all its registers. Round 0 is its origin's alone. */
export interface Right {
  readonly round: number;
  readonly pid: Pid;
}

/** Lexicographic: round, pid, step. */
export interface Ballot extends Right {
  readonly step: number;
}

export function makePid(store: string, boot: number, nonce: string): Pid {
  return store + boot.toString(16).padStart(BOOT_DIGITS, "0") + nonce;
}

export function pidStore(pid: Pid): string {
  return pid.slice(0, STORE_DIGITS);
}

export function pidBoot(pid: Pid): number {
  return Number.parseInt(pid.slice(STORE_DIGITS, STORE_DIGITS + BOOT_DIGITS), 16);
}

/** Negative: `a` is lower. Zero: the same. */
export function comparePromises(a: Right, b: Right): number {
  if (a.round !== b.round) return a.round - b.round;
  if (a.pid === b.pid) return 0;
  return a.pid < b.pid ? -1 : 1;
}

/** Negative: `a` is lower. Zero: the same step of the same proposer. */
export function compareBallots(a: Ballot, b: Ballot): number {
  return comparePromises(a, b) || a.step - b.step;
}
