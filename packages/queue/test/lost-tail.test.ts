import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const LOST = 12;
const MAGIC = Buffer.from([0x4b, 0x4a, 0xd1, 0x9e]);

/** Wipes the last batches out of the journal of a store that nobody has open, as if they had never reached its disk. */
async function cutTail(dataDir: string, count: number): Promise<void> {
  const directory = join(dataDir, "queue", "journal");
  const found: { readonly path: string; readonly at: number; readonly no: number }[] = [];
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const bytes = await readFile(path);
    for (let at = 0; at + 16 <= bytes.length; at += 64) {
      if (bytes.subarray(at, at + 4).equals(MAGIC))
        found.push({ path, at, no: Number(bytes.readBigUInt64LE(at + 8)) });
    }
  }
  for (const { path, at } of found.toSorted((a, b) => b.no - a.no).slice(0, count)) {
    const file = await open(path, "r+");
    await file.write(Buffer.alloc(64), 0, 64, at);
    await file.close();
  }
}

describe("a store that lost its end", () => {
  it("is put aside before anybody hears of it, although its node wrote as much again meanwhile", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a] = await nodes.declare("jobs");
    for (let no = 0; no < 50; no += 1) await a?.enqueue(new Uint8Array(200).fill(no));
    for (const name of ["c", "b", "a"]) await nodes.end(name);
    await cutTail(nodes.dataDir("c"), LOST);
    // Alone at first: without the others nobody can tell it what is missing, and it opens lanes of its own.
    const { mesh, queues } = await nodes.add("c");
    const events: string[] = [];
    queues.on("store:quarantined", () => events.push("quarantined"));
    queues.on("queues:failed", () => events.push("failed"));
    const before = queues.stats();
    const alone = await queues.declare("alone", { replicas: 1 });
    for (let no = 0; no < 50; no += 1) await alone.enqueue(new Uint8Array(1));
    // Who consumes when the queues fail is told by the message's signal, and can be stopped.
    const only = await queues.declare("only", { exclusive: true });
    const began = Promise.withResolvers<AbortSignal>();
    const consumers = [
      only.consume(() => undefined),
      alone.consume(async ({ signal }) => {
        began.resolve(signal);
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      }),
    ];
    const held = await began.promise;
    expect(queues.stats().batches).toBeGreaterThan(before.batches + LOST);
    expect(events).toEqual([]);
    const bootstrap = mesh.addresses();
    await using meshA = await createMesh({ name: "a", dataDir: nodes.dataDir("a"), bootstrap });
    await using _a = await createQueues({ mesh: meshA, dataDir: nodes.dataDir("a") });
    await using meshB = await createMesh({ name: "b", dataDir: nodes.dataDir("b"), bootstrap });
    await using _b = await createQueues({ mesh: meshB, dataDir: nodes.dataDir("b") });
    await until("the others have found it again", () => events.includes("failed"));
    expect(events).toEqual(["quarantined", "failed"]);
    expect(held.aborted).toBe(true);
    for (const consumer of consumers) await consumer.stop();
    await expect(queues.elect("chief")).rejects.toMatchObject({ code: "FAILED" });
  });
});
