/** Share of its time that the event loop is busy, from which a node counts as overloaded, and below which no more. */
const BUSY_FROM = 0.9;
const FREE_BELOW = 0.6;
/** Looks in a row that must agree: each change is told to the whole mesh. */
const LOOKS = 3;

/** Whether this node has more to do than it can, as routes around it should know. */
export class Overload {
  #overloaded = false;
  #agreeing = 0;

  get isOverloaded(): boolean {
    return this.#overloaded;
  }

  /** How busy the event loop was since the last look, 0 to 1. */
  look(busy: number): boolean {
    const against = this.#overloaded ? busy < FREE_BELOW : busy >= BUSY_FROM;
    this.#agreeing = against ? this.#agreeing + 1 : 0;
    if (this.#agreeing >= LOOKS) {
      this.#overloaded = !this.#overloaded;
      this.#agreeing = 0;
    }
    return this.#overloaded;
  }
}
