import { openCredentials } from "../../src/admission/credentials.ts";
import type { Credentials } from "../../src/core/trust/statements.ts";

export const HOUR_MS = 60 * 60 * 1_000;
export const DAY_MS: number = 24 * HOUR_MS;

/** The credentials in a certificate's text. */
export function read(text: string): Credentials {
  const found = openCredentials(Buffer.from(text, "base64url"));
  if (found === undefined || found === "foreign") throw new Error("no credentials");
  return found;
}

/** A clock that stands still until it is told otherwise. */
export class TestClock {
  wallMs: number;

  constructor(wallMs: number = Date.UTC(2030, 0, 1)) {
    this.wallMs = wallMs;
  }

  now(): { readonly monoMs: number; readonly wallMs: number } {
    return { monoMs: performance.now(), wallMs: this.wallMs };
  }
}
