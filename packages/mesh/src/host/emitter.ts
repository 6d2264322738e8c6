import type { Logger } from "@klatsch/kit";
import { checkFunction, checkOneOf } from "./given.ts";
import { callListener } from "./listening.ts";

/** Typed events. A listener that throws or rejects is logged and harms neither the others nor us. */
export class Emitter<Events> {
  readonly #names: readonly string[];
  readonly #logger: Logger;
  readonly #listeners = new Map<keyof Events, Set<(event: never) => unknown>>();

  /** Others than the `names` are refused: their listeners would wait for ever. */
  constructor(names: Readonly<Record<keyof Events, true>>, logger: Logger) {
    this.#names = Object.keys(names);
    this.#logger = logger;
  }

  /**
   * Calls `listener` at each such event until the returned function is called.
   * @throws MeshError `INVALID_OPTIONS`.
   */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    checkOneOf("event", name, this.#names);
    checkFunction("listener", listener);
    // Its own function each time, so that one listener registered twice is removed once at a time.
    const own = (event: Events[Name]): unknown => listener(event);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      callListener(
        () => (listener as (event: Events[Name]) => unknown)(event),
        (error) => this.#logger.error("a mesh event listener threw", { err: error, event: String(name) }),
      );
    }
  }
}
