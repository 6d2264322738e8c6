import { expect, it } from "vitest";

import { met } from "../../src/host/declare.ts";

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
