/** Lets so many through in one turn of the event loop, in order; the others wait for the next turns, up to a limit. */
export class Sluice<Item> {
  readonly #turnMax: number;
  readonly #waitingMax: number;
  readonly #through: (item: Item) => void;
  #waiting: Item[] = [];
  /** How many may still go through in this turn. */
  #left: number;
  /** The next turn is waited for. */
  #isTurning = false;

  constructor(
    { turnMax, waitingMax }: { readonly turnMax: number; readonly waitingMax: number },
    through: (item: Item) => void,
  ) {
    this.#turnMax = turnMax;
    this.#waitingMax = waitingMax;
    this.#through = through;
    this.#left = turnMax;
  }

  /** `false`: too many wait already. */
  enter(item: Item): boolean {
    if (this.#waiting.length >= this.#waitingMax) return false;
    this.#waiting.push(item);
    this.#run();
    return true;
  }

  /** Those that wait are dropped. */
  stop(): void {
    this.#waiting = [];
  }

  #run(): void {
    if (!this.#isTurning) setImmediate(this.#onTurn);
    this.#isTurning = true;
    for (const item of this.#waiting.splice(0, this.#left)) {
      this.#left -= 1;
      this.#through(item);
    }
  }

  readonly #onTurn = (): void => {
    this.#isTurning = false;
    this.#left = this.#turnMax;
    if (this.#waiting.length > 0) this.#run();
  };
}
