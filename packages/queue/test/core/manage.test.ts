import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import { bodyHash, laneIdOf } from "../../src/codec/hash.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import type { ManageResult } from "../../src/core/manage.ts";
import type { Message } from "../../src/core/messages.ts";
import { QueueCore } from "../../src/core/queue-core.ts";

const QUEUE = "a".repeat(64);
const SESSION = "c".repeat(16);

const REST = { limit: 10, only: undefined, from: undefined, deadlineMs: 10_000 };

/** A core alone in its mesh. What it sends to itself comes, unless that is a kind that is held back. */
class Alone {
  readonly effects: QueueEffect[] = [];
  held: Message["type"] | undefined;
  readonly #waiting: Message[] = [];
  readonly #core: QueueCore;
  #monoMs = 0;

  constructor() {
    const random = new SeededRandom(1);
    const store = "1".repeat(32);
    const now = this.#now();
    this.#core = new QueueCore({ peer: "self", store, boot: 1, random, now, records: [], laneIdOf });
    const rest = { name: "jobs", replicas: 1, leaseMs: 30_000, maxDeliveries: 20 };
    this.enter({ type: "declare", definition: { queue: QUEUE, ...rest } });
  }

  #now(): { monoMs: number; wallMs: number } {
    return { monoMs: this.#monoMs, wallMs: 1_000_000 + this.#monoMs };
  }

  enter(input: QueueInput): void {
    const inputs = [input];
    for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
      this.#monoMs += 1;
      for (const effect of [...this.#core.step(next, this.#now()), ...this.#core.flush(this.#now())]) {
        this.effects.push(effect);
        if (!("message" in effect) || effect.to !== "self") continue;
        const { message } = effect;
        if (message.type === this.held) this.#waiting.push(message);
        else inputs.push({ type: "message", from: "self", message });
      }
    }
  }

  release(): void {
    this.held = undefined;
    for (const message of this.#waiting.splice(0)) this.enter({ type: "message", from: "self", message });
  }

  enqueue(): void {
    const body = Uint8Array.of(1);
    const message = { body, bodyHash: bodyHash(body), notBeforeWallMs: 0, enqueuedWallMs: 1 };
    const rest = { requestId: 1, deadlineMs: 10_000, attributes: undefined };
    this.enter({ type: "enqueue", queue: QUEUE, ...message, ...rest });
  }

  list(): ManageResult | undefined {
    this.enter({ type: "manage", queue: QUEUE, act: "list", scope: "alive", ...REST, requestId: 2 });
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

  it("has none that is as good as done", () => {
    const node = new Alone();
    node.enqueue();
    node.held = "ok";
    node.enter({ type: "manage", queue: QUEUE, act: "discard", scope: "ready", ...REST, requestId: 3 });
    expect(node.list()?.items).toEqual([]);
  });
});
