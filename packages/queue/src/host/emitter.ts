import type { Logger } from "@klatsch/kit";

import { QueueError } from "../errors.ts";

/** Typed events. A listener that throws or rejects is logged and harms neither the others nor us. */
export class Emitter<Events> {
  readonly #names: Readonly<Record<keyof Events, true>>;
  readonly #logger: Logger;
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Others than the `names` are refused: their listeners would wait for ever. */
  constructor(names: Readonly<Record<keyof Events, true>>, logger: Logger) {
    this.#names = names;
    this.#logger = logger;
  }

  /**
   * Calls `listener` at each such event until the returned function is called.
   * @throws QueueError `INVALID_OPTIONS`.
   */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    if (!Object.hasOwn(this.#names, name)) {
      const known = Object.keys(this.#names).join(", ");
      throw new QueueError("INVALID_OPTIONS", `event: must be one of ${known}`);
    }
    if (typeof listener !== "function") {
      throw new QueueError("INVALID_OPTIONS", "listener: must be a function");
    }
    const own = (event: Events[Name]): void => listener(event);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    const onError = (error: unknown): void =>
      this.#logger.error("a queue event listener threw", { err: error, event: String(name) });
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        const result = (listener as (event: Events[Name]) => unknown)(event);
        if (result instanceof Promise) result.catch(onError);
      } catch (error) {
        onError(error);
      }
    }
  }
}
