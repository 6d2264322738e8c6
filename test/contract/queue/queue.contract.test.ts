import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMesh } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import type { Message, Queue, Queues } from "@klatsch/queue";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CONTRACT } from "./rules.ts";

/** Something that says it is an implementation: queues of nodes that share everything. */
type Implementation = (nodes: readonly Queues[]) => readonly Queues[];

const NAMES = ["a", "b", "c"];
const ours: { readonly mesh: Mesh; readonly queues: Queues }[] = [];
const queuesOf = (): readonly Queues[] => ours.map(({ queues }) => queues);
let directory = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "klatsch-contract-"));
  for (const name of NAMES) {
    const dataDir = join(directory, name);
    const bootstrap = ours.flatMap(({ mesh }) => [...mesh.addresses()]);
    const mesh = await createMesh({ name, bootstrap, dataDir });
    ours.push({ mesh, queues: await createQueues({ mesh, dataDir }) });
  }
  const isAlone = (queues: Queues): boolean => queues.stats().peers < NAMES.length - 1;
  while (queuesOf().some(isAlone)) await new Promise((resolve) => setTimeout(resolve, 10));
});

afterAll(async () => {
  for (const { mesh, queues } of ours) {
    await queues.stop();
    await mesh.stop();
  }
  await rm(directory, { recursive: true, force: true });
});

describe("the contract of queues, kept by three nodes of this package:", () => {
  it.each(CONTRACT)("$name", async ({ run }) => await run(queuesOf()));
});

/** The same object, but for some of what it has. */
function instead<T extends object>(target: T, changed: Partial<T>): T {
  return new Proxy(target, {
    get: (_, name) => {
      if (Object.hasOwn(changed, name)) return Reflect.get(changed, name) as unknown;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function withQueue(change: (queue: Queue) => Partial<Queue>): Implementation {
  return (nodes) =>
    nodes.map((queues) =>
      instead(queues, {
        declare: async (name, init) => {
          const queue = await queues.declare(name, init);
          return instead(queue, change(queue));
        },
      }),
    );
}

const withMessage = (change: (message: Message) => Partial<Message>): Implementation =>
  withQueue((queue) => ({
    take: async (options) => {
      const message = await queue.take(options);
      return instead(message, change(message));
    },
  }));

describe("an implementation breaks the contract that", () => {
  it.each<[string, Implementation]>([
    ["gives every delivery the same epoch", withMessage(() => ({ epoch: 1 }))],
    ["drops headers", withMessage(() => ({ headers: {} }))],
    ["forgets an acknowledgement", withMessage((message) => ({ ack: () => message.release() }))],
    [
      "lets a delivery end twice",
      withMessage((message) => ({ ack: () => message.ack().catch(() => undefined) })),
    ],
    ["takes whatever it is given", withQueue((queue) => ({ enqueue: (body) => queue.enqueue(body) }))],
    [
      "counts nothing",
      withQueue((queue) => ({ counts: async () => ({ ...(await queue.counts()), ready: 0 }) })),
    ],
  ])("%s", async (_what, implementation) => {
    const broken = implementation(queuesOf());
    let caught = 0;
    for (const { run } of CONTRACT.slice(0, 13)) {
      await run(broken).catch(() => (caught += 1));
      if (caught > 0) break;
    }
    expect(caught).toBeGreaterThan(0);
  });
});
