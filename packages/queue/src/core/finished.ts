import type { Ranges } from "./types.ts";

/** Seqs in one bitmap chunk, the unit in which finished sets reach the disk. */
export const CHUNK_SEQS = 4_096;

/** Finished seqs of one chunk. */
interface Chunk {
  readonly bits: Uint8Array;
  count: number;
}

/** A chunk of which all are finished: nothing is ever written into it. On disk it is one byte. */
const FULL: Chunk = { bits: new Uint8Array(CHUNK_SEQS / 8).fill(0xff), count: CHUNK_SEQS };
const FULL_RECORD: Uint8Array = FULL.bits.slice(0, 1);

/**
 * A lane's finished seqs. A finished seq outranks all ballots [M3]. The chunks at the beginning of which all are
 * finished are one number, in memory and on disk: an ordered lane goes on for ever.
 */
export class FinishedSet {
  readonly #chunks = new Map<number, Chunk>();
  readonly #dirty = new Set<number>();
  /** All below are finished; whole chunks. */
  #base = 0;

  /** Everything below is finished. */
  get base(): number {
    return this.#base;
  }

  has(seq: number): boolean {
    if (seq < this.#base) return true;
    const bits = this.#chunks.get(Math.floor(seq / CHUNK_SEQS))?.bits;
    if (bits === undefined) return false;
    const at = seq % CHUNK_SEQS;
    return ((bits[at >> 3] ?? 0) & (1 << (at & 7))) !== 0;
  }

  /** `false` if it was there already. */
  add(seq: number): boolean {
    if (seq < this.#base) return false;
    const index = Math.floor(seq / CHUNK_SEQS);
    let chunk = this.#chunks.get(index);
    if (chunk === undefined)
      this.#chunks.set(index, (chunk = { bits: new Uint8Array(CHUNK_SEQS / 8), count: 0 }));
    const at = seq % CHUNK_SEQS;
    const old = chunk.bits[at >> 3] ?? 0;
    const mask = 1 << (at & 7);
    if ((old & mask) !== 0) return false;
    chunk.bits[at >> 3] = old | mask;
    chunk.count += 1;
    this.#dirty.add(index);
    if (chunk.count === CHUNK_SEQS) this.#fill(index);
    return true;
  }

  addRanges(ranges: Ranges): void {
    for (const [from, to] of ranges) {
      if (from <= this.#base) this.#raise(to - (to % CHUNK_SEQS));
      for (let seq = Math.max(from, this.#base); seq < to;) {
        const isWhole = seq % CHUNK_SEQS === 0 && seq + CHUNK_SEQS <= to;
        if (isWhole) this.#fill(seq / CHUNK_SEQS);
        else this.add(seq);
        seq += isWhole ? CHUNK_SEQS : 1;
      }
    }
  }

  #fill(index: number): void {
    if (this.#chunks.get(index) === FULL || index * CHUNK_SEQS < this.#base) return;
    this.#chunks.set(index, FULL);
    this.#dirty.add(index);
    if (index * CHUNK_SEQS === this.#base) this.#raise(this.#base);
  }

  /** All below `base`, whole chunks, are finished, and the full chunks that follow. */
  #raise(base: number): void {
    const before = this.#base;
    let next = Math.max(before, base);
    while (this.#chunks.get(next / CHUNK_SEQS)?.count === CHUNK_SEQS) next += CHUNK_SEQS;
    if (next === before) return;
    this.#base = next;
    for (const index of this.#chunks.keys()) {
      if (index * CHUNK_SEQS >= next) continue;
      this.#chunks.delete(index);
      this.#dirty.add(index);
    }
    if (before > 0) this.#dirty.add(before / CHUNK_SEQS - 1);
    this.#dirty.add(next / CHUNK_SEQS - 1);
  }

  /** Takes a chunk's record; an empty one says that all up to its end are finished. */
  load(index: number, bits: Uint8Array): void {
    if (bits.length === 0) this.#raise((index + 1) * CHUNK_SEQS);
    else if (bits.length === FULL_RECORD.length) this.#fill(index);
    if (bits.length <= FULL_RECORD.length) return this.#dirty.clear();
    for (let byte = 0; byte < bits.length; byte += 1) {
      for (let left = bits[byte] ?? 0, at = 8 * byte; left !== 0; left >>= 1, at += 1) {
        if ((left & 1) !== 0) this.add(index * CHUNK_SEQS + at);
      }
    }
    this.#dirty.clear();
  }

  /** Copies of the chunks changed since the last call, for the next batch; `undefined`: its record goes. */
  takeDirty(): readonly (readonly [index: number, bits: Uint8Array | undefined])[] {
    const marker = this.#base / CHUNK_SEQS - 1;
    const chunks = [...this.#dirty].map((index) => {
      const chunk = this.#chunks.get(index);
      const bits = chunk === FULL ? FULL_RECORD : chunk?.bits.slice();
      return [index, index === marker ? new Uint8Array() : bits] as const;
    });
    this.#dirty.clear();
    return chunks;
  }

  /** Chunks that have a record. */
  chunkIndexes(): readonly number[] {
    const marker = this.#base === 0 ? [] : [this.#base / CHUNK_SEQS - 1];
    return [...marker, ...this.#chunks.keys()];
  }

  ranges(): Ranges {
    const ranges: [number, number][] = this.#base === 0 ? [] : [[0, this.#base]];
    for (const [index, { bits }] of [...this.#chunks].sort(([a], [b]) => a - b)) {
      for (let at = 0; at < CHUNK_SEQS; at += 1) {
        const eight = bits[at >> 3] ?? 0;
        // Long lanes have long stretches of either.
        if (eight === 0) at |= 7;
        if ((eight & (1 << (at & 7))) === 0) continue;
        const seq = index * CHUNK_SEQS + at;
        const last = ranges.at(-1);
        if (last?.[1] === seq) last[1] = seq + 1;
        else ranges.push([seq, seq + 1]);
      }
    }
    return ranges;
  }
}

/** Chunks of which epochs are kept. */
const EPOCH_CHUNKS_MAX = 64;

/** Epochs for which there is room at first: a queue of a few messages needs no whole chunk in each of its lanes. */
const EPOCHS_MIN = 64;

/** Under which epoch messages were finished: of the newest 262,144 or so. */
export class FinishedEpochs {
  readonly #chunks = new Map<number, Uint32Array>();

  /** 0 if it is not known. */
  get(seq: number): number {
    return this.#chunks.get(Math.floor(seq / CHUNK_SEQS))?.[seq % CHUNK_SEQS] ?? 0;
  }

  set(seq: number, epoch: number): void {
    const index = Math.floor(seq / CHUNK_SEQS);
    const at = seq % CHUNK_SEQS;
    let epochs = this.#chunks.get(index);
    if (epochs === undefined || at >= epochs.length) {
      epochs = withRoom(epochs, at);
      this.#chunks.set(index, epochs);
      const [oldest] = this.#chunks.keys();
      if (this.#chunks.size > EPOCH_CHUNKS_MAX && oldest !== undefined) this.#chunks.delete(oldest);
    }
    epochs[at] = epoch;
  }
}

function withRoom(epochs: Uint32Array | undefined, at: number): Uint32Array {
  let length = epochs?.length ?? EPOCHS_MIN;
  while (length <= at) length *= 2;
  const wider = new Uint32Array(length);
  if (epochs !== undefined) wider.set(epochs);
  return wider;
}

/** The seqs below `n` that are not there. */
export function absentBelow(n: number, has: (seq: number) => boolean): Ranges {
  const absent: number[] = [];
  for (let seq = 0; seq < n; seq += 1) if (!has(seq)) absent.push(seq);
  return toRanges(absent);
}

/** What lies between ascending ranges, below `n`. */
export function gapsBelow(n: number, ranges: Ranges): Ranges {
  const gaps: (readonly [number, number])[] = [];
  let at = 0;
  for (const [from, to] of ranges) {
    if (from >= n) break;
    if (from > at) gaps.push([at, from]);
    at = Math.max(at, to);
  }
  if (at < n) gaps.push([at, n]);
  return gaps;
}

/** Ascending ranges without some seqs, which ascend too. */
export function without(ranges: Ranges, seqs: readonly number[]): Ranges {
  const left: (readonly [number, number])[] = [];
  let next = 0;
  for (const [from, to] of ranges) {
    let at = from;
    while ((seqs[next] ?? Infinity) < from) next += 1;
    for (let seq = seqs[next]; seq !== undefined && seq < to; seq = seqs[next]) {
      if (seq > at) left.push([at, seq]);
      at = seq + 1;
      next += 1;
    }
    if (at < to) left.push([at, to]);
  }
  return left;
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

/** The same seqs in ascending ranges that do not touch. */
export function merged(ranges: Ranges): Ranges {
  const all: [number, number][] = [];
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = all.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else all.push([from, to]);
  }
  return all;
}
