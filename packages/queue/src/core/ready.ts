/** Entries behind the head are cut off once there are this many. */
const CUT_MIN = 4_096;

/** A first-in, first-out list whose head moves without copying the rest. */
class Line<T> {
  #items: T[] = [];
  #head = 0;

  get size(): number {
    return this.#items.length - this.#head;
  }

  peek(): T | undefined {
    return this.#items[this.#head];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  keep(wanted: (item: T) => boolean): void {
    this.#items = this.#items.slice(this.#head).filter(wanted);
    this.#head = 0;
  }

  drop(): void {
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head > CUT_MIN && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** What waits for a consumer: higher priority first, then in the order it came. */
export class ReadyList<T> {
  readonly #plain = new Line<T>();
  /** By priority above 0; none while nobody uses priorities. */
  readonly #urgent: (Line<T> | undefined)[] = [];
  #urgentCount = 0;

  get size(): number {
    return this.#plain.size + this.#urgentCount;
  }

  push(item: T, priority: number): void {
    if (priority <= 0) return this.#plain.push(item);
    this.#urgentCount += 1;
    (this.#urgent[priority] ??= new Line()).push(item);
  }

  /** The one that is next; `undefined` if nothing waits. */
  peek(): T | undefined {
    return this.#first().peek();
  }

  /** Takes the one that {@link peek} shows. */
  drop(): void {
    const line = this.#first();
    if (line.size === 0) return;
    line.drop();
    if (line !== this.#plain) this.#urgentCount -= 1;
  }

  /** Forgets what is not wanted any more. */
  keep(wanted: (item: T) => boolean): void {
    this.#plain.keep(wanted);
    this.#urgentCount = 0;
    for (const line of this.#urgent) {
      line?.keep(wanted);
      this.#urgentCount += line?.size ?? 0;
    }
  }

  #first(): Line<T> {
    if (this.#urgentCount > 0) {
      for (let priority = this.#urgent.length - 1; priority > 0; priority -= 1) {
        const line = this.#urgent[priority];
        if (line !== undefined && line.size > 0) return line;
      }
    }
    return this.#plain;
  }
}
