import type { Logger } from "@klatsch/kit";

import type { CallContext, Method } from "../contract.ts";
import { fault } from "../core/messages.ts";
import type { Fault } from "../core/messages.ts";
import { nearest } from "../core/nearest.ts";
import type { Verdict } from "../core/serving.ts";
import { rpcError } from "../errors.ts";
import type { Guard } from "./access.ts";

/** Unknown names that are compared with those there are, in one turn of the event loop: hints are for people. */
const HINTS_MAX = 32;

/** A method that is served here. */
export interface Served {
  readonly name: string;
  readonly method: Method;
  readonly handler: (input: never, context: CallContext) => unknown;
}

/** The methods of one node, by their name on the wire, and the one guard for every way in. */
export class Registry {
  readonly #served = new Map<string, Served>();
  readonly #guard: Guard;
  readonly #logger: Logger;
  /** Refused asks since the start. */
  readonly refused: { notFound: number; denied: number } = { notFound: 0, denied: 0 };

  /** Hints given in this turn of the event loop. */
  #hints = 0;

  constructor(guard: Guard, logger: Logger) {
    this.#guard = guard;
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

  /** Whether these peers (all of them) may call. */
  judge(name: string, peers: readonly string[]): Verdict {
    const served = this.#served.get(name);
    if (served === undefined) return { ok: false, fault: this.#notFound(name) };
    const { access } = served.method;
    const stranger = peers.find((peer) => !this.#guard.admits(access, this.#guard.caller(peer), name));
    if (stranger === undefined && peers.length > 0) {
      return {
        ok: true,
        concurrencyMax: served.method.concurrencyMax,
        stream: served.method.stream !== "none",
      };
    }
    this.refused.denied += 1;
    this.#logger.warn("a call was denied", { method: name, peer: stranger });
    return {
      ok: false,
      fault: fault("DENIED", `${name}: its access rule does not admit ${stranger}`),
    };
  }

  #notFound(name: string): Fault {
    this.refused.notFound += 1;
    this.#logger.warn("a call of an unknown method", { method: name });
    const near = this.#mayHint() ? nearest(name, this.#served.keys()) : undefined;
    const hint = near === undefined ? "" : `; did you mean ${near}?`;
    return fault("NOT_FOUND", `no method ${name} is served here${hint}`);
  }

  #mayHint(): boolean {
    if (this.#hints === 0) setImmediate(() => (this.#hints = 0));
    this.#hints += 1;
    return this.#hints <= HINTS_MAX;
  }
}
