import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { silentLogger } from "@klatsch/kit";
import { contract, method, RpcError } from "@klatsch/rpc";
import type { Implementation, Schema, SchemaResult } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { ITEM_BYTES_MAX, KEPT_BYTES_MAX } from "../src/core/limits.ts";
import { Nodes, until } from "./support/nodes.ts";

/** Bytes held by this process after a collection. */
function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const text = z.string();
const api = contract({
  name: "api",
  methods: {
    greet: method({ input: z.object({ name: text.min(1) }), output: text, access: "members" }),
    hang: method({ input: text, output: text, access: "members" }),
    relay: method({ input: text, output: z.number(), access: "members" }),
    fail: method({ input: text, output: text, access: "members" }),
    secret: method({ input: text, output: text, access: "self" }),
    bad: method({ input: text, output: z.number(), access: "members" }),
    big: method({
      input: z.instanceof(Uint8Array),
      output: z.instanceof(Uint8Array),
      access: "members",
      class: "bulk",
    }),
    sized: method({ input: z.number(), output: z.instanceof(Uint8Array), access: "members" }),
    ticks: method({ input: text, output: text, access: "members", stream: "output" }),
    any: method({ input: z.unknown(), output: z.unknown(), access: "members" }),
    once: method({ input: text, output: z.number(), access: "members" }),
    one: method({ input: text, output: text, access: "members", concurrencyMax: 1 }),
    when: method({
      input: z.iso.datetime().transform((at) => new Date(at)),
      output: z.coerce.number(),
      access: "members",
    }),
  },
});

/** Counts what handlers saw. */
class Server {
  readonly aborted: string[] = [];
  runs = 0;
  readonly implementation: Implementation<(typeof api)["methods"]> = {
    greet: ({ name }) => `hello ${name}`,
    hang: async (input, { signal }) =>
      await new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          this.aborted.push(`${input} ${(signal.reason as RpcError).code}`);
          reject(new Error("aborted"));
        });
      }),
    relay: (_input, context) => context.remainingMs() ?? -1,
    fail: () => {
      throw Object.assign(new Error("no coffee"), { code: "NO_COFFEE" });
    },
    secret: () => "42",
    bad: () => "no number" as never,
    big: (input) => input,
    sized: (length) => new Uint8Array(length),
    ticks: function* (input) {
      for (let no = 0; no < 3; no += 1) yield input;
    },
    any: (input) => input,
    once: async () => {
      this.runs += 1;
      await new Promise((resolve) => setImmediate(resolve));
      return this.runs;
    },
    one: async (input, { signal }) => await this.implementation.hang(input, { signal } as never),
    when: (at) => `${at.getTime()}`,
  };
}

async function pair(): Promise<{
  nodes: Nodes;
  server: Server;
  client: ReturnType<typeof clientOf>;
  id: string;
}> {
  const nodes = await Nodes.start("a", "b");
  const server = new Server();
  nodes.get("b").rpc.serve(api, server.implementation);
  return { nodes, server, client: clientOf(nodes), id: nodes.get("b").id };
}

function clientOf(nodes: Nodes) {
  return nodes.get("a").rpc.peer(nodes.get("b").id, api);
}

describe("a call", () => {
  it("is typed, checked on both sides, and answered", async () => {
    const { nodes, client } = await pair();
    await using _ = nodes;
    expect(await client.greet({ name: "Ada" })).toBe("hello Ada");
    expect(await client.when("2026-01-01T00:00:00Z")).toBe(Date.UTC(2026, 0, 1));
    await expect(client.greet({ name: "" })).rejects.toMatchObject({
      code: "INVALID_INPUT",
      outcome: "none",
      message: expect.stringContaining("input.name") as string,
    });
    await expect(client.bad("x")).rejects.toMatchObject({ code: "INVALID_OUTPUT", outcome: "unknown" });
    // A client with a looser contract reaches the server's own check.
    const loose = contract({
      name: "api",
      methods: { greet: method({ input: z.unknown(), output: text, access: "members" }) },
    });
    const sneaky = nodes.get("a").rpc.peer(nodes.get("b").id, loose);
    await expect(sneaky.greet({ name: 7 })).rejects.toMatchObject({
      code: "INVALID_INPUT",
      message: expect.stringContaining("input.name") as string,
    });
    const rows = nodes.get("b").rpc.profile().server;
    expect(rows.find(({ method }) => method === "api.greet")).toMatchObject({ count: 2, errors: 1 });
  });

  it("names the nearest method, and refuses whom the rule does not admit", async () => {
    const { nodes } = await pair();
    await using _ = nodes;
    const { rpc } = nodes.get("a");
    const other = contract({ name: "api", methods: { greeet: api.methods.greet } });
    const near = rpc.peer(nodes.get("b").id, other).greeet({ name: "x" });
    await expect(near).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("api.greet?") as string,
    });
    await expect(clientOf(nodes).secret("x")).rejects.toMatchObject({ code: "DENIED", outcome: "none" });
    const { rpc: own, id } = nodes.get("b");
    expect(await own.peer(id, api).secret("x")).toBe("42");
    expect(own.stats()).toMatchObject({ notFound: 1, denied: 1 });
  });

  it("ends at its deadline, and the remote handler with it", async () => {
    const { nodes, client, server } = await pair();
    await using _ = nodes;
    const began = performance.now();
    await expect(client.hang("x", { deadlineMs: 60 })).rejects.toMatchObject({
      code: "DEADLINE_EXCEEDED",
      outcome: "unknown",
      retryable: true,
    });
    expect(performance.now() - began).toBeGreaterThan(58);
    await until("the handler was told", () => server.aborted.length === 1);
    await until("nothing is left", () => nodes.get("b").rpc.stats().running === 0);
  });

  it("is cancelled in the remote handler by the caller's signal", async () => {
    const { nodes, client, server } = await pair();
    await using _ = nodes;
    const controller = new AbortController();
    const call = client.hang("x", { signal: controller.signal });
    await until("it runs", () => nodes.get("b").rpc.stats().running === 1);
    controller.abort(new Error("enough"));
    await expect(call).rejects.toMatchObject({ code: "CANCELLED", cause: new Error("enough") });
    await until("the handler was told", () => server.aborted.length === 1);
    expect(server.aborted).toEqual(["x CANCELLED"]);
    await expect(client.hang("y", { signal: AbortSignal.abort() })).rejects.toMatchObject({
      outcome: "none",
    });
  });

  it("carries the code of what a handler threw", async () => {
    const { nodes, client } = await pair();
    await using _ = nodes;
    const error: unknown = await client.fail("x").catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RpcError);
    expect(error).toMatchObject({ code: "HANDLER_FAILED", remoteCode: "NO_COFFEE", message: "no coffee" });
  });

  it("has what a handler threw in its own node's log, and nothing of what was to be told", async () => {
    const logged: unknown[] = [];
    const warn = (message: string, fields?: unknown): void => void logged.push([message, fields]);
    await using nodes = await Nodes.start("a");
    const { rpc, id } = await nodes.add("b", { logger: { ...silentLogger, warn } });
    const broken = new Error("no coffee");
    const shop = contract({
      name: "shop",
      methods: { brew: method({ input: z.literal("coffee"), output: text, access: "members" }) },
    });
    rpc.serve(shop, {
      brew: () => {
        throw broken;
      },
    });
    const { brew } = nodes.get("a").rpc.peer(id, shop);
    await expect(brew("coffee")).rejects.toMatchObject({ code: "HANDLER_FAILED" });
    await expect(brew("tea" as "coffee")).rejects.toMatchObject({ code: "INVALID_INPUT" });
    expect(logged).toEqual([
      ["a handler threw", { err: broken, method: "shop.brew", peer: nodes.get("a").id }],
    ]);
  });

  it("inherits what its caller's caller has left", async () => {
    const { nodes } = await pair();
    await using _ = nodes;
    const chain = contract({
      name: "chain",
      methods: { go: method({ input: text, output: z.number(), access: "members" }) },
    });
    nodes.get("b").rpc.serve(chain, {
      go: async (input) =>
        await nodes.get("b").rpc.peer(nodes.get("b").id, api).relay(input, { deadlineMs: 60_000 }),
    });
    const left = await nodes.get("a").rpc.peer(nodes.get("b").id, chain).go("x", { deadlineMs: 500 });
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(501);
  });

  it("repeats the first result for the same idempotency key", async () => {
    const { nodes, client, server } = await pair();
    await using _ = nodes;
    const results = await Promise.all(
      [1, 2, 3].map(async () => await client.once("x", { idempotencyKey: "k" })),
    );
    expect([...results, await client.once("x", { idempotencyKey: "k" })]).toEqual([1, 1, 1, 1]);
    expect(await client.once("x", { idempotencyKey: "other" })).toBe(2);
    expect(server.runs).toBe(2);
  });

  it("has its result kept for its key at the price of the largest if it cannot travel, whatever size it is", async () => {
    const { nodes } = await pair();
    await using _ = nodes;
    const odd = contract({
      name: "odd",
      methods: { make: method({ input: text, output: z.symbol(), access: "members" }) },
    });
    let runs = 0;
    const make = (input: string): symbol => {
      runs += 1;
      return Symbol(input);
    };
    nodes.get("b").rpc.serve(odd, { make });
    const client = nodes.get("a").rpc.peer(nodes.get("b").id, odd);
    const ask = async (no: number): Promise<unknown> =>
      await client.make("x", { idempotencyKey: `${no}` }).catch((error: unknown) => error);
    const keptMax = KEPT_BYTES_MAX / ITEM_BYTES_MAX;
    for (let no = 0; no <= keptMax; no += 1) expect(await ask(no)).toMatchObject({ code: "INVALID_OUTPUT" });
    await ask(keptMax);
    expect(runs).toBe(keptMax + 1);
    await ask(0); // The oldest was given up.
    expect(runs).toBe(keptMax + 2);
  });

  it("is refused with OVERLOADED beyond a method's concurrency", async () => {
    const { nodes, client } = await pair();
    await using _ = nodes;
    const controller = new AbortController();
    const first = client.one("x", { signal: controller.signal });
    await expect(client.one("y")).rejects.toMatchObject({
      code: "OVERLOADED",
      outcome: "none",
      retryable: true,
    });
    controller.abort();
    await expect(first).rejects.toMatchObject({ code: "CANCELLED" });
  });

  it("carries large values, and refuses what is too large", async () => {
    const { nodes, client } = await pair();
    await using _ = nodes;
    const large = Uint8Array.from({ length: 3_000_000 }, (_, at) => at & 255);
    const answers = await Promise.all([1, 2, 3].map(async () => await client.big(large)));
    expect(answers.every((answer) => Buffer.compare(answer, large) === 0)).toBe(true);
    await expect(client.big(new Uint8Array(5_000_000))).rejects.toMatchObject({
      code: "TOO_LARGE",
      outcome: "none",
    });
    const crowd = Array.from({ length: 300_000 }, () => []);
    await expect(client.any(crowd)).rejects.toMatchObject({ code: "TOO_LARGE", outcome: "none" });
    const numbers = Array.from({ length: 300_000 }, (_, no) => no);
    expect(await client.any(numbers)).toEqual(numbers);
    expect(nodes.get("b").rpc.stats().badFrames).toBe(0);
  });

  it("does not wait behind a large one", async () => {
    const { nodes, client } = await pair();
    await using _ = nodes;
    const ended: string[] = [];
    const large = client.big(new Uint8Array(4_000_000)).then(() => ended.push("large"));
    const small = client.greet({ name: "x" }).then(() => ended.push("small"));
    await Promise.all([large, small]);
    expect(ended).toEqual(["small", "large"]);
  });

  it(
    "does not wait behind more large ones than there is room for, nor does a stream of small items",
    { timeout: 60_000 },
    async () => {
      const { nodes, client } = await pair();
      await using _ = nodes;
      const ended: string[] = [];
      const large = Array.from({ length: 16 }, async () => {
        expect(await client.sized(4_000_000, { deadlineMs: 60_000 })).toHaveLength(4_000_000); // 64 MB, where 32 MiB may wait.
        ended.push("large");
      });
      const short = client.greet({ name: "x" }, { deadlineMs: 60_000 }).then(() => ended.push("short"));
      const stream = (async () => {
        for await (const item of client.ticks("x")) ended.push(item);
      })();
      await Promise.all([...large, short, stream]);
      expect(ended.slice(0, 4).toSorted()).toEqual(["short", "x", "x", "x"]);
    },
  );

  it("fails with the outcome that fits when the peer is gone", async () => {
    const { nodes, client, id } = await pair();
    await using _ = nodes;
    const call = client.hang("x");
    await until("it runs", () => nodes.get("b").rpc.stats().running === 1);
    await Promise.all([
      expect(call).rejects.toMatchObject({ code: "UNAVAILABLE", outcome: "unknown" }),
      nodes.end("b"),
    ]);
    await until("it is known", () => nodes.get("a").mesh.member(id)?.status === "stopped");
    await expect(client.greet({ name: "x" })).rejects.toMatchObject({ code: "UNAVAILABLE", outcome: "none" });
    const stranger = nodes.get("a").rpc.peer("12D3KooWnobody", api);
    await expect(stranger.greet({ name: "x" })).rejects.toMatchObject({
      code: "UNAVAILABLE",
      outcome: "none",
    });
    expect(nodes.get("a").rpc.stats().pending).toBe(0);
  });

  it(
    "leaves nothing behind after a storm of 100,000, half of them cancelled",
    { timeout: 60_000 },
    async () => {
      const { nodes, client } = await pair();
      await using _ = nodes;
      let answered = 0;
      let cancelled = 0;
      const one = async (no: number): Promise<void> => {
        const controller = new AbortController();
        const call = client.greet({ name: `${no}` }, { signal: controller.signal });
        if (no % 2 === 0) for (let turns = no % 7; turns >= 0; turns -= 1) await Promise.resolve();
        if (no % 4 === 2) await new Promise((resolve) => setImmediate(resolve));
        if (no % 2 === 0) controller.abort();
        await call.then(
          () => (answered += 1),
          (error: unknown) => (cancelled += (error as RpcError).code === "CANCELLED" ? 1 : 0),
        );
      };
      const storm = async (batches: number): Promise<number> => {
        for (let batch = 0; batch < batches; batch += 1)
          await Promise.all(Array.from({ length: 1_000 }, async (_, no) => await one(no)));
        await until("no handler runs", () => nodes.get("b").rpc.stats().running === 0);
        expect(nodes.get("a").rpc.stats().pending).toBe(0);
        return heldBytes();
      };
      const before = await storm(10); // What is compiled and kept once is there now.
      const after = await storm(90);
      expect(answered + cancelled).toBe(100_000);
      expect(cancelled).toBeGreaterThan(20_000);
      // 90,000 calls that leave 100 bytes each would be 9 MB.
      expect(after - before).toBeLessThan(4 * 2 ** 20);
    },
  );
});

describe("a definition", () => {
  it("takes any Standard Schema, and names the field that its issues do", async () => {
    const validate = (value: unknown): SchemaResult<number> =>
      typeof value === "number" && value % 2 === 0
        ? { value }
        : { issues: [{ message: "is odd", path: [{ key: "n" }] }] };
    const even: Schema<number> = { "~standard": { version: 1, vendor: "test", validate } };
    const own = contract({
      name: "own",
      methods: { half: method({ input: even, output: z.number(), access: "members" }) },
    });
    const nodes = await Nodes.start("a", "b");
    await using _ = nodes;
    nodes.get("b").rpc.serve(own, { half: (number) => number / 2 });
    const { half } = nodes.get("a").rpc.peer(nodes.get("b").id, own);
    expect(await half(4)).toBe(2);
    await expect(half(3)).rejects.toMatchObject({
      code: "INVALID_INPUT",
      message: expect.stringMatching(/n: is odd/),
    });
  });

  it("is refused without a stated access", () => {
    const init = { input: text, output: text } as never;
    expect(() => method(init)).toThrow(/access/);
    expect(() => contract({ methods: { x: init } })).toThrow(/access/);
  });
});
