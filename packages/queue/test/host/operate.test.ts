import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { QueueInput } from "../../src/core/inputs.ts";
import type { ManageResult } from "../../src/core/manage.ts";
import { Operations } from "../../src/host/operate.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const NONE = { ready: 0, delayed: 0, leased: 0, dead: 0, unserved: 0, oldestWallMs: 0 };
const LANES = { lanes: 0, weakLanes: 0, movingLanes: 0 };

function found(ready: number, missing: readonly string[]): ManageResult {
  const counts = { ...NONE, ...LANES, ready };
  const lists = { items: [], consumers: [], groups: [], shards: [], more: new Map() };
  return { ...lists, count: 0, counts, missing };
}

describe("drain", () => {
  it("tells what the last whole look saw, not that of the last look nothing was heard", async () => {
    const inputs: QueueInput[] = [];
    const operations = new Operations({
      enter: (input) => void inputs.push(input),
      request: () => inputs.length + 1,
    });
    const answer = async (result: ManageResult): Promise<void> => {
      operations.onAnswer({ type: "managed", requestId: inputs.length, result });
      await vi.advanceTimersByTimeAsync(200);
    };
    const drained = operations.drain("q", "jobs", 300);
    const told = expect(drained).rejects.toMatchObject({
      code: "NOT_DRAINED",
      message: "jobs has 5 ready, 0 delayed and 0 held messages",
    });
    await answer(found(5, []));
    await answer(found(0, ["b"]));
    await answer(found(0, ["b"]));
    await told;
    expect(inputs).toHaveLength(3);
  });
});
