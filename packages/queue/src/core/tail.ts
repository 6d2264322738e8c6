/**
 * Which of this store's batches others may have counted on: those it had when it was opened, and those it has
 * answered with since. A batch number is used again once a disk lost its end, so what came since and was told
 * to nobody proves nothing.
 */
export class Tail {
  #toldNo: number;

  /** `openedNo`: the last batch at open. */
  constructor(openedNo: number) {
    this.#toldNo = openedNo;
  }

  /** An answer that names this batch leaves for another node. */
  told(batchNo: number): void {
    this.#toldNo = Math.max(this.#toldNo, batchNo);
  }

  /** Whether a peer counted on a batch that this disk does not have any more. */
  isMissing(echo: number): boolean {
    return echo > this.#toldNo;
  }
}
