import { silentLogger } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";

import type { CallContext, Caller, Method } from "../contract.ts";
import { fault } from "../core/messages.ts";
import type { Fault } from "../core/messages.ts";
import { nearest } from "../core/nearest.ts";
import type { Verdict } from "../core/serving.ts";
import { rpcError } from "../errors.ts";

/** A method that is served here. */
export interface Served {
  readonly name: string;
  readonly method: Method;
  readonly handler: (input: never, context: CallContext) => unknown;
}

/** The methods of one node, by their name on the wire, and the one guard for every way in. */
export class Registry {
  readonly #served = new Map<string, Served>();
  readonly #logger: Logger;
  /** Refused asks since the start. */
  readonly refused: { notFound: number; denied: number } = { notFound: 0, denied: 0 };

  constructor(logger: Logger = silentLogger) {
    this.#logger = logger;
  }

  /** All or none. @throws RpcError `CONFLICT`. The result takes them back. */
  add(all: readonly Served[]): () => void {
    const taken = all.find(({ name }) => this.#served.has(name));
    if (taken !== undefined) throw rpcError("CONFLICT", `method ${taken.name} is served already`);
    for (const one of all) this.#served.set(one.name, one);
    return () => {
      for (const one of all) if (this.#served.get(one.name) === one) this.#served.delete(one.name);
    };
  }

  get(name: string): Served | undefined {
    return this.#served.get(name);
  }

  entries(): readonly Served[] {
    return [...this.#served.values()];
  }

  /** Whether these callers (all of them) may call; anything but a clear yes is a no. */
  judge(name: string, callers: readonly Caller[]): Verdict {
    const served = this.#served.get(name);
    if (served === undefined) return { ok: false, fault: this.#notFound(name) };
    const stranger = callers.find((caller) => !this.#admits(served, caller));
    if (stranger === undefined && callers.length > 0) {
      return {
        ok: true,
        concurrencyMax: served.method.concurrencyMax,
        stream: served.method.stream !== "none",
      };
    }
    this.refused.denied += 1;
    this.#logger.warn("a call was denied", { method: name, peer: stranger?.peerId });
    return {
      ok: false,
      fault: fault("DENIED", `${name}: its access rule does not admit ${stranger?.peerId}`),
    };
  }

  #admits({ name, method }: Served, caller: Caller): boolean {
    const { access } = method;
    if (access === "members") return true;
    if (access === "self") return caller.self;
    if (typeof access !== "function") return access.includes(caller.peerId);
    try {
      const verdict: unknown = access(caller);
      return verdict === true; // A promise is no yes.
    } catch (error) {
      this.#logger.error("an access rule threw", { err: error, method: name });
      return false;
    }
  }

  #notFound(name: string): Fault {
    this.refused.notFound += 1;
    this.#logger.warn("a call of an unknown method", { method: name });
    const near = nearest(name, this.#served.keys());
    const hint = near === undefined ? "" : `; did you mean ${near}?`;
    return fault("NOT_FOUND", `no method ${name} is served here${hint}`);
  }
}
