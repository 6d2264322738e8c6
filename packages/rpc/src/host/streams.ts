import { CHUNK_BYTES, STREAM_BYTES_MAX, STREAM_ITEMS_MAX } from "../core/limits.ts";

/** Credit is given back in steps of this many items, and with each that came in chunks. */
const GRANT_STEP = STREAM_ITEMS_MAX / 2;

/** Takes the items of a stream. */
export interface Sink {
  /** `large`: it came in chunks. `false`: the writer had no credit for it. */
  push(value: unknown, large: boolean): boolean;
}

/** An item that came in chunks. */
class Large {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }
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

  push(value: unknown, large: boolean): boolean {
    if (this.#state !== "open") return true;
    if (this.#credit === 0) return false;
    this.#credit -= 1;
    const waiting = this.#waiting;
    if (waiting === undefined) this.#items.push(large ? new Large(value) : value);
    else {
      this.#waiting = undefined;
      this.#took(large);
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
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    const isLarge = item instanceof Large;
    this.#took(isLarge);
    return isLarge ? item.value : item;
  }

  #took(large: boolean): void {
    this.#taken += 1;
    if ((this.#taken < GRANT_STEP && !large) || this.#state !== "open") return;
    this.#credit += this.#taken;
    this.#grant(this.#taken);
    this.#taken = 0;
  }
}

/** Where the items of a stream go. */
export interface Way {
  /** Throws, or rejects, what ends the stream. */
  check(value: unknown): unknown;
  /** Resolves when there may be room for this, or never will be; `undefined` if there is. */
  room(value: unknown): Promise<void> | undefined;
  /** Its bytes. Throws what ends the stream. */
  send(value: unknown): number;
}

/** The writing end of a stream: sends while the reader gives credit. */
export class Outlet {
  /** Bytes of each item that the reader gave no credit back for, 0 of those that travel whole. */
  readonly #unread: number[] = [];
  #unreadBytes = 0;
  #closed = false;
  #wake: (() => void) | undefined;
  #onClose: (() => void) | undefined;

  credit(count: number): void {
    for (const bytes of this.#unread.splice(0, count)) this.#unreadBytes -= bytes;
    this.#wake?.();
  }

  /** An item of so many bytes left. */
  #sent(itemBytes: number): void {
    const bytes = itemBytes > CHUNK_BYTES ? itemBytes : 0;
    this.#unread.push(bytes);
    this.#unreadBytes += bytes;
  }

  get #isFull(): boolean {
    return this.#unread.length >= STREAM_ITEMS_MAX || this.#unreadBytes >= STREAM_BYTES_MAX;
  }

  /** The reader is gone: `pump` ends at its next item, or where it waits, and the source is told. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
    this.#onClose?.();
  }

  /** Sends all of `source`; `false` if it was closed before. Rejects with what the source or the way throws. */
  async pump(source: Iterable<unknown> | AsyncIterable<unknown>, way: Way): Promise<boolean> {
    for await (const value of source) {
      while (this.#isFull && !this.#closed) await this.#credited();
      if (this.#closed) return false;
      const checked = way.check(value);
      if (checked instanceof Promise) await checked;
      // Whoever waited beside may have taken it.
      for (let room = way.room(value); room !== undefined && !this.#closed; room = way.room(value))
        await this.#until(room);
      if (this.#closed) return false;
      this.#sent(way.send(value));
    }
    return !this.#closed;
  }

  async #until(room: Promise<void>): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onClose = resolve;
      void room.then(resolve);
    });
    this.#onClose = undefined;
  }

  async #credited(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }
}
