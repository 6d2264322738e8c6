import type { Logger } from "@klatsch/kit";

/** Typed events. A listener that throws is logged and harms neither the others nor us. */
export class Emitter<Events> {
  readonly #logger: Logger;
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Calls `listener` at each such event until the returned function is called. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const own = (event: Events[Name]): void => listener(event);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (event: Events[Name]) => void)(event);
      } catch (error) {
        this.#logger.error("a queue event listener threw", { err: error, event: String(name) });
      }
    }
  }
}
