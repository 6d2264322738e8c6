import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { STANDING_MAX } from "../../src/core/messages.ts";
import { BootRaiser } from "../../src/host/boot-raiser.ts";
import { Superseded } from "../../src/host/superseded.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout"] }));
afterEach(() => void vi.useRealTimers());

function raiser(first: number): { readonly boots: BootRaiser; readonly saved: number[] } {
  const saved: number[] = [];
  let boot = first;
  const boots = new BootRaiser({
    boot: () => boot,
    isSuperseded: () => false,
    onSuperseded: () => expect.fail("superseded"),
    save: async (next) => void saved.push(next),
    onRaised: (next) => (boot = next),
    onFailed: (error) => expect.fail(error.message),
  });
  return { boots, saved };
}

describe("a node's boot", () => {
  it("is raised above what is said of it, and never twice at once", async () => {
    const { boots, saved } = raiser(3);
    boots.raise(7);
    boots.raise(5);
    await turn();
    boots.raise(7); // It is above that already.
    expect(saved).toEqual([8]);
    await boots.end();
  });

  it("stays one that there are numbers above, and goes to it in steps where nobody proves anything", async () => {
    const { boots, saved } = raiser(3);
    boots.hear(2 ** 47);
    await turn();
    expect(saved).toEqual([2 ** 42 + 1]);
    boots.hear(2 ** 47);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(saved).toEqual([2 ** 42 + 1, 2 ** 42 + 65_538]);
    await boots.end();
    const proven = raiser(3);
    proven.boots.raise(Number.MAX_SAFE_INTEGER);
    await turn();
    expect(proven.saved).toEqual([STANDING_MAX]);
    await proven.boots.end();
  });
});

describe("that a newer process is there", () => {
  it("is believed of two, or of the only one that can be heard", () => {
    const said = new Superseded();
    expect(said.isBelieved("a", ["a", "b"])).toBe(false);
    said.withdrawn("a");
    expect(said.isBelieved("b", ["a", "c"])).toBe(false);
    expect(said.isBelieved("c", ["a"])).toBe(true);
    expect(new Superseded().isBelieved("a", ["a"])).toBe(true);
    expect(new Superseded().isBelieved("a", [])).toBe(true);
  });
});
