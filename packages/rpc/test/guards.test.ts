import { contract, method } from "@klatsch/rpc";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Breaker } from "../src/core/breaker.ts";
import { Bulkhead } from "../src/core/bulkhead.ts";
import { Nodes, until } from "./support/nodes.ts";

const text = z.string();

describe("a breaker", () => {
  it("opens after so many failures in a row, and lets one through to see", () => {
    const breaker = new Breaker({ failures: 2, resetMs: 100 });
    const run = (told: "well" | "ill" | "nothing", at: number): void =>
      breaker.ended(breaker.enter(at) ?? expect.unreachable(), told, at);
    run("ill", 0);
    run("well", 0); // Not in a row.
    run("ill", 0);
    run("ill", 0);
    expect(breaker.enter(99)).toBeUndefined();
    expect(breaker.enter(100)).toBe("probe");
    expect(breaker.enter(100)).toBeUndefined(); // One at a time.
    breaker.ended("closed", "well", 100); // It began before: it opens and closes nothing.
    expect(breaker.enter(100)).toBeUndefined();
    breaker.ended("probe", "ill", 100);
    expect(breaker.enter(199)).toBeUndefined();
    run("nothing", 200); // Its caller gave up: the next one sees.
    run("well", 200);
    expect(breaker.enter(200)).toBe("closed");
  });
});

describe("a bulkhead", () => {
  it("never runs more than it may, nor forgets or reorders who waits", () => {
    const steps = fc.array(fc.constantFrom("enter", "leave", "giveUp"), { maxLength: 60 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 3 }), fc.nat(3), (all, concurrent, queue) => {
        const bulkhead = new Bulkhead<number>({ concurrent, queue });
        const waiting: number[] = [];
        let running = 0;
        all.forEach((step, no) => {
          if (step === "enter") {
            const place = bulkhead.enter(no);
            expect(place).toBe(running < concurrent ? "run" : waiting.length < queue ? "wait" : "refused");
            if (place === "run") running += 1;
            if (place === "wait") waiting.push(no);
          } else if (step === "leave" && running > 0) {
            const next = waiting.shift();
            expect(bulkhead.leave()).toBe(next);
            if (next === undefined) running -= 1;
          } else if (step === "giveUp" && waiting.length > 0) {
            expect(bulkhead.giveUp(waiting.splice(no % waiting.length, 1)[0] ?? -1)).toBe(true);
          }
        });
      }),
    );
  });
});

/** Three nodes that serve `api`; `a` is called from. What a node does depends on `ways`. */
async function three() {
  const nodes = await Nodes.start("a", "b", "c");
  const runs: string[] = [];
  const aborted: string[] = [];
  const ways = new Map<string, "answer" | "hang" | "overloaded">();
  const api = contract({
    name: "api",
    methods: {
      broken: method({
        input: text,
        output: text,
        access: "members",
        guard: { breaker: { failures: 2, resetMs: 150 } },
      }),
      narrow: method({
        input: text,
        output: text,
        access: "members",
        guard: { bulkhead: { concurrent: 1, queue: 1 } },
      }),
      hedged: method({
        input: text,
        output: text,
        access: "members",
        idempotent: true,
        guard: { hedge: { afterMs: 20 } },
      }),
      plain: method({ input: text, output: text, access: "members", concurrencyMax: 1 }),
    },
  });
  for (const { name, rpc } of nodes.all()) {
    const handler = async (input: string, { signal }: { signal: AbortSignal }): Promise<string> => {
      runs.push(name);
      if (ways.get(name) !== "hang") return `${name} ${input}`;
      return await new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          aborted.push(name);
          reject(new Error("aborted"));
        });
      });
    };
    rpc.serve(api, { broken: handler, narrow: handler, hedged: handler, plain: handler });
  }
  return { nodes, api, runs, aborted, ways };
}

describe("a guarded method", () => {
  it("is not asked of a peer that fails again and again, until that is well", async () => {
    const { nodes, api, runs, ways } = await three();
    await using _ = nodes;
    const b = nodes.get("a").rpc.peer(nodes.get("b").id, api);
    ways.set("b", "hang");
    for (let times = 0; times < 2; times += 1)
      await expect(b.broken("x", { deadlineMs: 30 })).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    await expect(b.broken("x")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      outcome: "none",
      retryable: true,
    });
    expect(runs.length).toBe(2);
    ways.set("b", "answer");
    const answer = async (): Promise<string> => await b.broken("x").catch(() => "");
    let answered = "";
    const asking = setInterval(() => void answer().then((value) => (answered ||= value)), 20);
    await until("it is asked again", () => answered === "b x");
    clearInterval(asking);
    expect(await b.broken("y")).toBe("b y");
  });

  it("waits for its turn, no longer than its deadline, and is refused beyond the queue", async () => {
    const { nodes, api, ways } = await three();
    await using _ = nodes;
    const b = nodes.get("a").rpc.peer(nodes.get("b").id, api);
    ways.set("b", "hang");
    const controller = new AbortController();
    const first = b.narrow("1", { signal: controller.signal });
    await expect(b.narrow("2", { deadlineMs: 30 })).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    const cancelled = new AbortController();
    const third = b.narrow("3", { signal: cancelled.signal });
    await expect(b.narrow("4")).rejects.toMatchObject({
      code: "OVERLOADED",
      outcome: "none",
      retryable: true,
    });
    cancelled.abort();
    await expect(third).rejects.toMatchObject({ code: "CANCELLED", outcome: "none" });
    const fifth = b.narrow("5");
    await until("the first runs", () => nodes.get("b").rpc.stats().running === 1);
    ways.set("b", "answer");
    controller.abort();
    await expect(first).rejects.toMatchObject({ code: "CANCELLED" });
    expect(await fifth).toBe("b 5");
  });
});

describe("any of several", () => {
  it("takes them in turn, goes on to the next, and hedges", async () => {
    const { nodes, api, runs, aborted, ways } = await three();
    await using _ = nodes;
    const any = nodes.get("a").rpc.any(["b", "c"], api);
    const answers = new Set([await any.hedged("x"), await any.hedged("x")]);
    expect([...answers].toSorted()).toEqual(["b x", "c x"]);
    // Both b and c are slow to answer what a asks them first: the other is asked too, and the slow one told to stop.
    ways.set("b", "hang");
    for (let times = 0; times < 2; times += 1) expect(await any.hedged("y")).toBe("c y");
    await until("the slow one was told", () => aborted.length === 1);
    expect(aborted).toEqual(["b"]);
    // One that is busy is passed over: nothing has happened there.
    const busy = nodes.get("a").rpc.peer(nodes.get("b").id, api).plain("busy", { deadlineMs: 1_000 });
    await until("b is busy", () => nodes.get("b").rpc.stats().running === 1);
    for (let times = 0; times < 2; times += 1) expect(await any.plain("z")).toBe("c z");
    runs.length = 0;
    await Promise.all([nodes.end("b"), expect(busy).rejects.toMatchObject({ code: "UNAVAILABLE" })]);
    for (let times = 0; times < 2; times += 1) expect(await any.plain("z")).toBe("c z");
    await expect(nodes.get("a").rpc.any("name=nobody", api).plain("z")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      outcome: "none",
    });
  });

  it("never hedges what may not run twice", () => {
    const guard = { hedge: { afterMs: 20 } };
    expect(() => method({ input: text, output: text, access: "members", guard })).toThrow(/idempotent/);
    const breaker = { failures: 0, resetMs: 1 };
    expect(() => method({ input: text, output: text, access: "members", guard: { breaker } })).toThrow(
      /guard/,
    );
  });
});
