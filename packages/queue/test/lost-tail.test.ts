import { readdir, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

/** Cuts bytes off the newest log of a store that nobody has open. */
async function cutTail(dataDir: string, bytes: number): Promise<void> {
  const directory = join(dataDir, "queue", "level");
  const logs = (await readdir(directory)).filter((file) => file.endsWith(".log"));
  const file = join(directory, logs.toSorted().at(-1) ?? "");
  await truncate(file, (await stat(file)).size - bytes);
}

describe("a store that lost its end", () => {
  it("is put aside before anybody hears of it, although its node wrote as much again meanwhile", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a] = await nodes.declare("jobs");
    for (let no = 0; no < 50; no += 1) await a?.enqueue(new Uint8Array(200).fill(no));
    const listen = nodes
      .get("c")
      .mesh.addresses()
      .map((address) => address.replace(/\/p2p\/.*/, ""));
    await nodes.end("c");
    await cutTail(nodes.dataDir("c"), 3_000);
    // Alone at first: without the others nobody can tell it what is missing, and it opens lanes of its own.
    const mesh = await createMesh({ name: "c", listen, dataDir: nodes.dataDir("c") });
    const queues = await createQueues({ mesh, dataDir: nodes.dataDir("c") });
    const before = queues.stats();
    const alone = await queues.declare("alone", { replicas: 1 });
    for (let no = 0; no < 50; no += 1)
      await alone.enqueue(new Uint8Array(1), { timeoutMs: 100 }).catch(() => 0);
    expect(queues.stats().batches).toBeGreaterThan(before.batches + 50);
    const events: string[] = [];
    queues.on("store:quarantined", () => events.push("quarantined"));
    queues.on("queues:failed", () => events.push("failed"));
    await until("the others have found it again", () => events.includes("failed"));
    expect(events).toEqual(["quarantined", "failed"]);
    await mesh.stop();
  });
});
