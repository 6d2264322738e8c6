/** Why a call was let through: in the ordinary way, or to see whether the peer is well again. */
export type Pass = "closed" | "probe";

/** What a call has told of its peer. `nothing`: its caller gave up. */
export type Told = "well" | "ill" | "nothing";

/** Lets calls through until so many in a row have failed, then one at a time after a pause. Pure. */
export class Breaker {
  readonly #failures: number;
  readonly #resetMs: number;
  #row = 0;
  /** Monotonic instant from which a probe may pass, in milliseconds; `undefined` while closed. */
  #openUntil: number | undefined;
  #probing = false;

  constructor({ failures, resetMs }: { readonly failures: number; readonly resetMs: number }) {
    this.#failures = failures;
    this.#resetMs = resetMs;
  }

  /** `undefined`: not now. Whoever gets a pass gives it back with {@link ended}. */
  enter(nowMs: number): Pass | undefined {
    if (this.#openUntil === undefined) return "closed";
    if (this.#probing || nowMs < this.#openUntil) return undefined;
    this.#probing = true;
    return "probe";
  }

  ended(pass: Pass, told: Told, nowMs: number): void {
    if (pass === "probe") this.#probing = false;
    else if (this.#openUntil !== undefined) return; // It began before: what it tells is known.
    if (told === "well") {
      this.#row = 0;
      this.#openUntil = undefined;
    } else if (told === "ill") {
      this.#row += 1;
      if (pass === "probe" || this.#row >= this.#failures) this.#openUntil = nowMs + this.#resetMs;
    }
  }
}
