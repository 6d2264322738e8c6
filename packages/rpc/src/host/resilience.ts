import { systemClock } from "@klatsch/kit";

import type { CallGuard, CallOptions } from "../contract.ts";
import { Breaker } from "../core/breaker.ts";
import type { Told } from "../core/breaker.ts";
import { Bulkhead } from "../core/bulkhead.ts";
import { DEADLINE_MS } from "../core/limits.ts";
import { RpcError, rpcError } from "../errors.ts";
import { checkCall } from "./checks.ts";

type One = (input: unknown, options?: CallOptions) => Promise<unknown>;

/** The calls of one method to one peer, within what its {@link CallGuard} asks for. `name` is for messages. */
export function guarded(name: string, { breaker, bulkhead }: CallGuard, one: One): One {
  const inner = bulkhead === undefined ? one : bounded(name, bulkhead, one);
  return breaker === undefined ? inner : broken(name, breaker, inner);
}

function broken(name: string, init: NonNullable<CallGuard["breaker"]>, one: One): One {
  const breaker = new Breaker(init);
  const nowMs = (): number => systemClock.now().monoMs;
  return async (input, options) => {
    const pass = breaker.enter(nowMs());
    if (pass === undefined)
      throw rpcError("UNAVAILABLE", `${name}: this peer failed too often, and is left alone for a while`);
    let told: Told = "well";
    try {
      return await one(input, options);
    } catch (error) {
      told = toldBy(error);
      throw error;
    } finally {
      breaker.ended(pass, told, nowMs());
    }
  };
}

/** An error that the peer itself has answered with says that it is well. */
function toldBy(error: unknown): Told {
  const code = error instanceof RpcError ? error.code : undefined;
  if (code === "UNAVAILABLE" || code === "DEADLINE_EXCEEDED" || code === "OVERLOADED") return "ill";
  return code === "NOT_FOUND" || code === "DENIED" || code === "HANDLER_FAILED" || code === "INVALID_OUTPUT"
    ? "well"
    : "nothing";
}

function bounded(name: string, init: NonNullable<CallGuard["bulkhead"]>, one: One): One {
  const bulkhead = new Bulkhead<() => void>(init);
  return async (input, options) => {
    checkCall(options);
    const turn = Promise.withResolvers<void>();
    const begin = (): void => turn.resolve();
    const place = bulkhead.enter(begin);
    if (place === "refused")
      throw rpcError("OVERLOADED", `${name}: as many calls of this node as may wait for this peer`);
    let left = options;
    if (place === "wait") {
      const beganMs = systemClock.now().monoMs;
      const deadlineMs = options?.deadlineMs ?? DEADLINE_MS;
      const giveUp = (error: RpcError): void => {
        if (bulkhead.giveUp(begin)) turn.reject(error);
      };
      await waited(turn.promise, name, deadlineMs, options?.signal, giveUp);
      left = { ...options, deadlineMs: Math.max(1, deadlineMs - (systemClock.now().monoMs - beganMs)) };
    }
    try {
      return await one(input, left);
    } finally {
      bulkhead.leave()?.();
    }
  };
}

/** Its turn, unless its time is over or its caller gives up before. */
async function waited(
  turn: Promise<void>,
  name: string,
  deadlineMs: number,
  signal: AbortSignal | undefined,
  giveUp: (error: RpcError) => void,
): Promise<void> {
  const onAbort = (): void =>
    giveUp(rpcError("CANCELLED", `the call of ${name} was cancelled`, signal?.reason));
  const onTime = (): void => giveUp(rpcError("DEADLINE_EXCEEDED", `${name}: its turn did not come in time`));
  const timer = setTimeout(onTime, Math.min(deadlineMs, 2 ** 31 - 1));
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    await turn;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
