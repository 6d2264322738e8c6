import { expect, it, vi } from "vitest";

import type { Candidate } from "../../src/core/placement.ts";
import { declareOrdered, majority, met } from "../../src/host/declare.ts";
import type { Candidates } from "../../src/host/declare.ts";

const endMs = Number.POSITIVE_INFINITY;

it("a new node waits to meet the others until it has, until somebody wants it no more, or until its queues end", async () => {
  let heard = false;
  const waiting = met({ endMs, hasHeard: () => heard }, undefined);
  heard = true;
  await waiting;
  const controller = new AbortController();
  const unwanted = met({ endMs, hasHeard: () => false }, controller.signal);
  controller.abort(new Error("enough"));
  await expect(unwanted).rejects.toThrow("enough");
  const hasHeard = (): boolean => {
    throw new Error("stopped");
  };
  await expect(met({ endMs, hasHeard }, undefined)).rejects.toThrow("stopped");
  await met({ endMs: 0, hasHeard: () => false }, undefined);
});

it("a queue for one message is made only where a majority can be reached, and not where it is needless by then", async () => {
  const away = { status: "dead", reachable: false, consumes: false, steady: true } as const;
  const here = { ...away, status: "alive", reachable: true } as const;
  const others: Candidate[] = [
    { ...away, peer: "b", store: "b" },
    { ...away, peer: "c", store: "c" },
  ];
  const candidates = (): Candidates => ({ self: { ...here, peer: "a", store: "a" }, others });
  await majority(candidates, 1, () => false, undefined);
  await majority(candidates, 3, () => true, undefined);
  const unwanted = majority(candidates, 3, () => false, AbortSignal.abort(new Error("enough")));
  await expect(unwanted).rejects.toThrow("enough");
  vi.useFakeTimers();
  const failing = majority(candidates, 3, () => false, undefined);
  const failed = expect(failing).rejects.toMatchObject({ code: "QUORUM_UNAVAILABLE", outcome: "none" });
  await vi.advanceTimersByTimeAsync(11_000);
  await failed;
  const waiting = majority(candidates, 3, () => false, undefined);
  others[0] = { ...here, peer: "b", store: "b" };
  await vi.advanceTimersByTimeAsync(250);
  vi.useRealTimers();
  await waiting;
});

it("an ordered queue that somebody deletes while it is declared is one that was deleted, and no fault of the node", async () => {
  const self = {
    peer: "a",
    store: "a",
    status: "alive",
    reachable: true,
    consumes: false,
    steady: true,
  } as const;
  const port = {
    known: () => undefined,
    candidates: () => ({ self, others: [] }),
    agree: () => undefined,
    check: () => undefined,
  };
  const declared = declareOrdered(port, "jobs", 1, { groups: true, dedupMs: 0, shards: 1 });
  await expect(declared).rejects.toMatchObject({ code: "QUEUE_DELETED" });
});
