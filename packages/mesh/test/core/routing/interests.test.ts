import { describe, expect, it } from "vitest";
import { Interests } from "../../../src/core/routing/interests.ts";
import type { InterestEffect, LinkUse } from "../../../src/core/routing/interests.ts";

const TIMES = { idleMs: 60_000, retryMs: [200, 1_000], unansweredMax: 3 } as const;
const at = (monoMs: number): { readonly monoMs: number; readonly wallMs: number } => ({ monoMs, wallMs: 0 });

function tick(
  interests: Interests,
  nowMs: number,
  links: Record<string, LinkUse> = {},
): readonly InterestEffect[] {
  return interests.step({ type: "tick", links: new Map(Object.entries(links)) }, at(nowMs));
}

function tunnel(usedMs: number, heardMs: number, dialer = true): LinkUse {
  return { kind: "tunnel", dialer, usedMs, heardMs };
}

function wanted(): Interests {
  const interests = new Interests(TIMES);
  interests.step({ type: "wanted", peer: "x", class: "high" }, at(0));
  return interests;
}

describe("Interests", () => {
  it("have a wanted peer reached again when its connection is gone, and only once at a time", () => {
    const interests = wanted();
    expect(tick(interests, 10)).toEqual([{ type: "establish", peer: "x", class: "high" }]);
    expect(tick(interests, 20)).toEqual([]);
    interests.step({ type: "established", peer: "x" }, at(30));
    expect(tick(interests, 40, { x: tunnel(35, 40) })).toEqual([]);
    expect(tick(interests, 50)).toEqual([{ type: "establish", peer: "x", class: "high" }]);
  });

  it("try a peer that cannot be reached ever more slowly", () => {
    const interests = wanted();
    const tries: number[] = [];
    for (let nowMs = 0; nowMs < 5_000; nowMs += 50) {
      if (tick(interests, nowMs).length === 0) continue;
      tries.push(nowMs);
      interests.step({ type: "failed", peer: "x" }, at(nowMs));
    }
    expect(tries).toEqual([0, 200, 600, 1_400, 2_400, 3_400, 4_400]);
  });

  it("end with a peer that no channel has used for long, and close the tunnel", () => {
    const interests = wanted();
    expect(tick(interests, 59_000, { x: tunnel(30_000, 59_000) })).toEqual([]);
    expect(interests.has("x")).toBe(true);
    expect(tick(interests, 90_000, { x: tunnel(30_000, 90_000) })).toEqual([{ type: "close", peer: "x" }]);
    expect(interests.has("x")).toBe(false);
    expect(tick(interests, 91_000)).toEqual([]);
  });

  it("leave tunnels to whoever opened them", () => {
    const interests = new Interests(TIMES);
    expect(tick(interests, 0, { x: tunnel(0, 0, false) })).toEqual([]);
    expect(tick(interests, 0, { x: tunnel(0, 0, true) })).toEqual([{ type: "close", peer: "x" }]);
  });

  it("test a tunnel that says nothing, and give it up after some silence", () => {
    const interests = wanted();
    const types = Array.from({ length: 6 }, (_, second) =>
      tick(interests, second * 1_000, { x: tunnel(0, 5) }).map(({ type }) => type),
    );
    expect(types).toEqual([[], ["test"], ["test"], ["test"], ["silent"], ["test"]]);
  });

  it("count silence in ticks: who slept has not listened either", () => {
    const interests = wanted();
    tick(interests, 0, { x: tunnel(0, 5) });
    expect(tick(interests, 30_000, { x: tunnel(0, 5) })).toEqual([{ type: "test", peer: "x" }]);
    expect(tick(interests, 31_000, { x: tunnel(0, 30_500) })).toEqual([]);
  });
});
