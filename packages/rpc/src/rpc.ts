import { wireName } from "./contract.ts";
import type { CallContext, Client, Contract, Implementation, Methods } from "./contract.ts";
import type { AskMessage } from "./core/messages.ts";
import type { Verdict } from "./core/serving.ts";
import { rpcError } from "./errors.ts";
import { Caller } from "./host/caller.ts";
import { Engine } from "./host/engine.ts";
import { Handlers } from "./host/handlers.ts";
import { Profile } from "./host/profile.ts";
import type { MethodProfile } from "./host/profile.ts";
import { Registry } from "./host/registry.ts";
import { resolveOptions } from "./options.ts";
import type { RpcOptions } from "./options.ts";
import type { Rpc, RpcInit, RpcStats } from "./types.ts";

/** Calls for one mesh member. @throws RpcError `INVALID_OPTIONS` before anything starts; MeshError `CHANNEL_EXISTS`. */
export function createRpc(init: RpcInit): Rpc {
  return new RpcService(resolveOptions(init));
}

class RpcService implements Rpc {
  readonly #options: RpcOptions;
  readonly #registry: Registry;
  readonly #engine: Engine;
  readonly #caller: Caller;
  readonly #handlers: Handlers;
  readonly #clientProfile = new Profile();
  readonly #serverProfile = new Profile();
  /** Clients made so far, by contract and peer. */
  readonly #clients = new WeakMap<Contract, Map<string, unknown>>();
  #badFrames = 0;
  #stopping: Promise<void> | undefined;

  constructor(options: RpcOptions) {
    this.#options = options;
    const { mesh, logger } = options;
    this.#registry = new Registry(logger);
    const engine = (): Engine => this.#engine;
    this.#caller = new Caller(() => this.#running, options.client, this.#clientProfile);
    this.#handlers = new Handlers({
      engine,
      registry: this.#registry,
      middleware: options.server,
      profile: this.#serverProfile,
      self: mesh.peerId,
    });
    this.#engine = new Engine(mesh, options, {
      onCallEffect: (effect) => this.#caller.on(effect),
      onServeEffect: (effect, peer) => this.#handlers.on(effect, peer),
      judge: (peer, ask) => this.#judge(peer, ask),
      onCast: () => undefined,
      onTopic: () => undefined,
      onUp: () => undefined,
      onBadFrame: (peer, reason) => {
        this.#badFrames += 1;
        logger.warn("a malformed rpc frame", { peer, reason });
      },
    });
    this.#engine.start();
  }

  get #running(): Engine {
    if (this.#stopping !== undefined) throw rpcError("STOPPED", "this node's rpc has stopped");
    return this.#engine;
  }

  #judge(peer: string, ask: AskMessage): Verdict {
    return this.#registry.judge(ask.method, [{ peerId: peer, self: peer === this.#options.mesh.peerId }]);
  }

  serve<M extends Methods>(contract: Contract<M>, implementation: Implementation<M>): () => void {
    void this.#running;
    const served = Object.entries(contract.methods).map(([key, method]) => {
      const handler: unknown = implementation[key];
      if (typeof handler !== "function")
        throw rpcError("INVALID_OPTIONS", `implementation.${key}: must be a function`);
      const bound = (input: never, context: CallContext): unknown =>
        handler.call(implementation, input, context);
      return { name: wireName(contract.name, key), method, handler: bound };
    });
    return this.#registry.add(served);
  }

  peer<M extends Methods>(peerId: string, contract: Contract<M>): Client<M> {
    const known = this.#clients.get(contract) ?? new Map<string, unknown>();
    this.#clients.set(contract, known);
    let client = known.get(peerId);
    if (client === undefined) {
      if (known.size >= CLIENTS_MAX) known.clear();
      const methods = Object.entries(contract.methods).map(([key, method]) => [
        key,
        this.#caller.bind(this.#caller.remote(peerId, wireName(contract.name, key), method)),
      ]);
      client = Object.freeze(Object.fromEntries(methods));
      known.set(peerId, client);
    }
    return client as Client<M>;
  }

  profile(): { readonly client: readonly MethodProfile[]; readonly server: readonly MethodProfile[] } {
    return { client: this.#clientProfile.list(), server: this.#serverProfile.list() };
  }

  stats(): RpcStats {
    const { pending, running, links } = this.#engine;
    return { pending, running, links, badFrames: this.#badFrames, ...this.#registry.refused };
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#engine.stop();
    await new Promise((resolve) => setImmediate(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Clients remembered for each contract. */
const CLIENTS_MAX = 4_096;
