import { describe, expect, it } from "vitest";

import { Confirms } from "../../src/core/confirms.ts";
import type { Context } from "../../src/core/context.ts";
import { DEFAULT_TUNING } from "../../src/core/context.ts";
import type { LaneWriter } from "../../src/core/lane-writer.ts";
import type { Message } from "../../src/core/messages.ts";
import { Timers } from "../../src/core/timers.ts";

/** Questions asked at these instants of a lane with three replicas, all as far away; when each is answered. */
function answered(wayMs: number, asked: readonly number[]): readonly (number | undefined)[] {
  const timers = new Timers();
  const now = { monoMs: 0, wallMs: 0 };
  const due: { readonly atMs: number; readonly from: string; readonly token: number }[] = [];
  const context = {
    now,
    timers,
    tuning: DEFAULT_TUNING,
    reachable: () => true,
    send: (from: string, message: Message) => {
      if (message.type === "confirm") due.push({ atMs: now.monoMs + 2 * wayMs, from, token: message.token });
    },
  } as unknown as Context;
  const replicas = ["a", "b", "c"].map((peer) => ({ peer, store: peer }));
  const right = { round: 1, pid: "p" };
  const lane = {
    lane: "lane",
    right,
    quorum: 2,
    isLost: false,
    descriptor: { replicas },
  } as unknown as LaneWriter;
  const confirms = new Confirms(context);
  const answers: (number | undefined)[] = asked.map(() => undefined);
  for (; now.monoMs < 60_000; now.monoMs += 10) {
    timers.fire(now.monoMs);
    for (const [no, atMs] of asked.entries()) {
      if (atMs === now.monoMs) confirms.ask(lane, () => (answers[no] = now.monoMs));
    }
    for (const one of due.splice(0)) {
      if (one.atMs > now.monoMs) due.push(one);
      else {
        const { from, token } = one;
        confirms.confirmed(from, lane, { type: "confirmed", lane: "lane", token, yes: true, ...right });
      }
    }
  }
  return answers;
}

describe("whether q replicas still follow", () => {
  it.each([50, 600, 3_000])("is found out however long their answers take: %d ms each way", (wayMs) => {
    expect(answered(wayMs, [0])).toEqual([2 * wayMs]);
  });

  it("is asked again for who asks while answers are under way: they may be older than that", () => {
    expect(answered(600, [0, 100, 1_100])).toEqual([1_200, 2_400, 2_400]);
  });
});
