import { callListener, systemClock, textOf } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type { Method } from "../contract.ts";
import type { Part } from "../core/gather.ts";
import { CASTS_MAX, DEADLINE_MS, FANOUT, GATHER_TARGETS_MAX, HELD_BYTES_MAX } from "../core/limits.ts";
import { fault } from "../core/messages.ts";
import type { CastMessage } from "../core/messages.ts";
import { reducerOf } from "../core/reducers.ts";
import type { Reduce, Reducer } from "../core/reducers.ts";
import { RpcError, rpcError } from "../errors.ts";
import { checkKnown, readable } from "../known.ts";
import { parse } from "../schema.ts";
import type {
  CastResult,
  Covered,
  GatherOptions,
  GatherResult,
  TargetInit,
  Tracing,
  Until,
} from "../types.ts";
import type { Guard } from "./access.ts";
import type { Caller } from "./caller.ts";
import { checkDeadline, checkFunction, checkName, checkSignal, isDuration } from "./checks.ts";
import type { Engine } from "./engine.ts";
import { routeOf } from "./route.ts";
import { COLLECT, collectSchema, Gathering, servedMethod } from "./gathering.ts";
import type { Collect, GatherRun } from "./gathering.ts";
import { Context } from "./handlers.ts";
import type { Handlers } from "./handlers.ts";
import type { Members } from "./members.ts";
import { deadlineOf, within } from "./patience.ts";
import type { Patience } from "./patience.ts";
import type { Registry } from "./registry.ts";
import type { Spreading } from "./spreading.ts";

export interface GroupsInit {
  readonly mesh: Mesh;
  readonly engine: () => Engine;
  readonly members: Members;
  readonly registry: Registry;
  readonly guard: Guard;
  readonly handlers: Handlers;
  readonly caller: Caller;
  readonly spreading: Spreading;
  readonly tracing: Tracing | undefined;
  readonly logger: Logger;
}

/** What is asked of many: casts and gathers. */
export class Groups {
  readonly #init: GroupsInit;
  readonly #members: Members;
  readonly #reducers = new Map<string, Reducer>();
  readonly #gathering: Gathering;
  /** What ends each gather that began here, and its end. */
  readonly #pending = new Map<() => void, Promise<void>>();
  #state: "open" | "draining" | "stopped" = "open";
  /** Of casts that run here. */
  readonly #casts = new Set<Context>();
  #castingBytes = 0;
  #onCastsEnded: (() => void) | undefined;
  /** Casts that were not run here. */
  dropped = 0;

  constructor(init: GroupsInit) {
    this.#init = init;
    const { mesh, registry, guard, handlers, caller } = init;
    this.#members = init.members;
    this.#gathering = new Gathering({
      self: mesh.peerId,
      neighbours: (peer) => mesh.neighbours(peer),
      registry,
      guard,
      handlers,
      caller,
      reducers: this.#reducers,
    });
    registry.add([
      {
        name: COLLECT,
        method: servedMethod,
        handler: (input, context) => this.#gathering.collect(input, context as Context),
      },
    ]);
  }

  /** @throws RpcError `CONFLICT`, `INVALID_OPTIONS`. */
  addReducer(name: string, reducer: Reducer): void {
    checkName(name, "name");
    const parts: Partial<Reducer> | null | undefined = reducer;
    readable("reducer", () => {
      for (const part of ["map", "merge", "done"] as const) checkFunction(parts?.[part], `reducer.${part}`);
    });
    if (this.#reducers.has(name)) throw rpcError("CONFLICT", `reducer ${name} is registered already`);
    this.#reducers.set(name, reducer);
  }

  async cast(target: TargetInit, name: string, method: Method, input: unknown): Promise<CastResult> {
    await checkedWithin(method, input, {
      name,
      deadlineAt: deadlineOf(undefined, false),
      signal: undefined,
      outcome: "none",
    });
    this.#checkRuns();
    const { spreading, tracing } = this.#init;
    const addressed: string[] = [];
    const unreachable: string[] = [];
    const members = this.#init.mesh.members();
    const strangers = new Set(spreading.far(members));
    const [near, far] = [new Array<string>(), new Array<string>()];
    for (const peer of this.#members.select(target, members)) {
      if (this.#members.isStopping(peer)) unreachable.push(peer);
      else (strangers.has(peer) ? far : near).push(peer);
    }
    const no = far.length === 0 ? undefined : spreading.nextNo();
    // A list is resolved here; its members need not be asked whether they are meant.
    const text = typeof target === "string" ? target : "all";
    const span = tracing?.outgoing(name, text);
    const trace = span?.traceparent;
    const message: CastMessage = { type: "cast", method: name, input, target: text, no, trace };
    const routes = near.map((peer) => routeOf(peer, method.class));
    try {
      for (const [at, reason] of this.#init.engine().sendToAll(routes, message).entries()) {
        if (reason?.code === "TOO_LARGE" || reason?.code === "INVALID_INPUT")
          throw rpcError(reason.code, reason.message);
        (reason === undefined ? addressed : unreachable).push(near[at] as string);
      }
      if (far.length > 0) {
        const wanted = typeof target === "string" ? target : far;
        const told = await spreading.tell({ ...message, target: wanted });
        (told ? addressed : unreachable).push(...far);
      }
    } catch (error) {
      span?.end(error as RpcError);
      throw error;
    }
    span?.end();
    return { addressed, unreachable };
  }

  /** A cast that is the first copy of it. */
  onCast(peer: string, { method, input, target, trace, bytes = 0 }: CastMessage): void {
    const { registry, guard, handlers, logger } = this.#init;
    const isRoom = this.#casts.size < CASTS_MAX && this.#castingBytes + bytes <= HELD_BYTES_MAX;
    const isMeant = this.#state === "open" && isRoom && this.#members.isMeant(target);
    const served = isMeant && registry.judge(method, [peer]).ok ? registry.get(method) : undefined;
    if (served?.method.stream !== "none") {
      this.dropped += 1;
      return;
    }
    const deadlineAt = systemClock.now().monoMs + DEADLINE_MS;
    const context = new Context(method, guard.caller(peer), undefined, deadlineAt);
    const failed = (error: unknown): void => logger.warn("a cast failed", { err: error, method, peer });
    try {
      // What is not async has ended by now, and counts for nobody: thousands may come in one turn of the event loop.
      const given = handlers.direct(served, context, input, trace);
      if (given instanceof Promise) void this.#hold(context, bytes, given).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  /** A cast runs until its handler ends. */
  async #hold(context: Context, bytes: number, given: Promise<unknown>): Promise<void> {
    this.#castingBytes += bytes;
    this.#casts.add(context);
    try {
      await given;
    } finally {
      this.#casts.delete(context);
      this.#castingBytes -= bytes;
      if (this.#casts.size === 0) this.#onCastsEnded?.();
    }
  }

  async gather(
    target: TargetInit,
    name: string,
    method: Method,
    input: unknown,
    options: GatherOptions,
  ): Promise<GatherResult> {
    const { until = "all", signal, reduce = { by: "concat" }, ...given } = checkedOptions(options);
    const deadlineAt = deadlineOf(given.deadlineMs ?? DEADLINE_MS, false) ?? 0;
    // Once it has begun, its signal ends it with what has come so far.
    await checkedWithin(method, input, { name, deadlineAt, signal, outcome: "none" });
    this.#checkRuns();
    const targets = this.#members.select(target);
    if (targets.length > GATHER_TARGETS_MAX) {
      throw rpcError(
        "INVALID_TARGET",
        `${targets.length} members are meant, more than ${GATHER_TARGETS_MAX}`,
      );
    }
    const self = this.#init.mesh.peerId;
    const below = targets.filter((peer) => peer !== self);
    const asked: Collect = {
      method: name,
      input,
      below,
      reduce,
      fanout: given.fanout ?? FANOUT,
      origin: self,
    };
    const checked = parse(collectSchema, asked, "INVALID_OPTIONS", "options");
    if (checked instanceof Promise) await checked; // Where looking at it throws, it is looked at once more.
    const onProgress = given.onProgress && this.#contained(given.onProgress);
    const tally = new Tally(this.#reducer(reduce), targets, until, onProgress);
    const ended = Promise.withResolvers<void>();
    const stop = (): void => run.enter({ type: "stop" });
    const endAtStop = (): void => {
      ended.reject(new RpcError(fault("STOPPED", STOPPED, "unknown")));
      stop();
    };
    const run: GatherRun = this.#gathering.begin(asked, {
      asked: below.length < targets.length,
      parent: self,
      isRoot: true,
      deadlineAt,
      onReport: (part, last) => {
        tally.add(part);
        if (last) ended.resolve();
        else if (tally.isEnough) queueMicrotask(stop);
        else tally.restartStall(stop);
      },
    });
    tally.restartStall(stop);
    if (signal?.aborted === true) stop();
    signal?.addEventListener("abort", stop, { once: true });
    this.#pending.set(endAtStop, ended.promise);
    try {
      await ended.promise;
    } finally {
      this.#pending.delete(endAtStop);
      signal?.removeEventListener("abort", stop);
      tally.end();
    }
    return tally.result((peerId) => ({ peerId, name: this.#members.nameOf(peerId) }));
  }

  /** Takes no more casts. Resolves once those that run have ended, and the gathers that began here until now. */
  async drain(): Promise<void> {
    this.#state = "draining";
    const casts = new Promise<void>((resolve) => (this.#onCastsEnded = resolve));
    if (this.#casts.size === 0) this.#onCastsEnded?.();
    await Promise.allSettled([...this.#pending.values(), casts]);
  }

  /**
   * Ends all gathers that began here, and tells casts to end; call it before the engine stops, which ends the gathers of
   * others.
   */
  stop(): void {
    this.#state = "stopped";
    for (const end of [...this.#pending.keys()]) end();
    for (const context of this.#casts) context.abort(rpcError("UNAVAILABLE", "this node stops"));
  }

  #checkRuns(): void {
    if (this.#state === "stopped") throw rpcError("STOPPED", STOPPED);
  }

  /** What the application throws when it is told ends no gather. */
  #contained(onProgress: NonNullable<GatherOptions["onProgress"]>): typeof onProgress {
    const { logger } = this.#init;
    return (progress) =>
      callListener(
        () => onProgress(progress),
        (error) => logger.warn("onProgress of a gather failed", { err: error }),
      );
  }

  #reducer(reduce: Reduce): Reducer {
    try {
      return reducerOf(reduce, this.#reducers);
    } catch (error) {
      throw rpcError("INVALID_OPTIONS", `reduce: ${textOf(error)}`, error);
    }
  }
}

/** Looks at an input no longer than its caller waits. */
async function checkedWithin({ input: schema }: Method, input: unknown, patience: Patience): Promise<void> {
  const checked = parse(schema, input, "INVALID_INPUT", "input");
  if (checked instanceof Promise) await within(checked, patience);
}

const STOPPED = "this node's rpc has stopped";

/** The root's account. */
class Tally {
  readonly #reducer: Reducer;
  readonly #targets: readonly string[];
  readonly #wanted: number;
  readonly #stallMs: number | undefined;
  readonly #onProgress: GatherOptions["onProgress"];
  readonly #answered: string[] = [];
  readonly #failed: (readonly [string, string])[] = [];
  #state: unknown;
  #stall: NodeJS.Timeout | undefined;

  constructor(
    reducer: Reducer,
    targets: readonly string[],
    until: Until,
    onProgress: GatherOptions["onProgress"],
  ) {
    this.#reducer = reducer;
    this.#targets = targets;
    this.#stallMs = typeof until === "object" ? until.stallMs : undefined;
    this.#wanted = wantedOf(until, targets.length);
    this.#onProgress = onProgress;
  }

  get isEnough(): boolean {
    return this.#answered.length >= this.#wanted;
  }

  add({ answered, failed, state }: Part): void {
    this.#failed.push(...failed);
    if (answered.length === 0) return;
    let value: unknown;
    try {
      const isFirst = this.#answered.length === 0;
      const merged = isFirst ? state : this.#reducer.merge(this.#state, state);
      // What cannot be merged is found by merging; the first, by what it would come to alone.
      if (isFirst || this.#onProgress !== undefined) value = this.#reducer.done(merged);
      this.#state = merged;
    } catch {
      for (const peer of answered) this.#failed.push([peer, "INVALID_OUTPUT"]);
      return;
    }
    this.#answered.push(...answered);
    this.#onProgress?.({ value, answered: this.#answered.length });
  }

  restartStall(stop: () => void): void {
    if (this.#stallMs === undefined) return;
    clearTimeout(this.#stall);
    this.#stall = setTimeout(stop, this.#stallMs);
  }

  /** Nothing is waited for any more. */
  end(): void {
    clearTimeout(this.#stall);
  }

  /** @throws RpcError `INVALID_OUTPUT` if the reducer cannot tell. */
  result(covered: (peerId: string) => Covered): GatherResult {
    const known = new Set([...this.#answered, ...this.#failed.map(([peer]) => peer)]);
    return {
      value: this.#value(),
      answered: this.#answered.map(covered),
      failed: this.#failed.map(([peer, code]) => ({ ...covered(peer), code })),
      missing: this.#targets.filter((peer) => !known.has(peer)).map(covered),
    };
  }

  #value(): unknown {
    try {
      return this.#reducer.done(this.#state);
    } catch (error) {
      throw new RpcError(fault("INVALID_OUTPUT", `reduce: ${textOf(error)}`, "unknown"), error);
    }
  }
}

const GATHER_OPTIONS: readonly (keyof GatherOptions)[] = [
  "reduce",
  "until",
  "fanout",
  "deadlineMs",
  "signal",
  "onProgress",
];

/** @throws RpcError `INVALID_OPTIONS` naming the field. The rest is checked with what children are asked. */
function checkedOptions(options: GatherOptions | null): GatherOptions {
  if (typeof options !== "object" || options === null)
    throw rpcError("INVALID_OPTIONS", "options: must be an object");
  return readable("options", () => {
    checkKnown(options, GATHER_OPTIONS);
    const { reduce, until, fanout, deadlineMs, signal, onProgress } = options;
    checkGiven({ until, deadlineMs, signal, onProgress });
    return { reduce, until, fanout, deadlineMs, signal, onProgress };
  });
}

function checkGiven({ until, deadlineMs, signal, onProgress }: GatherOptions): void {
  checkDeadline(deadlineMs);
  checkSignal(signal);
  if (onProgress !== undefined) checkFunction(onProgress, "onProgress");
  if (until !== undefined && !isUntil(until))
    throw rpcError(
      "INVALID_OPTIONS",
      "until: must be all, first, quorum, a whole number from 1, or { stallMs } above 0",
    );
}

function isUntil(until: unknown): boolean {
  if (typeof until === "number") return Number.isSafeInteger(until) && until > 0;
  if (typeof until === "object" && until !== null) return "stallMs" in until && isDuration(until.stallMs);
  return until === "all" || until === "first" || until === "quorum";
}

function wantedOf(until: Until, targets: number): number {
  if (until === "first") return 1;
  if (until === "quorum") return Math.floor(targets / 2) + 1;
  if (typeof until === "number") return until;
  return Infinity;
}
