import type { Message } from "./messages.ts";
import type { StoreId } from "./types.ts";

/**
 * Which of this store's batches others may have counted on: those it had when it was opened, and those it has
 * answered with since. A batch number is used again once a disk lost its end, so what came since and was told
 * to nobody proves nothing.
 */
export class Tail {
  readonly #store: StoreId;
  #toldNo: number;

  /** `openedNo`: the last batch at open. */
  constructor(store: StoreId, openedNo: number) {
    this.#store = store;
    this.#toldNo = openedNo;
  }

  /** A message that names batches leaves for another node: its own answer, or what it counted of itself and others. */
  told(message: Message): void {
    if (message.type === "ok") this.#raise(message.batchNo);
    else if (message.type === "ops") this.#raise(this.#ownOf(message.echoes));
  }

  #raise(batchNo: number): void {
    this.#toldNo = Math.max(this.#toldNo, batchNo);
  }

  #ownOf(echoes: readonly (readonly [store: StoreId, batchNo: number])[]): number {
    return echoes.find(([store]) => store === this.#store)?.[1] ?? 0;
  }

  /** The batch a peer counted on that this disk does not have any more; `undefined` if there is none. */
  missing(hello: Message & { type: "hello" }): number | undefined {
    const echo = this.#ownOf(hello.echoes);
    return echo > this.#toldNo ? echo : undefined;
  }
}
