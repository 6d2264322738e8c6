import { STREAM_ITEMS_MAX } from "../core/limits.ts";

/** Credit is given back in steps of this many items. */
const GRANT_STEP = STREAM_ITEMS_MAX / 2;

/** Takes the items of a stream. */
export interface Sink {
  /** `false`: the writer had no credit for it. */
  push(value: unknown): boolean;
}

/** The reading end of a stream: holds at most the items it gave credit for. One reader, once. */
export class Inlet implements Sink, AsyncIterableIterator<unknown> {
  readonly #grant: (count: number) => void;
  readonly #onReturn: () => void;
  #items: unknown[] = [];
  #head = 0;
  #credit = STREAM_ITEMS_MAX;
  #taken = 0;
  #state: "open" | "ended" | "failed" = "open";
  #error: unknown;
  #waiting: PromiseWithResolvers<IteratorResult<unknown>> | undefined;

  constructor(grant: (count: number) => void, onReturn: () => void) {
    this.#grant = grant;
    this.#onReturn = onReturn;
  }

  /** `false`: the writer had no credit for it. */
  push(value: unknown): boolean {
    if (this.#state !== "open") return true;
    if (this.#credit === 0) return false;
    this.#credit -= 1;
    const waiting = this.#waiting;
    if (waiting === undefined) this.#items.push(value);
    else {
      this.#waiting = undefined;
      this.#took();
      waiting.resolve({ done: false, value });
    }
    return true;
  }

  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#waiting?.resolve({ done: true, value: undefined });
  }

  /** What arrived before is still read. */
  fail(error: unknown): void {
    if (this.#state !== "open") return;
    this.#state = "failed";
    this.#error = error;
    this.#waiting?.reject(error);
  }

  next(): Promise<IteratorResult<unknown>> {
    if (this.#head < this.#items.length) return Promise.resolve({ done: false, value: this.#shift() });
    if (this.#state === "failed") return Promise.reject(this.#error);
    if (this.#state === "ended") return Promise.resolve({ done: true, value: undefined });
    this.#waiting ??= Promise.withResolvers();
    return this.#waiting.promise;
  }

  return(): Promise<IteratorResult<unknown>> {
    this.end();
    this.#items = [];
    this.#head = 0;
    this.#onReturn();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #shift(): unknown {
    const value = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    this.#took();
    return value;
  }

  #took(): void {
    this.#taken += 1;
    if (this.#taken < GRANT_STEP || this.#state !== "open") return;
    this.#credit += this.#taken;
    this.#grant(this.#taken);
    this.#taken = 0;
  }
}

/** The writing end of a stream: sends while the reader gives credit. */
export class Outlet {
  #credit = STREAM_ITEMS_MAX;
  #closed = false;
  #wake: (() => void) | undefined;

  credit(count: number): void {
    this.#credit = Math.min(this.#credit + count, STREAM_ITEMS_MAX);
    this.#wake?.();
  }

  /** The reader is gone: `pump` ends at its next item, and the source is told. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** Sends all of `source`; `false` if it was closed before. Rejects with what the source or `send` throws. */
  async pump(
    source: Iterable<unknown> | AsyncIterable<unknown>,
    send: (value: unknown) => void | Promise<void>,
  ): Promise<boolean> {
    for await (const value of source) {
      while (this.#credit === 0 && !this.#closed) await this.#credited();
      if (this.#closed) return false;
      this.#credit -= 1;
      await send(value);
    }
    return !this.#closed;
  }

  async #credited(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }
}
