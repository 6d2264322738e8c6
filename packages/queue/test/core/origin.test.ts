import { SeededRandom } from "@klatsch/kit/core";
import { expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import type { Definition } from "../../src/core/types.ts";

const NOW = { monoMs: 0, wallMs: 1_000_000 };
const DEFINITION: Definition = {
  queue: "3".repeat(64),
  name: "jobs",
  replicas: 1,
  leaseMs: 30_000,
  maxDeliveries: 20,
};

it("an enqueue is never said to be nothing once it came to the core, even if the step that answered it was lost", () => {
  const init = { peer: "self", store: "1".repeat(32), boot: 1, records: [], now: NOW, laneIdOf };
  const core = new QueueCore({ ...init, random: new SeededRandom(1) });
  const answered: QueueEffect[] = [];
  const run = (...inputs: QueueInput[]): void => {
    for (let next = inputs.shift(); next !== undefined; next = inputs.shift()) {
      for (const effect of [...core.step(next, NOW), ...core.flush(NOW)]) {
        if ("message" in effect) inputs.push({ type: "message", from: "self", message: effect.message });
        else if (effect.type === "enqueued") answered.push(effect);
      }
    }
  };
  const body = new Uint8Array(4);
  const content = { body, bodyHash: "0".repeat(64), notBeforeWallMs: 0, attributes: undefined };
  run({ type: "declare", definition: DEFINITION });
  run({ type: "enqueue", requestId: 7, queue: DEFINITION.queue, deadlineMs: 10_000, ...content });
  expect(answered).toMatchObject([{ requestId: 7, result: { code: "OK" } }]);
  expect(core.origin.whatIfLeft(7)).toMatchObject({ code: "INDETERMINATE" });
  expect(core.origin.whatIfLeft(8)).toBeUndefined();
});
