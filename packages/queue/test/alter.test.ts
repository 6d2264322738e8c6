import type { Logger } from "@klatsch/kit";
import { silentLogger } from "@klatsch/kit";
import type { Queue, QueueDescription, Queues } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function describedBy(queues: Queues): QueueDescription | undefined {
  return queues.list().find(({ name }) => name === "jobs");
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
  it("has its new options on all nodes, after a restart and on new ones too", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs", { maxLength: 100, leaseMs: 5_000, maxDeliveries: 3 });
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
    const isThere = (name: string) => (): boolean => describedBy(nodes.get(name).queues)?.maxDeliveries === 4;
    for (const name of ["a", "b", "c"]) {
      await until(`${name} knows`, isThere(name));
      expect(describedBy(nodes.get(name).queues)).toMatchObject(wanted);
    }
    expect([a?.leaseMs, a?.maxDeliveries]).toEqual([7_000, 4]);
    await nodes.end("c");
    await nodes.add("c");
    await nodes.add("d");
    for (const name of ["c", "d"]) {
      await until(`${name} knows`, isThere(name));
      expect(describedBy(nodes.get(name).queues)).toMatchObject(wanted);
    }
  });

  it("is the one whoever declares it means by its first options or by those it has", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a] = await nodes.declare("jobs", { maxLength: 100 });
    await a?.alter({ maxLength: 200 });
    const { queues } = nodes.get("b");
    await until("b knows", () => describedBy(queues)?.maxLength === 200);
    for (const maxLength of [100, 200]) {
      const { id } = (await (await queues.declare("jobs", { maxLength })).enqueue(bytes("x"))) ?? {};
      const taken = await a?.take();
      expect(taken?.id).toBe(id);
      await taken?.ack();
    }
    await expect(queues.declare("jobs", { maxLength: 300 })).rejects.toMatchObject({
      code: "QUEUE_CONFLICT",
      message: "queue jobs exists with maxLength 200, not 300",
    });
  });

  it("takes no more than its new limit, counted on nodes that had none to count for", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b, c] = await nodes.declare("jobs");
    for (let no = 0; no < 5; no += 1) await a?.enqueue(bytes("x"));
    await c?.alter({ maxLength: 5 });
    await until("b is told", async () => await isFull(b));
    await b?.alter({ maxLength: null });
    await until("a is told", async () => !(await isFull(a)));
  });

  it("takes bodies up to its new length", async () => {
    await using nodes = await Nodes.start("a", "b");
    const [a, b] = await nodes.declare("jobs", { bodyBytesMax: 3 });
    expect(await codeOf(b?.enqueue(bytes("four")))).toBe("MESSAGE_TOO_LARGE");
    await a?.alter({ bodyBytesMax: 4 });
    await until("b knows", async () => (await codeOf(b?.enqueue(bytes("four")))) === "OK");
  });

  it("gives up messages as it is told now, those enqueued before too", async () => {
    await using nodes = await Nodes.start("a", "b");
    const [a, b] = await nodes.declare("jobs", { retry: { kind: "fixed", delayMs: 20_000 } });
    await a?.enqueue(bytes("x"));
    await b?.alter({ maxDeliveries: 1 });
    await until("a knows", () => a?.maxDeliveries === 1);
    b?.consume(() => {
      throw new Error("broken");
    });
    await until("it is dead", async () => (await a?.counts())?.dead === 1);
  });

  it("refuses what cannot be changed, or what no queue can have, and stays what it is", async () => {
    await using nodes = await Nodes.start("a");
    const [queue] = await nodes.declare("jobs", { maxLength: 3 });
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
    expect(describedBy(nodes.get("a").queues)).toMatchObject({ maxLength: 3, replicas: 3 });
    await nodes.get("a").queues.stop();
    await expect(queue?.alter({ maxLength: 5 })).rejects.toMatchObject({ code: "STOPPED" });
  });

  it("is as it was declared where a member says what no queue can be, and that is logged", async () => {
    const warned: string[] = [];
    const logger: Logger = { ...silentLogger, warn: (text) => void warned.push(text) };
    await using nodes = await Nodes.start({ logger }, "a");
    const [queue] = await nodes.declare("jobs", { maxLength: 3 });
    const { shared } = nodes.get("a").mesh.state;
    await queue?.alter({ maxLength: 5 });
    const [entry] = shared.entries({ prefix: "queue/policy/" });
    for (const value of ["x", { maxLength: -1 }, { leaseMs: "long" }, [1]]) {
      await shared.set(entry?.key ?? "", value);
      expect(describedBy(nodes.get("a").queues)).toMatchObject({ maxLength: 3, leaseMs: 30_000 });
    }
    expect(warned.filter((text) => text.startsWith("a member altered a queue"))).toHaveLength(4);
  });

  it("leaves nothing to the next one of its name", async () => {
    await using nodes = await Nodes.start("a", "b");
    const [a] = await nodes.declare("jobs", { maxLength: 3 });
    await a?.alter({ maxLength: 5 });
    await until("it is known", () => describedBy(nodes.get("b").queues)?.maxLength === 5);
    const { queues, mesh } = nodes.get("b");
    await queues.delete("jobs");
    expect(mesh.state.shared.entries({ prefix: "queue/policy/" })).toEqual([]);
    await queues.declare("jobs", { maxLength: 3 });
    expect(describedBy(queues)?.maxLength).toBe(3);
  });
});
