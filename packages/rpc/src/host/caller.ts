import { systemClock } from "@klatsch/kit";

import type { CallOptions, Method } from "../contract.ts";
import type { CallEffect } from "../core/calls.ts";
import { DEADLINE_MS, NAME_LENGTH_MAX, STREAM_ITEMS_MAX } from "../core/limits.ts";
import { fault } from "../core/messages.ts";
import type { Fault } from "../core/messages.ts";
import { RpcError, rpcError } from "../errors.ts";
import { parse } from "../schema.ts";
import type { ClientMiddleware, OutgoingSpan, Tracing } from "../types.ts";
import { ambient } from "./ambient.ts";
import { checkCall, checkSource } from "./checks.ts";
import type { Engine } from "./engine.ts";
import { routeOf } from "./route.ts";
import type { Profile } from "./profile.ts";
import { guarded } from "./resilience.ts";
import { Inlet, Outlet } from "./streams.ts";
import type { Sink } from "./streams.ts";

type Source = Iterable<unknown> | AsyncIterable<unknown>;

/** One method of one peer, as calls need it. */
export interface Remote {
  readonly peer: string;
  readonly route: string;
  readonly name: string;
  readonly method: Method;
}

interface Waiter {
  readonly id: number;
  readonly remote: Remote;
  readonly beganMs: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: RpcError) => void;
  readonly inlet: Sink | undefined;
  readonly outlet: Outlet | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: (() => void) | undefined;
  readonly span: OutgoingSpan | undefined;
}

type One = (input: unknown, options?: CallOptions) => Promise<unknown>;

export interface CallerInit {
  readonly engine: () => Engine;
  readonly middleware: readonly ClientMiddleware[];
  readonly tracing: Tracing | undefined;
  readonly profile: Profile;
}

/** The calls of this node that wait for an answer. */
export class Caller {
  readonly #engine: () => Engine;
  readonly #middleware: readonly ClientMiddleware[];
  readonly #tracing: Tracing | undefined;
  readonly #profile: Profile;
  readonly #waiters = new Map<number, Waiter>();
  #lastId = 0;

  constructor({ engine, middleware, tracing, profile }: CallerInit) {
    this.#engine = engine;
    this.#middleware = middleware;
    this.#tracing = tracing;
    this.#profile = profile;
  }

  remote(peer: string, name: string, method: Method): Remote {
    return { peer, name, method, route: routeOf(peer, method.class) };
  }

  /** What a client offers under one method's name. */
  bind(remote: Remote): (input: unknown, options?: CallOptions) => unknown {
    const { stream } = remote.method;
    const isPlain = this.#middleware.length === 0;
    if (stream === "output" || stream === "both") {
      if (isPlain) return (input, options) => this.open(remote, input, options);
      return (input, options) => this.#openWithin(remote, input, options);
    }
    const bare: One =
      stream === "none"
        ? (input, options) => this.ask(remote, input, options)
        : (input, options) => this.#upload(remote, input as Source, options);
    const one = guarded(remote.name, remote.method.guard, bare);
    if (isPlain) return one;
    return async (input, options) =>
      await this.#within(remote, input, options, async () => await one(input, options));
  }

  /** The first middleware is outermost. */
  async #within(
    { peer, name }: Remote,
    input: unknown,
    options: CallOptions | undefined,
    innermost: () => Promise<unknown>,
  ): Promise<unknown> {
    const call = { peer, method: name, input, options };
    const onion = this.#middleware.reduceRight<() => Promise<unknown>>(
      (next, layer) => async () => await layer(call, next),
      innermost,
    );
    return await onion();
  }

  /** An output stream within the middleware: it begins where that calls `next`, and that goes on at its end. */
  async *#openWithin(remote: Remote, input: unknown, options: CallOptions | undefined): AsyncGenerator {
    const begun = Promise.withResolvers<boolean>();
    const ended = Promise.withResolvers<undefined>();
    ended.promise.catch(() => undefined); // Middleware may never look.
    const onion = this.#within(remote, input, options, async () => {
      begun.resolve(true);
      return await ended.promise;
    });
    onion.then(
      () => begun.resolve(false),
      () => begun.resolve(false),
    );
    try {
      if (await begun.promise) yield* this.open(remote, input, options);
      ended.resolve(undefined);
    } catch (error) {
      ended.reject(error);
    } finally {
      ended.resolve(undefined); // Its reader stopped early.
      await onion;
    }
  }

  /** One input, one output. */
  ask(remote: Remote, input: unknown, options: CallOptions | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const checked = parse(remote.method.input, input, "INVALID_INPUT", "input");
      const begin = (): void => void this.#begin(remote, input, options, { resolve, reject });
      if (checked instanceof Promise) checked.then(begin).catch(reject);
      else begin();
    });
  }

  async #upload(remote: Remote, source: Source, options: CallOptions | undefined): Promise<unknown> {
    checkSource(source);
    const outlet = new Outlet();
    const ended = Promise.withResolvers<unknown>();
    const id = this.#begin(remote, undefined, options, { ...ended, outlet });
    this.#pump(remote, id, outlet, source, ended.reject);
    try {
      return await ended.promise;
    } finally {
      outlet.close();
    }
  }

  async *open(remote: Remote, input: unknown, options: CallOptions | undefined): AsyncGenerator {
    const { method } = remote;
    const isTwoWay = method.stream === "both";
    if (isTwoWay) checkSource(input);
    else await parse(method.input, input, "INVALID_INPUT", "input");
    const outlet = isTwoWay ? new Outlet() : undefined;
    const engine = this.#engine();
    const grant = (count: number): void =>
      void engine.send(remote.route, { type: "credit", id, up: false, count });
    const inlet: Inlet = new Inlet(grant, () => undefined);
    const resolve = (): void => inlet.end();
    const reject = (error: unknown): void => inlet.fail(error);
    const id: number = this.#begin(remote, isTwoWay ? undefined : input, options, {
      resolve,
      reject,
      inlet,
      outlet,
    });
    if (outlet !== undefined) this.#pump(remote, id, outlet, input as Source, reject);
    try {
      for await (const item of inlet) yield await parse(method.output, item, "INVALID_OUTPUT", "output item");
    } finally {
      outlet?.close();
      engine.enterCall({ type: "cancel", id }); // If the reader stopped early; otherwise it is over already.
    }
  }

  /**
   * An output stream whose items are told as they come, unchecked, and its end, once. Credit is given back for large items
   * alone: it is for streams of a few items. The result cancels it.
   */
  follow(
    remote: Remote,
    input: unknown,
    options: CallOptions,
    told: { readonly onItem: (item: unknown) => void; readonly onEnd: (error: unknown) => void },
  ): () => void {
    const engine = this.#engine();
    let untold = 0;
    const push = (item: unknown, large: boolean): boolean => {
      if (untold === STREAM_ITEMS_MAX) return false;
      untold += 1;
      if (large) {
        engine.send(remote.route, { type: "credit", id, up: false, count: untold });
        untold = 0;
      }
      told.onItem(item);
      return true;
    };
    const resolve = (): void => told.onEnd(undefined);
    const id: number = this.#begin(remote, input, options, { resolve, reject: told.onEnd, inlet: { push } });
    return () => engine.enterCall({ type: "cancel", id });
  }

  #pump(remote: Remote, id: number, outlet: Outlet, source: Source, reject: (error: unknown) => void): void {
    const engine = this.#engine();
    const way = {
      check: (value: unknown) => parse(remote.method.input, value, "INVALID_INPUT", "input item"),
      room: (value: unknown) => engine.room(remote.route, { type: "item", id, up: true, value }),
      send: (value: unknown): number => {
        const queued = engine.queue(remote.route, { type: "item", id, up: true, value });
        if (typeof queued === "number") return queued;
        throw new RpcError({ ...queued, outcome: "unknown" });
      },
    };
    outlet.pump(source, way).then(
      (whole) => {
        if (whole && this.#waiters.has(id)) engine.send(remote.route, { type: "end", id });
      },
      (error: unknown) => {
        if (!this.#waiters.has(id)) return;
        reject(error);
        engine.enterCall({ type: "cancel", id });
      },
    );
  }

  #begin(
    remote: Remote,
    input: unknown,
    options: CallOptions | undefined,
    ends: Pick<Waiter, "resolve" | "reject"> & Partial<Pick<Waiter, "inlet" | "outlet">>,
  ): number {
    const { peer, route, name, method } = remote;
    const engine = this.#engine();
    this.#lastId += 1;
    const id = this.#lastId;
    const signal = options?.signal;
    const key = options?.idempotencyKey;
    checkCall(options);
    if (signal?.aborted === true)
      throw new RpcError(fault("CANCELLED", `the call of ${name} was cancelled`), signal.reason);
    if (key !== undefined && (typeof key !== "string" || key.length === 0 || key.length > NAME_LENGTH_MAX)) {
      throw rpcError("INVALID_OPTIONS", `idempotencyKey: must have 1 to ${NAME_LENGTH_MAX} characters`);
    }
    const beganMs = systemClock.now().monoMs;
    const stream = method.stream !== "none";
    const deadlineAt = deadlineOf(options?.deadlineMs, stream, beganMs);
    const onAbort = signal === undefined ? undefined : (): void => engine.enterCall({ type: "cancel", id });
    if (onAbort !== undefined) signal?.addEventListener("abort", onAbort, { once: true });
    const { resolve, reject, inlet, outlet } = ends;
    const span = this.#tracing?.outgoing(name, peer);
    const trace = span?.traceparent;
    this.#waiters.set(id, { id, remote, beganMs, resolve, reject, inlet, outlet, signal, onAbort, span });
    const { idempotent } = method;
    const reachable = engine.isUp(route) || engine.isReachable(peer);
    engine.enterCall({
      type: "call",
      call: { id, route, method: name, input, deadlineAt, key, trace, idempotent, stream, reachable },
    });
    return id;
  }

  on(effect: Exclude<CallEffect, { readonly type: "send" | "reach" }>): void {
    const waiter = this.#waiters.get(effect.id);
    if (waiter === undefined) return;
    switch (effect.type) {
      case "resolve":
        this.#resolve(waiter, effect.value);
        return;
      case "reject":
        this.#reject(waiter, effect.fault);
        return;
      case "item":
        // A peer that sends more than it may is cut, which ends this call too.
        if (waiter.inlet?.push(effect.value, effect.large) !== true)
          this.#engine().cut(waiter.remote.route, "items without credit");
        return;
      case "credit":
        waiter.outlet?.credit(effect.count);
    }
  }

  #resolve(waiter: Waiter, value: unknown): void {
    this.#settle(waiter, undefined);
    if (waiter.inlet !== undefined) {
      waiter.resolve(undefined);
      return;
    }
    try {
      // A promise of an asynchronous schema is followed.
      waiter.resolve(parse(waiter.remote.method.output, value, "INVALID_OUTPUT", "output"));
    } catch (error) {
      const { code, message, cause } = error as RpcError;
      waiter.reject(new RpcError(fault(code, message, "unknown"), cause));
    }
  }

  #reject(waiter: Waiter, reason: Fault): void {
    const isUnanswered = reason.code === "DEADLINE_EXCEEDED" && reason.outcome === "unknown";
    if (isUnanswered) this.#engine().missed(waiter.remote.peer);
    const error = new RpcError(reason, reason.code === "CANCELLED" ? waiter.signal?.reason : undefined);
    this.#settle(waiter, error);
    waiter.reject(error);
  }

  #settle(waiter: Waiter, error: RpcError | undefined): void {
    const { id, remote, beganMs, outlet, signal, onAbort, span } = waiter;
    this.#waiters.delete(id);
    outlet?.close();
    if (onAbort !== undefined) signal?.removeEventListener("abort", onAbort);
    span?.end(error);
    this.#profile.record(remote.name, systemClock.now().monoMs - beganMs, error === undefined);
  }
}

/** Never later than what the calling handler has left. */
function deadlineOf(deadlineMs: number | undefined, stream: boolean, nowMs: number): number | undefined {
  const inherited = ambient.getStore()?.deadlineAt;
  const wanted = deadlineMs ?? (stream || inherited !== undefined ? undefined : DEADLINE_MS);
  if (wanted === undefined) return inherited;
  return inherited === undefined ? nowMs + wanted : Math.min(inherited, nowMs + wanted);
}
