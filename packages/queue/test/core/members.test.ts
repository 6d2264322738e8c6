import { expect, it } from "vitest";

import { Members } from "../../src/core/members.ts";
import { Timers } from "../../src/core/timers.ts";

const store = (peer: string): string => peer.repeat(32);

function membersOf(now: { monoMs: number; wallMs: number }): Members {
  return new Members({
    peer: "a",
    store: store("a"),
    boot: 1,
    now,
    tuning: { heirDeadMs: 600_000, heirSteadyMs: 60_000 },
    timers: new Timers(),
    persist: () => undefined,
    fault: () => undefined,
  });
}

function greetedBy(members: Members, peer: string): void {
  const lists = { definitions: [], consumes: [], echoes: [], deleted: [] };
  members.linkUp(peer);
  members.greet(peer, { type: "hello", store: store(peer), boot: 1, floor: undefined, ...lists });
}

it("what a store says of its batches counts, whatever others told of them", () => {
  const members = membersOf({ monoMs: 0, wallMs: 0 });
  greetedBy(members, "b");
  members.raiseEcho(store("b"), { batchNo: 2 ** 50, proof: 0 });
  expect(members.echoesOf("b")).toEqual([[store("b"), 2 ** 50, 0]]);
  members.setEcho(store("b"), { batchNo: 40, proof: 9 });
  members.raiseEcho(store("b"), { batchNo: 39, proof: 8 });
  expect(members.echoesOf("b")).toEqual([[store("b"), 40, 9]]);
  members.raiseEcho(store("b"), { batchNo: 41, proof: 7 });
  expect(members.echoesOf("b")).toEqual([[store("b"), 41, 7]]);
  members.setEcho(store("b"), { batchNo: 41, proof: 6 });
  expect(members.echoesOf("b")).toEqual([[store("b"), 41, 6]]);
});

// What a hundred simulated runs found once, and other rules make up for today.
it("nobody is lost who can be reached, whatever the mesh has said of it for how long", () => {
  const now = { monoMs: 0, wallMs: 0 };
  const members = membersOf(now);
  const b = { peer: "b", store: store("b") };
  greetedBy(members, "b");
  members.setStatus("b", "dead");
  now.monoMs = 700_000;
  expect(members.isLost(b)).toBe(false);
  members.linkDown("b");
  expect(members.isLost(b)).toBe(true);
});
