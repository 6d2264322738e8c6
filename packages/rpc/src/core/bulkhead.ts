/** So many at once, so many that wait, in their order. Pure. */
export class Bulkhead<T> {
  readonly #concurrent: number;
  readonly #queue: number;
  readonly #waiting = new Set<T>();
  #running = 0;

  constructor({ concurrent, queue }: { readonly concurrent: number; readonly queue: number }) {
    this.#concurrent = concurrent;
    this.#queue = queue;
  }

  /** `run`: {@link leave} once it has ended. `wait`: until `leave` names it, or it gives up. */
  enter(item: T): "run" | "wait" | "refused" {
    if (this.#running < this.#concurrent) {
      this.#running += 1;
      return "run";
    }
    if (this.#waiting.size >= this.#queue) return "refused";
    this.#waiting.add(item);
    return "wait";
  }

  /** One that ran has ended: the place is that of whoever waited longest, who runs from now on. */
  leave(): T | undefined {
    const [next] = this.#waiting;
    if (next === undefined) this.#running -= 1;
    else this.#waiting.delete(next);
    return next;
  }

  /** Waits no longer. `false`: it did not wait. */
  giveUp(item: T): boolean {
    return this.#waiting.delete(item);
  }
}
