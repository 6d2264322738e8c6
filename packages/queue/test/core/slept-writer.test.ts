import { SeededRandom } from "@klatsch/kit/core";
import { expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import { DEFAULT_TUNING } from "../../src/core/context.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import type { EnteredItem, EnterItem } from "../../src/core/messages.ts";
import { shardDescriptors } from "../../src/core/ordered.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import { enqueued, PLAIN } from "../../src/core/register.ts";
import type { Definition } from "../../src/core/types.ts";

const SELF = "1".repeat(32);
const OTHER = "2".repeat(32);
const DEFINITION: Definition = {
  queue: "a".repeat(64),
  name: "jobs",
  replicas: 1,
  leaseMs: 30_000,
  maxDeliveries: 20,
  ordered: { shards: 1, dedupMs: 0, groups: false, stores: [{ peer: "self", store: SELF }] },
};

/** The only replica of an ordered queue, and a peer that enqueues there. */
class Writer {
  readonly #core: QueueCore;
  #monoMs = 0;

  constructor() {
    const init = { peer: "self", store: SELF, boot: 1, random: new SeededRandom(1), records: [] };
    this.#core = new QueueCore({ ...init, now: this.#now(), laneIdOf });
    this.enter({ type: "peer", peer: "other", status: "alive" });
    this.enter({ type: "link", peer: "other", up: true });
    const lists = { definitions: [], consumes: [], echoes: [], deleted: [] };
    const hello = { store: OTHER, boot: 1, floor: undefined, ...lists };
    this.enter({ type: "message", from: "other", message: { type: "hello", ...hello } });
    this.enter({ type: "declare", definition: DEFINITION });
  }

  #now(): { monoMs: number; wallMs: number } {
    return { monoMs: this.#monoMs, wallMs: 1_000_000 + this.#monoMs };
  }

  enter(...inputs: QueueInput[]): readonly QueueEffect[] {
    const done: QueueEffect[] = [];
    for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
      for (const effect of [...this.#core.step(next, this.#now()), ...this.#core.flush(this.#now())]) {
        done.push(effect);
        if ("message" in effect && effect.to === "self")
          inputs.push({ type: "message", from: "self", message: effect.message });
      }
    }
    return done;
  }

  /** What the peer is told of its item, once it is in the lane. */
  entered(item: EnterItem, afterMs: number): EnteredItem | undefined {
    const [descriptor] = shardDescriptors(DEFINITION);
    if (descriptor === undefined) throw new Error("no shard");
    this.#monoMs += afterMs;
    const message = { type: "enter", lane: laneIdOf(descriptor), items: [item] } as const;
    const effects = [...this.enter({ type: "message", from: "other", message })];
    for (let turn = 0; turn < 10; turn += 1) {
      this.#monoMs += 100;
      effects.push(...this.enter({ type: "tick" }));
    }
    const answers = effects.flatMap((effect) =>
      "message" in effect && effect.message.type === "entered" ? effect.message.items : [],
    );
    return answers.findLast(({ code }) => code === "OK");
  }
}

function itemOf(token: string): EnterItem {
  const content = { body: new Uint8Array(1), bodyHash: "h", notBeforeWallMs: 0, enqueuedWallMs: 0 };
  return {
    value: enqueued({ ...content, attributes: { ...PLAIN, token } }, DEFINITION.leaseMs),
    body: content.body,
  };
}

// Regression B34: seeds of the simulator show it no more, since an entry node says an item once a session.
it("knows an item again that was said before its writer slept, however long that was", () => {
  const writer = new Writer();
  writer.entered(itemOf("somebody has to write the lane"), 0);
  const { seq } = writer.entered(itemOf("token"), 0) ?? {};
  expect(seq).toBeDefined();
  writer.entered(itemOf("what came first once it woke"), 2 * DEFAULT_TUNING.tokenKeepMs);
  expect(writer.entered(itemOf("token"), 0)).toMatchObject({ seq });
});
