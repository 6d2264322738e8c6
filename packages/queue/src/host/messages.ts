import type { Message, Messages } from "../types.ts";
import type { HeldMessage } from "./message.ts";

/** Messages one after another, for `for await`; each is settled by whoever got it. */
export class MessageStream implements Messages {
  readonly #end: () => void;
  /** In hand and not asked for; bounded by the prefetch. */
  readonly #waiting: HeldMessage[] = [];
  readonly #asking: {
    readonly resolve: (result: IteratorResult<Message, undefined>) => void;
    readonly reject: (error: Error) => void;
  }[] = [];
  #ended = false;
  #failure: Error | undefined;

  constructor(end: () => void) {
    this.#end = end;
  }

  deliver(message: HeldMessage): void {
    if (this.#ended) return message.giveBack();
    const asking = this.#asking.shift();
    if (asking === undefined) this.#waiting.push(message);
    else asking.resolve({ done: false, value: message });
  }

  async next(): Promise<IteratorResult<Message, undefined>> {
    for (let message = this.#waiting.shift(); message !== undefined; message = this.#waiting.shift()) {
      if (!message.isLost) return { done: false, value: message };
      message.giveBack(); // Somebody else has it by now, or will soon: that is enough.
    }
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) return { done: true, value: undefined };
    return await new Promise((resolve, reject) => this.#asking.push({ resolve, reject }));
  }

  /** The node's queues ended, or the signal aborted: who waits learns why. */
  fail(error: Error): void {
    if (this.#ended) return;
    this.#failure = error;
    this.#close();
    for (const { reject } of this.#asking.splice(0)) reject(error);
  }

  async return(): Promise<IteratorResult<Message, undefined>> {
    if (!this.#ended) this.#close();
    for (const { resolve } of this.#asking.splice(0)) resolve({ done: true, value: undefined });
    return { done: true, value: undefined };
  }

  #close(): void {
    this.#ended = true;
    this.#end();
    this.giveBack();
  }

  /** What is in hand and not asked for. */
  giveBack(): void {
    for (const message of this.#waiting.splice(0)) message.giveBack();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}
