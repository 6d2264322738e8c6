import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { QueueInput } from "../../src/core/inputs.ts";
import type { ManageResult } from "../../src/core/manage.ts";
import { enqueued } from "../../src/core/register.ts";
import { Operations } from "../../src/host/operate.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const NONE = { ready: 0, delayed: 0, leased: 0, dead: 0, unserved: 0, oldestWallMs: 0 };
const LANES = { lanes: 0, weakLanes: 0, movingLanes: 0 };

function found(ready: number, missing: readonly string[]): ManageResult {
  const counts = { ...NONE, ...LANES, ready };
  const lists = { items: [], consumers: [], groups: [], shards: [], lanes: [], more: new Map() };
  return { ...lists, count: 0, counts, missing };
}

describe("drain", () => {
  it.each([
    ["not that of the last look nothing was heard", [found(5, []), found(0, ["b"])], ""],
    [
      "and who was not heard of when there was time",
      [found(5, []), found(0, ["b"]), found(0, ["b", "c"])],
      "; not heard of: b",
    ],
  ])("tells what the last whole look saw, %s", async (_what, looks, silent) => {
    const inputs: QueueInput[] = [];
    const operations = new Operations({
      enter: (input) => void inputs.push(input),
      request: () => inputs.length + 1,
    });
    const drained = operations.drain("q", "jobs", (looks.length - 1) * 200 + 100);
    const told = expect(drained).rejects.toMatchObject({
      code: "NOT_DRAINED",
      message: `jobs has 5 ready, 0 delayed and 0 held messages${silent}`,
    });
    for (const [no, result] of looks.entries()) {
      if (no === looks.length - 1) await vi.advanceTimersByTimeAsync(100);
      operations.onAnswer({ type: "managed", requestId: inputs.length, result });
      await vi.advanceTimersByTimeAsync(200);
    }
    await told;
    expect(inputs).toHaveLength(looks.length);
  });
});

describe("peek", () => {
  it("shows nothing that came after what no more fitted into an answer", () => {
    const inputs: QueueInput[] = [];
    const operations = new Operations({ enter: (input) => void inputs.push(input), request: () => 1 });
    void operations.peek("q", { state: "any", limit: 9, after: undefined, timeoutMs: 1_000 });
    const told = [
      ...([
        ["a", 1],
        ["a", 5],
      ] as const),
      ...([
        ["b", 2],
        ["b", 3],
        ["b", 4],
        ["b", 6],
      ] as const),
    ];
    const content = { body: new Uint8Array(), bodyHash: "", notBeforeWallMs: 0, attributes: undefined };
    const items = told.map(([peer, enqueuedWallMs]) => {
      const value = enqueued({ ...content, enqueuedWallMs }, 1_000);
      return { peer, lane: peer, seq: enqueuedWallMs, value };
    });
    const more = new Map([["a", { lane: "a", seq: 5 }]]);
    operations.onAnswer({ type: "managed", requestId: 1, result: { ...found(0, []), items, more } });
    return vi.waitFor(() => {
      expect(inputs.flatMap((one) => (one.type === "fetch" ? [one.seq] : []))).toEqual([1, 2, 3, 4, 5]);
    });
  });
});
