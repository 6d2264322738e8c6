import { Buffer } from "node:buffer";

/** A rest shorter than this part of a slab is left: what begins in it would soon have to move. */
const REST_PARTS = 8;
/** Slabs kept for the next batches: about what a journal holds when a slice of it begins. */
const SPARE_SLABS_MAX = 8;

/** A part of a slab, for whoever took it to write to. */
export interface Piece {
  readonly bytes: Buffer;
  readonly slab: Slab;
}

interface Slab {
  readonly memory: Buffer;
  /** Pieces of it that are still somebody's. */
  pieces: number;
}

/**
 * Memory for batches that are filled one after the other: each begins where the last one ended, and none is
 * copied to be cut to size. A slab that nobody has a piece of any more is written to again. Buffers count as memory
 * outside the heap, and live long enough here to be freed by full collections alone: allocated anew, they made the
 * collector run over the whole heap several times a second.
 */
export class Arena {
  readonly #slabBytes: number;
  #rest: Piece | undefined;
  readonly #spare: Slab[] = [];
  /** What a piece used lately, in bytes. */
  #usual = 0;

  constructor(slabBytes: number) {
    this.#slabBytes = slabBytes;
  }

  /** At least `byteCount` bytes, the caller's until {@link release}. */
  take(byteCount: number): Piece {
    const rest = this.#rest;
    this.#rest = undefined;
    const wanted = Math.max(byteCount, this.#usual, this.#slabBytes / REST_PARTS);
    if (rest !== undefined && rest.bytes.length >= wanted) return rest;
    if (rest !== undefined) this.release(rest);
    const spare = wanted <= this.#slabBytes ? this.#spare.pop() : undefined;
    const memory = spare?.memory ?? Buffer.allocUnsafeSlow(Math.max(wanted, this.#slabBytes));
    return { bytes: memory, slab: { memory, pieces: 1 } };
  }

  /** Divides a piece where what was used of it ends; the rest may be given to the next. */
  cut(piece: Piece, used: number): Piece {
    this.#usual = Math.max(used, this.#usual - (this.#usual >> 3));
    const rest = { bytes: piece.bytes.subarray(used), slab: piece.slab };
    if (rest.bytes.length > (this.#rest?.bytes.length ?? 0)) {
      piece.slab.pieces += 1;
      if (this.#rest !== undefined) this.release(this.#rest);
      this.#rest = rest;
    }
    return { bytes: piece.bytes.subarray(0, used), slab: piece.slab };
  }

  /** Ends the use of a piece: from now on it may be written over. */
  release({ slab }: Piece): void {
    slab.pieces -= 1;
    if (slab.pieces > 0 || slab.memory.length !== this.#slabBytes) return;
    if (this.#spare.length < SPARE_SLABS_MAX) this.#spare.push(slab);
  }
}
