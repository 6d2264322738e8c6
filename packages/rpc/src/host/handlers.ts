import { callListener, systemClock } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";

import type { CallContext, Caller } from "../contract.ts";
import { fault } from "../core/messages.ts";
import type { AskMessage, Fault } from "../core/messages.ts";
import type { Result, ServeEffect } from "../core/serving.ts";
import { faultOf, RpcError } from "../errors.ts";
import { isThenable, parse } from "../schema.ts";
import type { ServerMiddleware, Tracing } from "../types.ts";
import type { Guard } from "./access.ts";
import { ambient } from "./ambient.ts";
import type { Engine } from "./engine.ts";
import type { Profile } from "./profile.ts";
import type { Registry, Served } from "./registry.ts";
import { Inlet, Outlet } from "./streams.ts";

/** What a handler is given. Its signal is made when it is first asked for: most handlers never do. */
export class Context implements CallContext {
  readonly method: string;
  readonly caller: Caller;
  readonly idempotencyKey: string | undefined;
  /** Grows where somebody else waits for the same run, by its key. */
  deadlineAt: number | undefined;
  #controller: AbortController | undefined;
  #reason: RpcError | undefined;
  #onAbort: (() => void) | undefined;

  constructor(method: string, caller: Caller, key: string | undefined, deadlineAt: number | undefined) {
    this.method = method;
    this.caller = caller;
    this.idempotencyKey = key;
    this.deadlineAt = deadlineAt;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  abort(reason: RpcError): void {
    this.#reason = reason;
    this.#controller?.abort(reason);
    this.#onAbort?.();
  }

  /** For handlers of this package: cheaper than a signal. */
  whenAborted(then: () => void): void {
    if (this.#reason !== undefined) then();
    else this.#onAbort = then;
  }

  remainingMs(): number | undefined {
    if (this.deadlineAt === undefined) return undefined;
    return Math.max(0, this.deadlineAt - systemClock.now().monoMs);
  }
}

interface Running {
  readonly context: Context;
  readonly inlet: Inlet | undefined;
  readonly outlet: Outlet | undefined;
}

export interface HandlersInit {
  readonly engine: () => Engine;
  readonly registry: Registry;
  readonly guard: Guard;
  readonly middleware: readonly ServerMiddleware[];
  readonly tracing: Tracing | undefined;
  readonly profile: Profile;
  readonly logger: Logger;
}

/** The handlers that run now. */
export class Handlers {
  readonly #init: HandlersInit;
  readonly #running = new Map<number, Running>();

  constructor(init: HandlersInit) {
    this.#init = init;
  }

  on(effect: Exclude<ServeEffect, { readonly type: "send" }>, peer: string): void {
    if (effect.type === "run") {
      this.#begin(effect.run, effect.ask, effect.from, peer, effect.deadlineAt);
      return;
    }
    const running = this.#running.get(effect.run);
    if (running === undefined) return;
    switch (effect.type) {
      case "abort":
        this.#abort(running, effect.fault);
        return;
      case "extend":
        running.context.deadlineAt = effect.deadlineAt;
        return;
      case "item":
        if (running.inlet?.push(effect.value, effect.large) !== false) return;
        this.#abort(running, { ...faultOf(new Error("items without credit")), outcome: "unknown" });
        return;
      case "end":
        running.inlet?.end();
        return;
      case "credit":
        running.outlet?.credit(effect.count);
    }
  }

  #abort({ context, inlet, outlet }: Running, reason: Fault): void {
    const error = new RpcError(reason);
    outlet?.close();
    inlet?.fail(error);
    context.abort(error);
  }

  #begin(run: number, ask: AskMessage, from: string, peer: string, deadlineAt: number | undefined): void {
    const { registry, guard, profile, logger } = this.#init;
    const engine = this.#init.engine();
    const served = registry.get(ask.method);
    if (served === undefined) {
      // The access rule that let it in has taken it back.
      const result: Result = {
        ok: false,
        fault: fault("NOT_FOUND", `no method ${ask.method} is served here`),
      };
      engine.enterServe({ type: "done", run, result, bytes: 0 });
      return;
    }
    const { stream } = served.method;
    const grant = (count: number): void =>
      void engine.send(from, { type: "credit", id: ask.id, up: true, count });
    const context = new Context(ask.method, guard.caller(peer), ask.key, deadlineAt);
    const running: Running = {
      context,
      inlet: stream === "input" || stream === "both" ? new Inlet(grant, () => undefined) : undefined,
      outlet: stream === "output" || stream === "both" ? new Outlet() : undefined,
    };
    this.#running.set(run, running);
    const beganMs = systemClock.now().monoMs;
    const ended = (result: Result): void => {
      this.#running.delete(run);
      profile.record(ask.method, systemClock.now().monoMs - beganMs, result.ok);
      // Whoever gives no key pays for none.
      if (ask.key === undefined || !result.ok) engine.enterServe({ type: "done", run, result, bytes: 0 });
      else {
        const { value, bytes } = engine.kept(result.value);
        engine.enterServe({ type: "done", run, result: { ok: true, value }, bytes });
      }
    };
    const execute = (): Promise<unknown> =>
      this.invoke(served, context, () => this.#execute(run, served, running, ask.input));
    ambient
      .run(context, () => this.#traced(context, ask.trace, execute))
      .then(
        (value) => ended({ ok: true, value }),
        (error: unknown) => {
          const told = faultOf(error);
          // The caller gets its text alone. A logger may choke on what was thrown.
          const fields = { err: error, method: ask.method, peer };
          if (told.code === "HANDLER_FAILED")
            callListener(() => logger.warn("a handler threw", fields), ignore);
          ended({ ok: false, fault: told });
        },
      );
  }

  /**
   * Runs one handler for a caller that was let in, without streams: what a cast or a gather's own part is. No promise where
   * nothing of it is async: then it has ended, and throws if it failed.
   */
  direct(served: Served, context: Context, input: unknown, trace?: string): unknown {
    const { profile, middleware, tracing } = this.#init;
    const beganMs = systemClock.now().monoMs;
    const ended = (ok: boolean): void => profile.record(served.name, systemClock.now().monoMs - beganMs, ok);
    const single = (): unknown => this.#single(served, context, input);
    const around = async (): Promise<unknown> => await this.invoke(served, context, async () => single());
    const isPlain = tracing === undefined && middleware.length === 0;
    const { deadlineAt } = context;
    let given: unknown;
    try {
      given = ambient.run({ deadlineAt }, () => (isPlain ? single() : this.#traced(context, trace, around)));
    } catch (error) {
      ended(false);
      throw error;
    }
    if (given instanceof Promise)
      given.then(
        () => ended(true),
        () => ended(false),
      );
    else ended(true);
    return given;
  }

  #traced(
    { method, caller }: Context,
    trace: string | undefined,
    run: () => Promise<unknown>,
  ): Promise<unknown> {
    const { tracing } = this.#init;
    return tracing === undefined ? run() : tracing.incoming(method, caller.peerId, trace, run);
  }

  /** The first middleware is outermost. */
  invoke(served: Served, context: Context, innermost: () => Promise<unknown>): Promise<unknown> {
    const { middleware } = this.#init;
    if (middleware.length === 0) return innermost();
    const onion = middleware.reduceRight<() => Promise<unknown>>(
      (next, layer) => async () => await layer({ method: served.name, context }, next),
      innermost,
    );
    return onion();
  }

  #single(served: Served, context: Context, input: unknown): unknown {
    const parsed = parse(served.method.input, input, "INVALID_INPUT", "input");
    if (!(parsed instanceof Promise)) return this.#handled(served, context, parsed);
    return parsed.then((value: unknown) => this.#handled(served, context, value));
  }

  #handled({ method, handler, name }: Served, context: Context, input: unknown): unknown {
    const checked = (value: unknown): unknown => {
      const verdict = parse(method.output, value, "INVALID_OUTPUT", `${name} output`);
      return verdict instanceof Promise ? verdict.then(() => value) : value;
    };
    const value: unknown = handler(input as never, context);
    return isThenable(value) ? Promise.resolve(value).then(checked) : checked(value);
  }

  async #execute(run: number, served: Served, running: Running, input: unknown): Promise<unknown> {
    const { context, inlet, outlet } = running;
    if (inlet === undefined && outlet === undefined) return await this.#single(served, context, input);
    return await this.#streaming(run, served, running, input);
  }

  async #streaming(run: number, served: Served, running: Running, input: unknown): Promise<unknown> {
    const { method, handler } = served;
    const { context, inlet, outlet } = running;
    const given =
      inlet === undefined
        ? await parse(method.input, input, "INVALID_INPUT", "input")
        : parsed(served, inlet);
    const value = await handler(given as never, context);
    if (outlet === undefined) {
      await parse(method.output, value, "INVALID_OUTPUT", "output");
      return value;
    }
    const engine = this.#init.engine();
    await outlet.pump(value as AsyncIterable<unknown>, {
      check: (item) => parse(method.output, item, "INVALID_OUTPUT", "output item"),
      room: (item) => engine.roomFromRun(run, item),
      send: (item) => {
        const queued = engine.queueFromRun(run, item);
        if (typeof queued === "number") return queued;
        const code = queued.code === "INVALID_INPUT" ? "INVALID_OUTPUT" : queued.code;
        throw new RpcError({ ...queued, code, outcome: "unknown" });
      },
    });
    return undefined;
  }
}

async function* parsed({ method }: Served, inlet: Inlet): AsyncGenerator {
  for await (const item of inlet) yield await parse(method.input, item, "INVALID_INPUT", "input item");
}

function ignore(): void {}
