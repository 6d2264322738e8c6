/** Numbers lately seen from each sender: what comes by two ways, or twice, counts once. */
export class Seen {
  readonly #senders = new Map<string, Set<number>>();
  readonly #numbersMax: number;
  readonly #sendersMax: number;

  constructor(limits: { readonly numbersMax: number; readonly sendersMax: number }) {
    this.#numbersMax = limits.numbersMax;
    this.#sendersMax = limits.sendersMax;
  }

  /** `false`: it was seen before. The oldest numbers, and the sender longest silent, are forgotten first. */
  isNew(sender: string, no: number): boolean {
    const numbers = this.#senders.get(sender) ?? new Set();
    if (numbers.has(no)) return false;
    numbers.add(no);
    const [oldest] = numbers;
    if (oldest !== undefined && numbers.size > this.#numbersMax) numbers.delete(oldest);
    this.#senders.delete(sender);
    const [silent] = this.#senders.keys();
    if (silent !== undefined && this.#senders.size >= this.#sendersMax) this.#senders.delete(silent);
    this.#senders.set(sender, numbers);
    return true;
  }
}
