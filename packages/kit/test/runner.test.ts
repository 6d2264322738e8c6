import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createRunner, silentLogger, systemClock, systemRandom } from "@klatsch/kit";
import type { Clock, Core } from "@klatsch/kit";

interface Waiting extends Core<"tick", "effect"> {
  deadline: number | undefined;
  ticks: number[];
}

function start(deadline: number): { core: Waiting; stop(): void } {
  const core: Waiting = {
    deadline,
    ticks: [],
    step: (_, { monoMs }) => {
      core.ticks.push(monoMs);
      if (core.deadline !== undefined && monoMs >= core.deadline) core.deadline = undefined;
      return [];
    },
    flush: () => [],
    nextDeadline: () => core.deadline,
  };
  const clock: Clock = { now: () => ({ monoMs: vi.getMockedSystemTime()?.getTime() ?? 0, wallMs: 0 }) };
  const runner = createRunner<"tick", "effect">({
    core,
    clock,
    tick: "tick",
    phase: () => "now",
    perform: () => {},
    commit: (_, done) => done(undefined, 1),
    onFailed: (error) => {
      throw error;
    },
  });
  return { core, stop: () => runner.stop() };
}

describe("createRunner", () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: 0 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("ticks once at the deadline, not before", () => {
    const { core } = start(1_000.5);
    vi.advanceTimersByTime(1_000);
    expect(core.ticks).toEqual([]);
    vi.advanceTimersByTime(10);
    expect(core.ticks).toEqual([1_002]); // One millisecond is the turn that `setImmediate` takes here.
  });

  it("waits for deadlines further away than one timer can", () => {
    const far = 2 ** 31 + 5_000;
    const { core } = start(far);
    vi.advanceTimersByTime(far - 1);
    expect(core.ticks).toEqual([]);
    vi.advanceTimersByTime(2);
    expect(core.ticks).toEqual([far + 1]);
  });

  it("leaves no timer behind when it stops", () => {
    const { stop } = start(2 ** 40);
    vi.advanceTimersByTime(2 ** 32);
    stop();
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe("ports of this process", () => {
  it("have a clock that does not step back", () => {
    const first = systemClock.now();
    const second = systemClock.now();
    expect(second.monoMs).toBeGreaterThanOrEqual(first.monoMs);
    expect(Math.abs(second.wallMs - Date.now())).toBeLessThan(10_000);
  });

  it("have randomness that does not repeat over several pools", () => {
    const values = new Set(Array.from({ length: 4_000 }, () => systemRandom.uint32()));
    expect(values.size).toBeGreaterThan(3_990);
  });

  it("have a logger that takes everything and says nothing", () => {
    for (const level of ["debug", "info", "warn", "error"] as const)
      expect(silentLogger[level]("message", { at: 1 })).toBeUndefined();
  });
});
