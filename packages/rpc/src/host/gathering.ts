import { systemClock } from "@klatsch/kit";
import { z } from "zod";

import { method } from "../contract.ts";
import type { CallContext, Method } from "../contract.ts";
import { Gather } from "../core/gather.ts";
import type { GatherEffect, GatherInput, Part } from "../core/gather.ts";
import { FANOUT_MAX, GATHER_HOLD_MS, GATHER_TARGETS_MAX, NAME_LENGTH_MAX } from "../core/limits.ts";
import type { Forest } from "../core/tree.ts";
import { reducerOf } from "../core/reducers.ts";
import type { Reduce, Reducer } from "../core/reducers.ts";
import { faultOf, rpcError } from "../errors.ts";
import type { Schema } from "../schema.ts";
import type { Guard } from "./access.ts";
import type { Caller } from "./caller.ts";
import { Context } from "./handlers.ts";
import type { Handlers } from "./handlers.ts";
import type { Registry } from "./registry.ts";

/** Under this name nodes ask each other for a subtree. */
export const COLLECT = "klatsch.gather.collect";

/** What a child is asked. */
export interface Collect {
  readonly method: string;
  readonly input: unknown;
  /** Members below the child. */
  readonly below: readonly string[];
  /** How they are to be asked: see {@link Forest}. Left out: as the child sees fit. */
  readonly sizes?: readonly number[] | undefined;
  readonly reduce: Reduce;
  readonly fanout: number;
  /** Who began the gather, as the parent says. */
  readonly origin: string;
}

const peer = z.string().min(1).max(NAME_LENGTH_MAX);
const of = z.string().max(NAME_LENGTH_MAX).optional();

const reduceSchema: z.ZodType<Reduce, Reduce> = z.discriminatedUnion("by", [
  z.object({ by: z.literal("count") }),
  z.object({ by: z.literal(["sum", "min", "max", "avg", "set", "concat"]), of }),
  z.object({ by: z.literal("top"), k: z.int().min(1).max(1_000), of }),
  z.object({ by: z.literal("histogram"), bounds: z.array(z.number()).min(1).max(1_000), of }),
  z.object({ by: z.literal("own"), name: z.string().min(1).max(NAME_LENGTH_MAX) }),
]);

export const collectSchema: z.ZodType<Collect, Collect> = z.object({
  method: peer,
  input: z.unknown(),
  below: z.array(peer).max(GATHER_TARGETS_MAX),
  sizes: z.array(z.int().min(1)).max(GATHER_TARGETS_MAX).optional(),
  reduce: reduceSchema,
  fanout: z.int().min(1).max(FANOUT_MAX),
  origin: peer,
});

const partSchema: z.ZodType<Part, Part> = z.object({
  answered: z.array(peer).max(GATHER_TARGETS_MAX),
  failed: z.array(z.tuple([peer, z.string().max(NAME_LENGTH_MAX)])).max(GATHER_TARGETS_MAX),
  state: z.unknown(),
});

/** Whoever is a member may pass a gather on; the method asked for is guarded on its own. */
export const collectMethod: Method<Schema<Collect>, Schema<Part>, "output"> = method({
  input: collectSchema,
  output: partSchema,
  access: "members",
  stream: "output",
});

export interface GatheringInit {
  readonly self: string;
  readonly neighbours: (peer: string) => readonly string[];
  readonly registry: Registry;
  readonly guard: Guard;
  readonly handlers: Handlers;
  readonly caller: Caller;
  readonly reducers: ReadonlyMap<string, Reducer>;
}

/** Where this node stands in one gather. */
interface Place {
  /** Whether this node itself is asked. */
  readonly asked: boolean;
  /** Who asked this node. */
  readonly parent: string;
  readonly isRoot: boolean;
  readonly deadlineAt: number;
  readonly onReport: (part: Part, last: boolean) => void;
}

/** Runs this node's part of gathers, as root and as child. */
export class Gathering {
  readonly #init: GatheringInit;

  constructor(init: GatheringInit) {
    this.#init = init;
  }

  /** The handler of {@link COLLECT}. */
  async *collect(asked: Collect, context: CallContext): AsyncGenerator<Part> {
    const parts: { readonly part: Part; readonly last: boolean }[] = [];
    let wake: () => void = () => undefined;
    const leftMs = context.remainingMs() ?? 0;
    const run = this.begin(asked, {
      asked: true,
      parent: context.caller.peerId,
      isRoot: false,
      // A little less than the parent gave: the last report has to be there in time.
      deadlineAt: systemClock.now().monoMs + Math.max(0, leftMs * 0.95 - 2),
      onReport: (part, last) => {
        parts.push({ part, last });
        wake();
      },
    });
    const stop = (): void => run.enter({ type: "stop" });
    context.signal.addEventListener("abort", stop, { once: true });
    try {
      for (;;) {
        const next = parts.shift();
        if (next !== undefined) yield next.part;
        if (next?.last === true) return;
        if (next === undefined) await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      stop(); // Also when nobody reads any more.
    }
  }

  begin(asked: Collect, place: Place): GatherRun {
    const reducer = reducerOf(asked.reduce, this.#init.reducers);
    const run = new GatherRun(this.#init, asked, place, reducer);
    run.enter({ type: "start" });
    return run;
  }
}

/** One core with its calls, its own handler and its timer. */
export class GatherRun {
  readonly #init: GatheringInit;
  readonly #asked: Collect;
  readonly #place: Place;
  readonly #reducer: Reducer;
  readonly #core: Gather;
  readonly #children = new Map<string, AbortController>();
  readonly #own = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  constructor(init: GatheringInit, asked: Collect, place: Place, reducer: Reducer) {
    this.#init = init;
    this.#asked = asked;
    this.#place = place;
    this.#reducer = reducer;
    this.#core = new Gather({
      self: init.self,
      asked: place.asked,
      neighbours: init.neighbours,
      below: { peers: asked.below, sizes: asked.sizes ?? [] },
      fanout: asked.fanout,
      deadlineAt: place.deadlineAt,
      holdMs: place.isRoot ? undefined : GATHER_HOLD_MS,
      merge: (a, b) => reducer.merge(a, b),
    });
  }

  enter(input: GatherInput): void {
    const effects = this.#core.step(input, systemClock.now());
    for (const effect of effects) this.#perform(effect);
    clearTimeout(this.#timer);
    const next = this.#core.nextDeadline();
    if (next === undefined) return;
    const delayMs = Math.max(0, Math.ceil(next - systemClock.now().monoMs));
    this.#timer = setTimeout(() => this.enter({ type: "tick" }), Math.min(delayMs, 2 ** 31 - 1));
  }

  #perform(effect: GatherEffect): void {
    switch (effect.type) {
      case "runOwn":
        void this.#runOwn();
        return;
      case "ask":
        void this.#ask(effect.child, effect.below, effect.deadlineMs);
        return;
      case "cancel":
        this.#children.get(effect.child)?.abort();
        return;
      case "report":
        if (effect.last) this.#own.abort();
        this.#place.onReport(effect.part, effect.last);
    }
  }

  /** The same guard as for a call: it has to admit who asked, and whom that one says it asks for. */
  async #runOwn(): Promise<void> {
    const { registry, guard, handlers } = this.#init;
    const { method: name, input, origin } = this.#asked;
    const { parent } = this.#place;
    try {
      const verdict = registry.judge(name, [...new Set([parent, origin])]);
      const served = registry.get(name);
      if (!verdict.ok || served === undefined) {
        const code = verdict.ok ? "NOT_FOUND" : verdict.fault.code;
        this.enter({ type: "own", result: { code } });
        return;
      }
      const context = new Context(name, guard.caller(parent), undefined, this.#place.deadlineAt);
      this.#own.signal.addEventListener("abort", () => context.abort(faultless()), { once: true });
      const value = await handlers.direct(served, context, input);
      this.enter({ type: "own", result: this.#mapped(value) });
    } catch (error) {
      const { code, remoteCode } = faultOf(error);
      this.enter({ type: "own", result: { code: remoteCode ?? code } });
    }
  }

  #mapped(value: unknown): { readonly state: unknown } | { readonly code: string } {
    try {
      return { state: this.#reducer.map(value, this.#init.self) };
    } catch {
      return { code: "INVALID_OUTPUT" };
    }
  }

  async #ask(child: string, { peers, sizes }: Forest, deadlineMs: number): Promise<void> {
    const { caller } = this.#init;
    const controller = new AbortController();
    this.#children.set(child, controller);
    const remote = caller.remote(child, COLLECT, collectMethod);
    const options = { deadlineMs, signal: controller.signal };
    let code: string | undefined;
    try {
      const parts = caller.open(
        remote,
        { ...this.#asked, below: peers, sizes },
        options,
      ) as AsyncIterable<Part>;
      for await (const part of parts) this.enter({ type: "part", child, part });
    } catch (error) {
      code = faultOf(error).code;
    }
    this.#children.delete(child);
    this.enter({ type: "ended", child, code });
  }
}

function faultless(): ReturnType<typeof rpcError> {
  return rpcError("CANCELLED", "the gather is over");
}
