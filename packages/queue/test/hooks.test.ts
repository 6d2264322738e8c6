import { createMesh } from "@klatsch/mesh";
import { createQueues, QueueError } from "@klatsch/queue";
import type { LeaseVote, NominatedConsumer, OutgoingMessage, QueueHooks } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What an application may write: a class with state of its own. */
class Recorder implements QueueHooks {
  readonly seen: string[] = [];

  beforeEnqueue({ queue, body }: OutgoingMessage): { headers: Record<string, string> } | undefined {
    if (body.length > 10) throw new Error("too long for us");
    this.seen.push(`enters ${queue}`);
    return body.length === 0 ? undefined : { headers: { by: "hook" } };
  }

  async afterAck({ queue, attempt }: { queue: string; attempt: number }): Promise<void> {
    await Promise.resolve();
    this.seen.push(`acked ${queue} at ${attempt}`);
  }

  onDead({ queue, reason, deliveries }: { queue: string; reason: string; deliveries: number }): void {
    this.seen.push(`dead ${queue}: ${reason} after ${deliveries}`);
  }
}

describe("hooks of an application", () => {
  it("see a message enter, change or refuse it, and hear how it ends", async () => {
    const hooks = new Recorder();
    await using nodes = await Nodes.start({ hooks }, "a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1, maxDeliveries: 1 });
    const refused = jobs?.enqueue(bytes("much too long"));
    await expect(refused).rejects.toMatchObject({
      code: "REFUSED",
      outcome: "none",
      cause: new Error("too long for us"),
    });
    const many = await jobs?.enqueueMany([{ body: bytes("x") }, { body: bytes("much too long") }]);
    expect(many?.map(({ error }) => error?.code)).toEqual([undefined, "REFUSED"]);
    const taken = await jobs?.take();
    expect({ ...taken?.headers }).toEqual({ by: "hook" });
    await taken?.ack();
    await jobs?.enqueue(new Uint8Array(0));
    await (await jobs?.take())?.nack({ reason: "broken" });
    await until("it is dead", () => hooks.seen.length === 4);
    const dead = "dead jobs: maxDeliveries after 1";
    expect(hooks.seen).toEqual(["enters jobs", "acked jobs at 1", "enters jobs", dead]);
    await (await jobs?.dead.take())?.ack();
    await until("what was dead is done away with", () => hooks.seen.at(-1) === "acked jobs.dead at 2");
  });

  it("choose who is handed a message, of those with credit", async () => {
    const asked: (readonly NominatedConsumer[])[] = [];
    let favourite = "";
    let chosen = 0;
    const hooks: QueueHooks = {
      nominate: (_queue, candidates) => {
        asked.push(candidates);
        const found = candidates.find(({ session }) => session === favourite);
        if (found !== undefined) chosen += 1;
        return found;
      },
    };
    await using nodes = await Nodes.start({ hooks }, "a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const consumers = [0, 1, 2].map(() => jobs?.consume(() => undefined, { prefetch: 16 }));
    favourite = consumers[1]?.session ?? "";
    for (let no = 0; no < 10; no += 1) await jobs?.enqueue(bytes(`${no}`));
    const acked = (): number => consumers.reduce((sum, one) => sum + (one?.stats.acked ?? 0), 0);
    await until("all are handled", () => acked() === 10);
    expect(chosen).toBeGreaterThan(0);
    expect([consumers[1]?.stats.delivered, asked.length]).toEqual([chosen, 10]);
  });

  it("vote against a lease, which goes to somebody else, and the message is safe meanwhile", async () => {
    const votes: LeaseVote[] = [];
    let refused = "";
    const vote = (lease: LeaseVote): boolean => {
      votes.push(lease);
      return lease.session !== refused;
    };
    await using nodes = await Nodes.start({ hooks: { vote } }, "a", "b", "c");
    const [a, b, c] = await nodes.declare("jobs");
    const unwanted = b?.consume(() => undefined, { prefetch: 1 });
    refused = unwanted?.session ?? "";
    await until("its credit is there", () => nodes.get("a").queues.stats().peers === 2);
    const { id = "" } = (await a?.enqueue(bytes("x"), { timeoutMs: 5_000 })) ?? {};
    expect(await nodes.get("c").queues.resolve(id)).toBe("ACKED");
    const taken = await c?.take();
    expect(taken?.id).toBe(id);
    await taken?.ack();
    expect(unwanted?.stats.delivered).toBe(0);
    expect(votes.filter(({ session }) => session === refused).length).toBeGreaterThan(0);
  });

  it("that throw, hang or answer nonsense decide nothing, harm nobody, and are counted", async () => {
    const logged: unknown[] = [];
    const broken = {
      nominate: () => ({ peer: "?", session: "?" }),
      vote: () => {
        throw new Error("no vote from me");
      },
      afterAck: () => Promise.reject(new Error("after")),
      onDead: () => new Promise<void>(() => undefined),
    };
    const log = (_message: string, fields?: object): void => void logged.push(fields);
    const quiet = (): void => undefined;
    const logger = { debug: quiet, info: quiet, warn: log, error: log };
    await using nodes = await Nodes.start({ hooks: broken, logger }, "a");
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    const consumer = jobs?.consume(async (message) => {
      if (message.body.length > 0) await message.reject("poison");
    });
    await jobs?.enqueue(new Uint8Array(0));
    await jobs?.enqueue(new Uint8Array(1));
    await until("both are handled", () => consumer?.stats.delivered === 2 && consumer.stats.acked === 1);
    await until("all faults are logged", () => logged.length >= 3);
    expect(logged).toEqual(
      expect.arrayContaining([expect.objectContaining({ hook: "vote", fault: "threw" })]),
    );
    expect(logged).toEqual(
      expect.arrayContaining([expect.objectContaining({ hook: "nominate", fault: "invalid" })]),
    );
    expect(logged).toEqual(
      expect.arrayContaining([expect.objectContaining({ hook: "afterAck", fault: "threw" })]),
    );
  });

  it("are refused where they are no functions", async () => {
    await using nodes = await Nodes.start("a");
    const dataDir = nodes.dataDir("b");
    const mesh = await createMesh({ name: "b", dataDir });
    const hooks = { vote: true } as unknown as QueueHooks;
    const made = createQueues({ mesh, dataDir, hooks });
    await expect(made).rejects.toSatisfy(
      (error) => error instanceof QueueError && error.code === "INVALID_OPTIONS",
    );
    await mesh.stop();
  });
});
