import { silentLogger } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { SeedLog } from "../../src/host/seed-log.ts";

const FIRST = "/ip4/127.0.0.1/tcp/1/p2p/seed";
const SECOND = "/ip4/127.0.0.1/tcp/2/p2p/seed";

class Watch {
  nowMs = 0;
  isMissed = true;
  readonly #told: unknown[] = [];
  readonly #log: SeedLog = new SeedLog({
    seeds: new Map([["seed", [FIRST, SECOND]]]),
    clock: { now: () => ({ monoMs: this.nowMs, wallMs: 0 }) },
    logger: { ...silentLogger, warn: (_message, fields) => void this.#told.push(fields?.["address"]) },
    isMissed: () => this.isMissed,
  });

  /** What is logged of a dial that failed. */
  failed(address: string, peer = "seed", error: unknown = new Error("refused")): unknown[] {
    this.#log.failed(peer, address, error);
    return this.#told.splice(0);
  }
}

describe("the log of bootstrap addresses", () => {
  it("tells of each address the first time it fails, and then once a minute", () => {
    const watch = new Watch();
    expect(watch.failed(FIRST)).toEqual([FIRST]);
    expect(watch.failed(SECOND)).toEqual([SECOND]);
    watch.nowMs = 59_999;
    expect([watch.failed(FIRST), watch.failed(SECOND)]).toEqual([[], []]);
    watch.nowMs = 60_000;
    expect([watch.failed(FIRST), watch.failed(FIRST)]).toEqual([[FIRST], []]);
  });

  it("is silent of seeds that are not missed, and of all other addresses and peers", () => {
    const watch = new Watch();
    expect(watch.failed("/ip4/127.0.0.1/tcp/3")).toEqual([]);
    expect(watch.failed(FIRST, "member")).toEqual([]);
    watch.isMissed = false;
    expect(watch.failed(FIRST)).toEqual([]);
    watch.isMissed = true;
    expect(watch.failed(FIRST)).toEqual([FIRST]);
  });

  it("leaves refusals of admission to the log of those", () => {
    expect(new Watch().failed(FIRST, "seed", new Error("not admitted: MESH_NAME"))).toEqual([]);
  });
});
