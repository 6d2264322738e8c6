import { describe, expect, it } from "vitest";

import { bodyHash } from "../../src/codec/hash.ts";
import type { ManageRequest, ManageResult } from "../../src/core/manage.ts";
import { LoneCore } from "../support/lone-core.ts";

const QUEUE = "a".repeat(64);
const SESSION = "c".repeat(16);

const REST = { limit: 10, only: undefined, from: undefined, deadlineMs: 10_000 };

/** With one queue, which it writes. */
class Alone extends LoneCore {
  constructor() {
    super();
    const rest = { name: "jobs", replicas: 1, leaseMs: 30_000, maxDeliveries: 20 };
    this.enter({ type: "declare", definition: { queue: QUEUE, ...rest } });
  }

  enqueue(): void {
    const body = Uint8Array.of(1);
    const message = { body, bodyHash: bodyHash(body), notBeforeWallMs: 0, enqueuedWallMs: 1 };
    const rest = { requestId: 1, deadlineMs: 10_000, attributes: undefined };
    this.enter({ type: "enqueue", queue: QUEUE, ...message, ...rest });
  }

  list(more: Partial<ManageRequest> = {}): ManageResult | undefined {
    const request = { queue: QUEUE, act: "list", scope: "alive", ...REST, ...more } as const;
    this.enter({ type: "manage", ...request, requestId: 2 });
    return this.effects.flatMap((one) => (one.type === "managed" ? [one.result] : [])).at(-1);
  }
}

describe("a list of messages", () => {
  it("has one whose lease is under way, which is there before and after", () => {
    const node = new Alone();
    node.enqueue();
    node.held = "ok";
    node.enter({ type: "consume", session: SESSION, queue: QUEUE, prefetch: 1 });
    expect(node.effects.filter(({ type }) => type === "deliver")).toEqual([]);
    expect(node.list()?.items).toMatchObject([{ seq: 0, value: { state: "LEASED" } }]);
    node.release();
    expect(node.effects.filter(({ type }) => type === "deliver")).toHaveLength(1);
    expect(node.list()?.items).toMatchObject([{ seq: 0, value: { state: "LEASED" } }]);
  });

  it("has one that is being entered, which others may know to be there, and names the lanes that its writer told of", () => {
    const node = new Alone();
    node.held = "ok";
    node.enqueue();
    const { items, lanes } = node.list() ?? {};
    expect([items?.length, lanes?.[0]?.served.length, lanes?.[0]?.kept.length]).toEqual([1, 1, 1]);
    expect(lanes?.[0]?.kept[0]?.[0]).toBe(lanes?.[0]?.served[0]);
  });

  it.each([true, false])("tells that there are more than fitted (the oldest ones: %s)", (oldest) => {
    const node = new Alone();
    node.enqueue();
    expect(node.list({ oldest, limit: 1 })?.more.size).toBe(0);
    node.enqueue();
    expect(node.list({ oldest, limit: 1 })?.more.size).toBe(1);
  });

  it("has one that dies among the dead once that is chosen, when it can be redriven", () => {
    const node = new Alone();
    node.enqueue();
    node.enter({ type: "consume", session: SESSION, queue: QUEUE, prefetch: 1 });
    const dead = (): unknown[] => {
      const counted = node.list({ act: "count", scope: "any" })?.counts.dead;
      const listed = node.list({ scope: "dead" })?.items.length;
      return [counted, listed, node.list({ act: "redrive", scope: "dead" })?.count];
    };
    const [taken] = node.effects.flatMap((one) => (one.type === "deliver" ? [one.item] : []));
    if (taken === undefined) throw new Error("nothing was delivered");
    node.held = "ok";
    const { lane, seq, epoch } = taken;
    const verdict = { kind: "reject", reason: "poison" } as const;
    node.enter({ type: "verdict", lane, seq, epoch, verdict, requestId: 4, deadlineMs: 10_000 });
    expect(dead()).toEqual([0, 0, 0]);
    node.release();
    expect(dead()).toEqual([1, 1, 1]);
  });

  it("has none that is as good as done", () => {
    const node = new Alone();
    node.enqueue();
    node.held = "ok";
    node.enter({ type: "manage", queue: QUEUE, act: "discard", scope: "ready", ...REST, requestId: 3 });
    expect(node.list()?.items).toEqual([]);
  });
});
