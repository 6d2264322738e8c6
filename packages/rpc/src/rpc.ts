import { renderMetrics } from "@klatsch/kit";
import type { MetricFamily } from "@klatsch/kit";

import { checkContract, wireName } from "./contract.ts";
import type {
  CallContext,
  CallOptions,
  Client,
  Contract,
  Implementation,
  Method,
  Methods,
} from "./contract.ts";
import { ABORTED_TASKS_MS } from "./core/limits.ts";
import type { CastMessage, EmitMessage } from "./core/messages.ts";
import type { Reducer } from "./core/reducers.ts";
import { rpcError } from "./errors.ts";
import { Guard } from "./host/access.ts";
import { callAny } from "./host/any.ts";
import { Caller } from "./host/caller.ts";
import { checkText, graceOf } from "./host/checks.ts";
import { Engine } from "./host/engine.ts";
import { hearFarewell, sayFarewell } from "./host/farewell.ts";
import { Grace } from "./host/grace.ts";
import { Groups } from "./host/groups.ts";
import { Handlers } from "./host/handlers.ts";
import { Members } from "./host/members.ts";
import { Once } from "./host/once.ts";
import { Profile } from "./host/profile.ts";
import type { MethodProfile } from "./host/profile.ts";
import { Registry } from "./host/registry.ts";
import { routeOf } from "./host/route.ts";
import { rpcFamilies } from "./host/rpc-metrics.ts";
import { Spreading } from "./host/spreading.ts";
import { Stops } from "./host/stops.ts";
import { RECALL, recallMethod, Topics } from "./host/topics.ts";
import type { Recall, Recalled } from "./host/topics.ts";
import { nodeContract, nodeMethods } from "./node-contract.ts";
import { readable } from "./known.ts";
import { resolveOptions } from "./options.ts";
import type { RpcOptions } from "./options.ts";
import type { InputOf, OutputOf, Schema } from "./schema.ts";
import type {
  AnyClient,
  CastResult,
  GatherOptions,
  GatherResult,
  OnceRun,
  OnceScope,
  OnceStatus,
  OnceTask,
  Rpc,
  RpcInit,
  RpcStats,
  SingleMethod,
  StopOptions,
  SubscribeOptions,
  TargetInit,
  TopicInfo,
} from "./types.ts";

/**
 * Calls for one mesh member, which has one rpc at a time. @throws RpcError `INVALID_OPTIONS` before anything starts;
 * MeshError `CHANNEL_EXISTS` until the rpc that the mesh has is stopped, `STOPPED`.
 */
export function createRpc(init: RpcInit): Rpc {
  return new RpcService(resolveOptions(init));
}

class RpcService implements Rpc {
  readonly #options: RpcOptions;
  readonly #guard: Guard;
  readonly #registry: Registry;
  readonly #engine: Engine;
  readonly #caller: Caller;
  readonly #handlers: Handlers;
  readonly #stops: Stops;
  readonly #members: Members;
  readonly #spreading: Spreading;
  readonly #topics: Topics;
  readonly #groups: Groups;
  readonly #once: Once;
  readonly #clientProfile = new Profile();
  readonly #serverProfile = new Profile();
  /** Clients made so far, by contract and peer. */
  readonly #clients = new WeakMap<Contract, Map<string, unknown>>();
  #badFrames = 0;
  /** Where the next call of {@link any} begins. */
  #turn = 0;
  readonly #grace = new Grace();
  #stopping: Promise<void> | undefined;
  #ended: Promise<void> | undefined;

  constructor(options: RpcOptions) {
    this.#options = options;
    const { mesh, logger, tracing } = options;
    const engine = (): Engine => this.#running;
    this.#stops = new Stops(mesh, logger);
    this.#members = new Members(mesh, this.#stops);
    this.#guard = new Guard(mesh, logger);
    this.#registry = new Registry(this.#guard, logger);
    this.#caller = new Caller({ engine, middleware: options.client, tracing, profile: this.#clientProfile });
    this.#handlers = new Handlers({
      engine: () => this.#engine, // Also after the stop: what runs has to end.
      registry: this.#registry,
      guard: this.#guard,
      middleware: options.server,
      tracing,
      profile: this.#serverProfile,
      logger,
    });
    this.#spreading = new Spreading({
      mesh,
      engine: () => this.#engine,
      logger,
      onMessage: (peer, message) => this.#onFirst(peer, message),
      onBad: (peer, reason) => this.#onBadFrame(peer, reason),
    });
    this.#engine = this.#createEngine();
    this.#topics = this.#createTopics();
    this.#groups = this.#createGroups();
    const { handlers, registry, guard } = {
      handlers: this.#handlers,
      registry: this.#registry,
      guard: this.#guard,
    };
    this.#once = new Once({ mesh, registry, guard, handlers, options: options.once, logger });
    const recalled = (recall: Recall): Recalled => this.#topics.recalled(recall);
    registry.add([{ name: RECALL, method: recallMethod, handler: recalled }, hearFarewell(engine)]);
    const served = (): ReturnType<Registry["entries"]> => registry.entries();
    this.serve(nodeContract, nodeMethods(mesh, this, served));
    try {
      this.#engine.start();
      this.#spreading.start();
      this.#once.start();
      this.#stops.takeBack(); // Not before: the one that said so may go on, and this one cannot begin then.
    } catch (error) {
      void this.#end(); // What it has opened would be in the way of the next one.
      throw error;
    }
  }

  #createEngine(): Engine {
    return new Engine(
      this.#options.mesh,
      { ...this.#options, stops: this.#stops },
      {
        onCallEffect: (effect) => this.#caller.on(effect),
        onServeEffect: (effect, peer) => this.#handlers.on(effect, peer),
        judge: (peer, ask) => this.#registry.judge(ask.method, [peer]),
        onCast: (peer, message) => {
          if (message.no === undefined || this.#isFirst(peer, message.no)) this.#onFirst(peer, message);
        },
        onTopic: (peer, message) => {
          if (message.type === "recall") this.#topics.onRecall(peer, message);
          else if (!message.spread || this.#isFirst(peer, message.no)) this.#onFirst(peer, message);
        },
        onUp: (peer) => this.#topics.onUp(peer),
        onDown: (peer) => this.#topics.onDown(peer),
        onBadFrame: (peer, reason) => this.#onBadFrame(peer, reason),
      },
    );
  }

  #createTopics(): Topics {
    return new Topics({
      self: this.#options.mesh.peerId,
      engine: () => this.#running,
      guard: this.#guard,
      spreading: this.#spreading,
      resend: (route, message) => void this.#engine.send(route, message),
      bootOf: (peer) => this.#bootOf(peer),
      gather: async (peers, recall) => {
        const { value } = await this.#groups.gather(peers, RECALL, recallMethod, recall, {});
        return value as readonly { peerId: string; value: Recalled }[];
      },
      logger: this.#options.logger,
    });
  }

  #createGroups(): Groups {
    const { mesh, tracing, logger } = this.#options;
    return new Groups({
      mesh,
      engine: () => this.#engine,
      members: this.#members,
      registry: this.#registry,
      guard: this.#guard,
      handlers: this.#handlers,
      caller: this.#caller,
      spreading: this.#spreading,
      tracing,
      logger,
    });
  }

  #bootOf(peer: string): number {
    return this.#options.mesh.member(peer)?.boot ?? 0;
  }

  /** What came over a link may come over gossip too. */
  #isFirst(peer: string, no: number): boolean {
    return this.#spreading.isFirst(peer, this.#bootOf(peer), no);
  }

  #onFirst(peer: string, message: CastMessage | EmitMessage): void {
    if (message.type === "cast") this.#groups.onCast(peer, message);
    else this.#topics.onEmit(peer, message);
  }

  #onBadFrame(peer: string, reason: string): void {
    this.#badFrames += 1;
    this.#options.logger.warn("a malformed rpc frame", { peer, reason });
  }

  get #running(): Engine {
    if (this.#ended !== undefined) throw rpcError("STOPPED", "this node's rpc has stopped");
    return this.#engine;
  }

  serve<M extends Methods>(contract: Contract<M>, implementation: Implementation<M>): () => void {
    if (this.#stopping !== undefined) throw rpcError("STOPPED", "this node's rpc takes no more calls");
    checkContract(contract);
    const served = Object.entries(contract.methods).map(([key, method]) => {
      const handler = handlerOf(implementation, key);
      const bound = (input: never, context: CallContext): unknown =>
        handler.call(implementation, input, context);
      return { name: wireName(contract.name, key), method, handler: bound };
    });
    return this.#registry.add(served);
  }

  peer<M extends Methods>(peerId: string, contract: Contract<M>): Client<M> {
    checkText(peerId, "peerId");
    checkContract(contract);
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

  any<M extends Methods>(target: TargetInit, contract: Contract<M>): AnyClient<M> {
    checkContract(contract);
    const singles = Object.entries(contract.methods).filter(([, { stream }]) => stream === "none");
    const methods = singles.map(([key, method]) => [
      key,
      async (input: unknown, options?: CallOptions): Promise<unknown> =>
        await callAny(method, this.#inTurn(target, contract, key), input, options),
    ]);
    return Object.freeze(Object.fromEntries(methods)) as AnyClient<M>;
  }

  /** One method of each member meant, those with a link first; another of them begins each time. */
  #inTurn(
    target: TargetInit,
    contract: Contract,
    key: string,
  ): readonly ((input: unknown, options?: CallOptions) => Promise<unknown>)[] {
    const engine = this.#running;
    const isNear = (peer: string): boolean => engine.isUp(routeOf(peer, "normal"));
    const near = this.#members.candidates(target, isNear);
    const linked = near.filter(isNear).length || near.length;
    this.#turn += 1;
    const from = linked === 0 ? 0 : this.#turn % linked;
    const order = [...near.slice(from, linked), ...near.slice(0, from), ...near.slice(linked)];
    type One = (input: unknown, options?: CallOptions) => Promise<unknown>;
    return order.map((peer) => (this.peer(peer, contract) as Record<string, unknown>)[key] as One);
  }

  async cast<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
  ): Promise<CastResult> {
    void this.#running;
    const found = methodOf(contract, method);
    return await this.#groups.cast(target, wireName(contract.name, method), found, input);
  }

  async gather<M extends Methods, Name extends SingleMethod<M>>(
    target: TargetInit,
    contract: Contract<M>,
    method: Name,
    input: InputOf<M[Name]["input"]>,
    options: GatherOptions = {},
  ): Promise<GatherResult> {
    void this.#running;
    const found = methodOf(contract, method);
    return await this.#groups.gather(target, wireName(contract.name, method), found, input, options);
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
    return this.#topics.subscribe(topic, schema, handler, options);
  }

  async emit(topic: string, value: unknown): Promise<readonly string[]> {
    return await this.#topics.emit(topic, value);
  }

  async once<M extends Methods, Name extends SingleMethod<M>>(init: {
    readonly scope: OnceScope;
    readonly task: OnceRun<M, Name>;
    readonly at?: Date | undefined;
  }): Promise<readonly OnceTask[]> {
    void this.#running;
    const { scope, at, contract, method, input } = readable("once", () => {
      const given: Partial<typeof init> = init ?? {};
      const { task } = given;
      if (typeof task !== "object" || (task as unknown) === null)
        throw rpcError("INVALID_OPTIONS", "task: must be { contract, method, input }");
      return {
        scope: given.scope,
        at: given.at,
        contract: task.contract,
        method: task.method,
        input: task.input,
      };
    });
    const found = methodOf(contract, method);
    return await this.#once.enter(scope, wireName(contract.name, method), found, input, at);
  }

  async onceStatus(id: string): Promise<OnceStatus> {
    return await this.#once.status(id);
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
      valuesDenied: this.#topics.denied,
      valuesDropped: this.#topics.dropped,
      ...this.#registry.refused,
    };
  }

  metricFamilies(): readonly MetricFamily[] {
    return rpcFamilies(this.stats(), { client: this.#clientProfile, server: this.#serverProfile });
  }

  metrics(): string {
    return renderMetrics(this.metricFamilies());
  }

  async stop(options?: StopOptions): Promise<void> {
    const timeoutMs = graceOf(options);
    this.#grace.endWithin(timeoutMs);
    this.#stopping ??= this.#stop(timeoutMs);
    await this.#stopping;
  }

  async #stop(timeoutMs: number): Promise<void> {
    this.#stops.say();
    if (timeoutMs > 0) {
      const drained = [this.#engine.drain(), this.#groups.drain(), this.#once.drain()];
      await this.#grace.wait(Promise.all([...drained, sayFarewell(this.#engine, this.#caller)]));
    }
    await this.#end();
  }

  /** What is under way ends now. */
  #end(): Promise<void> {
    this.#ended ??= this.#leave();
    return this.#ended;
  }

  async #leave(): Promise<void> {
    this.#spreading.stop();
    this.#groups.stop();
    this.#engine.stop();
    // A handler may never end; the queues, which stop next, give its task to others.
    const patience = new Grace();
    patience.endWithin(ABORTED_TASKS_MS);
    await patience.wait(this.#once.stop());
    await new Promise((resolve) => setImmediate(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

type AnyHandler = (input: never, context: CallContext) => unknown;

/** @throws RpcError `INVALID_OPTIONS`. */
function handlerOf(implementation: object | null | undefined, key: string): AnyHandler {
  const handler = readable("implementation", () => {
    const given: unknown = (implementation as Partial<Record<string, unknown>> | null | undefined)?.[key];
    return typeof given === "function" && !isInherent(key, implementation ?? {}) ? given : undefined;
  });
  if (handler === undefined) throw rpcError("INVALID_OPTIONS", `implementation.${key}: must be a function`);
  return handler as AnyHandler;
}

/** What every object has is nobody's handler. */
function isInherent(key: string, implementation: object): boolean {
  if (Object.hasOwn(implementation, key)) return false;
  return (
    key === "constructor" ||
    (implementation as Record<string, unknown>)[key] === Reflect.get(Object.prototype, key)
  );
}

function methodOf(contract: Contract, name: string): Method {
  checkContract(contract);
  checkText(name, "method");
  const method = contract.methods[name];
  if (method?.stream === "none") return method;
  throw rpcError(
    "INVALID_OPTIONS",
    `method: ${name} is no method of the contract with one input and one output`,
  );
}

/** Clients remembered for each contract. */
const CLIENTS_MAX = 4_096;
