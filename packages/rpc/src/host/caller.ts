import { systemClock } from "@klatsch/kit";

import type { CallOptions, Method } from "../contract.ts";
import type { CallEffect } from "../core/calls.ts";
import { DEADLINE_MS, DEADLINE_MS_MAX, NAME_LENGTH_MAX } from "../core/limits.ts";
import { fault } from "../core/messages.ts";
import type { Fault } from "../core/messages.ts";
import { RpcError, rpcError } from "../errors.ts";
import { parse } from "../schema.ts";
import type { ClientMiddleware } from "../types.ts";
import { ambient } from "./ambient.ts";
import { routeOf } from "./engine.ts";
import type { Engine } from "./engine.ts";
import type { Profile } from "./profile.ts";
import { Inlet, Outlet } from "./streams.ts";

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
  readonly inlet: Inlet | undefined;
  readonly outlet: Outlet | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: (() => void) | undefined;
}

/** The calls of this node that wait for an answer. */
export class Caller {
  readonly #engine: () => Engine;
  readonly #middleware: readonly ClientMiddleware[];
  readonly #profile: Profile;
  readonly #waiters = new Map<number, Waiter>();
  #lastId = 0;

  constructor(engine: () => Engine, middleware: readonly ClientMiddleware[], profile: Profile) {
    this.#engine = engine;
    this.#middleware = middleware;
    this.#profile = profile;
  }

  remote(peer: string, name: string, method: Method): Remote {
    return { peer, name, method, route: routeOf(peer, method.class) };
  }

  /** What a client offers under one method's name. */
  bind(remote: Remote): (input: unknown, options?: CallOptions) => unknown {
    const { stream } = remote.method;
    if (stream === "output" || stream === "both")
      return (input, options) => this.open(remote, input, options);
    const one =
      stream === "none"
        ? (input: unknown, options?: CallOptions): Promise<unknown> => this.ask(remote, input, options)
        : (input: unknown, options?: CallOptions): Promise<unknown> =>
            this.#upload(remote, input as Source, options);
    if (this.#middleware.length === 0) return one;
    return async (input, options) => {
      const call = { peer: remote.peer, method: remote.name, input, options };
      const onion = this.#middleware.reduceRight<() => Promise<unknown>>(
        (next, layer) => async () => await layer(call, next),
        async () => await one(input, options),
      );
      return await onion();
    };
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
    if (!isTwoWay) await parse(method.input, input, "INVALID_INPUT", "input");
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

  #pump(remote: Remote, id: number, outlet: Outlet, source: Source, reject: (error: unknown) => void): void {
    const engine = this.#engine();
    const send = async (value: unknown): Promise<void> => {
      await parse(remote.method.input, value, "INVALID_INPUT", "input item");
      const reason = engine.send(remote.route, { type: "item", id, up: true, value });
      if (reason !== undefined) throw new RpcError({ ...reason, outcome: "unknown" });
    };
    outlet.pump(source, send).then(
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
    this.#waiters.set(id, { id, remote, beganMs, resolve, reject, inlet, outlet, signal, onAbort });
    const { idempotent } = method;
    const reachable = engine.isUp(route) || engine.isReachable(peer);
    engine.enterCall({
      type: "call",
      call: { id, route, method: name, input, deadlineAt, key, idempotent, stream, reachable },
    });
    return id;
  }

  on(effect: Exclude<CallEffect, { readonly type: "send" }>): void {
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
        if (waiter.inlet?.push(effect.value) !== true)
          this.#engine().cut(waiter.remote.route, "items without credit");
        return;
      case "credit":
        waiter.outlet?.credit(effect.count);
    }
  }

  #resolve(waiter: Waiter, value: unknown): void {
    this.#settle(waiter, true);
    if (waiter.inlet !== undefined) {
      waiter.resolve(undefined);
      return;
    }
    try {
      // A promise of an asynchronous schema is followed.
      waiter.resolve(parse(waiter.remote.method.output, value, "INVALID_OUTPUT", "output"));
    } catch (error) {
      const { code, message } = error as RpcError;
      waiter.reject(new RpcError(fault(code, message, "unknown")));
    }
  }

  #reject(waiter: Waiter, reason: Fault): void {
    this.#settle(waiter, false);
    waiter.reject(new RpcError(reason, reason.code === "CANCELLED" ? waiter.signal?.reason : undefined));
  }

  #settle({ id, remote, beganMs, outlet, signal, onAbort }: Waiter, ok: boolean): void {
    this.#waiters.delete(id);
    outlet?.close();
    if (onAbort !== undefined) signal?.removeEventListener("abort", onAbort);
    this.#profile.record(remote.name, systemClock.now().monoMs - beganMs, ok);
  }
}

/** Never later than what the calling handler has left. */
function deadlineOf(deadlineMs: number | undefined, stream: boolean, nowMs: number): number | undefined {
  if (deadlineMs !== undefined && !(deadlineMs > 0 && deadlineMs <= DEADLINE_MS_MAX)) {
    throw rpcError("INVALID_OPTIONS", `deadlineMs: must be a number above 0 and up to ${DEADLINE_MS_MAX}`);
  }
  const inherited = ambient.getStore()?.deadlineAt;
  const wanted = deadlineMs ?? (stream || inherited !== undefined ? undefined : DEADLINE_MS);
  if (wanted === undefined) return inherited;
  return inherited === undefined ? nowMs + wanted : Math.min(inherited, nowMs + wanted);
}
