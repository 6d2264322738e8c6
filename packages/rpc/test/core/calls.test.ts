import { describe, expect, it } from "vitest";

import { Calls } from "../../src/core/calls.ts";
import type { Call, CallEffect } from "../../src/core/calls.ts";
import { ASKERS_MAX, HELD_BYTES_MAX, KEPT_BYTES_MAX, KEPT_RESULTS_MS } from "../../src/core/limits.ts";
import { fault } from "../../src/core/messages.ts";
import { Serving } from "../../src/core/serving.ts";
import type { ServeInput } from "../../src/core/serving.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 0 });
const NONE: ReadonlySet<number> = new Set();

const call = (change: Partial<Call> = {}): Call => ({
  id: 1,
  route: "r",
  method: "m",
  input: 7,
  deadlineAt: 1_000,
  key: undefined,
  trace: undefined,
  idempotent: false,
  stream: false,
  reachable: true,
  ...change,
});

/** A core with a session to `r`, and what it did since. */
function linked(): {
  calls: Calls;
  step: (input: Parameters<Calls["step"]>[0], now?: number) => readonly CallEffect[];
} {
  const calls = new Calls({ pendingMax: 2 });
  calls.step({ type: "up", route: "r", boot: 1 }, at(0));
  return { calls, step: (input, now = 0) => calls.step(input, at(now)) };
}

const down = { type: "down", route: "r", unsent: NONE } as const;
const up = (boot: number) => ({ type: "up", route: "r", boot }) as const;
const faultsOf = (effects: readonly CallEffect[]): string[] =>
  effects.flatMap((effect) =>
    effect.type === "reject" ? [`${effect.fault.code} ${effect.fault.outcome}`] : [],
  );

describe("the caller's core", () => {
  it("sends the time that is left, not an instant", () => {
    const { step } = linked();
    const [sent] = step({ type: "call", call: call() }, 400);
    expect(sent).toMatchObject({ type: "send", message: { type: "ask", remainingMs: 600 } });
  });

  it("never acts on late, repeated, unknown or foreign answers", () => {
    const { step, calls } = linked();
    step({ type: "call", call: call() });
    const reply = { type: "reply", id: 1, value: 8 } as const;
    expect(step({ type: "message", from: "other", message: reply })).toEqual([]);
    expect(step({ type: "message", from: "r", message: { ...reply, id: 2 } })).toEqual([]);
    expect(step({ type: "message", from: "r", message: reply })).toEqual([
      { type: "resolve", id: 1, value: 8 },
    ]);
    expect(step({ type: "message", from: "r", message: reply })).toEqual([]);
    expect([calls.size, calls.nextDeadline()]).toEqual([0, undefined]);
  });

  it("tells the handler's side when it stops waiting", () => {
    const { step } = linked();
    step({ type: "call", call: call() });
    const effects = step({ type: "tick" }, 1_000);
    expect(effects[0]).toMatchObject({ type: "send", message: { type: "cancel", id: 1 } });
    expect(faultsOf(effects)).toEqual(["DEADLINE_EXCEEDED unknown"]);
  });

  it("does not send a call again that may have run, unless that does no harm", () => {
    const { step } = linked();
    step({ type: "call", call: call() });
    step({ type: "call", call: call({ id: 2, idempotent: true }) });
    expect(faultsOf(step(down))).toEqual(["UNAVAILABLE unknown"]);
    expect(step(up(2))).toMatchObject([{ type: "send", message: { id: 2 } }]);
  });

  it("sends a call again that had not left", () => {
    const { step } = linked();
    step({ type: "call", call: call() });
    expect(step({ ...down, unsent: new Set([1]) })).toEqual([{ type: "reach", route: "r" }]);
    expect(step(up(2))).toMatchObject([{ type: "send", message: { id: 1 } }]);
  });

  it("repeats a call with a key only at the process that keeps its result", () => {
    const { step } = linked();
    step({ type: "call", call: call({ key: "k" }) });
    expect(step(down)).toEqual([{ type: "reach", route: "r" }]);
    expect(step(up(1))).toMatchObject([{ type: "send" }]);
    expect(step(down)).toEqual([{ type: "reach", route: "r" }]);
    expect(faultsOf(step(up(2)))).toEqual(["UNAVAILABLE unknown"]);
  });

  it("sends nothing new over a session that ends soon, unless it has a key, until there is another", () => {
    const { step } = linked();
    step({ type: "closing", route: "r" });
    expect(faultsOf(step({ type: "call", call: call() }))).toEqual(["UNAVAILABLE none"]);
    expect(step({ type: "call", call: call({ key: "k" }) })).toMatchObject([{ type: "send" }]);
    step({ type: "gone", route: "other" });
    step(down);
    step({ type: "closing", route: "r" }); // Too late: that session has ended.
    step(up(2));
    expect(step({ type: "call", call: call({ id: 2 }) })).toMatchObject([{ type: "send" }]);
  });

  it("counts what a drain waits for: calls that were pending, but no stream that may never end", () => {
    const { calls, step } = linked();
    step({ type: "call", call: call() });
    step({ type: "call", call: call({ id: 2, stream: true, deadlineAt: undefined }) });
    expect(calls.awaited).toBe(0);
    step({ type: "drain" });
    expect(calls.awaited).toBe(1);
    step({ type: "cancel", id: 2 });
    step({ type: "call", call: call({ id: 3 }) });
    expect(calls.awaited).toBe(1);
    step({ type: "message", from: "r", message: { type: "reply", id: 1, value: 8 } });
    expect(calls.awaited).toBe(0);
  });

  it("waits for a link that blinks, not for a peer that is gone, and not beyond the limit", () => {
    const { step } = linked();
    step(down);
    expect(step({ type: "call", call: call() })).toEqual([{ type: "reach", route: "r" }]);
    expect(faultsOf(step({ type: "call", call: call({ id: 2, reachable: false }) }))).toEqual([
      "UNAVAILABLE none",
    ]);
    expect(faultsOf(step({ type: "gone", route: "r" }))).toEqual(["UNAVAILABLE none"]);
    step({ type: "call", call: call({ id: 3 }) });
    step({ type: "call", call: call({ id: 4 }) });
    expect(faultsOf(step({ type: "call", call: call({ id: 5 }) }))).toEqual(["OVERLOADED none"]);
  });
});

type AskInput = Extract<ServeInput, { readonly type: "ask" }>;

describe("the handlers' core", () => {
  const verdict = { ok: true, concurrencyMax: 2, stream: false } as const;
  const ask = (id: number, key?: string, from = "r"): ServeInput => ({
    type: "ask",
    from,
    owner: "p",
    ask: { type: "ask", id, method: "m", remainingMs: 100, input: 7, key, trace: undefined },
    verdict,
  });
  const done = (run: number, value: unknown, bytes = 0): ServeInput => ({
    type: "done",
    run,
    result: { ok: true, value },
    bytes,
  });
  const started = (): Serving => {
    const serving = new Serving({ runsMax: 10 });
    for (const route of ["r", "s"]) serving.step({ type: "up", route }, at(0));
    return serving;
  };

  it("counts a handler until it has really ended", () => {
    const serving = started();
    serving.step(ask(1), at(0));
    serving.step(ask(2), at(0));
    serving.step({ type: "message", from: "r", message: { type: "cancel", id: 1 } }, at(0));
    expect(serving.step(ask(3), at(0))).toMatchObject([
      { message: { type: "fail", fault: { code: "OVERLOADED" } } },
    ]);
    expect(serving.step(done(1, "late"), at(0))).toEqual([]);
    expect(serving.step(ask(4), at(0))).toMatchObject([{ type: "run" }]);
    expect(serving.size).toBe(2);
  });

  it("never runs calls of one peer with more bytes than it may have, and counts them until they have ended", () => {
    const serving = started();
    const outcome = (id: number, owner: string, bytes: number): string => {
      const input = { ...ask(id), owner, verdict: { ...verdict, concurrencyMax: 9 } } as AskInput;
      return serving.step({ ...input, ask: { ...input.ask, bytes } }, at(0))[0]?.type ?? "none";
    };
    const half = HELD_BYTES_MAX / 2;
    expect([1, 2, 3].map((id) => outcome(id, "p", half))).toEqual(["run", "run", "send"]);
    expect(outcome(4, "q", half)).toBe("run"); // Another's.
    expect(outcome(5, "p", 0)).toBe("run"); // One that did not come in chunks.
    serving.step({ type: "message", from: "r", message: { type: "cancel", id: 1 } }, at(0));
    expect(outcome(6, "p", half)).toBe("send");
    serving.step(done(1, 0), at(0));
    expect(outcome(7, "p", half)).toBe("run");
  });

  it("runs a key once, for all who ask with it, even over a broken link", () => {
    const serving = started();
    expect(serving.step(ask(1, "k"), at(0))).toMatchObject([{ type: "run", run: 1 }]);
    expect(serving.step(ask(2, "k", "s"), at(0))).toEqual([]);
    expect(serving.step({ type: "down", route: "r" }, at(0))).toEqual([]);
    expect(serving.step({ type: "down", route: "s" }, at(0))).toEqual([]);
    serving.step({ type: "up", route: "r" }, at(0));
    expect(serving.step(ask(1, "k"), at(0))).toEqual([]);
    expect(serving.step(done(1, "first"), at(0))).toMatchObject([{ message: { id: 1, value: "first" } }]);
    expect(serving.step(ask(5, "k"), at(50))).toMatchObject([{ message: { id: 5, value: "first" } }]);
    expect(serving.step(ask(6, "k"), at(400_000))).toMatchObject([{ type: "run" }]);
  });

  it("keeps results for their keys within a limit of bytes, the last ones, and counts what it gives up", () => {
    const serving = started();
    const quarter = KEPT_BYTES_MAX / 4;
    const isKept = (id: number, key: string, nowMs: number): boolean => {
      const [effect] = serving.step(ask(id, key), at(nowMs));
      if (effect?.type === "run") serving.step(done(effect.run, key, quarter), at(nowMs));
      return effect?.type === "send";
    };
    const keys = ["a", "b", "c", "d"];
    for (const [no, key] of keys.entries()) expect(isKept(no, key, 0)).toBe(false);
    for (const [no, key] of keys.entries()) expect(isKept(10 + no, key, 1)).toBe(true);
    expect(isKept(20, "e", 2)).toBe(false); // In the place of the oldest.
    expect(["b", "c", "d", "e"].every((key, no) => isKept(30 + no, key, 3))).toBe(true);
    expect(isKept(40, "b", 400_000)).toBe(false); // It was too old, and is kept anew.
    expect(["c", "d", "e"].map((key, no) => isKept(50 + no, key, 3))).toEqual([true, true, true]);
    expect(isKept(60, "a", 5)).toBe(false);
    expect(isKept(61, "c", 5)).toBe(false);
  });

  it("keeps a result from when its handler has ended, however long it ran", () => {
    const serving = started();
    const [begun] = serving.step(ask(1, "k"), at(0));
    expect(begun).toMatchObject({ type: "run", run: 1 });
    const endedAtMs = KEPT_RESULTS_MS * 2;
    serving.step(done(1, "it"), at(endedAtMs)); // Its caller's link was lost just before.
    expect(serving.step(ask(2, "k"), at(endedAtMs + KEPT_RESULTS_MS))).toMatchObject([{ type: "send" }]);
    expect(serving.step(ask(3, "k"), at(endedAtMs + KEPT_RESULTS_MS + 1))).toMatchObject([{ type: "run" }]);
  });

  it("lets go of the one of several asks with a key that was cancelled, and of the others' number", () => {
    const serving = started();
    serving.step(ask(1, "k"), at(0));
    serving.step(ask(2, "k"), at(0));
    expect(serving.step({ type: "message", from: "r", message: { type: "cancel", id: 2 } }, at(0))).toEqual(
      [],
    );
    expect(serving.step(done(1, "it"), at(0))).toMatchObject([{ message: { type: "reply", id: 1 } }]);
    serving.step(ask(3, "other"), at(0));
    for (let id = 4; id < 3 + ASKERS_MAX; id += 1) expect(serving.step(ask(id, "other"), at(0))).toEqual([]);
    expect(serving.step(ask(99, "other"), at(0))).toMatchObject([
      { message: { fault: { code: "OVERLOADED" } } },
    ]);
  });

  it("never answers a call of a later session in place of several of an earlier one", () => {
    const serving = started();
    serving.step(ask(1, "k"), at(0));
    serving.step(ask(2, "k"), at(0));
    serving.step({ type: "down", route: "r" }, at(0));
    serving.step({ type: "up", route: "r" }, at(0)); // Perhaps another process: it counts its calls from 1.
    serving.step(ask(2), at(0));
    expect(serving.step(done(1, "of the first session"), at(0))).toEqual([]);
    expect(serving.step(done(2, "mine"), at(0))).toMatchObject([{ message: { id: 2, value: "mine" } }]);
  });

  it("tells handlers to stop at the deadline, at a cancel and when the link is lost", () => {
    const serving = started();
    serving.step(ask(1), at(0));
    expect(serving.nextDeadline()).toBeGreaterThanOrEqual(100);
    expect(serving.step({ type: "tick" }, at(104))).toMatchObject([
      { type: "abort", run: 1 },
      { type: "send" },
    ]);
    serving.step(done(1, 0), at(105));
    serving.step(ask(2), at(110));
    expect(serving.step({ type: "down", route: "r" }, at(111))).toMatchObject([{ type: "abort", run: 2 }]);
    serving.step(done(2, 0), at(112));
    expect([serving.size, serving.nextDeadline()]).toEqual([0, undefined]);
  });

  it("begins nothing in a drain but this node's own calls, answers kept keys, and begins nothing at all once stopped", () => {
    const serving = started();
    serving.step(ask(1, "k"), at(0));
    serving.step(ask(2, "done"), at(0));
    serving.step(done(2, "kept"), at(0));
    serving.step({ type: "drain", self: "self" }, at(0));
    const refused = [{ type: "send", message: { fault: { code: "UNAVAILABLE", outcome: "none" } } }];
    expect(serving.step(ask(3), at(0))).toMatchObject(refused);
    expect(serving.step(ask(4, "new"), at(0))).toMatchObject(refused);
    expect(serving.step(ask(5, "done"), at(0))).toMatchObject([{ message: { id: 5, value: "kept" } }]);
    expect(serving.step(ask(6, "k"), at(0))).toEqual([]);
    const own = { ...ask(7), owner: "self" } as AskInput;
    expect(serving.step(own, at(0))).toMatchObject([{ type: "run" }]);
    expect(serving.step(done(1, "late"), at(0)).length).toBe(2);
    serving.step({ type: "stop" }, at(0));
    expect(serving.step({ ...own, ask: { ...own.ask, id: 8 } }, at(0))).toMatchObject(refused);
  });

  it("never runs what the registry refused", () => {
    const refused = { ...ask(1), verdict: { ok: false, fault: fault("DENIED", "no") } } as ServeInput;
    expect(started().step(refused, at(0))).toMatchObject([
      { type: "send", message: { fault: { code: "DENIED" } } },
    ]);
  });
});
