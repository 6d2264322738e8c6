import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { message } from "../support/arbitrary.ts";
import { LoneCore } from "../support/lone-core.ts";

const OTHER = "2".repeat(32);
const QUEUE = "a".repeat(64);

/** With one greeted peer, and one queue. */
class Bench extends LoneCore {
  constructor() {
    super();
    this.enter({ type: "peer", peer: "other", status: "alive" });
    this.enter({ type: "link", peer: "other", up: true });
    const lists = { definitions: [], consumes: [], echoes: [], deleted: [] };
    const hello = { store: OTHER, boot: 1, floor: undefined, ...lists };
    this.enter({ type: "message", from: "other", message: { type: "hello", ...hello } });
    const definition = { queue: QUEUE, name: "jobs", replicas: 1, leaseMs: 30_000, maxDeliveries: 20 };
    this.enter({ type: "declare", definition });
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
        const kinds = bench.effects.map(({ type }) => type);
        expect(kinds).toContain("enqueued");
        expect(kinds).toContain("deliver");
      }),
      { numRuns: 1_000 },
    );
  });
});
