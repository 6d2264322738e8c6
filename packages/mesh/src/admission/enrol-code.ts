import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { proofBytes } from "../codec/enrol-codec.ts";

/** Crockford's base 32: no letter looks like another or like a digit. */
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/** 15 characters of 5 bits: 75 bits, so that guessing it off line takes too long for a code of ten minutes. */
const LENGTH = 15;
const GROUP = 5;
const CODE_PATTERN = /^[0-9A-HJKMNP-TV-Z]{15}$/u;

/** A new code, such as `7Q2MX-0ZK4D-9WJ3R`. */
export function newCode(): string {
  const letters = [...randomBytes(LENGTH)].map((byte) => ALPHABET[byte % ALPHABET.length] ?? "");
  return [0, 1, 2].map((group) => letters.slice(group * GROUP, (group + 1) * GROUP).join("")).join("-");
}

/** As a person may have typed it; `undefined` if it cannot be a code. */
export function readCode(typed: string): string | undefined {
  const letters = typed
    .toUpperCase()
    .replaceAll(/[\s-]/gu, "")
    .replaceAll("O", "0")
    .replaceAll(/[IL]/gu, "1");
  if (!CODE_PATTERN.test(letters)) return undefined;
  return [0, 1, 2].map((group) => letters.slice(group * GROUP, (group + 1) * GROUP)).join("-");
}

/** The MAC by which one end proves to the other that it knows the code. */
export function proofOf(code: string, proof: Parameters<typeof proofBytes>[0]): string {
  const key = Buffer.from(hkdfSync("sha256", code, proof.mesh, "klatsch-enrol", 32));
  return createHmac("sha256", key).update(proofBytes(proof)).digest("hex");
}

export function isSameProof(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, "hex"), Buffer.from(b, "hex")];
  return left.length === right.length && timingSafeEqual(left, right);
}

export function newNonce(): string {
  return randomBytes(32).toString("hex");
}
