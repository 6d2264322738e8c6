import fc from "fast-check";
import { describe, expect, it } from "vitest";

import {
  CHUNK_SEQS,
  FinishedEpochs,
  FinishedSet,
  gapsBelow,
  merged,
  without,
} from "../../src/core/finished.ts";

const SEQS = 4 * CHUNK_SEQS;
const range = fc
  .tuple(fc.nat(SEQS - 1), fc.constantFrom(1, 3, CHUNK_SEQS, 2 * CHUNK_SEQS + 1))
  .map(([from, length]) => [from, Math.min(SEQS, from + length)] as const);
/** A few seqs, ranges of whole chunks, and now and then all up to somewhere. */
const steps = fc.array(
  fc.oneof(
    range,
    range.map(([, to]) => [0, to] as const),
  ),
  { maxLength: 12 },
);

describe("a finished set", () => {
  it("always has what was added, in memory, as ranges, and in the records it asked to be written", () => {
    fc.assert(
      fc.property(steps, (ranges) => {
        const set = new FinishedSet();
        const disk = new Map<number, Uint8Array>();
        const wanted = new Set<number>();
        for (const one of ranges) {
          set.addRanges([one]);
          for (let seq = one[0]; seq < one[1]; seq += 1) wanted.add(seq);
          for (const [index, bits] of set.takeDirty()) {
            if (bits === undefined) disk.delete(index);
            else disk.set(index, bits);
          }
        }
        const loaded = new FinishedSet();
        for (const [index, bits] of [...disk].sort(([a], [b]) => a - b)) loaded.load(index, bits);
        expect([...disk.keys()].toSorted()).toEqual([...set.chunkIndexes()].toSorted());
        expect(loaded.ranges()).toEqual(set.ranges());
        expect(set.ranges()).toEqual(merged(ranges));
        for (let seq = 0; seq < SEQS; seq += 97) expect(set.has(seq)).toBe(wanted.has(seq));
        const gaps = gapsBelow(SEQS, set.ranges());
        expect(merged([...gaps, ...set.ranges()])).toEqual([[0, SEQS]]);
      }),
      { numRuns: 60 },
    );
  });

  it("always cuts single seqs out of ranges", () => {
    fc.assert(
      fc.property(
        fc.array(range, { maxLength: 6 }),
        fc.uniqueArray(fc.nat(SEQS), { maxLength: 20 }),
        (some, seqs) => {
          const sorted = seqs.toSorted((a, b) => a - b);
          const left = without(merged(some), sorted);
          for (const seq of seqs) expect(left.some(([from, to]) => from <= seq && seq < to)).toBe(false);
          const out = seqs.filter((seq) => some.some(([from, to]) => from <= seq && seq < to));
          expect(merged([...left, ...out.map((seq) => [seq, seq + 1] as const)])).toEqual(merged(some));
        },
      ),
    );
  });

  it("takes one record for all that is finished from the beginning, however much that is", () => {
    const set = new FinishedSet();
    set.addRanges([[0, 2 ** 31 - 1]]);
    set.takeDirty();
    expect(set.chunkIndexes()).toHaveLength(2);
    expect([set.has(0), set.has(2 ** 31 - 2), set.has(2 ** 31 - 1)]).toEqual([true, true, false]);
  });
});

describe("epochs of finished messages", () => {
  it("always are what was said last, up to the end of a chunk and beyond", () => {
    const seqs = fc.oneof(
      fc.nat(300),
      fc.constantFrom(63, 64, CHUNK_SEQS - 1, CHUNK_SEQS, 3 * CHUNK_SEQS + 64),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(seqs, fc.integer({ min: 1, max: 2 ** 32 - 1 }))), (said) => {
        const epochs = new FinishedEpochs();
        for (const [seq, epoch] of said) epochs.set(seq, epoch);
        for (const [seq, epoch] of new Map(said)) expect(epochs.get(seq)).toBe(epoch);
        expect(epochs.get(5 * CHUNK_SEQS)).toBe(0);
      }),
    );
  });

  it("take little of a lane that had few messages", () => {
    const before = process.memoryUsage().arrayBuffers;
    const lanes = Array.from({ length: 1_000 }, () => new FinishedEpochs());
    for (const lane of lanes) lane.set(0, 1);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000 * 1_024);
    expect(lanes.every((lane) => lane.get(0) === 1)).toBe(true);
  });
});
