import { contract, createRpc, method, nodeContract, RpcError } from "@klatsch/rpc";
import type { ClientMiddleware, Contract, Rpc, Schema } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const any = z.any() as Schema;
const open = { input: any, output: any, access: "members" } as const;

/** What became of it: the value, or the code and outcome of its error. */
async function fate(work: () => unknown): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    return error instanceof RpcError ? `${error.code} ${error.outcome}` : `no RpcError: ${String(error)}`;
  }
}

async function listed(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** A schema that says this, of whatever. */
const saying = (validate: () => unknown): Schema => ({
  "~standard": { version: 1, vendor: "test", validate: validate as Schema["~standard"]["validate"] },
});
const named = (key: string): Contract => ({ name: undefined, methods: { [key]: method(open) } });

async function pair(): Promise<{ nodes: Nodes; a: Rpc; b: Rpc; id: string }> {
  const nodes = await Nodes.start("a", "b");
  return { nodes, a: nodes.get("a").rpc, b: nodes.get("b").rpc, id: nodes.get("b").id };
}

describe("a contract made by hand", () => {
  it("is looked at wherever it is used: what a peer would cut the session for never leaves", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const names = ["", "__proto__", "then", "a b", "a/b", "a\0", "é", "\ud800", "1", "x".repeat(100)];
    const odd: unknown[] = [
      ...names.map((key) => named(key)),
      { name: "x".repeat(101), methods: {} },
      { name: 5, methods: {} },
      ...[{}, null, 5, { ...method(open), access: "member" }, { ...method(open), stream: "down" }].map(
        (one) => ({ name: undefined, methods: { m: one } }),
      ),
    ];
    for (const one of odd as Contract[]) {
      const [key = ""] = Object.keys(one.methods);
      const handlers = { [key]: () => 1 };
      const uses: (() => unknown)[] = [
        () => b.serve(one, handlers),
        () => a.peer(id, one),
        () => a.any("all", one),
        () => a.cast("all", one, key as never, 1),
        () => a.gather("all", one, key as never, 1),
        () => contract(one),
      ];
      for (const use of uses) expect(await fate(use)).toBe("INVALID_OPTIONS none");
    }
    const right = named("x".repeat(99));
    b.serve(right, { ["x".repeat(99)]: (input: unknown) => input });
    expect(
      await (a.peer(id, right) as Record<string, (input: unknown) => unknown>)["x".repeat(99)]?.(7),
    ).toBe(7);
    expect(nodes.all().map(({ rpc }) => rpc.stats().badFrames)).toEqual([0, 0]);
  });

  it("cannot be changed once contract() has looked at it", () => {
    const methods: Record<string, ReturnType<typeof method>> = { m: method(open) };
    const made = contract({ methods });
    methods["a b"] = method(open);
    expect(Object.keys(made.methods)).toEqual(["m"]);
    expect(Object.isFrozen(made.methods)).toBe(true);
  });

  it("is never served by what every object has", async () => {
    await using nodes = await Nodes.start("a");
    const { rpc, id } = nodes.get("a");
    for (const key of ["constructor", "toString", "hasOwnProperty"]) {
      const one = named(key);
      for (const empty of [{}, new Set()])
        expect(await fate(() => rpc.serve(one, empty as never))).toBe("INVALID_OPTIONS none");
      rpc.serve(one, { [key]: () => "own" });
      expect(await (rpc.peer(id, one) as Record<string, () => unknown>)[key]?.()).toBe("own");
    }
  });
});

describe("a schema", () => {
  const thenable = (verdict: object): unknown => ({
    // oxlint-disable-next-line unicorn/no-thenable -- as libraries of promises have it
    then: (resolve: (result: object) => void) => resolve(verdict),
  });

  it("may give any library's promise, and one that gives no result admits nothing", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const verdicts: (() => unknown)[] = [
      () => thenable({ issues: [{ message: "no" }] }),
      () => undefined,
      () => 5,
      async () => await Promise.resolve(null),
      () => ({ issues: [] }),
      () => ({ issues: 5 }),
      () => ({ issues: [{ message: Symbol("x") }] }),
      () => ({ issues: [{ message: "x", path: [null] }] }),
      () => ({ issues: [{ message: "x", path: 5 }] }),
      () => thenable({ value: 1 }),
    ];
    for (const [no, verdict] of verdicts.entries()) {
      const name = `s${no}`;
      const [input, output] = [
        { ...open, input: saying(verdict) },
        { ...open, output: saying(verdict) },
      ];
      const strict = contract({ name, methods: { in: method(input), out: method(output) } });
      const loose = contract({ name, methods: { in: method(open), out: method(open) } });
      const takeBack = b.serve(strict, { in: () => 1, out: () => 1 });
      const fates = [
        await fate(() => a.peer(id, strict).in(1)),
        await fate(() => a.peer(id, loose).in(1)),
        await fate(() => a.peer(id, loose).out(1)),
        await fate(() => a.cast("all", strict, "in", 1)),
        await fate(() => a.gather("all", strict, "in", 1)),
      ];
      takeBack();
      b.serve(loose, { in: () => 1, out: () => 1 });
      fates.push(await fate(() => a.peer(id, strict).out(1)));
      const [refusedIn, refusedOut] = ["INVALID_INPUT none", "INVALID_OUTPUT unknown"];
      if (no < verdicts.length - 1)
        expect(fates).toEqual([refusedIn, refusedIn, refusedOut, refusedIn, refusedIn, refusedOut]);
      else expect([fates[0], fates[1], fates[2], fates[5]]).toEqual([1, 1, 1, 1]);
    }
  });

  it("that never comes to a result is waited for no longer than the call may take, or is wanted", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const never = saying(async () => await new Promise(() => undefined));
    const all = { input: never, output: any, access: "members" } as const;
    const api = contract({
      name: "never",
      methods: {
        in: method(all),
        down: method({ ...all, stream: "output" }),
        up: method({ ...all, stream: "input" }),
        out: method({ ...open, output: never }),
        items: method({ ...open, output: never, stream: "output" }),
      },
    });
    const loose = contract({
      name: "never",
      methods: { out: method(open), items: method({ ...open, stream: "output" }) },
    });
    b.serve(loose, { out: () => 1, items: () => [1] });
    const client = a.peer(id, api);
    const calls: ((options: { deadlineMs?: number; signal?: AbortSignal }) => unknown)[] = [
      async (options) => await client.in(1, options),
      async (options) => await listed(client.down(1, options)),
      async (options) => await a.gather("all", api, "in", 1, options),
      async (options) => await client.out(1, options),
      async (options) => await listed(client.items(1, options)),
    ];
    const late = await Promise.all(calls.map(async (call) => await fate(() => call({ deadlineMs: 150 }))));
    const [nothing, something] = [Array<string>(3).fill("none"), Array<string>(2).fill("unknown")];
    const outcomes = [...nothing, ...something];
    expect(late).toEqual(outcomes.map((outcome) => `DEADLINE_EXCEEDED ${outcome}`));
    for (const call of calls) {
      const controller = new AbortController();
      const ended = fate(() => call({ deadlineMs: 2_000_000, signal: controller.signal }));
      await fate(() => a.peer(id, loose).out(1)); // Whatever is to happen has, by then.
      controller.abort();
      expect(await ended).toMatch(/^CANCELLED /);
    }
    const aborted = AbortSignal.abort();
    for (const call of calls) expect(await fate(() => call({ signal: aborted }))).toMatch(/^CANCELLED /);
    expect(await fate(() => client.in(1, { deadlineMs: -1 }))).toBe("INVALID_OPTIONS none");
    expect(nodes.all().map(({ rpc }) => rpc.stats().pending)).toEqual([0, 0]);
  });
});

describe("a key", () => {
  it("keeps also what its handler did before it gave what does not fit", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const api = contract({ methods: { bad: method({ ...open, output: z.string() }) } });
    let runs = 0;
    b.serve(api, { bad: () => (runs += 1) as never });
    for (let no = 0; no < 3; no += 1)
      expect(await fate(() => a.peer(id, api).bad(1, { idempotencyKey: "k" }))).toBe(
        "INVALID_OUTPUT unknown",
      );
    expect(runs).toBe(1);
  });

  it("of half a character is refused, as are topics: it would be taken for any other", async () => {
    const { nodes, a, id } = await pair();
    await using _ = nodes;
    const api = contract({ methods: { echo: method(open) } });
    for (const odd of ["\ud800", "a\udfffb", "", "x".repeat(201), 5 as never]) {
      expect(await fate(() => a.peer(id, api).echo(1, { idempotencyKey: odd }))).toBe("INVALID_OPTIONS none");
      expect(await fate(() => a.emit(odd, 1))).toBe("INVALID_OPTIONS none");
      expect(await fate(() => a.subscribe(odd, any, () => undefined))).toBe("INVALID_OPTIONS none");
    }
  });

  it("is answered to who asks again after the first call's time, once the handler has ended", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const api = contract({ methods: { slow: method(open), fails: method(open) } });
    const held = Promise.withResolvers<void>();
    let runs = 0;
    const run = async (): Promise<number> => {
      runs += 1;
      await held.promise; // It does not listen to its signal.
      return runs;
    };
    b.serve(api, {
      slow: run,
      fails: async () => {
        await run();
        throw new Error("too late");
      },
    });
    const client = a.peer(id, api);
    for (const call of [client.slow, client.fails])
      expect(await fate(() => call(1, { idempotencyKey: "k", deadlineMs: 30 }))).toBe(
        "DEADLINE_EXCEEDED unknown",
      );
    const again = [client.slow, client.fails].map(
      async (call) => await fate(() => call(1, { idempotencyKey: "k" })),
    );
    await until("both have asked again", () => a.stats().pending === 2);
    expect(await fate(() => client.slow(1, { deadlineMs: 30 }))).toBe("DEADLINE_EXCEEDED unknown"); // They are there by now.
    held.resolve();
    expect(await Promise.all(again)).toEqual([3, "UNAVAILABLE unknown"]);
    expect(runs).toBe(3);
  });
});

describe("a run that several wait for by their key", () => {
  it("has until the latest of their deadlines, and so have its own calls", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const api = contract({ methods: { slow: method(open) } });
    const held = Promise.withResolvers<void>();
    b.serve(api, {
      slow: async (_input, context) => {
        await held.promise;
        return [
          context.signal.aborted,
          (context.remainingMs() ?? 0) > 0,
          await b.peer(id, nodeContract).ping(),
        ];
      },
    });
    const client = a.peer(id, api);
    const short = fate(() => client.slow(1, { idempotencyKey: "k", deadlineMs: 300 }));
    const long = client.slow(1, { idempotencyKey: "k", deadlineMs: 60_000 });
    expect(await short).toBe("DEADLINE_EXCEEDED unknown");
    await client.slow(1, { idempotencyKey: "l", deadlineMs: 30 }).catch(() => undefined); // It ticks there as well.
    held.resolve();
    expect(await long).toEqual([false, true, nodes.get("b").mesh.boot]);
  });
});

describe("a handler", () => {
  it("that passes on the error of a call of its own says nothing of what it has done itself", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const api = contract({ methods: { outer: method(open), refuse: method(open), lost: method(open) } });
    let runs = 0;
    const gone = "12D3KooWPs7ht7kDQQUm9pkDFweb4D8932woKtFSTDHPmtqeXJ3C";
    for (const rpc of [a, b])
      rpc.serve(api, {
        outer: async () => {
          runs += 1;
          return await rpc.peer(gone, api).lost(1);
        },
        lost: async () =>
          await rpc
            .any(["role=none"], api)
            .lost(1)
            .catch(async () => await rpc.any("role=none", api).lost(1)),
        refuse: () => {
          throw new RpcError({
            code: "UNAVAILABLE",
            message: "not now",
            outcome: "none",
            retryable: true,
            remoteCode: undefined,
          });
        },
      });
    expect(await fate(() => a.peer(id, api).outer(1))).toBe("UNAVAILABLE unknown");
    runs = 0;
    expect(await fate(() => a.any("all", api).outer(1))).toBe("UNAVAILABLE unknown");
    expect(runs).toBe(1); // It may have done something: no other is asked.
    expect(await fate(() => a.peer(id, api).lost(1))).toBe("UNAVAILABLE unknown");
    expect(await fate(() => a.peer(id, api).refuse(1))).toBe("UNAVAILABLE none"); // Its own word.
  });

  it("that its access rule takes back counts no longer", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    let takeBack = (): void => undefined;
    const access = (): boolean => {
      takeBack();
      return true;
    };
    const api = contract({ methods: { m: method({ ...open, access }) } });
    takeBack = b.serve(api, { m: () => 1 });
    expect(await fate(() => a.peer(id, api).m(1))).toBe("NOT_FOUND none");
    expect(b.stats().running).toBe(0);
  });

  it("that was taken back goes on for those who had called it, and another may take its place", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const api = contract({ methods: { m: method(open), s: method({ ...open, stream: "output" }) } });
    const held = Promise.withResolvers<void>();
    const takeBack = b.serve(api, {
      m: async () => {
        await held.promise;
        return "first";
      },
      s: async function* () {
        yield 1;
        await held.promise;
        yield 2;
      },
    });
    const client = a.peer(id, api);
    const [call, stream] = [client.m(1), listed(client.s(1))];
    await until("both run", () => b.stats().running === 2);
    expect(await fate(() => b.serve(api, { m: () => 1, s: () => [] }))).toBe("CONFLICT none");
    takeBack();
    expect(await fate(() => client.m(1))).toBe("NOT_FOUND none");
    const other = contract({ methods: { m: method({ ...open, stream: "output" }) } });
    b.serve(other, { m: () => ["second"] });
    takeBack(); // The second time it takes nothing from anybody.
    expect(await listed(a.peer(id, other).m(1))).toEqual(["second"]);
    held.resolve();
    expect([await call, await stream]).toEqual(["first", [1, 2]]);
    expect(b.stats().running).toBe(0);
  });
});

describe("a value", () => {
  it("that is or has a function, cycle or symbol is refused where it is sent", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const cycle: unknown[] = [];
    cycle.push(cycle);
    const values = {
      function: () => 1,
      nested: [{ f: () => 1 }],
      symbol: [Symbol("x")],
      cycle,
      class: Map,
    };
    const api = contract({ methods: { echo: method(open), give: method(open) } });
    b.serve(api, { echo: (input) => input, give: (name) => values[name as keyof typeof values] });
    const client = a.peer(id, api);
    for (const [name, value] of Object.entries(values)) {
      expect(await fate(() => client.echo(value))).toBe("INVALID_INPUT none");
      expect(await fate(() => client.give(name))).toBe("INVALID_OUTPUT unknown");
      expect(await client.echo([1])).toEqual([1]);
    }
    const carried = [2n ** 63n, -(2n ** 63n), new Date(5), null, undefined, "\0", Infinity];
    expect(await client.echo(carried)).toEqual(carried);
    expect(nodes.all().map(({ rpc }) => rpc.stats().badFrames)).toEqual([0, 0]);
  });
});

describe("the reader of a stream", () => {
  it("may end it while it waits for an item, and the handler is told", async () => {
    await using nodes = await Nodes.start("b");
    const layer: ClientMiddleware = async (_call, next) => await next();
    const api = contract({ methods: { quiet: method({ ...open, stream: "output" }) } });
    const b = nodes.get("b");
    let aborted = 0;
    b.rpc.serve(api, {
      quiet: async function* (_input, { signal }) {
        yield 1;
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        aborted += 1;
      },
    });
    for (const [no, client] of [[], [layer]].entries()) {
      const { rpc } = await nodes.add(`a${no}`, { middleware: { client } });
      for (const end of ["return", "throw"] as const) {
        aborted = 0;
        const items = rpc.peer(b.id, api).quiet(1)[Symbol.asyncIterator]() as AsyncGenerator;
        expect(await items.next()).toEqual({ done: false, value: 1 });
        const waiting = fate(async () => await items.next());
        const ended = end === "return" ? items.return(7) : items.throw(new Error("enough"));
        expect(await fate(() => ended)).toEqual(
          end === "return" ? { done: true, value: 7 } : "no RpcError: Error: enough",
        );
        expect(await waiting).toBe("CANCELLED unknown");
        await until("the handler has ended", () => aborted === 1);
        expect(rpc.stats().pending).toBe(0);
      }
    }
  });
});

describe("a bulkhead", () => {
  it("gives a stream no deadline, and a handler's call no more time than that has", async () => {
    const { nodes, a, b, id } = await pair();
    await using _ = nodes;
    const guard = { bulkhead: { concurrent: 1, queue: 9 } };
    const api = contract({
      methods: {
        up: method({ ...open, stream: "input", guard }),
        hang: method({ ...open, guard }),
        outer: method(open),
      },
    });
    const left: (number | undefined)[] = [];
    b.serve(api, {
      up: async (source, context) => {
        left.push(context.remainingMs());
        return (await listed(source)).length;
      },
      hang: async () => await new Promise(() => undefined),
      outer: () => 1,
    });
    a.serve(api, { up: () => 1, hang: () => 1, outer: async () => await a.peer(id, api).hang(2) });
    const client = a.peer(id, api);
    expect(await Promise.all([client.up([1]), client.up([1, 2])])).toEqual([1, 2]);
    expect(left).toEqual([undefined, undefined]);
    const hanging = new AbortController();
    const first = fate(() => client.hang(1, { signal: hanging.signal }));
    const outer = b.peer(nodes.get("a").id, api);
    expect(await fate(() => outer.outer(1, { deadlineMs: 100 }))).toMatch(/^DEADLINE_EXCEEDED /);
    // Alone it would wait 10 s.
    await until("its call gave up too", () => a.stats().running === 0, 5_000);
    hanging.abort();
    expect(await first).toBe("CANCELLED unknown");
  });
});

describe("options that throw when they are looked at", () => {
  it("are INVALID_OPTIONS, and what is asked with them ends there", async () => {
    const { nodes, a, id } = await pair();
    await using _ = nodes;
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const given = proxy as never;
    const signal = Object.create(AbortSignal.prototype) as AbortSignal; // Looks like one.
    const api = contract({ methods: { m: method(open), up: method({ ...open, stream: "input" }) } });
    const client = a.peer(id, api);
    const uses: (() => unknown)[] = [
      () => createRpc(given),
      () => method(given),
      () => method({ ...open, access: given }),
      () => contract({ methods: given }),
      () => a.serve(api, given),
      () => a.peer(id, given),
      () => client.m(1, given),
      () => client.m(1, { signal }),
      () => client.up(given),
      () => a.any("all", api).m(1, given),
      () => a.gather("all", api, "m", 1, given),
      () => a.gather("all", api, "m", 1, { reduce: given }),
      () => a.gather("all", api, "m", 1, { until: given }),
      () => a.reducer("own", given),
      () => a.subscribe("t", given, () => undefined),
      () => a.subscribe("t", any, () => undefined, given),
      () => a.once(given),
      () => a.stop(given),
    ];
    for (const use of uses) expect(await fate(use)).toBe("INVALID_OPTIONS none");
    expect(await fate(() => a.cast(given, api, "m", 1))).toBe("INVALID_TARGET none");
    expect(a.stats().pending).toBe(0);
  });
});
