import { createMesh } from "@klatsch/mesh";
import { contract, createRpc, method, nodeContract, RpcError } from "@klatsch/rpc";
import type { ClientMiddleware, OnceQueues, Rpc } from "@klatsch/rpc";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const text = z.string();
const number = z.number();
const open = { input: text, output: text, access: "members" } as const;
const api = contract({
  name: "api",
  methods: {
    echo: method(open),
    held: method(open),
    deaf: method(open),
    within: method(open),
    note: method(open),
    large: method({ input: number, output: z.instanceof(Uint8Array), access: "members" }),
    ticks: method({ input: number, output: number, access: "members", stream: "output" }),
  },
});

/** Handlers that end when the test lets them. */
class Server {
  readonly #name: string;
  readonly held = Promise.withResolvers<void>();
  readonly begun: string[] = [];
  readonly aborted: unknown[] = [];
  /** What `within` does. */
  inner: () => Promise<string> = async () => await Promise.resolve("");

  constructor(name: string) {
    this.#name = name;
  }

  echo(input: string): string {
    return `${this.#name} ${input}`;
  }
  async #hold(input: string, signal: AbortSignal): Promise<string> {
    this.begun.push(input);
    const aborted = new Promise<never>((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        this.aborted.push(signal.reason);
        reject(new Error("told to end"));
      });
    });
    await Promise.race([this.held.promise, aborted]);
    return this.echo(input);
  }
  serve(rpc: Rpc): () => void {
    return rpc.serve(api, {
      echo: (input) => this.echo(input),
      held: async (input, { signal }) => await this.#hold(input, signal),
      deaf: async (input) => {
        this.begun.push(input);
        return await new Promise<never>(() => undefined);
      },
      within: async (input) => {
        this.begun.push(input);
        await this.held.promise;
        return await this.inner();
      },
      note: async (input, { signal }) => await this.#hold(input, signal),
      large: async (bytes) => {
        this.begun.push("large");
        await this.held.promise;
        return new Uint8Array(bytes).fill(7);
      },
      ticks: async function* (this: Server, to: number) {
        this.begun.push("ticks");
        for (let no = 0; no < to; no += 1) {
          if (no === 10) await this.held.promise;
          yield no;
        }
      }.bind(this),
    });
  }
}

async function cluster(...names: readonly string[]) {
  const nodes = await Nodes.start(...names);
  const servers = new Map(names.map((name) => [name, new Server(name)]));
  for (const [name, server] of servers) server.serve(nodes.get(name).rpc);
  const at = (name: string) => ({ ...nodes.get(name), server: servers.get(name) ?? expect.unreachable() });
  return { nodes, at };
}

/** What became of it: the value, or the code and outcome of its error. */
async function fate(work: () => unknown): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    return error instanceof RpcError ? `${error.code} ${error.outcome}` : String(error);
  }
}

async function listed<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const FOREVER = { deadlineMs: 2_000_000 };

describe("a stop", () => {
  it("refuses new calls so that others may take them, and ends when those under way have", async () => {
    const { nodes, at } = await cluster("a", "b", "c");
    await using _ = nodes;
    const { rpc, id, server } = at("b");
    const client = at("a").rpc.peer(id, api);
    const held = client.held("x");
    const stream = listed(client.ticks(500));
    await until("both run", () => server.begun.length === 2);
    let stopped = false;
    const stopping = rpc.stop().then(() => (stopped = true));
    const refused: unknown = await client.echo("x").catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "UNAVAILABLE", outcome: "none", retryable: true });
    expect(await fate(() => listed(client.ticks(1)))).toBe("UNAVAILABLE none");
    expect(await at("a").rpc.any(["b", "c"], api).echo("x")).toBe("c x");
    expect(() => server.serve(rpc)).toThrow(expect.objectContaining({ code: "STOPPED" }));
    expect(stopped).toBe(false);
    server.held.resolve();
    expect(await held).toBe("b x");
    expect((await stream).length).toBe(500);
    await stopping;
    expect([server.begun.length, server.aborted]).toEqual([2, []]);
    expect(await fate(() => rpc.peer(id, api).echo("x"))).toBe("STOPPED none");
    await rpc.stop();
  });

  it("never leaves a caller in doubt about a call that did not begin, however many are made", async () => {
    const { nodes, at } = await cluster("a", "b", "c");
    await using _ = nodes;
    const { rpc } = at("a");
    const [direct, anybody] = [rpc.peer(at("b").id, api), rpc.any(["b", "c"], api)];
    const stop = new AbortController();
    const direct64 = Array.from({ length: 64 }, async () => {
      for (;;) {
        const what = await fate(() => direct.echo("x"));
        if (what !== "b x") return what;
      }
    });
    const wrong: unknown[] = [];
    let taken = 0;
    const anybody64 = Array.from({ length: 64 }, async () => {
      while ((!stop.signal.aborted || taken === 0) && wrong.length === 0) {
        const what = await fate(() => anybody.echo("x"));
        if (what === "c x") taken += 1;
        else if (what !== "b x") wrong.push(what);
      }
    });
    await until("calls are under way", () => taken > 500);
    await at("b").rpc.stop();
    taken = 0;
    stop.abort();
    const told = new Set(await Promise.all(direct64));
    await Promise.all(anybody64);
    expect(told).toEqual(new Set(["UNAVAILABLE none"]));
    expect(wrong).toEqual([]);
  });

  it("is known to the others, who choose that node again once it has another rpc", async () => {
    const asked: string[] = [];
    const watch: ClientMiddleware = async ({ peer }, next) => {
      asked.push(peer);
      return await next();
    };
    const { nodes, at } = await cluster("b", "c");
    await using _ = nodes;
    const { rpc, mesh: own } = await nodes.add("a", { middleware: { client: [watch] } });
    const { id, mesh, server } = at("b");
    const held = rpc.peer(id, api).held("x");
    await until("it runs", () => server.begun.length === 1);
    const stopping = at("b").rpc.stop();
    await until("a knows", () => own.state.entries().length > 0);
    asked.length = 0;
    const anybody = rpc.any(["b", "c"], api);
    for (let turn = 0; turn < 6; turn += 1) expect(await anybody.echo("x")).toBe("c x");
    expect(new Set(asked)).toEqual(new Set([at("c").id]));
    expect(await fate(() => rpc.any(["b"], api).echo("x"))).toBe("UNAVAILABLE none");
    server.held.resolve();
    expect([await held, await stopping]).toEqual(["b x", undefined]);
    await until("its sessions have ended", () => rpc.stats().links === 3);
    // It is in the mesh, and has no rpc: nobody waits for a link with it.
    expect(await fate(() => rpc.peer(id, api).echo("x", FOREVER))).toBe("UNAVAILABLE none");
    await using again = createRpc({ mesh });
    server.serve(again);
    await until("it has its sessions again", () => rpc.stats().links === 6);
    await until("a knows", () => own.state.entries().length === 0);
    const heard = [await anybody.echo("y"), await anybody.echo("y")];
    expect(heard.toSorted()).toEqual(["b y", "c y"]);
  });

  it("is not taken back by an rpc that cannot begin while it goes on", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc, id, mesh, server } = at("b");
    const held = fate(() => at("a").rpc.peer(id, api).held("x"));
    await until("it runs", () => server.begun.length === 1);
    const stopping = rpc.stop();
    const said = mesh.state.entries().length;
    expect(() => createRpc({ mesh })).toThrow(expect.objectContaining({ code: "CHANNEL_EXISTS" }));
    expect([said, mesh.state.entries().length]).toEqual([1, 1]);
    server.held.resolve();
    expect([await held, await stopping]).toEqual(["b x", undefined]);
  });

  it("aborts what takes longer, with an error that says so, and waits for no handler that does not listen", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc, id, server } = at("b");
    const client = at("a").rpc.peer(id, api);
    const fates = [
      fate(() => client.held("x", FOREVER)),
      fate(() => client.deaf("x", FOREVER)),
      fate(() => listed(client.ticks(20))),
    ];
    await until("all run", () => server.begun.length === 3);
    await rpc.stop({ timeoutMs: 40 });
    expect(await Promise.all(fates)).toEqual(Array(3).fill("UNAVAILABLE unknown"));
    expect(server.aborted).toEqual([
      expect.objectContaining({ name: "RpcError", code: "UNAVAILABLE", retryable: true }),
    ]);
  });

  it("may be asked again to wait less, and never waits longer than it was to", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc, id, server } = at("b");
    const hanging = fate(() => at("a").rpc.peer(id, api).deaf("x", FOREVER));
    await until("it runs", () => server.begun.length === 1);
    for (const timeoutMs of [-1, Number.NaN, Infinity, 2 ** 31, "5", null] as number[])
      expect(await fate(() => rpc.stop({ timeoutMs }))).toBe("INVALID_OPTIONS none");
    expect(await fate(() => rpc.stop({ graceMs: 5 } as object))).toBe("INVALID_OPTIONS none");
    expect(await at("a").rpc.peer(id, api).echo("x")).toBe("b x"); // Nothing has stopped.
    const stopping = rpc.stop({ timeoutMs: 2_000_000 });
    const second = rpc.stop({ timeoutMs: 2_000_001 });
    const third = rpc.stop({ timeoutMs: 0 });
    await Promise.all([stopping, second, third]);
    expect(await hanging).toBe("UNAVAILABLE unknown");
  });

  it("lets handlers under way call others, and their own node", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc, id, server } = at("b");
    server.inner = async () =>
      `${await rpc.peer(at("a").id, api).echo("1")}, ${await rpc.peer(id, api).echo("2")}`;
    const outer = at("a").rpc.peer(id, api).within("x");
    await until("it runs", () => server.begun.length === 1);
    const stopping = rpc.stop();
    server.held.resolve();
    expect(await outer).toBe("a 1, b 2");
    await stopping;
  });

  it("waits for this node's own calls and gathers", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc } = at("a");
    const { id, server } = at("b");
    const client = rpc.peer(id, api);
    const call = client.held("x");
    const gather = rpc.gather(["b"], api, "held", "y", { reduce: { by: "set" } });
    await until("both run", () => server.begun.length === 2);
    const stopping = rpc.stop();
    at("b").server.held.resolve();
    expect([await call, (await gather).value]).toEqual(["b x", ["b y"]]);
    await stopping;
    expect(await fate(() => at("b").rpc.peer(at("a").id, nodeContract).ping())).toBe("UNAVAILABLE none");
  });

  it("ends a stream without a deadline that this node reads, as soon as nothing else is under way", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const endless = fate(() => listed(at("a").rpc.peer(at("b").id, api).ticks(20)));
    await until("it runs", () => at("b").server.begun.length === 1);
    await at("a").rpc.stop({ timeoutMs: 2_000_000 });
    expect(await endless).toBe("STOPPED unknown");
  });

  it("has answers leave whole, however long they are, although the mesh stops next", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc, id, mesh, server } = at("b");
    const bytes = 3_000_000;
    const client = at("a").rpc.peer(id, api);
    const answers = Array.from({ length: 4 }, async () => await client.large(bytes));
    await until("all run", () => server.begun.length === 4);
    const stopping = rpc.stop();
    server.held.resolve();
    await stopping;
    await mesh.stop();
    for (const answer of await Promise.all(answers)) expect(answer.length).toBe(bytes);
  });

  it("answers who asks again with the key of a call that runs, or has run", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { rpc, id, server } = at("b");
    const client = at("a").rpc.peer(id, api);
    const first = client.held("x", { idempotencyKey: "k" });
    const other = client.deaf("y");
    other.catch(() => undefined);
    await until("both run", () => server.begun.length === 2);
    const stopping = rpc.stop();
    const second = client.held("x", { idempotencyKey: "k" });
    expect(await fate(() => client.held("x", { idempotencyKey: "l" }))).toBe("UNAVAILABLE none");
    server.held.resolve();
    expect([await first, await second]).toEqual(["b x", "b x"]);
    expect(await client.held("x", { idempotencyKey: "k" })).toBe("b x");
    await Promise.all([rpc.stop({ timeoutMs: 0 }), stopping]);
    expect(server.begun.length).toBe(2);
  });

  it("waits for casts that run and takes no more; gathers have the node among those that failed", async () => {
    const { nodes, at } = await cluster("a", "b", "c");
    await using _ = nodes;
    const { rpc, id, server } = at("b");
    const far = at("a").rpc;
    await far.cast("all", api, "note", "x");
    await until("it runs", () => server.begun.length === 1);
    const stopping = rpc.stop();
    await until("a knows", () => at("a").mesh.state.entries().length > 0);
    const { addressed, unreachable } = await far.cast("all", api, "note", "y");
    expect([addressed.length, unreachable]).toEqual([2, [id]]);
    const { answered, failed, missing } = await far.gather("all", api, "echo", "x", { fanout: 1 });
    expect([answered.length, failed, missing]).toEqual([
      2,
      [{ peerId: id, name: "b", code: "UNAVAILABLE" }],
      [],
    ]);
    await rpc.stop({ timeoutMs: 0 });
    await stopping;
    expect([server.begun, server.aborted.length]).toEqual([["x"], 1]);
    for (const name of ["a", "c"]) at(name).server.held.resolve();
  });

  it("takes no more tasks, lets those that run end, and does not wait for one that does not listen", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "klatsch-stop-"));
    const mesh = await createMesh({ name: "a", mesh: "alone", dataDir });
    const held = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const lease = new AbortController();
    let takers = 0;
    let begun = 0;
    const body = Buffer.from([0x93, 0x01, 0xa8, ...Buffer.from("api.deaf"), 0xa1, 0x78]);
    const queues: OnceQueues = {
      declare: async (name) =>
        await Promise.resolve({
          enqueue: () => Promise.reject(new Error("not used")),
          consume: (handler) => {
            takers += 1;
            if (name !== "klatsch.once.mesh") return { stop: () => Promise.resolve() };
            const message = { id: "1", body, signal: lease.signal, reject: () => Promise.resolve() };
            const run = handler(message).finally(ended.resolve);
            // As those of a queue, it waits for its handlers.
            return { stop: async () => await run.catch(() => undefined) };
          },
        }),
      inspect: () => Promise.reject(new Error("not used")),
      on: () => () => undefined,
    };
    const rpc = createRpc({ mesh, once: { queues } });
    const signals: AbortSignal[] = [];
    rpc.serve(api, {
      ...Object.fromEntries(Object.keys(api.methods).map((name) => [name, () => expect.unreachable()])),
      deaf: async (_input: string, { signal }: { signal: AbortSignal }) => {
        begun += 1;
        signals.push(signal);
        await held.promise;
        return "";
      },
    } as never);
    await until("it runs", () => begun === 1 && takers === 3);
    const stopping = rpc.stop({ timeoutMs: 20 });
    await new Promise<void>((resolve) => signals[0]?.addEventListener("abort", () => resolve()));
    expect(signals[0]?.reason).toMatchObject({ code: "UNAVAILABLE" });
    await stopping; // The handler still runs.
    held.resolve();
    await ended.promise;
    await mesh.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
});

describe("a mesh that stops before its rpc", () => {
  it("ends all calls with errors that say so, and leaves nothing to wait for", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const { mesh, rpc, id } = at("a");
    const there = rpc.peer(at("b").id, api);
    const here = at("b").rpc.peer(id, api);
    const own = rpc.peer(id, api);
    const calls = [there.held("x", FOREVER), here.held("y", FOREVER), own.held("z", FOREVER)];
    const fates = Promise.all(calls.map(async (call) => await fate(() => call)));
    await until("all run", () => at("a").server.begun.length + at("b").server.begun.length === 3);
    await mesh.stop();
    await until(
      "others' calls have ended",
      () => at("b").rpc.stats().running + at("b").rpc.stats().pending === 0,
    );
    expect(at("a").server.aborted).toEqual([expect.objectContaining({ code: "UNAVAILABLE" })]);
    expect(await fate(() => there.echo("x"))).toBe("UNAVAILABLE none");
    expect(await own.echo("x")).toBe("a x");
    await rpc.stop({ timeoutMs: 10 });
    expect(await fates).toEqual(["UNAVAILABLE unknown", "UNAVAILABLE unknown", "STOPPED unknown"]);
  });
});

describe("a reader that leaves a stream", () => {
  it("does not wait for a schema that says nothing of the input", async () => {
    const { nodes, at } = await cluster("a", "b");
    await using _ = nodes;
    const silent = text.refine(async () => await new Promise<boolean>(() => undefined));
    const ticks = method({ input: silent, output: number, access: "members", stream: "output" });
    const client = at("a").rpc.peer(at("b").id, contract({ name: "api", methods: { ticks } }));
    const items = client.ticks("1")[Symbol.asyncIterator]();
    const next = fate(async () => await items.next());
    await items.return?.();
    expect(await next).toBe("CANCELLED none");
  });
});
