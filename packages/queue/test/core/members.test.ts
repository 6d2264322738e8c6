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
  const said = (batchNo: number, proof: number): void =>
    members.raiseEcho(store("b"), { batchNo, proof }, false);
  const heard = (batchNo: number, proof: number): void =>
    members.raiseEcho(store("b"), { batchNo, proof }, true);
  const told = (): unknown => members.echoesOf("b").map(([, batchNo, proof]) => [batchNo, proof]);
  heard(120, 1);
  said(101, 2); // A slow link's: what others saw since still counts.
  expect(told()).toEqual([
    [101, 2],
    [120, 1],
  ]);
  heard(2 ** 50, 0); // Made up.
  said(121, 3);
  heard(119, 4);
  expect(told()).toEqual([
    [121, 3],
    [2 ** 50, 0],
  ]);
  said(121, 5);
  said(120, 6);
  expect((told() as unknown[])[0]).toEqual([121, 5]);
});

it("what others told of a store's batches is over once the store has said more", () => {
  const members = membersOf({ monoMs: 0, wallMs: 0 });
  greetedBy(members, "b");
  members.raiseEcho(store("b"), { batchNo: 40, proof: 1 }, true);
  members.raiseEcho(store("b"), { batchNo: 40, proof: 2 }, false);
  expect(members.echoesOf("b")).toEqual([[store("b"), 40, 2]]);
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
