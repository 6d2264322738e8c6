import { describe, expect, it } from "vitest";
import { DAMAGED, LEASE_MS, plan } from "./schedule.ts";

const MINUTE_MS = 60_000;

describe("the plan of a chaos run", () => {
  it("follows from its seed", () => {
    expect(plan(7, 10 * MINUTE_MS)).toEqual(plan(7, 10 * MINUTE_MS));
    expect(plan(7, 10 * MINUTE_MS)).not.toEqual(plan(8, 10 * MINUTE_MS));
  });

  it("never damages more disks than replicas may be lost, and stops nodes for longer than a lease", () => {
    const planned = Array.from({ length: 200 }, (_, seed) => plan(seed, 10 * MINUTE_MS)).flat();
    const faults = planned.flatMap((one) => one.faults);
    const damaged = faults.flatMap((fault) => (fault.type === "truncate" ? fault.nodes : []));
    expect(new Set(damaged)).toEqual(new Set([DAMAGED]));
    for (const { durationMs } of planned) expect(durationMs).toBeGreaterThan(LEASE_MS * 1.25);
    expect(new Set(faults.map(({ type }) => type)).size).toBe(5);
  });

  it("never lets two faults at once have a node in common", () => {
    for (const { faults } of plan(3, 60 * MINUTE_MS)) {
      const nodes = faults.flatMap((fault) => (fault.type === "cut" ? [] : fault.nodes));
      expect(new Set(nodes).size).toBe(nodes.length);
    }
  });
});
