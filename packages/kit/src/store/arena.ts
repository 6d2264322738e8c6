import { Buffer } from "node:buffer";

/** Memory is taken from the system in pieces of this size, in bytes. */
const SLAB_BYTES = 1024 * 1024;
/** A rest shorter than this is left: what begins in it would soon have to move. */
const REST_BYTES_MIN = 128 * 1024;
const NOTHING: Buffer = Buffer.alloc(0);

/**
 * Memory for batches that are filled one after the other: each begins where the last one ended, and none is
 * copied to be cut to size. Buffers count as memory outside the heap, and what a store allocated twice made
 * the collector run over the whole heap several times a second.
 */
export class Arena {
  #rest: Buffer = NOTHING;
  /** What a piece used lately, in bytes. */
  #usual = 0;

  /** At least `byteCount` bytes, which are the caller's until it gives the unused part back. */
  take(byteCount: number): Buffer {
    const rest = this.#rest;
    this.#rest = NOTHING;
    const wanted = Math.max(byteCount, this.#usual, REST_BYTES_MIN);
    return rest.length >= wanted ? rest : Buffer.allocUnsafeSlow(Math.max(wanted, SLAB_BYTES));
  }

  /** What of a piece was not used, and how much was. */
  giveBack(unused: Buffer, used: number): void {
    this.#usual = Math.max(used, this.#usual - (this.#usual >> 3));
    if (unused.length > this.#rest.length) this.#rest = unused;
  }
}
