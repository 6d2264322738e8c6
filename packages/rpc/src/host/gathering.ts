import { AsyncLocalStorage } from "node:async_hooks";

import { systemClock } from "@klatsch/kit";
import { z } from "zod";

import { method } from "../contract.ts";
import type { Method } from "../contract.ts";
import { Gather } from "../core/gather.ts";
import type { GatherEffect, GatherInput, Part } from "../core/gather.ts";
import { FANOUT_MAX, GATHER_HOLD_MS, GATHER_TARGETS_MAX, NAME_LENGTH_MAX } from "../core/limits.ts";
import type { Forest } from "../core/tree.ts";
import { reducerOf } from "../core/reducers.ts";
import type { Reduce, Reducer } from "../core/reducers.ts";
import { faultOf, rpcError } from "../errors.ts";
import { parse } from "../schema.ts";
import type { Schema } from "../schema.ts";
import type { Guard } from "./access.ts";
import type { Caller } from "./caller.ts";
import { Context } from "./handlers.ts";
import type { Handlers } from "./handlers.ts";
import type { Registry } from "./registry.ts";
import { Inlet } from "./streams.ts";

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
/** Lists are checked in one go: element by element a schema of zod's took a tenth of a node's work in a gather. */
const peers: z.ZodType<readonly string[], readonly string[]> = z.custom((value) => isList(value, isPeer));
const sizes: z.ZodType<readonly number[], readonly number[]> = z.custom((value) => isList(value, isSize));
const failures: z.ZodType<Part["failed"], Part["failed"]> = z.custom((value) => isList(value, isFailure));
const of = z.string().max(NAME_LENGTH_MAX).optional();

const bounds = z
  .array(z.number())
  .min(1)
  .max(1_000)
  .refine((all) => all.every((bound, at) => at === 0 || bound >= (all[at - 1] ?? bound)), "must ascend");

const reduceSchema: z.ZodType<Reduce, Reduce> = z.discriminatedUnion("by", [
  z.object({ by: z.literal("count") }),
  z.object({ by: z.literal(["sum", "min", "max", "avg", "set", "concat"]), of }),
  z.object({ by: z.literal("top"), k: z.int().min(1).max(1_000), of }),
  z.object({ by: z.literal("histogram"), bounds, of }),
  z.object({ by: z.literal("own"), name: z.string().min(1).max(NAME_LENGTH_MAX) }),
]);

export const collectSchema: z.ZodType<Collect, Collect> = z.object({
  method: peer,
  input: z.unknown(),
  below: peers,
  sizes: sizes.optional(),
  reduce: reduceSchema,
  fanout: z.int().min(1).max(FANOUT_MAX),
  origin: peer,
});

const partSchema: z.ZodType<Part, Part> = z.object({
  answered: peers,
  failed: failures,
  state: z.unknown(),
});

function isList(value: unknown, isOne: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length <= GATHER_TARGETS_MAX && value.every(isOne);
}

function isPeer(value: unknown): boolean {
  return typeof value === "string" && value.length > 0 && value.length <= NAME_LENGTH_MAX;
}

function isSize(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isFailure(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [who, code]: unknown[] = value;
  return isPeer(who) && typeof code === "string" && code.length <= NAME_LENGTH_MAX;
}

/**
 * Whoever is a member may pass a gather on; the method asked for is guarded on its own. Each end checks what comes from
 * the other, and not what it has made itself.
 */
const common = { access: "members", stream: "output" } as const;
export const servedMethod: Method<Schema<Collect>, Schema, "output"> = method({
  input: collectSchema,
  output: z.unknown(),
  ...common,
});
const askedMethod: Method<Schema, Schema, "output"> = method({
  input: z.unknown(),
  output: z.unknown(),
  ...common,
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
  collect(asked: Collect, context: Context): AsyncIterable<unknown> {
    const stop = (): void => run.enter({ type: "stop" });
    const parts = new Inlet(() => undefined, stop); // Also when nobody reads any more.
    const leftMs = context.remainingMs() ?? 0;
    const run: GatherRun = this.begin(asked, {
      asked: true,
      parent: context.caller.peerId,
      isRoot: false,
      // A little less than the parent gave: the last report has to be there in time.
      deadlineAt: systemClock.now().monoMs + Math.max(0, leftMs * 0.95 - 2),
      onReport: (part, last) => {
        parts.push(part, false);
        if (last) parts.end();
      },
    });
    context.whenAborted(stop);
    return parts;
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
  /** What cancels the question to each. */
  readonly #children = new Map<string, () => void>();
  /** Of this node's own handler, while it runs. */
  #own: Context | undefined;
  /** Answers are taken up as if whoever began the gather had waited for them: traces follow it. */
  readonly #within: ReturnType<typeof AsyncLocalStorage.snapshot> = AsyncLocalStorage.snapshot();
  readonly #inbox: GatherInput[] = [];
  #entered = false;
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
    this.#inbox.push(input);
    if (this.#entered) return; // A question that fails at once is heard of once all others are asked.
    this.#entered = true;
    try {
      for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift())
        for (const effect of this.#core.step(next, systemClock.now())) this.#perform(effect);
    } finally {
      // A reducer may have thrown, at what another node sent it.
      this.#entered = false;
      this.#arm();
    }
  }

  #arm(): void {
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
        this.#ask(effect.child, effect.below, effect.deadlineMs);
        return;
      case "cancel":
        this.#children.get(effect.child)?.();
        return;
      case "report":
        if (effect.last) this.#own?.abort(rpcError("CANCELLED", "the gather is over"));
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
      this.#own = context;
      const value = await handlers.direct(served, context, input);
      this.#own = undefined;
      this.enter({ type: "own", result: this.#mapped(value) });
    } catch (error) {
      this.#own = undefined;
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

  #ask(child: string, { peers, sizes }: Forest, deadlineMs: number): void {
    const { caller } = this.#init;
    const remote = caller.remote(child, COLLECT, askedMethod);
    const ended = (error: unknown): void => {
      this.#children.delete(child);
      const code = error === undefined ? undefined : faultOf(error).code;
      this.#within(() => this.enter({ type: "ended", child, code }));
    };
    const asked: Collect = { ...this.#asked, below: peers, sizes };
    const cancel = caller.follow(
      remote,
      asked,
      { deadlineMs },
      {
        onItem: (item) => this.#part(child, item, ended),
        onEnd: ended,
      },
    );
    this.#children.set(child, cancel);
  }

  #part(child: string, item: unknown, ended: (error: unknown) => void): void {
    try {
      const part = parse(partSchema, item, "INVALID_OUTPUT", "output item") as Part;
      this.#within(() => this.enter({ type: "part", child, part }));
    } catch (error) {
      const cancel = this.#children.get(child);
      ended(error);
      cancel?.();
    }
  }
}
