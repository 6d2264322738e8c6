import { systemClock } from "@klatsch/kit";
import type { Outcome } from "@klatsch/kit";

import type { CallOptions, Method } from "../contract.ts";
import type { CallEffect } from "../core/calls.ts";
import { STREAM_ITEMS_MAX } from "../core/limits.ts";
import { fault } from "../core/messages.ts";
import type { Fault } from "../core/messages.ts";
import { ofCall, RpcError } from "../errors.ts";
import { parse } from "../schema.ts";
import type { ClientMiddleware, OutgoingSpan, Tracing } from "../types.ts";
import { checkCall, checkSource } from "./checks.ts";
import type { Engine } from "./engine.ts";
import { deadlineOf, within } from "./patience.ts";
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
  readonly deadlineAt: number | undefined;
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
      return (input, options) => {
        let inner: AsyncGenerator | undefined;
        const open = (): AsyncGenerator => (inner = this.open(remote, input, options));
        return endedBy(this.#openWithin(remote, input, options, open), () => void inner?.return(undefined));
      };
    }
    const bare: One =
      stream === "none"
        ? (input, options) => this.ask(remote, input, options)
        : (input, options) => this.#upload(remote, input as Source, options);
    const one = guarded(remote.name, remote.method, bare);
    if (isPlain) return one;
    return async (input, options) =>
      await this.#inside(remote, input, options, async () => await one(input, options));
  }

  /** The first middleware is outermost. */
  async #inside(
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
  async *#openWithin(
    remote: Remote,
    input: unknown,
    options: CallOptions | undefined,
    open: () => AsyncGenerator,
  ): AsyncGenerator {
    const begun = Promise.withResolvers<boolean>();
    const ended = Promise.withResolvers<undefined>();
    ended.promise.catch(() => undefined); // Middleware may never look.
    const onion = this.#inside(remote, input, options, async () => {
      begun.resolve(true);
      return await ended.promise;
    });
    onion.then(
      () => begun.resolve(false),
      () => begun.resolve(false),
    );
    try {
      if (await begun.promise) yield* open();
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
      const deadlineAt = this.#deadlineOf(remote, options);
      const checked = parse(remote.method.input, input, "INVALID_INPUT", "input");
      const begin = (): void => void this.#begin(remote, input, options, deadlineAt, { resolve, reject });
      if (checked instanceof Promise)
        this.#within(checked, remote, deadlineAt, options).then(begin).catch(reject);
      else begin();
    });
  }

  #deadlineOf({ method }: Remote, options: CallOptions | undefined): number | undefined {
    checkCall(options);
    return deadlineOf(options?.deadlineMs, method.stream !== "none");
  }

  /** What an asynchronous schema says, if it does so in time. */
  async #within<T>(
    checked: Promise<T>,
    { name }: Remote,
    deadlineAt: number | undefined,
    options: CallOptions | undefined,
    outcome: Outcome = "none",
  ): Promise<T> {
    return await within(checked, { name, deadlineAt, signal: options?.signal, outcome });
  }

  async #upload(remote: Remote, source: Source, options: CallOptions | undefined): Promise<unknown> {
    checkSource(source);
    const outlet = new Outlet();
    const ended = Promise.withResolvers<unknown>();
    const deadlineAt = this.#deadlineOf(remote, options);
    const id = this.#begin(remote, undefined, options, deadlineAt, { ...ended, outlet });
    this.#pump(remote, id, outlet, source, ended.reject);
    try {
      return await ended.promise;
    } finally {
      outlet.close();
    }
  }

  /** An output stream, whose end by its reader does not wait for the next item. */
  open(remote: Remote, input: unknown, options: CallOptions | undefined): AsyncGenerator {
    let cancel = (): void => undefined;
    const items = this.#items(remote, input, options, (begun) => (cancel = begun));
    return endedBy(items, () => cancel());
  }

  async *#items(
    remote: Remote,
    input: unknown,
    options: CallOptions | undefined,
    onBegun: (cancel: () => void) => void,
  ): AsyncGenerator {
    const { method } = remote;
    const isTwoWay = method.stream === "both";
    const deadlineAt = this.#deadlineOf(remote, options);
    const checked = isTwoWay ? checkSource(input) : parse(method.input, input, "INVALID_INPUT", "input");
    if (checked instanceof Promise) {
      const left = new AbortController(); // A reader that leaves does not wait for a schema either.
      onBegun(() => left.abort());
      const signals = options?.signal === undefined ? [left.signal] : [left.signal, options.signal];
      const signal = AbortSignal.any(signals);
      await this.#within(checked, remote, deadlineAt, { ...options, signal });
    }
    const outlet = isTwoWay ? new Outlet() : undefined;
    const engine = this.#engine();
    const grant = (count: number): void =>
      void engine.send(remote.route, { type: "credit", id, up: false, count });
    const inlet: Inlet = new Inlet(grant, () => undefined);
    const resolve = (): void => inlet.end();
    const reject = (error: unknown): void => inlet.fail(error);
    const id: number = this.#begin(remote, isTwoWay ? undefined : input, options, deadlineAt, {
      resolve,
      reject,
      inlet,
      outlet,
    });
    const cancel = (): void => engine.enterCall({ type: "cancel", id });
    onBegun(cancel);
    if (outlet !== undefined) this.#pump(remote, id, outlet, input as Source, reject);
    try {
      for await (const item of inlet) {
        const read = parse(method.output, item, "INVALID_OUTPUT", "output item");
        yield read instanceof Promise
          ? await this.#within(read, remote, deadlineAt, options, "unknown")
          : read;
      }
    } finally {
      outlet?.close();
      cancel(); // If the reader stopped early; otherwise it is over already.
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
    const deadlineAt = this.#deadlineOf(remote, options);
    const id: number = this.#begin(remote, input, options, deadlineAt, {
      resolve,
      reject: told.onEnd,
      inlet: { push },
    });
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
    deadlineAt: number | undefined,
    ends: Pick<Waiter, "resolve" | "reject"> & Partial<Pick<Waiter, "inlet" | "outlet">>,
  ): number {
    const { peer, route, name, method } = remote;
    const engine = this.#engine();
    this.#lastId += 1;
    const id = this.#lastId;
    const signal = options?.signal;
    const key = options?.idempotencyKey;
    if (signal?.aborted === true)
      throw new RpcError(fault("CANCELLED", `the call of ${name} was cancelled`), signal.reason);
    const beganMs = systemClock.now().monoMs;
    const stream = method.stream !== "none";
    const onAbort = signal === undefined ? undefined : (): void => engine.enterCall({ type: "cancel", id });
    if (onAbort !== undefined) signal?.addEventListener("abort", onAbort, { once: true });
    const { resolve, reject, inlet, outlet } = ends;
    const span = this.#tracing?.outgoing(name, peer);
    const trace = span?.traceparent;
    const told = { resolve, reject, inlet, outlet };
    this.#waiters.set(id, { id, remote, beganMs, deadlineAt, ...told, signal, onAbort, span });
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
    const { remote, deadlineAt, signal } = waiter;
    try {
      const read = parse(remote.method.output, value, "INVALID_OUTPUT", "output");
      const isLate = read instanceof Promise;
      waiter.resolve(isLate ? this.#within(read, remote, deadlineAt, { signal }, "unknown") : read);
    } catch (error) {
      waiter.reject(error as RpcError);
    }
  }

  #reject(waiter: Waiter, reason: Fault): void {
    const isUnanswered = reason.code === "DEADLINE_EXCEEDED" && reason.outcome === "unknown";
    if (isUnanswered) this.#engine().missed(waiter.remote.peer);
    const error = new RpcError(reason, reason.code === "CANCELLED" ? waiter.signal?.reason : undefined);
    this.#settle(waiter, error);
    waiter.reject(ofCall(error));
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

/** A generator's own `return` and `throw` wait for the `next` under way, which may be long: they end that first. */
function endedBy(items: AsyncGenerator, cancel: () => void): AsyncGenerator {
  const returned = items.return.bind(items);
  const thrown = items.throw.bind(items);
  items.return = async (value) => {
    cancel();
    return await returned(value);
  };
  items.throw = async (error) => {
    cancel();
    return await thrown(error);
  };
  return items;
}
