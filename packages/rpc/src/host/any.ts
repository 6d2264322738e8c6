import type { CallOptions, Method } from "../contract.ts";
import { HEDGED_MAX } from "../core/limits.ts";
import { ofCall, RpcError, rpcError } from "../errors.ts";
import { checkCall } from "./checks.ts";

/** One method of one peer. */
type One = (input: unknown, options?: CallOptions) => Promise<unknown>;

interface Attempt {
  readonly controller: AbortController;
  readonly ended: Promise<Ended>;
}

type Ended = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: unknown };

/**
 * Calls one of several peers: the first of them, the next where that one did nothing or asking twice does no harm,
 * and beside it where the method hedges. Rejects with the last error.
 */
export async function callAny(
  method: Method,
  peers: readonly One[],
  input: unknown,
  options: CallOptions | undefined,
): Promise<unknown> {
  checkCall(options);
  const { hedge } = method.guard;
  const attempts = new Set<Attempt>();
  const waiting = peers.slice(0, HEDGED_MAX).values();
  const begin = (): boolean => {
    const { value: call } = waiting.next();
    if (call !== undefined) attempts.add(attemptOf(call, input, options));
    return call !== undefined;
  };
  if (!begin()) throw ofCall(rpcError("UNAVAILABLE", "no live member that takes calls is meant"));
  let hedges = hedge === undefined ? 0 : (hedge.max ?? 2) - 1;
  try {
    for (;;) {
      const pause = hedges > 0 ? hedge?.afterMs : undefined;
      const first = await firstOf(attempts, pause);
      if (first === undefined) {
        hedges = begin() ? hedges - 1 : 0;
        continue;
      }
      attempts.delete(first.attempt);
      const { ended } = first;
      if (ended.ok) return ended.value;
      if (mayGoOn(ended.error, method, options) && begin()) continue;
      if (attempts.size === 0) throw ended.error;
    }
  } finally {
    for (const { controller } of attempts) controller.abort();
  }
}

function attemptOf(call: One, input: unknown, options: CallOptions | undefined): Attempt {
  const controller = new AbortController();
  const signals = options?.signal === undefined ? [] : [options.signal];
  const signal = AbortSignal.any([controller.signal, ...signals]);
  const ended = call(input, { ...options, signal }).then(
    (value): Ended => ({ ok: true, value }),
    (error: unknown): Ended => ({ ok: false, error }),
  );
  return { controller, ended };
}

/** The first attempt that ends; `undefined` if none does within `pauseMs`. */
async function firstOf(
  attempts: ReadonlySet<Attempt>,
  pauseMs: number | undefined,
): Promise<{ readonly attempt: Attempt; readonly ended: Ended } | undefined> {
  const ends = [...attempts].map(async (attempt) => ({ attempt, ended: await attempt.ended }));
  if (pauseMs === undefined) return await Promise.race(ends);
  let timer: NodeJS.Timeout | undefined;
  const paused = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), pauseMs)));
  try {
    return await Promise.race([...ends, paused]);
  } finally {
    clearTimeout(timer);
  }
}

/** Another peer may be asked: nothing has happened, or it does no harm if it happens twice. */
function mayGoOn(error: unknown, method: Method, options: CallOptions | undefined): boolean {
  if (!(error instanceof RpcError) || !error.retryable || options?.signal?.aborted === true) return false;
  return error.code !== "DEADLINE_EXCEEDED" && (error.outcome === "none" || method.idempotent);
}
