import { systemClock } from "@klatsch/kit";

import type { CallGuard, CallOptions, Method } from "../contract.ts";
import { Breaker } from "../core/breaker.ts";
import type { Told } from "../core/breaker.ts";
import { Bulkhead } from "../core/bulkhead.ts";
import { ofCall, RpcError, rpcError } from "../errors.ts";
import { checkCall } from "./checks.ts";
import { deadlineOf, within } from "./patience.ts";

type One = (input: unknown, options?: CallOptions) => Promise<unknown>;

/** The calls of one method to one peer, within what its {@link CallGuard} asks for. `name` is for messages. */
export function guarded(name: string, { guard, stream }: Method, one: One): One {
  const { breaker, bulkhead } = guard;
  const inner = bulkhead === undefined ? one : bounded(name, stream !== "none", bulkhead, one);
  return breaker === undefined ? inner : broken(name, breaker, inner);
}

function broken(name: string, init: NonNullable<CallGuard["breaker"]>, one: One): One {
  const breaker = new Breaker(init);
  const nowMs = (): number => systemClock.now().monoMs;
  return async (input, options) => {
    const pass = breaker.enter(nowMs());
    if (pass === undefined)
      throw ofCall(
        rpcError("UNAVAILABLE", `${name}: this peer failed too often, and is left alone for a while`),
      );
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

function bounded(name: string, endless: boolean, init: NonNullable<CallGuard["bulkhead"]>, one: One): One {
  const bulkhead = new Bulkhead<() => void>(init);
  return async (input, options) => {
    checkCall(options);
    const deadlineAt = deadlineOf(options?.deadlineMs, endless);
    const turn = Promise.withResolvers<void>();
    const begin = (): void => turn.resolve();
    const place = bulkhead.enter(begin);
    if (place === "refused")
      throw ofCall(rpcError("OVERLOADED", `${name}: as many calls of this node as may wait for this peer`));
    if (place === "wait") {
      try {
        await within(turn.promise, { name, deadlineAt, signal: options?.signal, outcome: "none" });
      } catch (error) {
        if (!bulkhead.giveUp(begin)) bulkhead.leave()?.(); // Its turn came at the same time.
        throw error;
      }
    }
    try {
      return await one(input, place === "wait" ? { ...options, ...leftOf(deadlineAt) } : options);
    } finally {
      bulkhead.leave()?.();
    }
  };
}

function leftOf(deadlineAt: number | undefined): Pick<CallOptions, "deadlineMs"> {
  return deadlineAt === undefined ? {} : { deadlineMs: Math.max(1, deadlineAt - systemClock.now().monoMs) };
}
