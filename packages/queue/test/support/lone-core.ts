import { SeededRandom } from "@klatsch/kit/core";

import { laneIdOf } from "../../src/codec/hash.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import type { Message } from "../../src/core/messages.ts";
import { QueueCore } from "../../src/core/queue-core.ts";

/** A core alone in its mesh. What it sends to itself comes, unless that is a kind that is held back. */
export class LoneCore {
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
}
