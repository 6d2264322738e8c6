import type { Echoes, Message } from "./messages.ts";
import type { StoreId } from "./types.ts";

/**
 * Which of this store's batches others may have counted on: those it had when it was opened, and those it has
 * answered with since. A batch number is used again once a disk lost its end, so what came since and was told
 * to nobody proves nothing. And a number that comes without the store's own proof of it is somebody's invention: to
 * believe it would be to set aside a sound store for one member's word.
 */
export class Tail {
  readonly #store: StoreId;
  /** What this store shows of a batch that it answers by, below 2 to the power of 48; only its disk can tell. */
  readonly prove: (batchNo: number) => number;
  #toldNo: number;

  /** `openedNo`: the last batch at open. */
  constructor(store: StoreId, openedNo: number, prove: (batchNo: number) => number) {
    this.#store = store;
    this.prove = prove;
    this.#toldNo = openedNo;
  }

  /** A message that names batches leaves for another node: its own answer, or what it counted of itself and others. */
  told(message: Message): void {
    if (message.type === "ok") this.#raise(message.batchNo);
    else if (message.type === "ops")
      for (const [, batchNo] of this.#ownOf(message.echoes)) this.#raise(batchNo);
  }

  #raise(batchNo: number): void {
    this.#toldNo = Math.max(this.#toldNo, batchNo);
  }

  #ownOf(echoes: Echoes): Echoes {
    return echoes.filter(([store]) => store === this.#store);
  }

  /** The batch a peer counted on that this disk does not have any more; `undefined` if there is none. */
  missing(hello: Message & { type: "hello" }): number | undefined {
    const later = this.#ownOf(hello.echoes).filter(([, batchNo]) => batchNo > this.#toldNo);
    return later.find(([, batchNo, proof]) => proof === this.prove(batchNo))?.[1];
  }
}
