import { PublishError } from "@klatsch/queue";
import type { Published, Queue } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { publishTo } from "../src/host/publish.ts";
import { QueueError } from "../src/errors.ts";
import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function drainTexts(queue: Queue): Promise<readonly string[]> {
  const messages = await queue.peek({ state: "ready" });
  return messages.map(({ body }) => new TextDecoder().decode(body)).toSorted();
}

describe("an exchange on three nodes", () => {
  it("routes what any node publishes into every queue that is bound on any node", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b, c] = ["a", "b", "c"].map((name) => nodes.get(name).queues);
    const [orders, audit] = [await a!.declare("orders"), await b!.declare("audit")];
    const exchange = await a!.declareExchange("events", { kind: "topic", alternate: "lost" });
    await exchange.bind("orders", { key: "order.*" });
    await exchange.bind("orders", { key: "order.*" });
    await exchange.bind("audit", { key: "#" });
    await until("c knows the bindings and queues", () => {
      const known = c!.exchanges().includes("events") && c!.exchange("events").bindings().length === 2;
      return known && c!.list().length === 2;
    });
    const { outcomes } = await c!.exchange("events").publish(bytes("1"), { key: "order.new" });
    expect(outcomes.map(({ queue }) => queue)).toEqual(["audit", "orders"]);
    await c!.exchange("events").publish(bytes("2"), { key: "login" });
    expect([await drainTexts(orders), await drainTexts(audit)]).toEqual([["1"], ["1", "2"]]);
    await expect(a!.declareExchange("events", { kind: "fanout" })).rejects.toMatchObject({
      code: "EXCHANGE_CONFLICT",
    });
    expect(await exchange.unbind("audit", { key: "#" })).toBe(true);
    expect(await exchange.unbind("audit", { key: "#" })).toBe(false);
    await expect(exchange.publish(bytes("3"), { key: "login" })).rejects.toMatchObject({
      code: "UNROUTABLE",
    });
    const lost = await a!.declareExchange("lost", { kind: "fanout" });
    await lost.bind("audit");
    expect((await exchange.publish(bytes("4"), { key: "login" })).outcomes).toHaveLength(1);
    await a!.deleteExchange("events");
    expect(() => a!.exchange("events")).toThrow(/events/);
  });

  it("keeps exchanges and bindings across a restart", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    await queues.declare("jobs");
    await (await queues.declareExchange("in", { kind: "fanout" })).bind("jobs");
    await nodes.end("a");
    const again = (await nodes.add("a")).queues;
    expect((await again.exchange("in").publish(bytes("x"))).outcomes).toHaveLength(1);
  });

  it("says which queues did not confirm, and a retry enqueues only there", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const jobs = await queues.declare("jobs");
    const exchange = await queues.declareExchange("in", { kind: "fanout" });
    await exchange.bind("jobs");
    await exchange.bind("later");
    const failure: unknown = await exchange.publish(bytes("x")).catch((error: unknown) => error);
    if (!(failure instanceof PublishError)) throw new Error("it should be incomplete");
    expect([failure.code, failure.outcome]).toEqual(["PUBLISH_INCOMPLETE", "none"]);
    const later = await queues.declare("later");
    const done = await exchange.publish(bytes("x"), { retry: failure.published });
    expect(done.outcomes.every(({ error }) => error === undefined)).toBe(true);
    expect(done.publishId).toBe(failure.published.publishId);
    expect([await drainTexts(jobs), await drainTexts(later)]).toEqual([["x"], ["x"]]);
  });
});

describe("publishing again", () => {
  const indeterminate = (id: string): Published => {
    const error = new QueueError("INDETERMINATE", "no quorum", { outcome: "unknown", id });
    return { publishId: "p", outcomes: [{ queue: "q", id, error }] };
  };

  it.each([
    ["ACKED", 0, false],
    ["NEVER", 1, false],
    ["PENDING", 0, true],
    ["UNKNOWN", 0, true],
  ] as const)("enqueues after %s %i times", async (resolution, times, open) => {
    let enqueued = 0;
    const port = {
      enqueue: async () => {
        enqueued += 1;
        return { id: "new" };
      },
      deduplicates: () => false,
      resolve: async () => resolution,
    };
    const { outcomes } = await publishTo(port, ["q"], indeterminate("old"));
    expect([enqueued, outcomes[0]?.error !== undefined]).toEqual([times, open]);
  });
});
