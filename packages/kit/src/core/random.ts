/** Port: randomness given to whoever needs it. Same seed, same sequence. */
export interface Random {
  /** A whole number, 0 ≤ n < 2³². */
  uint32(): number;
}

/** A whole number, 0 ≤ n < `bound`; `bound` is 1 to 2³². Biased by less than 2⁻³² × bound. */
export function randomBelow(random: Random, bound: number): number {
  return Math.floor((random.uint32() / 0x1_0000_0000) * bound);
}

/** `digits` lower-case hexadecimal digits, 4 bits of randomness each. */
export function randomHex(random: Random, digits: number): string {
  let hex = "";
  while (hex.length < digits) hex += random.uint32().toString(16).padStart(8, "0");
  return hex.slice(0, digits);
}

/** sfc32 (Doty-Humphrey, PractRand): small, fast, seeded; for simulations and jitter, never for keys. */
export class SeededRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** `seed`: any whole number up to 2⁵³ − 1. */
  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = Math.floor(seed / 0x1_0000_0000) | 0;
    this.#c = 0x9e3779b9 | 0;
    for (let round = 0; round < 12; round += 1) this.uint32();
  }

  uint32(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
}
