import { contract, method, RpcError } from "@klatsch/rpc";
import type { CallOptions, OnceQueues, Reducer, Schema, SubscribeOptions } from "@klatsch/rpc";
import { addExtension } from "msgpackr";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes } from "./support/nodes.ts";

const any = z.any() as Schema;
const open = { input: any, output: any, access: "members" } as const;
/** One that fails later, and says nothing of it. */
const late: Schema = {
  "~standard": { version: 1, vendor: "test", validate: () => Promise.reject(Object.create(null)) },
};
const begun = Promise.withResolvers<void>();

/** What handlers throw, by name. */
const thrown: Readonly<Record<string, () => unknown>> = {
  nothing: () => undefined,
  empty: () => "",
  bare: () => Object.create(null),
  symbol: () => Symbol("x"),
  untold: () => ({
    toString(): string {
      throw new Error("no text");
    },
  }),
  revoked: () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  message: () => Object.defineProperty(new Error("x"), "message", { get: refuse }),
  code: () => Object.defineProperty(new Error("its text"), "code", { get: refuse }),
  ...Object.fromEntries(
    [undefined, 5, {}].map((message) => [
      `message ${typeof message}`,
      () => Object.assign(new Error("x"), { message }),
    ]),
  ),
  handMade: () =>
    Object.assign(new RpcError({ ...fields, code: "DENIED" }), {
      code: "MADE_UP",
      message: 5,
      outcome: "zzz",
      retryable: "yes",
      remoteCode: {},
    }),
};

const fields = { message: "x", outcome: "none", retryable: false, remoteCode: "y".repeat(5_000) } as const;

function refuse(): never {
  throw new Error("not to be read");
}

const returned: Readonly<Record<string, unknown>> = {
  floats: new Float64Array([1.5]),
  nested: { list: [new Map([["x", new Set([new Uint16Array([300])])]])] },
};

const api = contract({
  name: "api",
  methods: {
    echo: method(open),
    raise: method({ ...open, input: z.string() }),
    give: method({ ...open, input: z.string() }),
    hang: method(open),
    down: method({ ...open, stream: "output" }),
    up: method({ ...open, stream: "input" }),
    both: method({ ...open, stream: "both" }),
    json: method({ ...open, input: z.string().transform((text) => JSON.parse(text) as unknown) }),
    late: method({ ...open, input: late }),
    bad: method({ ...open, output: z.string().transform(refuse) }),
    alone: method({ ...open, guard: { bulkhead: { concurrent: 1, queue: 1 } } }),
  },
});

/** Two members that serve `api`. */
async function two(): Promise<Nodes> {
  const nodes = await Nodes.start("a", "b");
  for (const { rpc } of nodes.all()) {
    rpc.serve(api, {
      echo: (input) => input,
      raise: (name) => {
        throw thrown[name]?.();
      },
      give: (name) => returned[name],
      hang: async () => {
        begun.resolve();
        return await new Promise(() => undefined);
      },
      down: async function* (input) {
        await Promise.resolve();
        for (let no = 0; no < 3; no += 1) yield input;
      },
      up: listed,
      both: (items) => items,
      json: (value) => value,
      late: (value) => value,
      bad: () => "x",
      alone: (input) => input,
    });
  }
  return nodes;
}

/** What a call that is given something wrong rejects with. */
async function fate(call: () => unknown): Promise<unknown> {
  try {
    return ["no error", await call()];
  } catch (error) {
    if (!(error instanceof RpcError)) return error;
    expect(error.message).not.toBe("");
    return error.code;
  }
}

async function listed(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe("large values", () => {
  it("reach this node's own handlers whole, as others'", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const [text, bytes] = ["x".repeat(65_536), new Uint8Array(65_536).fill(7)];
    for (const peer of [id, nodes.get("b").id]) {
      const client = rpc.peer(peer, api);
      expect(await client.echo(text)).toBe(text);
      expect(Buffer.compare((await client.echo(bytes)) as Uint8Array, bytes)).toBe(0);
      const list = Array.from({ length: 65_536 }, (_, no) => no);
      expect(await client.echo(list)).toEqual(list);
      const item = "y".repeat(100_000);
      expect(await listed(client.down(item))).toEqual([item, item, item]);
      expect(await client.up([item, item])).toEqual([item, item]);
      expect(await listed(client.both([item, item]))).toEqual([item, item]);
      const many = Array.from({ length: 20 }, (_, no) => String(no).repeat(25_000));
      expect(await Promise.all(many.map(async (one) => await client.echo(one)))).toEqual(many);
    }
    const anybody = rpc.any("all", api);
    for (let turn = 0; turn < 2; turn += 1) expect(await anybody.echo(text)).toBe(text);
    expect(rpc.stats().badFrames).toBe(0);
  });

  it("stay as they came while later ones pass", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const client = rpc.peer(id, api);
    const first = (await client.echo(new Uint8Array(900).fill(1))) as Uint8Array;
    for (let no = 0; no < 20; no += 1) await client.echo(new Uint8Array(900).fill(2));
    expect(first.every((byte) => byte === 1)).toBe(true);
  });
});

describe("what a handler throws", () => {
  it("always reaches its caller as an RpcError with a text", async () => {
    await using nodes = await two();
    const { rpc } = nodes.get("a");
    for (const { id } of nodes.all()) {
      for (const name of Object.keys(thrown)) {
        const error: unknown = await rpc
          .peer(id, api)
          .raise(name)
          .catch((reason: unknown) => reason);
        expect(error, name).toBeInstanceOf(RpcError);
        expect(error, name).toMatchObject({ code: "HANDLER_FAILED", outcome: "unknown", retryable: false });
        expect((error as RpcError).message, name).not.toBe("");
      }
      const { message } = await rpc
        .peer(id, api)
        .raise("code")
        .then(refuse, (error: RpcError) => error);
      expect(message).toBe("its text");
    }
    for (const node of nodes.all()) expect(node.rpc.stats()).toMatchObject({ running: 0, badFrames: 0 });
  });

  it("fails a gather's members one by one, and no cast", async () => {
    await using nodes = await two();
    const { rpc } = nodes.get("a");
    for (const name of ["bare", "revoked", "message"]) {
      const { failed } = await rpc.gather("all", api, "raise", name);
      expect(failed.map(({ code }) => code)).toEqual(["HANDLER_FAILED", "HANDLER_FAILED"]);
      expect((await rpc.cast("all", api, "raise", name)).unreachable).toEqual([]);
    }
    expect(await rpc.peer(nodes.get("b").id, api).echo(1)).toBe(1);
  });
});

describe("typed arrays", () => {
  const views = [
    new Float64Array([1.5, 2]),
    new Uint16Array([300]),
    new Int8Array([-1]),
    new Uint8ClampedArray([1]),
    new BigInt64Array([1n]),
    new DataView(new ArrayBuffer(4)),
  ];
  /** Only where it is called does a view come to light. */
  class Hiding {
    toJSON(): unknown {
      return { view: views[0] };
    }
  }

  it("are refused unless they are byte strings, wherever they are in a value", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const nested = [{ a: { b: views[0] } }, new Map([["x", views[1]]]), new Set([views[2]])];
    const hidden = [new Error("x", { cause: views[3] }), new Hiding(), [new Uint8Array(2_000), views[5]]];
    for (const peer of [id, nodes.get("b").id]) {
      const client = rpc.peer(peer, api);
      for (const value of [...views, ...nested, ...hidden]) {
        expect(await fate(() => client.echo(value))).toBe("INVALID_INPUT");
        expect(await fate(() => client.up([value]))).toBe("INVALID_INPUT");
      }
      for (const name of Object.keys(returned))
        expect(await fate(() => client.give(name))).toBe("INVALID_OUTPUT");
    }
    expect(await fate(() => rpc.cast("all", api, "echo", views[0]))).toBe("INVALID_INPUT");
    expect(await fate(() => rpc.emit("news", views[0]))).toBe("INVALID_INPUT");
  });

  it("that are byte strings arrive as their bytes, and so does what is beside them", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const whole = new Uint8Array([9, 1, 2, 3, 9]);
    for (const peer of [id, nodes.get("b").id]) {
      const client = rpc.peer(peer, api);
      for (const bytes of [whole.subarray(1, 4), Buffer.from([1, 2, 3]), new Uint8Array([1, 2, 3]).buffer]) {
        const echoed = (await client.echo({ bytes, set: new Set([bytes]), at: new Date(5) })) as {
          bytes: Uint8Array;
          set: readonly Uint8Array[];
        };
        expect([[...echoed.bytes], [...(echoed.set[0] ?? [])]]).toEqual([
          [1, 2, 3],
          [1, 2, 3],
        ]);
        expect(echoed).toMatchObject({ at: new Date(5) });
      }
    }
  });
});

describe("maps", () => {
  it("are refused if their keys are objects, which nobody could read, and end no session", async () => {
    await using nodes = await two();
    const client = nodes.get("a").rpc.peer(nodes.get("b").id, api);
    for (const key of [{}, [1], new Date(5), new Uint8Array(1)])
      expect(await fate(() => client.echo([{ in: new Map([[key, 1]]) }]))).toBe("INVALID_INPUT");
    const plain = new Map<unknown, unknown>([
      ["x", new Map([[1, 2]])],
      [null, 3],
    ]);
    expect(await client.echo(plain)).toEqual({ x: { 1: 2 }, null: 3 });
    expect(nodes.get("b").rpc.stats().badFrames).toBe(0);
  });
});

describe("a list with few items far apart", () => {
  it("is refused before what lies between them is packed", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    let reached = false;
    const list: unknown[] = [];
    Object.defineProperty(list, 1_000_000, { enumerable: true, get: () => (reached = true) });
    expect(await fate(() => rpc.peer(id, api).echo({ list }))).toBe("TOO_LARGE");
    expect(reached).toBe(false);
    expect(await rpc.peer(id, api).echo([undefined, 1])).toEqual([undefined, 1]);
  });
});

describe("what the application added to msgpackr", () => {
  it("is refused where it is sent, as no peer reads it, and ends no session", async () => {
    class Money {
      readonly cents = 5;
    }
    addExtension({ Class: Money, type: 11, write: ({ cents }: Money) => cents, read: (cents) => cents });
    await using nodes = await two();
    const client = nodes.get("a").rpc.peer(nodes.get("b").id, api);
    expect(await fate(() => client.echo([new Money()]))).toBe("INVALID_INPUT");
    expect(await client.echo([1])).toEqual([1]);
    expect(nodes.get("b").rpc.stats().badFrames).toBe(0);
  });
});

describe("a stop", () => {
  it("ends a gather with the error of other calls, at once", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const gathering = fate(() => rpc.gather("all", api, "hang", 1, { deadlineMs: 2_000_000 }));
    const calling = fate(() => rpc.peer(id, api).hang(1, { deadlineMs: 2_000_000 }));
    await begun.promise;
    await rpc.stop();
    expect(await Promise.all([gathering, calling])).toEqual(["STOPPED", "STOPPED"]);
  });

  it("is heard by casts and gathers whose input is still looked at", async () => {
    await using nodes = await two();
    const { rpc } = nodes.get("a");
    const checked = Promise.withResolvers<boolean>();
    const slow = method({ ...open, input: z.any().refine(async () => await checked.promise) });
    const slowly = contract({ name: "slowly", methods: { echo: slow } });
    const casting = fate(() => rpc.cast("all", slowly, "echo", 1));
    const gathering = fate(() => rpc.gather("all", slowly, "echo", 1));
    await rpc.stop();
    checked.resolve(true);
    expect(await Promise.all([casting, gathering])).toEqual(["STOPPED", "STOPPED"]);
  });
});

describe("wrong arguments", () => {
  it("of a gather are named", async () => {
    await using nodes = await two();
    const { rpc } = nodes.get("a");
    const gather = async (options: object | null, target: unknown = "all"): Promise<string> =>
      await rpc.gather(target as string, api, "echo", 1, options as object).then(
        () => "no error",
        (error: unknown) => (error instanceof RpcError ? `${error.code} ${error.message}` : String(error)),
      );
    const stalls = [0, -1, Number.NaN, 1e12, "5"].map((stallMs) => ({ stallMs }));
    for (const until of [0, -1, 1.5, Number.NaN, Infinity, "zzz", null, {}, ...stalls])
      expect(await gather({ until })).toMatch(/^INVALID_OPTIONS until: /);
    for (const deadlineMs of [0, Number.NaN, "5", null])
      expect(await gather({ deadlineMs })).toMatch(/^INVALID_OPTIONS deadlineMs: /);
    expect(await gather({ signal: {} })).toMatch(/^INVALID_OPTIONS signal: /);
    expect(await gather({ onProgress: 5 })).toMatch(/^INVALID_OPTIONS onProgress: /);
    expect(await gather(null)).toMatch(/^INVALID_OPTIONS options: /);
    expect(await gather({ timeoutMs: 5 })).toMatch(/^INVALID_OPTIONS timeoutMs: /);
    for (const bounds of [[3, 1], [1, Number.NaN], [1, Infinity], []])
      expect(await gather({ reduce: { by: "histogram", bounds } })).toMatch(/^INVALID_OPTIONS .*bounds/);
    for (const target of [null, 5, [5]]) expect(await gather({}, target)).toMatch(/^INVALID_TARGET /);
    for (const until of [1, 9, "first", { stallMs: 50 }]) expect(await gather({ until })).toBe("no error");
    const bounds = [1, 2];
    const echoed = await rpc.gather("all", api, "echo", 2, { reduce: { by: "histogram", bounds } });
    expect(echoed.value).toEqual([0, 2, 0]);
  });

  it("of reducers and subscriptions are INVALID_OPTIONS", async () => {
    await using nodes = await two();
    const { rpc } = nodes.get("a");
    const whole = { map: () => 1, merge: () => 1, done: () => 1 };
    for (const reducer of [null, {}, { ...whole, done: 5 }])
      expect(await fate(() => rpc.reducer("x", reducer as Reducer))).toBe("INVALID_OPTIONS");
    expect(await fate(() => rpc.reducer("", whole))).toBe("INVALID_OPTIONS");
    const handler = (): void => undefined;
    expect(await fate(() => rpc.subscribe("x", any, 5 as never))).toBe("INVALID_OPTIONS");
    for (const schema of [{}, null])
      expect(await fate(() => rpc.subscribe("x", schema as never, handler))).toBe("INVALID_OPTIONS");
    const misspelt = { acess: "self" } as SubscribeOptions;
    expect(await fate(() => rpc.subscribe("x", any, handler, misspelt))).toBe("INVALID_OPTIONS");
  });

  it("of calls are RpcErrors", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const client = rpc.peer(id, api);
    const { alone } = client;
    const anybody = rpc.any("all", api);
    const wrong: object[] = [{ signal: {} }, { deadlineMs: "5" }, { deadlineMs: -1 }, { timeoutMs: 5 }];
    for (const options of wrong as CallOptions[]) {
      for (const call of [client.echo, alone, anybody.echo])
        expect(await fate(() => call(1, options))).toBe("INVALID_OPTIONS");
      expect(await fate(() => listed(client.down(1, options)))).toBe("INVALID_OPTIONS");
      const first = alone(1);
      expect(await fate(() => alone(2, options))).toBe("INVALID_OPTIONS"); // It would have to wait for its turn.
      await first;
    }
    for (const source of [undefined, 5, null] as never[]) {
      expect(await fate(() => client.up(source))).toBe("INVALID_OPTIONS");
      expect(await fate(() => listed(client.both(source)))).toBe("INVALID_OPTIONS");
    }
    expect(await fate(() => rpc.cast(null as never, api, "echo", 1))).toBe("INVALID_TARGET");
    expect(await fate(() => rpc.any(null as never, api).echo(1))).toBe("INVALID_TARGET");
    const none = null as never;
    const calls: (() => unknown)[] = [
      () => rpc.peer(id, none),
      () => rpc.gather(none, none, none, 1),
      () => rpc.serve(none, none),
    ];
    for (const odd of [Symbol("x"), Object.create(null), 5] as never[]) {
      calls.push(
        () => rpc.peer(odd, api),
        () => rpc.cast("all", api, odd, 1 as never),
        () => rpc.gather("all", api, odd, 1 as never),
      );
    }
    calls.push(
      () => method(none),
      () => method({ ...api.methods.echo, idempotant: true } as never),
      () => method({ ...api.methods.echo, guard: { braker: { failures: 1, resetMs: 1 } } } as never),
      () => contract(none),
      () => contract({ methods: { x: none } }),
    );
    for (const call of calls) expect(await fate(call)).toBe("INVALID_OPTIONS");
    expect(rpc.stats().pending).toBe(0);
  });

  it("of once are RpcErrors", async () => {
    await using nodes = await Nodes.start();
    const enqueue = (): Promise<{ id: string }> => Promise.resolve({ id: "1" });
    const consume = (): { stop(): Promise<void> } => ({ stop: () => Promise.resolve() });
    const queues: OnceQueues = {
      declare: () => Promise.resolve({ enqueue, consume }),
      inspect: () => Promise.resolve({ replicas: [] }),
      on: () => () => undefined,
    };
    const { rpc } = await nodes.add("a", { once: { queues } });
    const task = { contract: api, method: "echo", input: 1 } as const;
    const scope = "mesh";
    expect(await rpc.once({ scope, task })).toEqual([{ id: "1", scope: "mesh" }]);
    const wrong = [undefined, {}, { scope }, { scope, task: {} }, { scope, task, at: "now" }] as never[];
    for (const init of wrong) expect(await fate(() => rpc.once(init))).toBe("INVALID_OPTIONS");
    for (const odd of [null, "zzz"] as never[])
      expect(await fate(() => rpc.once({ scope: odd, task }))).toBe("INVALID_TARGET");
    const huge = { ...task, input: 10n ** 30n };
    expect(await fate(() => rpc.once({ scope, task: huge }))).toBe("INVALID_INPUT");
  });
});

describe("code of the application that throws", () => {
  it("in a schema is the caller's INVALID_INPUT or INVALID_OUTPUT, with its cause", async () => {
    await using nodes = await two();
    const { rpc, id } = nodes.get("a");
    const client = rpc.peer(id, api);
    const error: unknown = await client.json("{bad").catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "INVALID_INPUT", outcome: "none" });
    expect((error as RpcError).cause).toBeInstanceOf(SyntaxError);
    expect(await fate(() => client.late("x"))).toBe("INVALID_INPUT");
    expect(await fate(() => client.bad(1))).toBe("INVALID_OUTPUT");
    expect(await fate(() => rpc.gather("all", api, "json", "{bad"))).toBe("INVALID_INPUT");
    expect(await client.json("[1]")).toEqual([1]);
  });

  it("in a reducer's `done` is the gather's INVALID_OUTPUT", async () => {
    await using nodes = await two();
    const reduce = { by: "own", name: "bad" } as const;
    for (const { rpc } of nodes.all())
      rpc.reducer("bad", { map: (answer) => answer, merge: (a) => a, done: refuse });
    const { rpc } = nodes.get("a");
    expect(await fate(() => rpc.gather("all", api, "echo", 1, { reduce }))).toBe("INVALID_OUTPUT");
  });
});
