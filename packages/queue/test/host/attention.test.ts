import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Attention } from "../../src/host/attention.ts";

const LOOK_MS = 1_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("what is shared", () => {
  it("keeps a link with each other replica for as long as a lane of theirs holds messages", () => {
    const attended = new Set<string>();
    const attend = (peer: string): (() => void) => {
      expect(attended.has(peer)).toBe(false);
      attended.add(peer);
      return () => void attended.delete(peer);
    };
    const lane = (size: number, ...peers: readonly string[]) => ({
      registers: { size },
      descriptor: { replicas: peers.map((peer) => ({ peer, store: "" })) },
    });
    let lanes = [lane(2, "self", "a", "b"), lane(0, "self", "c", "d"), lane(1, "b", "e", "self")];
    const attention = new Attention({ peerId: "self", attend }, () => lanes);
    vi.advanceTimersByTime(LOOK_MS * 2);
    expect([...attended].toSorted()).toEqual(["a", "b", "e"]);
    lanes = [lane(0, "self", "a", "b"), lane(7, "self", "c", "b")];
    vi.advanceTimersByTime(LOOK_MS);
    expect([...attended].toSorted()).toEqual(["b", "c"]);
    attention.stop();
    expect([...attended]).toEqual([]);
    vi.advanceTimersByTime(LOOK_MS * 2);
    expect([...attended]).toEqual([]);
  });
});
