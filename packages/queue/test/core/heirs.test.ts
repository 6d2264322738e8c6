import { SeededRandom } from "@klatsch/kit/core";
import { expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import { makePid } from "../../src/core/ballot.ts";
import { shardDescriptors } from "../../src/core/ordered.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import type { Definition, Descriptor } from "../../src/core/types.ts";

const store = (peer: string): string => peer.repeat(32);
const peers = ["a", "b", "c"];
const definition: Definition = {
  queue: "9".repeat(64),
  name: "jobs",
  replicas: 3,
  leaseMs: 30_000,
  maxDeliveries: 20,
  ordered: {
    groups: true,
    dedupMs: 0,
    shards: 1,
    stores: peers.map((peer) => ({ peer, store: store(peer) })),
  },
};

it("an ordered lane is over once its messages moved twice, though nobody of its replicas says so", () => {
  const now = { monoMs: 0, wallMs: 1_000_000 };
  const core = new QueueCore({
    peer: "a",
    store: store("a"),
    boot: 1,
    random: new SeededRandom(1),
    now,
    records: [],
    laneIdOf,
  });
  core.step({ type: "declare", definition }, now);
  core.step({ type: "link", peer: "d", up: true }, now);
  const lists = { definitions: [], consumes: [], echoes: [], deleted: [] };
  const hello = { type: "hello", store: store("d"), boot: 1, floor: undefined, ...lists } as const;
  core.step({ type: "message", from: "d", message: hello }, now);

  const [first] = shardDescriptors(definition);
  if (first === undefined) throw new Error("the definition has a shard");
  const root = laneIdOf(first);
  const { originPid, laneNo } = first;
  const heir = (moves: number): Descriptor => ({
    ...first,
    originPid: makePid(store("d"), 0, "0".repeat(16)),
    laneNo: moves,
    shard: { no: 0, dedupMs: 0, moves },
    heirOf: { root, lane: root, originPid, laneNo },
  });
  const isOverAfter = (moves: number): boolean | undefined => {
    core.step({ type: "message", from: "d", message: { type: "heirs", descriptors: [heir(moves)] } }, now);
    return core.acceptor.lane(root)?.closed;
  };
  // It may be what the first heir still has to import.
  expect([isOverAfter(1), isOverAfter(2)]).toEqual([false, true]);
});
