import type { Ranges } from "./types.ts";

/** Seqs in one bitmap chunk, the unit in which finished sets reach the disk. */
export const CHUNK_SEQS = 4_096;

/** A lane's finished seqs. A finished seq outranks all ballots [M3]. */
export class FinishedSet {
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #dirty = new Set<number>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  has(seq: number): boolean {
    const bits = this.#chunks.get(Math.floor(seq / CHUNK_SEQS));
    if (bits === undefined) return false;
    const at = seq % CHUNK_SEQS;
    return ((bits[at >> 3] ?? 0) & (1 << (at & 7))) !== 0;
  }

  /** `false` if it was there already. */
  add(seq: number): boolean {
    const index = Math.floor(seq / CHUNK_SEQS);
    let bits = this.#chunks.get(index);
    if (bits === undefined) this.#chunks.set(index, (bits = new Uint8Array(CHUNK_SEQS / 8)));
    const at = seq % CHUNK_SEQS;
    const old = bits[at >> 3] ?? 0;
    const mask = 1 << (at & 7);
    if ((old & mask) !== 0) return false;
    bits[at >> 3] = old | mask;
    this.#count += 1;
    this.#dirty.add(index);
    return true;
  }

  addRanges(ranges: Ranges): void {
    for (const [from, to] of ranges) for (let seq = from; seq < to; seq += 1) this.add(seq);
  }

  /** Takes a chunk from disk. */
  load(index: number, bits: Uint8Array): void {
    for (let at = 0; at < CHUNK_SEQS; at += 1) {
      if (((bits[at >> 3] ?? 0) & (1 << (at & 7))) !== 0) this.add(index * CHUNK_SEQS + at);
    }
    this.#dirty.delete(index);
  }

  /** Copies of the chunks changed since the last call, for the next batch. */
  takeDirty(): readonly (readonly [index: number, bits: Uint8Array])[] {
    const chunks = [...this.#dirty].map(
      (index) => [index, (this.#chunks.get(index) ?? new Uint8Array()).slice()] as const,
    );
    this.#dirty.clear();
    return chunks;
  }

  chunkIndexes(): readonly number[] {
    return [...this.#chunks.keys()];
  }

  ranges(): Ranges {
    const ranges: [number, number][] = [];
    for (const index of [...this.#chunks.keys()].sort((a, b) => a - b)) {
      for (let seq = index * CHUNK_SEQS; seq < (index + 1) * CHUNK_SEQS; seq += 1) {
        if (!this.has(seq)) continue;
        const last = ranges.at(-1);
        if (last?.[1] === seq) last[1] = seq + 1;
        else ranges.push([seq, seq + 1]);
      }
    }
    return ranges;
  }
}

/** The seqs below `n` that are not there. */
export function absentBelow(n: number, has: (seq: number) => boolean): Ranges {
  const absent: number[] = [];
  for (let seq = 0; seq < n; seq += 1) if (!has(seq)) absent.push(seq);
  return toRanges(absent);
}

/** Half-open ranges that cover `seqs`, in order; sorts its argument. */
export function toRanges(seqs: number[]): Ranges {
  const ranges: [number, number][] = [];
  for (const seq of seqs.sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && seq <= last[1]) last[1] = Math.max(last[1], seq + 1);
    else ranges.push([seq, seq + 1]);
  }
  return ranges;
}
