import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import type { AcceptorLane } from "../../src/core/acceptor.ts";
import type { Context } from "../../src/core/context.ts";
import { BodyBudget, DEFAULT_TUNING } from "../../src/core/context.ts";
import { FinishedSet } from "../../src/core/finished.ts";
import type { Message } from "../../src/core/messages.ts";
import { RegisterTable } from "../../src/core/register-table.ts";
import { Steals } from "../../src/core/steal.ts";
import { Timers } from "../../src/core/timers.ts";

const OWN = "1".repeat(32);
const OTHER = "2".repeat(32);
const THIRD = "3".repeat(32);
const pid = (store: string): string => `${store}.1.0`;

/** Watches one lane that holds no message, and whose promise `other` has; says what leaves in a minute. */
function sentAbout(lane: Partial<AcceptorLane>, origin: string): Message[] {
  const timers = new Timers();
  const sent: Message[] = [];
  const now = { monoMs: 0, wallMs: 0 };
  const context: Context = {
    peer: "own",
    store: OWN,
    boot: 1,
    pid: pid(OWN),
    random: new SeededRandom(1),
    tuning: DEFAULT_TUNING,
    timers,
    bodies: new BodyBudget(0),
    hooks: {},
    now,
    laneIdOf: () => "",
    persist: () => {},
    send: (_to, message) => sent.push(message),
    sendAfter: (_to, message) => sent.push(message),
    reachable: () => true,
    isGone: () => false,
    fault: () => {},
  };
  const steals = new Steals(context, {
    isServing: () => false,
    storeOf: () => undefined,
    isParent: () => false,
    isOver: () => false,
    onStolen: () => {},
    onFoundClosed: () => {},
  });
  steals.onPromised({
    slot: 0,
    lane: "lane",
    descriptor: {
      queue: "",
      originPid: pid(origin),
      laneNo: 0,
      replicas: [OWN, OTHER, THIRD].map((store) => ({ peer: store, store })),
      voters: 0,
      consumersSeen: 0,
      wanted: 3,
    },
    promise: { round: 1, pid: pid(OTHER) },
    end: undefined,
    closed: false,
    registers: new RegisterTable(0),
    finished: new FinishedSet(),
    keys: new Map(),
    digest: 0,
    dirty: false,
    heardMs: 0,
    closedMs: 0,
    ...lane,
  });
  for (now.monoMs = 0; now.monoMs < 60_000; now.monoMs += 100) timers.fire(now.monoMs);
  return sent;
}

describe("a replica whose lane's writer is silent", () => {
  const end = {
    ballot: { round: 1, pid: pid(OTHER), step: 1 },
    value: { n: 1, voids: [], closed: true },
  };

  it("asks after it if the lane is ending: the others may know it closed", () => {
    expect(sentAbout({ end }, THIRD)).toContainEqual({ type: "askLane", lane: "lane" });
  });

  it("asks after it if it opened the lane itself: its floor waits for the close", () => {
    expect(sentAbout({}, OWN)).toContainEqual({ type: "askLane", lane: "lane" });
  });

  it("leaves somebody else's lane alone as long as nothing is in it", () => {
    expect(sentAbout({}, THIRD)).toEqual([]);
  });
});
