/** How long a code is valid, in milliseconds. */
export const CODE_LIFE_MS: number = 10 * 60 * 1_000;
/** Wrong proofs after which a code is replaced. */
const CODE_TRIES_MAX = 5;

/** The one-time code of a node that waits to be adopted: replaced when it is old, or was guessed at too often. */
export class EnrolWindow {
  readonly #newCode: () => string;
  #code = "";
  #untilMs = -Infinity;
  #triesLeft = 0;

  /** `newCode` makes a code that nobody can guess. */
  constructor(newCode: () => string) {
    this.#newCode = newCode;
  }

  /** The code that is valid now. `isNew`: it has just been made and nobody has seen it. */
  current(nowMs: number): { readonly code: string; readonly untilMs: number; readonly isNew: boolean } {
    const isNew = nowMs >= this.#untilMs || this.#triesLeft === 0;
    if (isNew) {
      this.#code = this.#newCode();
      this.#untilMs = nowMs + CODE_LIFE_MS;
      this.#triesLeft = CODE_TRIES_MAX;
    }
    return { code: this.#code, untilMs: this.#untilMs, isNew };
  }

  /** Somebody gave a proof for `code` that was wrong. */
  failed(code: string): void {
    if (code === this.#code && this.#triesLeft > 0) this.#triesLeft -= 1;
  }
}
