import { SeededRandom } from "@klatsch/kit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import { message } from "../support/arbitrary.ts";

const SELF = "1".repeat(32);
const OTHER = "2".repeat(32);
const QUEUE = "a".repeat(64);

/** A core alone in its mesh but for one greeted peer, its own messages looped back. */
class Bench {
  readonly core: QueueCore;
  readonly done: QueueEffect[] = [];
  #monoMs = 0;

  constructor() {
    this.core = new QueueCore({
      peer: "self",
      store: SELF,
      boot: 1,
      random: new SeededRandom(1),
      now: this.#now(),
      records: [],
      laneIdOf,
    });
    this.enter({ type: "peer", peer: "other", status: "alive" });
    this.enter({ type: "link", peer: "other", up: true });
    const lists = { definitions: [], consumes: [], echoes: [], deleted: [] };
    const hello = { store: OTHER, boot: 1, floor: undefined, ...lists };
    this.enter({ type: "message", from: "other", message: { type: "hello", ...hello } });
    const definition = { queue: QUEUE, name: "jobs", replicas: 1, leaseMs: 30_000, maxDeliveries: 20 };
    this.enter({ type: "declare", definition });
  }

  #now(): { monoMs: number; wallMs: number } {
    return { monoMs: this.#monoMs, wallMs: 1_000_000 + this.#monoMs };
  }

  enter(input: QueueInput): void {
    const inputs = [input];
    for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
      this.#monoMs += 1;
      const effects = [...this.core.step(next, this.#now()), ...this.core.flush(this.#now())];
      for (const effect of effects) {
        this.done.push(effect);
        if (!("message" in effect) || effect.to !== "self") continue;
        inputs.push({ type: "message", from: "self", message: effect.message });
      }
    }
  }
}

describe("a queue core", () => {
  it("never throws, whatever a peer sends, and serves its own messages afterwards", () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 30 }), (messages) => {
        const bench = new Bench();
        for (const one of messages) bench.enter({ type: "message", from: "other", message: one });
        for (const one of messages) bench.enter({ type: "message", from: "stranger", message: one });
        bench.enter({ type: "link", peer: "other", up: false });
        bench.enter({ type: "consume", session: "b".repeat(16), queue: QUEUE, prefetch: 4 });
        const body = new Uint8Array([1]);
        const content = { body, bodyHash: "h", notBeforeWallMs: 0, attributes: undefined };
        bench.enter({ type: "enqueue", requestId: 1, queue: QUEUE, ...content, deadlineMs: 99_999 });
        const kinds = bench.done.map(({ type }) => type);
        expect(kinds).toContain("enqueued");
        expect(kinds).toContain("deliver");
      }),
      { numRuns: 1_000 },
    );
  });
});
