import { createMesh } from "@klatsch/mesh";
import { createRpc } from "@klatsch/rpc";
import type { OnceQueues, Tracing } from "@klatsch/rpc";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";

import { until } from "./support/nodes.ts";

it("once tries a scope again that could not be taken, and stops when those it leaves have ended", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "klatsch-once-"));
  const mesh = await createMesh({ name: "a", mesh: "alone", tags: { zone: "1" }, dataDir });
  let onDeleted: (event: { name: string }) => void = () => undefined;
  let declared = 0;
  let failures = 1;
  let taken = 0;
  const stopped = Promise.withResolvers<void>();
  const queues = {
    declare: async (name: string, options: object) => {
      declared += 1;
      expect(options).toEqual({ deadTtlMs: 7 * 24 * 3_600_000 });
      if (name.includes("tag") && failures-- > 0) throw new Error("no quorum");
      return await Promise.resolve({
        enqueue: () => Promise.reject(new Error("not used")),
        consume: () => {
          taken += 1;
          return { stop: () => (name.includes("tag") ? stopped.promise : Promise.resolve()) };
        },
      });
    },
    inspect: () => Promise.reject(new Error("not used")),
    on: (_: "queue:deleted", listener: (event: { name: string }) => void) => {
      onDeleted = listener;
      return () => undefined;
    },
  };
  const rpc = createRpc({ mesh, once: { queues } });
  await until("three scopes are taken", () => declared === 4 && taken === 3);
  await mesh.setTags({ zone: "1", other: "x" });
  await until("both tags are taken", () => taken === 5);
  onDeleted({ name: "klatsch.once.mesh" });
  onDeleted({ name: "another" });
  await until("a deleted one is declared and taken again", () => declared === 7 && taken === 6);
  await mesh.setTags({});
  let hasStopped = false;
  const stopping = rpc.stop().then(() => (hasStopped = true));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(hasStopped).toBe(false);
  stopped.resolve();
  await stopping;
  await mesh.stop();
  await rm(dataDir, { recursive: true, force: true });
});

it("a createRpc that fails leaves nothing behind that is in the way of the next", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "klatsch-once-"));
  const mesh = await createMesh({ name: "a", mesh: "alone", dataDir });
  const unused = (): never => {
    throw new Error("not used");
  };
  const queues: OnceQueues = {
    declare: unused,
    inspect: unused,
    on: () => {
      throw new Error("stopped");
    },
  };
  for (const method of ["declare", "inspect", "on"] as const) {
    const without = Object.assign({ ...queues }, { [method]: undefined });
    expect(() => createRpc({ mesh, once: { queues: without } })).toThrow(
      expect.objectContaining({
        code: "INVALID_OPTIONS",
        message: expect.stringMatching(/^createRpc\.once\.queues: /),
      }),
    );
  }
  const tracing = { outgoing: unused } as unknown as Tracing;
  expect(() => createRpc({ mesh, tracing })).toThrow(
    expect.objectContaining({ code: "INVALID_OPTIONS", message: expect.stringContaining("incoming()") }),
  );
  expect(() => createRpc({ mesh, once: { queues } })).toThrow("stopped");
  await new Promise((resolve) => setImmediate(resolve)); // Channels are closed once their last words have left.
  const rpc = createRpc({ mesh });
  expect(() => createRpc({ mesh })).toThrow(expect.objectContaining({ code: "CHANNEL_EXISTS" }));
  await rpc.stop();
  await createRpc({ mesh }).stop();
  await mesh.stop();
  await rm(dataDir, { recursive: true, force: true });
});
