import { describe, expect, it } from "vitest";

import type { Context } from "../../src/core/context.ts";
import { LaneDebts } from "../../src/core/lane-debts.ts";
import type { LaneSender, ReplicaLink } from "../../src/core/replica-link.ts";
import type { Ranges } from "../../src/core/types.ts";

describe("what a lane's replicas are owed", () => {
  it("is told in parts if it is much: a section takes 65,536 ranges", () => {
    const told: Ranges[] = [];
    const link = {
      owe: () => undefined,
      learn: (_sender: LaneSender, ranges: Ranges) => told.push(ranges),
    } as unknown as ReplicaLink;
    const debts = new LaneDebts({} as Context, {} as LaneSender, [link]);
    const gaps = Array.from({ length: 100_000 }, (_, no) => [2 * no, 2 * no + 1] as const);
    debts.learnRanges(gaps);
    expect(debts.pay(link, { step: -1, value: undefined }).size).toBe(0);
    expect(Math.max(...told.map(({ length }) => length))).toBeLessThanOrEqual(2_048);
    expect(told.flat()).toEqual(gaps);
    debts.pay(link, { step: -1, value: undefined });
    expect(told.flat()).toHaveLength(gaps.length);
  });

  it("is one range of what is finished, and no message of it, however long the replica is away", () => {
    const told: Ranges[] = [];
    const link = {
      owe: () => undefined,
      learn: (_sender: LaneSender, ranges: Ranges) => told.push(ranges),
    } as unknown as ReplicaLink;
    const timers = { set: () => undefined, cancel: () => undefined };
    const tuning = { learnSeqs: 256, learnDelayMs: 20 };
    const context = { timers, tuning, now: { monoMs: 0 } } as unknown as Context;
    const debts = new LaneDebts(context, {} as LaneSender, [link]);
    for (let seq = 0; seq < 100_000; seq += 1) {
      debts.add(0, seq);
      if (seq !== 50_000) debts.addFinished(seq);
    }
    debts.learn();
    expect([...debts.pay(link, { step: -1, value: undefined })]).toEqual([50_000]);
    expect(told.flat()).toEqual([
      [0, 50_000],
      [50_001, 100_000],
    ]);
  });
});
