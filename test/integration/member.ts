// A process of its own with one mesh member and its queue `jobs`, told over IPC what to do.
import { setTimeout as delay } from "node:timers/promises";

import { createMesh } from "@klatsch/mesh";
import { createQueues, QueueError } from "@klatsch/queue";
import type { Queue } from "@klatsch/queue";

import type { Command, Report } from "./members.ts";

const say = (report: Report): void => void process.send?.(report);
const [name = "", dataDir = "", durability, ...bootstrap] = process.argv.slice(2);
const mesh = await createMesh({ name, bootstrap, dataDir });
const queues = await createQueues({ mesh, dataDir });
const queue = await queues.declare("jobs", {
  leaseMs: 10_000,
  durability: durability === "relaxed" ? "relaxed" : "fsync",
});

const work = new AbortController();
process.on("message", (command: Command) => {
  if (command.type === "rest") work.abort();
  else if (command.type === "produce") void produce(queue, command.inFlight, command.pauseMs);
  else if (command.type === "consume") consume(queue);
  else if (command.type === "enqueueOnce") void enqueueOnce(queue, command.timeoutMs);
  else if (command.type === "leave") void mesh.leave();
  else if (command.type === "counts") void counts(queue);
  else if (command.type === "inspect") void inspect(command.id);
  else say({ type: "peers", count: queues.stats().peers });
});
process.on("disconnect", () => process.exit(0));
say({ type: "started", addresses: [...mesh.addresses()], peerId: mesh.peerId });

async function produce(to: Queue, inFlight: number, pauseMs = 0): Promise<void> {
  let no = 0;
  const one = async (): Promise<void> => {
    while (!work.signal.aborted) {
      no += 1;
      try {
        const { id } = await to.enqueue(new TextEncoder().encode(`${name} ${no}`));
        say({ type: "enqueued", id });
      } catch (error) {
        if (!(error instanceof QueueError)) throw error;
        say({ type: "refused", code: error.code, id: error.id });
      }
      if (pauseMs > 0) await delay(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
}

function consume(from: Queue): void {
  from.consume(
    async (message) => {
      say({ type: "delivered", id: message.id, epoch: message.epoch });
      await message.ack();
      say({ type: "acked", id: message.id });
    },
    { prefetch: 32 },
  );
}

async function counts(of: Queue): Promise<void> {
  const { lanes, weakLanes, movingLanes } = await of.counts();
  say({ type: "counts", lanes, weak: weakLanes, moving: movingLanes });
}

async function inspect(id: string): Promise<void> {
  const { replicas } = await queues.inspect(id);
  const holders = replicas.filter(({ message }) => message !== undefined).map(({ peer }) => peer);
  say({ type: "inspected", id, holders });
}

async function enqueueOnce(to: Queue, timeoutMs: number): Promise<void> {
  const began = performance.now();
  const code = await to.enqueue(new Uint8Array(8), { timeoutMs }).then(
    () => "OK",
    (error: unknown) => (error instanceof QueueError ? error.code : String(error)),
  );
  say({ type: "answered", code, tookMs: performance.now() - began });
}
