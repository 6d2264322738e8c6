import { describe, expect, it } from "vitest";

import type { Acceptor } from "../../src/core/acceptor.ts";
import type { Context } from "../../src/core/context.ts";
import type { LaneWriter } from "../../src/core/lane-writer.ts";
import type { Message } from "../../src/core/messages.ts";
import type { MovesHost } from "../../src/core/moves.ts";
import { Moves } from "../../src/core/moves.ts";
import type { Candidate } from "../../src/core/placement.ts";
import { Timers } from "../../src/core/timers.ts";
import type { Descriptor } from "../../src/core/types.ts";

const store = (peer: string): string => peer.repeat(32);
const candidate = (peer: string): Candidate => {
  return { peer, store: store(peer), status: "alive", reachable: true, consumes: false, steady: true };
};

describe("a lane that lost a store", () => {
  it("names an heir only once a quorum of the heir's stores said that they are there", () => {
    const asked: string[] = [];
    const heirs: Descriptor[] = [];
    const stores: Record<string, string> = { a: store("a"), b: store("b"), d: "9".repeat(32) };
    const timers = new Timers();
    const now = { monoMs: 0, wallMs: 0 };
    const context = {
      store: store("a"),
      pid: store("a") + "0".repeat(12) + "5".repeat(16),
      tuning: { heirLookMs: 1_000, heirsMax: 4 },
      laneIdOf: ({ laneNo }: Descriptor) => `heir ${laneNo}`,
      reachable: () => true,
      send: (to: string, { type }: Message) => asked.push(`${type} ${to}`),
      timers,
      now,
    } as unknown as Context;
    const lane = {
      lane: "l",
      root: "l",
      isServing: true,
      isOpen: true,
      refused: 0,
      quorum: 2,
      reachable: 2,
      registers: { size: 1 },
      descriptor: {
        queue: "q",
        originPid: store("a") + "0".repeat(28),
        laneNo: 0,
        replicas: ["a", "b", "c"].map((peer) => ({ peer, store: store(peer) })),
        wanted: 3,
        shard: { no: 0, dedupMs: 0 },
      },
      course: {
        get isMoving() {
          return heirs.length > 0;
        },
      },
      move: (heir: Descriptor) => void heirs.push(heir),
    } as unknown as LaneWriter;
    const host = {
      lanes: () => [lane],
      isLost: ({ peer }) => peer === "c",
      storeOf: (peer) => stores[peer],
      candidates: () => ({ self: candidate("a"), others: [candidate("b"), candidate("d")] }),
    } as Partial<MovesHost> as MovesHost;
    const moves = new Moves(context, {} as Acceptor, host);
    moves.watch();
    Object.assign(now, { monoMs: 1_000 });
    timers.fire(1_000);
    expect(asked.toSorted()).toEqual(["askLane a", "askLane b", "askLane d"]);
    moves.answered("a", "heir 1");
    moves.answered("d", "heir 1"); // With another store than the one that was counted on.
    moves.answered("e", "heir 1");
    expect(heirs).toEqual([]);
    moves.answered("b", "heir 1");
    moves.answered("b", "heir 1");
    expect(heirs.map(({ replicas }) => replicas.map(({ peer }) => peer))).toEqual([["a", "b", "d"]]);
  });
});
