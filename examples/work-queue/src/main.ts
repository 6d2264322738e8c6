import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";

const directory = await mkdtemp(join(tmpdir(), "work-queue-"));

async function startNode(name: string, bootstrap: readonly string[]) {
  const dataDir = join(directory, name);
  const mesh = await createMesh({ name, dataDir, bootstrap });
  const queues = await createQueues({ mesh, dataDir });
  return { name, mesh, queues, jobs: await queues.declare("jobs") };
}

// Three nodes in one process, to fit a page; as a rule each is a process on a machine of its own.
const ada = await startNode("ada", []);
const nodes = [
  ada,
  await startNode("bob", ada.mesh.addresses()),
  await startNode("eve", ada.mesh.addresses()),
];
while (nodes.some(({ queues }) => queues.stats().peers < 2)) await delay(10);

let left = 9;
const done = Promise.withResolvers<void>();
const consumers = nodes.map(({ name, jobs }) =>
  jobs.consume(({ body }) => {
    console.log(`${name} did ${Buffer.from(body).toString()}`); // returning acknowledges, throwing brings it back
    if ((left -= 1) === 0) done.resolve();
  }),
);

// Resolves once two of three disks have the message: from then on it outlives the loss of any one of them.
for (let number = left; number > 0; number -= 1) await ada.jobs.enqueue(Buffer.from(`job ${number}`));
await done.promise;

// All consumers first: the last acknowledgements still need a quorum.
for (const part of [consumers, nodes.map(({ queues }) => queues), nodes.map(({ mesh }) => mesh)]) {
  await Promise.all(part.map((each) => each.stop()));
}
await rm(directory, { recursive: true });
