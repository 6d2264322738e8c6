import { AsyncLocalStorage } from "node:async_hooks";

/** What calls made from within a handler inherit. */
export interface Ambient {
  /** Monotonic instant in milliseconds; `undefined` if the handler's caller set none. */
  readonly deadlineAt: number | undefined;
}

export const ambient: AsyncLocalStorage<Ambient> = new AsyncLocalStorage();
