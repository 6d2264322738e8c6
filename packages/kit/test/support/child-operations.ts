import type { StoreOperation } from "../../src/store.ts";
import type { StoreLimits } from "../../src/store/limits.ts";

export const CHILD_LIMITS: Partial<StoreLimits> = { journalBatchesMax: 64, sliceOperations: 32 };

/** What the child commits in a round: one key that stays, one rewritten each round, one short-lived. */
export function childOperations(boot: number, round: number, lane: number): StoreOperation[] {
  const operations: StoreOperation[] = [
    { key: `stay/${boot}/${lane}/${String(round).padStart(8, "0")}`, value: Buffer.alloc(64, round & 0xff) },
    { key: `last/${lane}`, value: Buffer.from(`${boot} ${round}`) },
    { key: `brief/${boot}/${lane}/${round}`, value: Buffer.alloc(100) },
  ];
  if (round >= 20) operations.push({ key: `brief/${boot}/${lane}/${round - 20}`, value: undefined });
  return operations;
}
