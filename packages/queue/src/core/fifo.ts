/** First in, first out, in constant time: `shift` of an array moves all that is left, once there are tens of thousands. */
export class Fifo<Item> {
  #items: Item[] = [];
  /** Of these, how many have gone. */
  #gone = 0;

  get length(): number {
    return this.#items.length - this.#gone;
  }

  /** The one that `shift` would take. */
  get first(): Item | undefined {
    return this.#items[this.#gone];
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  shift(): Item | undefined {
    const item = this.#items[this.#gone];
    if (this.#gone < this.#items.length) this.#gone += 1;
    if (this.#gone * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#gone);
      this.#gone = 0;
    }
    return item;
  }

  *[Symbol.iterator](): IterableIterator<Item> {
    for (let at = this.#gone; at < this.#items.length; at += 1) yield this.#items[at] as Item;
  }
}
