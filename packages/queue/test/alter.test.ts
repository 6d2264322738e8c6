import type { Logger } from "@klatsch/kit";
import { silentLogger } from "@klatsch/kit";
import type { Queue, QueueDescription, Queues } from "@klatsch/queue";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function describedBy(queues: Queues, queue = "jobs"): QueueDescription | undefined {
  return queues.list().find(({ name }) => name === queue);
}

async function codeOf(done: Promise<unknown> | undefined): Promise<unknown> {
  return await done?.then(
    () => "OK",
    (error: unknown) => (error as { readonly code: unknown }).code,
  );
}

const isFull = async (queue: Queue | undefined): Promise<boolean> =>
  (await codeOf(queue?.enqueue(bytes("x")))) === "QUEUE_FULL";

describe("a queue that is altered", () => {
  const warned: string[] = [];
  let nodes: Nodes;

  beforeAll(async () => {
    const logger: Logger = { ...silentLogger, warn: (text) => void warned.push(text) };
    nodes = await Nodes.start({ logger }, "a", "b");
  });

  afterAll(async () => await nodes[Symbol.asyncDispose]());

  /** Keys of what was altered, as the first node knows it. */
  const policies = (): readonly string[] =>
    nodes
      .get("a")
      .mesh.state.shared.entries({ prefix: "queue/policy/" })
      .map(({ key }) => key);

  it("has its new options on all nodes, after a restart and on new ones too", async () => {
    await using own = await Nodes.start("a", "b", "c");
    const [a, b] = await own.declare("jobs", { maxLength: 100, leaseMs: 5_000, maxDeliveries: 3 });
    await b?.alter({ maxLength: null, maxBytes: 9_000, leaseMs: 7_000, bodyBytesMax: 500 });
    await b?.alter({ maxDeliveries: 4, retry: { kind: "fixed", delayMs: 10 }, leaseMs: undefined });
    const wanted = {
      leaseMs: 7_000,
      maxDeliveries: 4,
      retry: { kind: "fixed", delayMs: 10, maxMs: 30_000, jitter: 0.2 },
      maxLength: undefined,
      maxBytes: 9_000,
      bodyBytesMax: 500,
    };
    const isThere = (name: string) => (): boolean => describedBy(own.get(name).queues)?.maxDeliveries === 4;
    for (const name of ["a", "b", "c"]) {
      await until(`${name} knows`, isThere(name));
      expect(describedBy(own.get(name).queues)).toMatchObject(wanted);
    }
    expect([a?.leaseMs, a?.maxDeliveries]).toEqual([7_000, 4]);
    await own.end("c");
    await own.add("c");
    await own.add("d");
    for (const name of ["c", "d"]) {
      await until(`${name} knows`, isThere(name));
      expect(describedBy(own.get(name).queues)).toMatchObject(wanted);
    }
  });

  it("is the one whoever declares it means by its first options or by those it has", async () => {
    const [a] = await nodes.declare("said", { maxLength: 100 });
    await a?.alter({ maxLength: 200 });
    const { queues } = nodes.get("b");
    await until("b knows", () => describedBy(queues, "said")?.maxLength === 200);
    for (const maxLength of [100, 200]) {
      const { id } = (await (await queues.declare("said", { maxLength })).enqueue(bytes("x"))) ?? {};
      const taken = await a?.take();
      expect(taken?.id).toBe(id);
      await taken?.ack();
    }
    await expect(queues.declare("said", { maxLength: 300 })).rejects.toMatchObject({
      code: "QUEUE_CONFLICT",
      message: "queue said exists with maxLength 200, not 300",
    });
  });

  it("takes no more than its new limit, counted on nodes that had none to count for", async () => {
    const [a, b] = await nodes.declare("full");
    for (let no = 0; no < 5; no += 1) await a?.enqueue(bytes("x"));
    await b?.alter({ maxLength: 5 });
    await until("b is told", async () => await isFull(b));
    await b?.alter({ maxLength: null });
    await until("a is told", async () => !(await isFull(a)));
  });

  it("takes bodies up to its new length", async () => {
    const [a, b] = await nodes.declare("long", { bodyBytesMax: 3 });
    expect(await codeOf(b?.enqueue(bytes("four")))).toBe("MESSAGE_TOO_LARGE");
    await a?.alter({ bodyBytesMax: 4 });
    await until("b knows", async () => (await codeOf(b?.enqueue(bytes("four")))) === "OK");
  });

  it("gives up messages as it is told now, those enqueued before too", async () => {
    const [a, b] = await nodes.declare("failing", { retry: { kind: "fixed", delayMs: 20_000 } });
    await a?.enqueue(bytes("x"));
    await b?.alter({ maxDeliveries: 1 });
    await until("a knows", () => a?.maxDeliveries === 1);
    b?.consume(() => {
      throw new Error("broken");
    });
    await until("it is dead", async () => (await a?.counts())?.dead === 1);
  });

  it("refuses what cannot be changed, or what no queue can have, and stays what it is", async () => {
    const [queue] = await nodes.declare("wrong", { maxLength: 3 });
    const wrong: readonly [unknown, string][] = [
      [{ replicas: 5 }, "changes.replicas: cannot be changed of a queue that is there"],
      [{ maxLenght: 5 }, "changes.maxLenght: cannot be changed of a queue that is there"],
      [{ leaseMs: 1 }, "changes.leaseMs: "],
      [{ maxLength: 0 }, "changes.maxLength: "],
      [{ retry: { kind: "often" } }, "changes.retry.kind: "],
      [undefined, "changes: "],
      [[], "changes: "],
      ["x", "changes: "],
    ];
    for (const [changes, text] of wrong) {
      await expect(queue?.alter(changes as never)).rejects.toMatchObject({
        code: "INVALID_OPTIONS",
        message: expect.stringContaining(text) as string,
      });
    }
    await queue?.alter({});
    expect(describedBy(nodes.get("a").queues, "wrong")).toMatchObject({ maxLength: 3, replicas: 3 });
  });

  it("is as it was declared where a member says what no queue can be, and that is logged", async () => {
    const [queue] = await nodes.declare("odd", { maxLength: 3 });
    const { shared } = nodes.get("a").mesh.state;
    const before = new Set(policies());
    await queue?.alter({ maxLength: 5 });
    const [key = ""] = policies().filter((one) => !before.has(one));
    warned.length = 0;
    for (const value of ["x", { maxLength: -1 }, { leaseMs: "long" }, [1]]) {
      await shared.set(key, value);
      expect(describedBy(nodes.get("a").queues, "odd")).toMatchObject({ maxLength: 3, leaseMs: 30_000 });
    }
    const text = "a member altered a queue to what no queue can be";
    await until("both have logged it", () => warned.filter((one) => one === text).length >= 5);
  });

  it("leaves nothing to the next one of its name", async () => {
    const before = policies();
    const [a] = await nodes.declare("next", { maxLength: 3 });
    await a?.alter({ maxLength: 5 });
    await until("it is known", () => describedBy(nodes.get("b").queues, "next")?.maxLength === 5);
    const { queues } = nodes.get("b");
    await queues.delete("next");
    await until("nothing is left", () => policies().join() === before.join());
    await queues.declare("next", { maxLength: 3 });
    expect(describedBy(queues, "next")?.maxLength).toBe(3);
  });

  it("stays as it is once the queues have stopped", async () => {
    const [queue] = await nodes.declare("last", { maxLength: 3 });
    await nodes.get("a").queues.stop();
    await expect(queue?.alter({ maxLength: 5 })).rejects.toMatchObject({ code: "STOPPED" });
    expect(queue?.maxDeliveries).toBe(20);
  });
});
