import { SeededRandom } from "@klatsch/kit";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { UnnamedSeeds } from "../../src/host/unnamed-seeds.ts";

const SELF = "self";
const ADDRESS = "/ip4/10.0.0.1/tcp/4001";

/** One bootstrap address, and what the mesh and the network say of it. */
class Watch {
  /** Addresses by peer of those who are alive. */
  alive: Record<string, readonly string[]> = { [SELF]: [] };
  /** Who answers there. */
  answer: string | undefined;
  dials = 0;
  failed = 0;
  readonly seeds: UnnamedSeeds = new UnnamedSeeds({
    addresses: [ADDRESS],
    self: SELF,
    clock: { now: () => ({ monoMs: Date.now(), wallMs: Date.now() }) },
    random: new SeededRandom(1),
    alive: () => Object.entries(this.alive).map(([peer, addresses]) => ({ peer, addresses })),
    find: () => {
      this.dials += 1;
      const { answer } = this;
      return answer === undefined ? Promise.reject(new Error("nobody")) : Promise.resolve(answer);
    },
    onFailed: () => void (this.failed += 1),
  });

  /** Dials of the next so many milliseconds. */
  async dialsIn(ms: number): Promise<number> {
    const before = this.dials;
    await vi.advanceTimersByTimeAsync(ms);
    return this.dials - before;
  }
}

describe("a bootstrap address that does not say whose it is", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is dialled ever more slowly, and for ever, while nobody answers there", async () => {
    const watch = new Watch();
    watch.seeds.start();
    expect(await watch.dialsIn(1_000)).toBeGreaterThanOrEqual(3);
    await watch.dialsIn(60_000);
    const [first, second] = [await watch.dialsIn(600_000), await watch.dialsIn(600_000)];
    expect(first).toBeGreaterThan(40); // 10 s ± 25 %
    expect(first).toBeLessThan(80);
    expect(second).toBeGreaterThan(40);
    expect(watch.failed).toBe(watch.dials);
  });

  it("rests while who answered is alive, and is dialled again when that one is not", async () => {
    const watch = new Watch();
    watch.answer = "peer";
    watch.alive = { [SELF]: [], peer: [] };
    watch.seeds.start();
    await watch.dialsIn(600_000);
    expect(watch.dials).toBe(1);
    watch.alive = { [SELF]: [] };
    expect(await watch.dialsIn(2_000)).toBe(1);
    watch.answer = "successor"; // It needs a while to become a member.
    expect(await watch.dialsIn(60_000)).toBeGreaterThan(1);
    watch.alive = { [SELF]: [], successor: [] };
    await watch.dialsIn(10_000);
    expect(await watch.dialsIn(600_000)).toBe(0);
  });

  it.each([SELF, "peer"])("needs no dial while %s is known to be found there", async (peer) => {
    const watch = new Watch();
    watch.alive = { [SELF]: [], [peer]: [`${ADDRESS}/p2p/${peer}`] };
    watch.seeds.start();
    expect(await watch.dialsIn(600_000)).toBe(0);
  });

  it("that led to this node is dialled again while it is alone, for it may be the name of several", async () => {
    const watch = new Watch();
    watch.answer = SELF;
    watch.seeds.start();
    expect(await watch.dialsIn(600_000)).toBeGreaterThan(40);
    watch.alive = { [SELF]: [], other: [] };
    await watch.dialsIn(15_000);
    expect(await watch.dialsIn(600_000)).toBe(0);
  });

  it("is dialled no more at the end, and what fails then is not told", async () => {
    const watch = new Watch();
    watch.seeds.start(); // The first dial is under way.
    watch.seeds.stop();
    expect(await watch.dialsIn(600_000)).toBe(0);
    expect([watch.dials, watch.failed]).toEqual([1, 0]);
  });
});
