import { wireName } from "./contract.ts";
import type { CallContext, Client, Contract, Implementation, Method, Methods } from "./contract.ts";
import type { AskMessage } from "./core/messages.ts";
import type { Reducer } from "./core/reducers.ts";
import type { Verdict } from "./core/serving.ts";
import { rpcError } from "./errors.ts";
import { Caller } from "./host/caller.ts";
import { Engine } from "./host/engine.ts";
import { Groups } from "./host/groups.ts";
import { Handlers } from "./host/handlers.ts";
import { Profile } from "./host/profile.ts";
import type { MethodProfile } from "./host/profile.ts";
import { Registry } from "./host/registry.ts";
import { Topics } from "./host/topics.ts";
import { nodeContract, nodeMethods } from "./node-contract.ts";
import { resolveOptions } from "./options.ts";
import type { RpcOptions } from "./options.ts";
import type { InputOf, OutputOf, Schema } from "./schema.ts";
import type {
  CastResult,
  GatherOptions,
  GatherResult,
  Rpc,
  RpcInit,
  RpcStats,
  SingleMethod,
  SubscribeOptions,
  TargetInit,
  TopicInfo,
} from "./types.ts";

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
  readonly #topics: Topics;
  readonly #groups: Groups;
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
      onCast: (peer, message) => this.#groups.onCast(peer, message),
      onTopic: (peer, message) => this.#topics.onMessage(peer, message),
      onUp: (peer) => this.#topics.onUp(peer),
      onBadFrame: (peer, reason) => {
        this.#badFrames += 1;
        logger.warn("a malformed rpc frame", { peer, reason });
      },
    });
    const bootOf = (peer: string): number => mesh.member(peer)?.boot ?? 0;
    this.#topics = new Topics({ self: mesh.peerId, engine: () => this.#running, bootOf, logger });
    this.#groups = new Groups({
      mesh,
      engine,
      registry: this.#registry,
      handlers: this.#handlers,
      caller: this.#caller,
      logger,
    });
    this.serve(
      nodeContract,
      nodeMethods(mesh, this, () => this.#registry.entries()),
    );
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

  async cast<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
  ): Promise<CastResult> {
    void this.#running;
    return await this.#groups.cast(
      target,
      wireName(contract.name, method),
      methodOf(contract, method),
      input,
    );
  }

  async gather<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
    options: GatherOptions = {},
  ): Promise<GatherResult> {
    void this.#running;
    const name = wireName(contract.name, method);
    return await this.#groups.gather(target, name, methodOf(contract, method), input, options);
  }

  reducer(name: string, reducer: Reducer): void {
    this.#groups.addReducer(name, reducer);
  }

  subscribe<S extends Schema>(
    topic: string,
    schema: S,
    handler: (value: OutputOf<S>, info: TopicInfo) => unknown,
    options: SubscribeOptions = {},
  ): () => void {
    return this.#topics.subscribe(topic, schema, handler, options.last ?? 0);
  }

  emit(topic: string, value: unknown): readonly string[] {
    return this.#topics.emit(topic, value);
  }

  profile(): { readonly client: readonly MethodProfile[]; readonly server: readonly MethodProfile[] } {
    return { client: this.#clientProfile.list(), server: this.#serverProfile.list() };
  }

  stats(): RpcStats {
    const { pending, running, links } = this.#engine;
    return {
      pending,
      running,
      links,
      badFrames: this.#badFrames,
      castsDropped: this.#groups.dropped,
      ...this.#registry.refused,
    };
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

function methodOf(contract: Contract, name: string): Method {
  const method = contract.methods[name];
  if (method?.stream === "none") return method;
  throw rpcError(
    "INVALID_OPTIONS",
    `method: ${name} is no method of the contract with one input and one output`,
  );
}

/** Clients remembered for each contract. */
const CLIENTS_MAX = 4_096;
