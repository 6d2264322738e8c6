import { merged, toRanges } from "./finished.ts";
import type { FoundPages, Recovered, RecoveredRegister, Register } from "./lane-register.ts";
import type { Ranges } from "./types.ts";
import type { WriterRegisters } from "./writer-registers.ts";

/** What a steal found, by what its writer has to do with it. */
export interface Sorted {
  /** Chosen, and resting: seqs, how many they are, and bytes of their bodies. */
  readonly runs: Ranges;
  readonly count: number;
  readonly bytes: number;
  /** Chosen. */
  readonly proven: readonly Register[];
  /** To be proposed again. */
  readonly open: readonly Register[];
}

/** Lets rest what can, if anything may, so that a backlog is never in memory as objects; the rest is adopted. */
export function sorted(
  { found, whole }: Pick<Recovered, "found" | "whole">,
  mayRest: boolean,
  registers: WriterRegisters,
  adopt: (one: RecoveredRegister) => Register,
): Sorted {
  const rested: number[] = [];
  const proven: Register[] = [];
  const open: Register[] = [];
  let bytes = 0;
  for (const one of mayRest ? found : [...found, ...unfolded(whole)]) {
    if (mayRest && registers.restFound(one, whole.heldBy)) {
      rested.push(one.seq);
      bytes += one.value.bodyBytes;
    } else (one.proven ? proven : open).push(adopt(one));
  }
  const pages = mayRest ? whole.pages : [];
  const { pageSeqs } = whole.registers;
  for (const no of pages) {
    registers.restAll(no * pageSeqs, pageSeqs, whole.heldBy);
    bytes += whole.registers.bytesOf(no);
  }
  const ranges = pages.map((no) => [no * pageSeqs, (no + 1) * pageSeqs] as const);
  const count = rested.length + pages.length * pageSeqs;
  return { runs: merged([...ranges, ...toRanges(rested)]), count, bytes, proven, open };
}

function* unfolded({ registers, pages, heldBy }: FoundPages): Generator<RecoveredRegister> {
  for (const no of pages) {
    for (let seq = no * registers.pageSeqs; seq < (no + 1) * registers.pageSeqs; seq += 1) {
      const stored = registers.get(seq);
      if (stored !== undefined) yield { seq, value: stored.value, heldBy, proven: true };
    }
  }
}
