import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { contract, createRpc, method } from "@klatsch/rpc";
import type { OnceTask } from "@klatsch/rpc";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";

/** Looks again every few milliseconds. */
async function until(what: string, condition: () => boolean): Promise<void> {
  await vi.waitFor(() => expect(condition(), what).toBe(true), { timeout: 15_000, interval: 5 });
}

const text = z.string();
const api = contract({
  name: "api",
  methods: {
    wash: method({ input: text, output: z.undefined(), access: "members" }),
    break: method({ input: text, output: z.undefined(), access: "members" }),
    secret: method({ input: text, output: z.undefined(), access: "self" }),
  },
});

describe("once", () => {
  const runs: string[] = [];
  const ends = new AsyncDisposableStack();
  const nodes: Awaited<ReturnType<typeof start>>[] = [];
  let directory: string;

  async function start(name: string, cloud: string, zone: string) {
    const dataDir = join(directory, name);
    const bootstrap = nodes.flatMap(({ mesh }) => [...mesh.addresses()]);
    const mesh = await createMesh({ name, cloud, tags: { zone }, dataDir, bootstrap });
    const queues = await createQueues({ mesh, dataDir });
    const rpc = createRpc({ mesh, once: { queues } });
    const stop = async (): Promise<void> => {
      await rpc.stop({ timeoutMs: 100 });
      await queues.stop();
      await mesh.stop();
    };
    ends.defer(stop);
    rpc.serve(api, {
      wash: (input, { idempotencyKey, caller, signal }) => {
        runs.push(`${name} ${input} ${caller.self} ${idempotencyKey !== undefined}`);
        const hung = runs.filter((run) => run.includes(" hang ") && !run.startsWith("c"));
        if (input !== "hang" || name === "c" || hung.length > 1) return undefined;
        return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error())));
      },
      break: () => {
        throw Object.assign(new Error("no water"), { code: "NO_WATER" });
      },
      secret: () => undefined,
    });
    return { name, mesh, queues, rpc, stop };
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "klatsch-once-"));
    for (const [name, cloud, zone] of [
      ["a", "north", "1"],
      ["b", "north", "2"],
      ["c", "south", "2"],
    ] as const)
      nodes.push(await start(name, cloud, zone));
    await until("all are linked", () =>
      nodes.every(({ rpc, queues }) => rpc.stats().links === 6 && queues.stats().peers === 2),
    );
  });
  afterAll(async () => {
    await ends.disposeAsync();
    await rm(directory, { recursive: true, force: true });
  });

  const first = (): (typeof nodes)[number] => nodes[0] ?? expect.unreachable();
  const states = async (tasks: readonly OnceTask[]): Promise<string[]> => {
    const all = await Promise.all(tasks.map(async ({ id }) => await first().rpc.onceStatus(id)));
    return all.map(({ state }) => state);
  };

  it("runs a task once in each scope", { timeout: 60_000 }, async () => {
    const { rpc } = first();
    const task = { contract: api, method: "wash", input: "x" } as const;
    const whos = async (scope: Parameters<typeof rpc.once>[0]["scope"]): Promise<string[]> => {
      runs.length = 0;
      const tasks = await rpc.once({ scope, task });
      await until("all ran", () => runs.length >= tasks.length);
      for (;;) if ((await states(tasks)).every((state) => state === "done")) break;
      expect(runs.every((run) => run.endsWith(" x true true"))).toBe(true);
      return runs.map((run) => run.slice(0, 1)).toSorted();
    };
    expect((await whos("mesh")).length).toBe(1);
    expect(await whos("node")).toEqual(["a", "b", "c"]);
    expect((await whos("cloud")).map((name) => (name === "c" ? "south" : "north"))).toEqual([
      "north",
      "south",
    ]);
    expect((await whos({ tag: "zone" })).map((name) => (name === "a" ? 1 : 2))).toEqual([1, 2]);
  });

  it("follows a node to its new tags", { timeout: 60_000 }, async () => {
    const { rpc, mesh } = first();
    const task = { contract: api, method: "wash", input: "moved" } as const;
    const ranAt = async (): Promise<string[]> => {
      runs.length = 0;
      const tasks = await rpc.once({ scope: { tag: "zone" }, task });
      await until("all ran", () => runs.length >= tasks.length);
      return runs.map((run) => run.slice(0, 1)).toSorted();
    };
    await mesh.setTags({ zone: "3" });
    expect(await ranAt()).toEqual(["a", expect.stringMatching(/[bc]/)]);
    await mesh.setTags({ zone: "2" });
    // Nobody is in zone 3 any more, and a node in zone 2 takes the only task there is.
    expect(await ranAt()).toHaveLength(1);
    await mesh.setTags({ zone: "1" });
    expect(await ranAt()).toEqual(["a", expect.stringMatching(/[bc]/)]);
  });

  it("does not begin before its time, and says why it is not done", async () => {
    const { rpc } = first();
    runs.length = 0;
    const at = new Date(Date.now() + 400);
    const later = await rpc.once({
      scope: "mesh",
      task: { contract: api, method: "wash", input: "late" },
      at,
    });
    expect(await states(later)).toEqual(["waiting"]);
    expect(runs).toEqual([]);
    await until("it ran", () => runs.length === 1);
    expect(Date.now()).toBeGreaterThanOrEqual(at.getTime() - 20);
    const [bad] = await rpc.once({ scope: "mesh", task: { contract: api, method: "break", input: "x" } });
    const reasons = async (): Promise<string[]> => {
      const { failures } = await rpc.onceStatus(bad?.id ?? "");
      return failures.map(({ reason }) => reason);
    };
    while ((await reasons()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await reasons())[0]).toMatch(/NO_WATER at [abc]: no water/);
  });

  it("runs elsewhere when the node that ran it goes", async () => {
    runs.length = 0;
    const tasks = await first().rpc.once({
      scope: "cloud",
      task: { contract: api, method: "wash", input: "hang" },
    });
    expect(tasks.map(({ scope }) => scope).toSorted()).toEqual(["cloud=north", "cloud=south"]);
    await until("it runs in the north", () => runs.some((run) => /^[ab] hang/.test(run)));
    const held = nodes.find(({ name }) => runs.some((run) => run.startsWith(`${name} hang`) && name !== "c"));
    const other = nodes.find(({ name }) => name !== "c" && name !== held?.name);
    await held?.stop();
    await until("the other one runs it", () => runs.some((run) => run.startsWith(`${other?.name} hang`)));
  });

  it("is refused where it cannot be", async () => {
    const { rpc } = nodes[2] ?? expect.unreachable();
    const task = { contract: api, method: "secret", input: "x" } as const;
    await expect(rpc.once({ scope: "mesh", task })).rejects.toMatchObject({
      code: "DENIED",
      outcome: "none",
    });
    const dataDir = join(directory, "bare");
    await using mesh = await createMesh({ name: "bare", dataDir });
    await using bare = createRpc({ mesh });
    await expect(bare.once({ scope: "mesh", task })).rejects.toMatchObject({ code: "NO_QUEUE" });
    await expect(bare.onceStatus("x")).rejects.toMatchObject({ code: "NO_QUEUE" });
  });
});
