import { SeededRandom } from "@klatsch/kit/core";
import { afterEach, describe, expect, it, vi } from "vitest";

import { Consumers } from "../../src/core/consumers.ts";
import { BodyBudget, DEFAULT_TUNING } from "../../src/core/context.ts";
import type { Delivery, Message } from "../../src/core/messages.ts";
import type { Descriptor } from "../../src/core/types.ts";
import { Timers } from "../../src/core/timers.ts";

const SESSION = "5".repeat(16);
const QUEUE = "9".repeat(64);

/** The consumers' side of one node, with one consumer that takes one message at a time. */
function consumerOf(writers: string[]): {
  readonly consumers: Consumers;
  readonly sent: [to: string, message: Message][];
  readonly timers: Timers;
  readonly now: { monoMs: number; wallMs: number };
} {
  const timers = new Timers();
  const now = { monoMs: 0, wallMs: 0 };
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
      timers,
      bodies: new BodyBudget(0),
      hooks: {},
      now,
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
      descriptor: () =>
        ({ replicas: writers.map((peer) => ({ peer, store: peer })) }) as unknown as Descriptor,
      isReachable: () => true,
      onDelivery: ignore,
      onLeaseLost: ignore,
      onVerdict: ignore,
      onRosterChanged: ignore,
    },
  );
  consumers.add(SESSION, QUEUE, 1);
  consumers.flush();
  return { consumers, sent, timers, now };
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

afterEach(() => void vi.restoreAllMocks());

describe("a verdict", () => {
  it("goes to the one that all name, however long that one is not ready", () => {
    const { consumers, sent, timers, now } = consumerOf(["a", "b", "c"]);
    consumers.deliver("a", delivery());
    const ref = { lane: "7".repeat(64), seq: 0, epoch: 1, session: SESSION };
    sent.length = 0;
    consumers.verdict(ref, { kind: "ack" }, 1, 20_000);
    const asked: string[] = [];
    for (let next: number | undefined = 0; next !== undefined && next < 20_000; next = timers.next()) {
      now.monoMs = next;
      timers.fire(now.monoMs);
      for (;;) {
        consumers.flush();
        const askedNow = sent.splice(0).filter(([, { type }]) => type === "verdicts");
        if (askedNow.length === 0) break;
        for (const [to] of askedNow) {
          asked.push(to);
          consumers.settled(to, [{ ...ref, kind: "ack", code: "RETRY", hint: "b" }]);
        }
      }
    }
    expect(asked.length).toBeGreaterThan(10);
    expect([asked[0], ...new Set(asked.slice(1))]).toEqual(["a", "b"]);
  });
});

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

describe("an offer", () => {
  const otherQueue = (no: number): string => no.toString(16).padStart(64, "0");

  it("does not look at the consumers of other queues", () => {
    const { consumers } = consumerOf(["a", "b"]);
    for (let no = 0; no < 1_000; no += 1) consumers.add(no.toString(16).padStart(16, "0"), otherQueue(no), 1);
    const looks = vi.spyOn(Map.prototype, "values");
    consumers.offer("a", QUEUE);
    const seen = looks.mock.contexts.map((map) => (map as ReadonlyMap<unknown, unknown>).size);
    expect(Math.max(0, ...seen)).toBeLessThan(10);
  });

  it("is answered by every consumer of its queue that has not ended", () => {
    const { consumers, sent } = consumerOf(["a"]);
    const [second, third] = ["6".repeat(16), "7".repeat(16)];
    for (const session of [second, third]) consumers.add(session, QUEUE, 8);
    consumers.add("8".repeat(16), otherQueue(0), 8);
    consumers.flush();
    consumers.end(second);
    sent.length = 0;
    consumers.offer("a", QUEUE);
    consumers.flush();
    const credited = sent.flatMap(([, message]) => (message.type === "credit" ? message.items : []));
    expect(credited.map(({ session }) => session)).toEqual([third]);
    expect(consumers.roster(QUEUE).map(({ session }) => session)).toEqual([SESSION, third]);
    for (const session of [SESSION, third]) consumers.end(session);
    expect(consumers.roster(QUEUE)).toEqual([]);
  });
});
