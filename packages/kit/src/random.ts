import { randomFillSync } from "node:crypto";
import type { Random } from "./core/random.ts";

/** Numbers drawn from the operating system at a time: one call in a thousand costs a microsecond. */
const POOL_SIZE = 1_024;

class SystemRandom implements Random {
  readonly #pool = new Uint32Array(POOL_SIZE);
  #next = POOL_SIZE;

  uint32(): number {
    if (this.#next === POOL_SIZE) {
      randomFillSync(this.#pool);
      this.#next = 0;
    }
    const value = this.#pool[this.#next] ?? 0;
    // A number handed out is forgotten here: some become part of ids that nobody may guess.
    this.#pool[this.#next] = 0;
    this.#next += 1;
    return value;
  }
}

/** Cryptographically strong randomness of this process. */
export const systemRandom: Random = new SystemRandom();
