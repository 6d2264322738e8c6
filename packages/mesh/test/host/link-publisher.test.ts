import { systemClock } from "@klatsch/kit";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LinkPublisher } from "../../src/host/link-publisher.ts";
import type { NodeLinks } from "../../src/core/routing/types.ts";

const REST_MS = 250;

describe("LinkPublisher", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("says nothing while this node has no link, since nobody hears it", () => {
    const told: NodeLinks["links"][] = [];
    const linked = new Set<string>();
    const publisher = new LinkPublisher(systemClock, {
      members: () =>
        ["a", "b"].map((peer) => ({ peer, cloud: "x", linked: linked.has(peer), roundTripMs: undefined })),
      publish: (links) => told.push(links),
      onLook: () => undefined,
    });
    const become = (...peers: readonly string[]): void => {
      linked.clear();
      for (const peer of peers) linked.add(peer);
      publisher.changed();
      vi.advanceTimersByTime(REST_MS);
    };
    become();
    become("a");
    become();
    become("a", "b");
    expect(told).toEqual([[{ peer: "a", rttClass: 4 }], "all"]);
    publisher.stop();
  });
});
