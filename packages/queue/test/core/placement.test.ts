import { describe, expect, it } from "vitest";
import type { Candidate } from "../../src/core/placement.ts";
import { chooseHeir } from "../../src/core/placement.ts";

function candidate(name: string, more: Partial<Candidate> = {}): Candidate {
  const store = name.repeat(32);
  return { peer: name, store, status: "alive", reachable: true, steady: true, consumes: false, ...more };
}

const [a, b, c] = ["a", "b", "c"].map((name) => candidate(name)) as [Candidate, Candidate, Candidate];
const replicasOf = (...some: readonly Candidate[]) => some.map(({ peer, store }) => ({ peer, store }));

/** Peers of the heir of a lane of three that `on` has. */
function heir(
  on: readonly Candidate[],
  others: readonly Candidate[],
  anyway: boolean,
  lost: readonly string[] = [],
) {
  const old = {
    replicas: replicasOf(...on),
    wanted: 3,
    isLost: ({ peer }: { peer: string }) => lost.includes(peer),
  };
  return chooseHeir(a, others, old, "lane", anyway)
    ?.replicas.map(({ peer }) => peer)
    .toSorted();
}

describe("an heir's replicas", () => {
  it("are all there may be, or as many as before: with two of three a single loss would end the lane", () => {
    expect(heir([a], [b, c], false)).toEqual(["a", "b", "c"]);
    expect(heir([a], [b], false)).toBeUndefined();
    expect(heir([a], [b], true)).toEqual(["a"]);
    expect(heir([a, b], [b], true)).toEqual(["a", "b"]);
  });

  it("are those that are left, and others in the place of lost ones", () => {
    const d = candidate("d", { steady: false });
    expect(heir([a, b, c], [c, d], false, ["b"])).toEqual(["a", "c", "d"]);
    expect(heir([a, b, c], [c], false, ["b"])).toBeUndefined();
    expect(heir([a, b, c], [c], true, ["b"])).toEqual(["a", "c"]);
  });
});
