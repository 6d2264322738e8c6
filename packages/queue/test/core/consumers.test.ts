import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import { Consumers } from "../../src/core/consumers.ts";
import { BodyBudget, DEFAULT_TUNING } from "../../src/core/context.ts";
import type { Delivery, Message } from "../../src/core/messages.ts";
import { Timers } from "../../src/core/timers.ts";

const SESSION = "5".repeat(16);
const QUEUE = "9".repeat(64);

/** The consumers' side of one node, with one consumer that takes one message at a time. */
function consumerOf(writers: string[]): { consumers: Consumers; sent: [to: string, message: Message][] } {
  const sent: [string, Message][] = [];
  const ignore = (): void => undefined;
  const consumers = new Consumers(
    {
      peer: "self",
      store: "1".repeat(32),
      boot: 1,
      awakeMs: 0,
      pid: "1".repeat(48),
      random: new SeededRandom(1),
      tuning: DEFAULT_TUNING,
      timers: new Timers(),
      bodies: new BodyBudget(0),
      hooks: {},
      now: { monoMs: 0, wallMs: 0 },
      laneIdOf: () => "",
      persist: ignore,
      send: (to, message) => void sent.push([to, message]),
      sendAfter: ignore,
      reachable: () => true,
      isGone: () => false,
      isDeleted: () => false,
      fault: ignore,
    },
    {
      writers: () => writers,
      descriptor: () => undefined,
      isReachable: () => true,
      onDelivery: ignore,
      onLeaseLost: ignore,
      onVerdict: ignore,
      onRosterChanged: ignore,
    },
  );
  consumers.add(SESSION, QUEUE, 1);
  consumers.flush();
  return { consumers, sent };
}

function delivery(): Message & { type: "deliver" } {
  const item: Delivery = {
    lane: "7".repeat(64),
    seq: 0,
    epoch: 1,
    session: SESSION,
    leaseMs: 30_000,
    ageMs: 0,
    deliveries: 0,
    enqueuedWallMs: 0,
    attributes: undefined,
    reason: undefined,
    body: new Uint8Array(1),
  };
  return { type: "deliver", items: [item], descriptors: [], stampMs: 0 };
}

describe("a consumer's credit", () => {
  it("is not lost with a delivery that another writer overtook", () => {
    const writers = ["old"];
    const { consumers, sent } = consumerOf(writers);
    expect(sent.map(([to]) => to)).toEqual(["old"]);
    // The lane was taken over, and its new writer is quicker than what the old one sent before.
    writers.push("new");
    consumers.deliver("new", delivery());
    consumers.deliver("old", delivery());
    const ref = { lane: "7".repeat(64), seq: 0, epoch: 1, session: SESSION };
    consumers.verdict(ref, { kind: "ack" }, 1, 1_000);
    consumers.settled("new", [{ ...ref, kind: "ack", code: "DONE", hint: undefined }]);
    sent.length = 0;
    consumers.offer("old", QUEUE);
    consumers.flush();
    const credits = sent.filter(([, { type }]) => type === "credit");
    expect(credits).toMatchObject([["old", { items: [{ total: 2, recall: false }] }]]);
  });
});
