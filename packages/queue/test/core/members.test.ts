import { expect, it } from "vitest";

import { Members } from "../../src/core/members.ts";
import { Timers } from "../../src/core/timers.ts";

const store = (peer: string): string => peer.repeat(32);

// What a hundred simulated runs found once, and other rules make up for today.
it("nobody is lost who can be reached, whatever the mesh has said of it for how long", () => {
  const now = { monoMs: 0, wallMs: 0 };
  const members = new Members({
    peer: "a",
    store: store("a"),
    boot: 1,
    now,
    tuning: { heirDeadMs: 600_000, heirSteadyMs: 60_000 },
    timers: new Timers(),
    persist: () => undefined,
    fault: () => undefined,
  });
  const b = { peer: "b", store: store("b") };
  const lists = { definitions: [], consumes: [], echoes: [], deleted: [] };
  members.linkUp("b");
  members.greet("b", { type: "hello", store: b.store, boot: 1, floor: undefined, ...lists });
  members.setStatus("b", "dead");
  now.monoMs = 700_000;
  expect(members.isLost(b)).toBe(false);
  members.linkDown("b");
  expect(members.isLost(b)).toBe(true);
});
