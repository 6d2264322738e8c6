import { callListener } from "./listening.ts";
import type { Logger } from "./logger.ts";

export interface EmitterInit<Events> {
  /** All there are: listeners for others are refused, who would wait for ever. */
  readonly names: Readonly<Record<keyof Events, true>>;
  /** Is told what listeners throw. */
  readonly logger: Logger;
  /** Throws the package's own error about the field. */
  readonly refuse: (field: "event" | "listener", why: string) => never;
}

/** Typed events. A listener that throws or rejects is logged and harms neither the others nor us. */
export class Emitter<Events> {
  readonly #init: EmitterInit<Events>;
  readonly #listeners = new Map<keyof Events, Set<(event: never) => unknown>>();

  constructor(init: EmitterInit<Events>) {
    this.#init = init;
  }

  /** Calls `listener` at each such event until the returned function is called. Throws what `refuse` does. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const { names, refuse } = this.#init;
    if (typeof name !== "string" || !Object.hasOwn(names, name))
      refuse("event", `must be one of ${Object.keys(names).join(", ")}`);
    if (typeof listener !== "function") refuse("listener", "must be a function");
    // Its own function each time, so that one listener registered twice is removed once at a time.
    const own = (event: Events[Name]): unknown => listener(event);
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    const listeners = this.#listeners.get(name) ?? new Set();
    for (const listener of [...listeners]) {
      if (!listeners.has(listener)) continue; // One before it has removed it.
      callListener(
        () => (listener as (event: Events[Name]) => unknown)(event),
        (error) => this.#init.logger.error("an event listener threw", { err: error, event: String(name) }),
      );
    }
  }
}
