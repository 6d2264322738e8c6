import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import { PLAIN } from "../../src/core/register.ts";

const QUEUE = "a".repeat(64);
const WALL_MS = 1_000_000_000;
const HOUR_MS = 3_600_000;

/** A node alone, whose wall clock can be set. */
class Alone {
  readonly done: QueueEffect[] = [];
  offMs = 0;
  readonly #core: QueueCore;
  #monoMs = 0;

  constructor() {
    const init = { peer: "self", store: "1".repeat(32), boot: 1, random: new SeededRandom(1), records: [] };
    this.#core = new QueueCore({ ...init, now: this.#now(), laneIdOf });
  }

  #now(): { monoMs: number; wallMs: number } {
    return { monoMs: this.#monoMs, wallMs: WALL_MS + this.offMs + this.#monoMs };
  }

  enter(...inputs: QueueInput[]): void {
    for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
      for (const effect of [...this.#core.step(next, this.#now()), ...this.#core.flush(this.#now())]) {
        this.done.push(effect);
        if ("message" in effect) inputs.push({ type: "message", from: "self", message: effect.message });
      }
    }
  }

  /** Time passes, and timers fire. */
  wait(ms: number): void {
    this.#monoMs += ms;
    this.enter({ type: "tick" });
  }

  get delivered(): number {
    return this.done.filter(({ type }) => type === "deliver").length;
  }

  /** What is not done, as an operator sees it. */
  get counts(): { readonly alive: number; readonly dead: number } {
    const manage = { act: "count", scope: "any", limit: 100, only: undefined, from: undefined } as const;
    this.enter({ type: "manage", requestId: 9, queue: QUEUE, ...manage, deadlineMs: this.#monoMs + 1_000 });
    const last = this.done.findLast((effect) => effect.type === "managed");
    const { ready = 0, delayed = 0, leased = 0, dead = 0 } = last?.result.counts ?? {};
    return { alive: ready + delayed + leased, dead };
  }
}

const DEFINITION = { queue: QUEUE, name: "jobs", replicas: 1, leaseMs: 30_000, maxDeliveries: 20 };
const CONTENT = { body: new Uint8Array(1), bodyHash: "h" };
const EXPIRES = { ...CONTENT, attributes: { ...PLAIN, expiresAtWallMs: WALL_MS + 300 } };
const AT_ONCE = { notBeforeWallMs: 0, deadlineMs: 10_000 };

describe("a message that waits for its time", () => {
  it("is handed out when a clock that was set back is set right, not an hour later", () => {
    const node = new Alone();
    node.enter({ type: "declare", definition: DEFINITION });
    const due = { notBeforeWallMs: WALL_MS + 300, deadlineMs: 10_000 };
    node.enter({ type: "enqueue", requestId: 1, queue: QUEUE, ...CONTENT, attributes: undefined, ...due });
    node.enter({ type: "consume", session: "b".repeat(16), queue: QUEUE, prefetch: 4 });
    node.offMs = -HOUR_MS;
    node.wait(400);
    expect(node.delivered).toBe(0);
    node.offMs = 0;
    node.wait(10_000);
    expect(node.delivered).toBe(1);
  });

  it("expires when a clock that was an hour late is set right", () => {
    const node = new Alone();
    node.offMs = -HOUR_MS;
    node.enter({ type: "declare", definition: DEFINITION });
    node.enter({ type: "enqueue", requestId: 1, queue: QUEUE, ...EXPIRES, ...AT_ONCE });
    node.wait(1_000);
    expect(node.counts).toEqual({ alive: 1, dead: 0 });
    node.offMs = 0;
    node.wait(10_000);
    expect(node.counts).toEqual({ alive: 0, dead: 1 });
  });
});

describe("a dead message", () => {
  /** A node with one that expired. */
  const bereaved = (deadTtlMs?: number): Alone => {
    const node = new Alone();
    node.enter({ type: "declare", definition: { ...DEFINITION, deadTtlMs } });
    node.enter({ type: "enqueue", requestId: 1, queue: QUEUE, ...EXPIRES, ...AT_ONCE });
    node.wait(1_000);
    expect(node.counts).toEqual({ alive: 0, dead: 1 });
    return node;
  };

  it("goes when it was dead for as long as its queue keeps such, whatever the clock said meanwhile", () => {
    const node = bereaved(60_000);
    node.wait(58_000);
    node.offMs = -HOUR_MS;
    node.wait(2_000);
    expect(node.counts.dead).toBe(1);
    node.offMs = 0;
    node.wait(HOUR_MS);
    expect(node.counts).toEqual({ alive: 0, dead: 0 });
  });

  it("stays although a clock jumped ahead meanwhile", () => {
    const node = bereaved(10 * HOUR_MS);
    node.offMs = 24 * HOUR_MS;
    node.wait(3_000);
    node.offMs = 0;
    node.wait(HOUR_MS);
    expect(node.counts).toEqual({ alive: 0, dead: 1 });
  });

  it("goes by what its queue says now", () => {
    const node = bereaved();
    const { leaseMs, maxDeliveries } = DEFINITION;
    const keep = (deadTtlMs: number): void =>
      node.enter({ type: "alter", queue: QUEUE, policy: { leaseMs, maxDeliveries, deadTtlMs } });
    node.wait(60_000);
    keep(100_000);
    keep(10 * HOUR_MS);
    node.wait(9 * HOUR_MS);
    expect(node.counts.dead).toBe(1);
    keep(60_000);
    expect(node.counts).toEqual({ alive: 0, dead: 0 });
  });
});
