import { systemClock } from "@klatsch/kit";

import { queueIdOf } from "../codec/hash.ts";
import type { Definition, QueueId } from "../core/types.ts";
import { QueueError } from "../errors.ts";

/** What the names need of the node's core. */
interface NamesPort {
  /** All that the node knows, those that lost their name included. */
  definitions(): readonly Definition[];
  isDeleted(queue: QueueId): boolean;
}

/** What all nodes agree on of a queue but for what follows from it. */
export type Agreed = Omit<Definition, "queue">;

/** Which queue a name means on this node. */
export class Names {
  readonly #port: NamesPort;
  readonly #names = new Map<string, Definition>();
  /** When this process asked for a queue of the name last, by its wall clock. */
  readonly #declared = new Map<string, number>();
  /** By name: the queue that was deleted last, and what took its place. */
  readonly #successors = new Map<string, readonly [queue: QueueId, next: QueueId]>();

  constructor(port: NamesPort) {
    this.#port = port;
  }

  get count(): number {
    return this.#names.size;
  }

  all(): readonly Definition[] {
    return [...this.#names.values()];
  }

  find(name: string): Definition | undefined {
    return this.#names.get(name);
  }

  /** @throws QueueError `QUEUE_NOT_FOUND`, `INVALID_OPTIONS`. */
  get(name: string): Definition {
    const known = this.#names.get(name);
    if (known === undefined) throw new QueueError("QUEUE_NOT_FOUND", `no queue ${name} is known here`);
    return known;
  }

  /** Of two that were declared apart with different options, the smaller id keeps the name. Returns the other one. */
  define(definition: Definition): Definition | undefined {
    const known = this.#names.get(definition.name);
    const loses = known !== undefined && known.queue <= definition.queue;
    if (!loses) this.#names.set(definition.name, definition);
    if (known?.queue === definition.queue) return undefined;
    return loses ? definition : known;
  }

  /**
   * A definition that is not deleted: its id says how often one like it was. As many may be remembered as deleted, one for each time
   * the name was given away: they are found by halves, all nodes the same one.
   */
  make(agreed: Agreed): Definition {
    const nth = (generation: number): Definition => {
      const made = generation === 0 ? agreed : { ...agreed, generation };
      return { queue: queueIdOf(made), ...made };
    };
    const isDeleted = ({ queue }: Definition): boolean => this.#port.isDeleted(queue);
    let low = -1;
    let high = 0;
    let found = nth(0);
    for (; isDeleted(found); found = nth(high)) {
      low = high;
      high = 2 * high + 1;
    }
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      const one = nth(middle);
      if (isDeleted(one)) low = middle;
      else {
        high = middle;
        found = one;
      }
    }
    return found;
  }

  noteDeclared(name: string): void {
    this.#declared.set(name, systemClock.now().wallMs);
  }

  /**
   * The queue was deleted: another one that had lost the name may have it now. Returned is what takes its place: whoever
   * deleted it did so before this process asked for it, which had not heard of that.
   */
  delete(definition: Definition, atWallMs: number): Definition | undefined {
    const { queue, ...agreed } = definition;
    const { name } = agreed;
    if (this.#names.get(name)?.queue !== queue) return undefined;
    this.#names.delete(name);
    for (const other of this.#port.definitions()) if (other.name === name) this.define(other);
    const declaredMs = this.#declared.get(name) ?? Number.NEGATIVE_INFINITY;
    if (declaredMs > atWallMs) {
      const next = this.#names.get(name) ?? this.make(agreed);
      this.#successors.set(name, [queue, next.queue]);
      return next;
    }
    this.#declared.delete(name);
    this.#successors.delete(name);
    return undefined;
  }

  successorOf(deleted: QueueId): QueueId | undefined {
    for (const [queue, next] of this.#successors.values()) if (queue === deleted) return next;
    return undefined;
  }
}
