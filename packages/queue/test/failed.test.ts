import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { Nodes } from "./support/nodes.ts";

const items = Array.from({ length: 8 }, () => ({ body: new Uint8Array(4) }));

describe("queues that fail while enqueues are under way", () => {
  it("tell each by which id to ask what became of it, and later ones that nothing did", async () => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const jobs = await queues.declare("jobs", { replicas: 1 });
    const ordered = await queues.declare("ordered", { replicas: 1, groups: true });
    await rm(join(nodes.dataDir("a"), "queue"), { recursive: true });
    for (let errors: unknown[] = []; errors.length === 0;) {
      const outcomes = await Promise.all([jobs.enqueueMany(items), ordered.enqueueMany(items)]);
      errors = outcomes.flat().flatMap(({ error }) => error ?? []);
      if (errors.length === 0) continue;
      const told = { code: "FAILED", outcome: "unknown", id: expect.stringMatching(/^[0-9a-f]/) };
      expect(errors).toContainEqual(expect.objectContaining(told));
    }
    const none = { code: "FAILED", outcome: "none", id: undefined };
    await expect(jobs.enqueue(new Uint8Array(4))).rejects.toMatchObject(none);
  });
});
