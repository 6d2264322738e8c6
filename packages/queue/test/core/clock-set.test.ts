import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";

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
}

describe("a message that waits for its time", () => {
  it("is handed out when a clock that was set back is set right, not an hour later", () => {
    const node = new Alone();
    const definition = { queue: QUEUE, name: "jobs", replicas: 1, leaseMs: 30_000, maxDeliveries: 20 };
    node.enter({ type: "declare", definition });
    const content = { body: new Uint8Array(1), bodyHash: "h", attributes: undefined };
    const due = { notBeforeWallMs: WALL_MS + 300, deadlineMs: 10_000 };
    node.enter({ type: "enqueue", requestId: 1, queue: QUEUE, ...content, ...due });
    node.enter({ type: "consume", session: "b".repeat(16), queue: QUEUE, prefetch: 4 });
    node.offMs = -HOUR_MS;
    node.wait(400);
    expect(node.delivered).toBe(0);
    node.offMs = 0;
    node.wait(10_000);
    expect(node.delivered).toBe(1);
  });
});
