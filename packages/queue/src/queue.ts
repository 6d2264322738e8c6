import { Emitter, guardLogger, silentLogger, systemClock } from "@klatsch/kit";
import type { Logger, MetricFamily } from "@klatsch/kit";

import { DEFINITIONS_MAX } from "./core/definitions.ts";
import { deadViewOf } from "./core/dead-queue.ts";
import { messageId } from "./core/message-id.ts";
import type { Delivery } from "./core/messages.ts";
import type { Definition, Verdict } from "./core/types.ts";
import { QueueError } from "./errors.ts";
import type { QueueHooks } from "./hooks.ts";
import { Controls } from "./host/controls.ts";
import { Engine } from "./host/engine.ts";
import { Entering } from "./host/entering.ts";
import type { Waiter } from "./host/entering.ts";
import { HookRunner } from "./host/hook-runner.ts";
import type { EngineInit, HostEffect } from "./host/engine.ts";
import { elect, electionKey, isElection, isElectionOf } from "./host/elect.ts";
import { ExchangeCalls } from "./host/exchange-calls.ts";
import { copyOf, makeContent } from "./host/content.ts";
import { makeHandle } from "./host/handle.ts";
import { failuresOf, HeldMessage } from "./host/message.ts";
import type { SettleDone } from "./host/message.ts";
import { publishKey } from "./host/publish.ts";
import { Names } from "./host/names.ts";
import type { Agreed } from "./host/names.ts";
import { Operations } from "./host/operate.ts";
import { QUEUES_EVENTS } from "./host/queue-events.ts";
import { countOne, QueueMetrics } from "./host/queue-metrics.ts";
import { exclusiveElection, Sessions } from "./host/sessions.ts";
import { checkScheduled, Schedules } from "./host/schedules.ts";
import { awaitSame, declareOrdered, majority, met } from "./host/declare.ts";
import type { Candidates, Meeting } from "./host/declare.ts";
import {
  agreedOf,
  assertSame,
  checkFit,
  describeQueue,
  differenceBetween,
  isSame,
  fitTo,
  orderOf,
  shardsOf,
  statsOf,
} from "./host/told.ts";
import { RELEASE_MS, within } from "./host/within.ts";
import {
  checkBody,
  parseElect,
  parseEnqueue,
  parseExchangeName,
  parseId,
  parseInit,
  parseItems,
  parseName,
  parseQueue,
  parseSchedule,
  parseTimeout,
  refuse,
  TIMEOUT_MS,
} from "./options.ts";
import type { MessageOptions } from "./options.ts";
import type {
  Changed,
  ConsumeOptions,
  Consumer,
  ConsumerInfo,
  ElectOptions,
  Enqueued,
  EnqueueItem,
  EnqueueOptions,
  EnqueueOutcome,
  Exchange,
  ExchangeInit,
  Handler,
  Inspection,
  Leadership,
  Queue,
  QueueDescription,
  QueueInit,
  Queues,
  QueuesEvents,
  QueuesInit,
  QueuesStats,
  Resolution,
  ScheduleInfo,
  ScheduleInit,
} from "./types.ts";

/**
 * The queues of one mesh member. Bad options throw before anything starts.
 * @throws {@link QueueError} `INVALID_OPTIONS`, `STORE_LOCKED`; `StoreError` for a disk that cannot be used; `MeshError` for a mesh that
 * has ended, or has its queues already.
 */
export async function createQueues(init: QueuesInit): Promise<Queues> {
  return await QueuesService.start(parseInit(init));
}

/** How long after the start this node may not have heard of others yet, in milliseconds. */
const HEAR_MS = 5_000;

/** How long after the start an election waits for as many nodes as shall keep it, in milliseconds. */
const GATHER_MS = 10_000;
const ELECTION_REPLICAS = 3;

/** How long handlers may go on once the queues stop, in milliseconds. */
const STOP_MS = 30_000;

class QueuesService implements Queues {
  readonly #logger: Logger;
  readonly #emitter: Emitter<QueuesEvents>;
  readonly #names = new Names({
    definitions: () => this.#engine?.core.definitions.all() ?? [],
    isDeleted: (queue) => this.#engine?.core.isDeleted(queue) === true,
  });
  readonly #entering: Entering;
  readonly #verdicts = new Map<number, SettleDone>();
  readonly #resolves = new Map<number, (resolution: Resolution | undefined) => void>();
  readonly #sessions = new Sessions({
    assertRunning: () => {
      const engine = this.#running;
      return (input) => engine.enter(input);
    },
    elect: (name, leaseMs, signal) => this.#elect(name, leaseMs, signal),
    onHandled: (queue, tookMs, failure) => {
      this.#metrics.handled(queue, tookMs, failure !== undefined);
      if (failure === undefined) return;
      const { id, attempt } = failure.message;
      const fields = { err: failure.error, queue: this.#nameOf(queue), id, attempt };
      this.#logger.warn("a handler threw", fields);
    },
  });
  readonly #held = new Map<string, HeldMessage>();
  readonly #metrics = new QueueMetrics((queue) => this.#nameOf(queue));
  readonly #operations = new Operations({
    enter: (input) => this.#running.enter(input),
    request: () => this.#request(),
  });
  readonly #mesh: QueuesInit["mesh"];
  readonly #exchanges: ExchangeCalls;
  readonly #hooks: HookRunner;
  readonly #schedules: Schedules;
  readonly #counts = {
    enqueued: 0,
    delivered: 0,
    settled: 0,
    elections: 0,
    steals: 0,
    lanesMoved: 0,
    faults: 0,
    badFrames: 0,
  };
  #engine: Engine | undefined;
  #state: "starting" | "running" | "stopping" | "stopped" | "failed" = "starting";
  #failure: Error | undefined;
  #stopping: Promise<void> | undefined;
  #lastRequest = 0;
  readonly #startedMs = systemClock.now().monoMs;
  readonly #controls: Controls;

  private constructor(mesh: QueuesInit["mesh"], logger: Logger, hooks: QueueHooks) {
    this.#mesh = mesh;
    this.#logger = logger;
    this.#hooks = new HookRunner(hooks, logger, (queue) => this.#nameOf(queue));
    this.#exchanges = new ExchangeCalls(mesh, {
      check: () => this.#assertRunning(),
      enqueue: (queue, body, message, publishId, timeoutMs) => {
        const definition = this.#get(queue);
        const fitting = fitTo(definition, message, publishKey(publishId, queue));
        return this.#enterHooked(definition, body, fitting, timeoutMs);
      },
      deduplicates: (queue) => orderOf(this.#names.get(queue)).dedupMs !== undefined,
      resolve: (id, timeoutMs) => this.resolve(id, { timeoutMs }),
    });
    this.#controls = new Controls(mesh.state.shared, logger, {
      check: () => this.#assertRunning(),
      enter: (input) => this.#engine?.enter(input),
    });
    this.#entering = new Entering({
      running: () => this.#running,
      request: () => this.#request(),
      successorOf: (queue) => this.#names.successorOf(queue),
      metrics: this.#metrics,
      onEnqueued: () => (this.#counts.enqueued += 1),
    });
    this.#schedules = new Schedules(mesh, {
      self: mesh.peerId,
      peers: () => this.#engine?.core.members.greeted() ?? [mesh.peerId],
      enqueue: (queue, body, options) => this.#enqueue(() => this.#names.get(queue), body, options),
      onMissed: (missed, dueWallMs, error) => {
        this.#emitter.emit("schedule:missed", { name: missed, dueAt: new Date(dueWallMs), error });
      },
    });
    this.#emitter = new Emitter({ names: QUEUES_EVENTS, logger, refuse });
  }

  static async start({ hooks = {}, ...init }: QueuesInit): Promise<QueuesService> {
    const logger = guardLogger(init.logger ?? silentLogger);
    const service = new QueuesService(init.mesh, logger, hooks);
    try {
      await service.#start({ ...init, logger, hooks: service.#hooks.core });
    } catch (error) {
      service.#exchanges.stop();
      service.#schedules.stop();
      throw error;
    }
    return service;
  }

  async #start(init: EngineInit): Promise<void> {
    this.#engine = await Engine.start(init, {
      onEffect: (effect) => this.#onEffect(effect),
      onQuarantined: (path, reason) => this.#onQuarantined(path, reason),
      onBadFrame: (peer, reason) => {
        this.#counts.badFrames += 1;
        this.#logger.warn("a malformed queue frame", { peer, reason });
      },
      onSynced: (tookMs) => this.#metrics.synced(tookMs),
      onFailed: (error) => this.#onFailed(error),
    });
    for (const definition of this.#engine.core.definitions.all()) this.#define(definition);
    if (this.#state === "starting") this.#state = "running";
    this.#controls.start();
  }

  on<Name extends keyof QueuesEvents>(
    event: Name,
    listener: (event: QueuesEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(event, listener);
  }

  #onQuarantined(path: string, reason: string): void {
    const tell = (): void => this.#emitter.emit("store:quarantined", { path, reason });
    // At start nobody can listen yet: told once the caller had its turn.
    if (this.#state === "starting") setImmediate(tell);
    else tell();
  }

  #assertRunning(): void {
    void this.#running;
  }

  get #shared(): QueuesInit["mesh"]["state"]["shared"] {
    this.#assertRunning();
    return this.#mesh.state.shared;
  }

  /** The engine, while this service may be used. */
  get #running(): Engine {
    if (this.#state === "failed") {
      throw new QueueError("FAILED", `the queues of this node have failed: ${this.#failure?.message}`, {
        cause: this.#failure,
      });
    }
    if (this.#state !== "running" || this.#engine === undefined) {
      throw new QueueError("STOPPED", "the queues of this node have stopped");
    }
    return this.#engine;
  }

  // Queues.

  async declare(name: string, init?: QueueInit): Promise<Queue> {
    const options = parseQueue(init);
    this.#assertRunning();
    parseName(name);
    const fits = (one: Definition): boolean => isSame(one, this.#controls.current(one), options);
    const known = await awaitSame(() => this.#names.find(name), fits, this.#meeting);
    if (known !== undefined) {
      assertSame(known, this.#controls.current(known), options);
      this.#names.noteDeclared(name);
      return this.#handle(known);
    }
    const shards = shardsOf(options);
    const agreed = agreedOf(name, options);
    if (shards === 0) return this.#handle(this.#agree(agreed));
    const order = { groups: options.groups, dedupMs: options.dedupMs ?? 0, shards };
    const made = await declareOrdered(
      {
        known: () => this.#names.find(name),
        candidates: () => this.#running.core.members.candidates(""),
        agree: (ordered) => void this.#agree({ ...agreed, ordered }),
        check: () => this.#assertRunning(),
      },
      name,
      options.replicas,
      order,
    );
    // Somebody else may have declared it meanwhile, and otherwise.
    assertSame(made, this.#controls.current(made), options);
    return this.#handle(made);
  }

  get #meeting(): Meeting {
    return { endMs: this.#startedMs + HEAR_MS, hasHeard: () => this.#running.hasHeard };
  }

  #agree(agreed: Agreed): Definition {
    const engine = this.#running;
    if (this.#names.count >= DEFINITIONS_MAX) {
      throw new QueueError("LIMIT_REACHED", `this node knows ${DEFINITIONS_MAX} queues already`);
    }
    const definition = this.#names.make(agreed);
    this.#names.noteDeclared(agreed.name);
    this.#names.define(definition);
    engine.enter({ type: "declare", definition });
    return definition;
  }

  /** A queue is known. What is in another one of its name is reached only through handles from before, which a person has to know. */
  #define(definition: Definition): void {
    const other = this.#names.define(definition);
    const kept = this.#names.find(definition.name);
    const difference = other && kept && differenceBetween(kept, other);
    if (difference === undefined) return;
    const text =
      "a queue was declared twice with different options, apart: one has the name, the other its messages and old handles";
    this.#logger.warn(text, { queue: definition.name, difference, kept: kept?.queue, other: other?.queue });
  }

  async delete(name: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Changed> {
    const timeoutMs = parseTimeout(options);
    const named = this.#names.get(parseName(name));
    // First: somebody may bind the next queue of that name as soon as this one is gone.
    await this.#exchanges.unbindAll(name);
    // And those that lost the name to it.
    const others = this.#running.core.definitions.all().filter((one) => one.name === name);
    const found = [named, ...others.filter(({ queue }) => queue !== named.queue)];
    const changed = await Promise.all(found.map(({ queue }) => this.#operations.delete(queue, timeoutMs)));
    for (const { queue, exclusive } of found) {
      await this.#controls.forget(queue);
      if (exclusive === true) await this.#endElection(exclusiveElection(queue), timeoutMs);
    }
    const count = changed.reduce((sum, one) => sum + one.count, 0);
    return { count, missing: [...new Set(changed.flatMap(({ missing }) => missing))] };
  }

  async #endElection(name: string, timeoutMs: number): Promise<void> {
    await this.#shared.delete(electionKey(name));
    const terms = this.#names.all().filter((one) => isElectionOf(one.name, name));
    await Promise.all(terms.map(({ queue }) => this.#operations.delete(queue, timeoutMs)));
  }

  #onDeleted({ atWallMs, definition }: Extract<HostEffect, { type: "deleted" }>): void {
    const { name, queue } = definition;
    this.#metrics.forget(queue);
    const next = this.#names.delete(definition, atWallMs);
    if (next === undefined || this.#state !== "running") {
      this.#sessions.endQueue(queue, new QueueError("QUEUE_DELETED", `queue ${name} was deleted`));
      const isGone = this.#names.find(name) === undefined && !isElection(name);
      if (isGone) this.#emitter.emit("queue:deleted", { name });
      return;
    }
    // Declared by this process after that, which it had not heard of: as after any other delete, there is a new one.
    this.#names.define(next);
    this.#running.enter({ type: "declare", definition: next });
    this.#sessions.move(queue, next.queue);
  }

  #handle(definition: Definition): Queue {
    let current = definition;
    const last = (): Definition => this.#controls.current(current);
    const now = (): Definition => {
      const isDeleted = this.#engine?.core.isDeleted(current.queue) === true;
      if (isDeleted) current = this.#names.get(definition.name);
      return last();
    };
    return makeHandle(definition, {
      now,
      last,
      depth: () => this.#engine?.core.lanes.dispatch.depth(current.queue) ?? 0,
      controls: this.#controls,
      operations: this.#operations,
      sessions: this.#sessions,
      enqueue: (body, options) => this.#enqueue(now, body, options),
      enqueueMany: async (items, options) => await this.#enqueueMany(now(), items, options),
      consume: (handler, options) => this.#consume(now(), handler, options),
    });
  }

  /** The queue of that name, as it is now. */
  #get(name: string): Definition {
    return this.#controls.current(this.#names.get(name));
  }

  open(name: string): Queue {
    return this.#handle(this.#names.get(parseName(name)));
  }

  /** Of a queue or the view of its dead messages; `undefined` if nobody declared it. */
  #nameOf(queue: string): string | undefined {
    const definitions = this.#engine?.core.definitions;
    const known = definitions?.get(queue)?.name;
    if (known !== undefined) return known;
    const dead = definitions?.get(deadViewOf(queue))?.name;
    return dead === undefined ? undefined : `${dead}.dead`;
  }

  list(): readonly QueueDescription[] {
    const known = this.#names.all().filter(({ name }) => !isElection(name));
    const controls = this.#controls;
    const described = known.map((one) => describeQueue(controls.current(one), controls.isPaused(one.queue)));
    return described.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  // Exchanges.

  async declareExchange(name: string, init?: ExchangeInit): Promise<Exchange> {
    return await this.#exchanges.declare(name, init);
  }

  exchange(name: string): Exchange {
    return this.#exchanges.open(name);
  }

  exchanges(): readonly string[] {
    return this.#exchanges.names();
  }

  async deleteExchange(name: string): Promise<void> {
    await this.#exchanges.delete(name);
  }

  // Schedules.

  async schedule(name: string, options: ScheduleInit): Promise<void> {
    this.#assertRunning();
    const parsed = parseSchedule(options);
    const definition = this.#get(parsed.queue);
    checkScheduled(definition, parseExchangeName(name), parsed);
    await this.#schedules.set(name, parsed);
  }

  async unschedule(name: string): Promise<boolean> {
    this.#assertRunning();
    return await this.#schedules.delete(parseExchangeName(name));
  }

  schedules(): readonly ScheduleInfo[] {
    return this.#schedules.list();
  }

  async consumers(name: string): Promise<readonly ConsumerInfo[]> {
    const { queue } = this.#names.get(parseName(name));
    const { consumers } = await this.#operations.consumers(queue, TIMEOUT_MS);
    return consumers;
  }

  async inspect(id: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Inspection> {
    return await this.#operations.inspect(parseId(id), parseTimeout(options));
  }

  #enqueue(now: () => Definition, body: Uint8Array, options: EnqueueOptions | undefined): Promise<Enqueued> {
    return new Promise((resolve, reject) => {
      const definition = now();
      checkBody(body);
      const { timeoutMs, ...message } = parseEnqueue(options);
      if (this.#hooks.looksAt(definition.name)) {
        resolve(this.#enterHooked(definition, body, message, timeoutMs));
      } else this.#enter(definition, body, message, timeoutMs, { resolve, reject });
    });
  }

  /** After the application had a look at it. */
  async #enterHooked(
    definition: Definition,
    body: Uint8Array,
    options: MessageOptions,
    timeoutMs: number,
  ): Promise<Enqueued> {
    this.#assertRunning();
    const shown = this.#hooks.looksAt(definition.name)
      ? await this.#hooks.beforeEnqueue(definition.name, body, options)
      : { body, ...options };
    const { body: whole, ...message } = shown;
    return await new Promise((resolve, reject) => {
      this.#enter(definition, whole, message, timeoutMs, { resolve, reject });
    });
  }

  #enter(
    definition: Definition,
    body: Uint8Array,
    options: MessageOptions,
    timeoutMs: number,
    pending: Waiter,
  ): void {
    checkFit(definition, body, options);
    this.#entering.enter(
      definition.queue,
      makeContent(body, options, systemClock.now().wallMs),
      timeoutMs,
      pending,
    );
  }

  async #enqueueMany(
    definition: Definition,
    items: readonly EnqueueItem[],
    options: { readonly timeoutMs?: number | undefined } | undefined,
  ): Promise<readonly EnqueueOutcome[]> {
    const timeoutMs = parseTimeout(options);
    const messages = parseItems(items);
    const { wallMs } = systemClock.now();
    this.#assertRunning();
    // All of them, before any enters.
    const contents = messages.map(({ body, ...options }) => {
      checkFit(definition, body, options);
      return makeContent(body, options, wallMs);
    });
    const outcomes = messages.map(
      ({ body, ...message }, at) =>
        new Promise<EnqueueOutcome>((resolve) => {
          const reject = (error: QueueError): void => resolve({ id: error.id, error });
          const content = contents[at];
          if (content === undefined || this.#hooks.looksAt(definition.name)) {
            this.#enterHooked(definition, body, message, timeoutMs).then(resolve, reject);
          } else this.#entering.enter(definition.queue, content, timeoutMs, { resolve, reject });
        }),
    );
    return await Promise.all(outcomes);
  }

  #request(): number {
    this.#lastRequest += 1;
    return this.#lastRequest;
  }

  // Consumers.

  #consume(definition: Definition, handler: Handler, options: ConsumeOptions | undefined): Consumer {
    const { queue, exclusive } = definition;
    return exclusive === true
      ? this.#sessions.consumeAlone(queue, handler, options)
      : this.#sessions.consume(queue, handler, options);
  }

  // Elections.

  async elect(name: string, options?: ElectOptions): Promise<Leadership> {
    const { leaseMs, signal } = parseElect(options);
    return await this.#elect(parseExchangeName(name), leaseMs, signal);
  }

  async #elect(name: string, leaseMs: number, signal: AbortSignal | undefined): Promise<Leadership> {
    await met(this.#meeting, signal); // Or both would lead.
    const declare = (queue: string, lease: number): Queue => {
      const known = this.#names.find(queue);
      const fixed = { name: queue, leaseMs: lease, maxDeliveries: Number.MAX_SAFE_INTEGER };
      return this.#handle(known ?? this.#agree({ ...fixed, replicas: ELECTION_REPLICAS }));
    };
    const endMs = this.#startedMs + GATHER_MS;
    const gather = async (isBegun: () => boolean): Promise<void> => {
      const hasHeard = (): boolean => this.#running.hasStores(ELECTION_REPLICAS) || isBegun();
      await met({ endMs, hasHeard }, signal);
      const candidates = (): Candidates => this.#running.core.members.candidates("");
      await majority(candidates, ELECTION_REPLICAS, isBegun, signal);
    };
    return await elect({ shared: this.#mesh.state.shared, gather, declare }, name, leaseMs, signal);
  }

  #deliver(item: Delivery): void {
    if (item.body === undefined) return; // The core hands out whole messages only.
    const { wallMs } = systemClock.now();
    const queue = this.#sessions.queueOf(item.session) ?? "";
    const message = new HeldMessage(item, queue, copyOf(item.body), wallMs, (held, verdict, done) => {
      this.#settle(held, verdict, done);
    });
    this.#counts.delivered += 1;
    this.#metrics.delivered(queue, message);
    this.#held.set(message.id, message);
    this.#sessions.deliver(item.session, message);
  }

  #settle(message: HeldMessage, verdict: Verdict, done: SettleDone): void {
    const { id, lane, seq, epoch } = message;
    const engine = this.#engine;
    if (engine === undefined || this.#state === "failed" || this.#state === "stopped") {
      return done(this.#state === "failed" ? "FAILED" : "STOPPED");
    }
    const requestId = this.#request();
    this.#verdicts.set(requestId, (code) => {
      if (this.#held.get(id) === message) this.#held.delete(id);
      countOne(this.#metrics.of(message.queue).outcomes, code === "DONE" ? verdict.kind : code);
      if (code === "DONE") {
        this.#counts.settled += 1;
        if (verdict.kind === "ack") this.#hooks.afterAck(message.queue, message);
      }
      done(code);
    });
    const deadlineMs = systemClock.now().monoMs + TIMEOUT_MS;
    engine.enter({ type: "verdict", requestId, lane, seq, epoch, verdict, deadlineMs });
  }

  // Resolve.

  async resolve(id: string, options?: { readonly timeoutMs?: number | undefined }): Promise<Resolution> {
    const engine = this.#running;
    const parsed = parseId(id);
    const deadlineMs = systemClock.now().monoMs + parseTimeout(options);
    const requestId = this.#request();
    return await new Promise((resolve, reject) => {
      this.#resolves.set(requestId, (resolution) => {
        if (resolution !== undefined) resolve(resolution);
        else reject(new QueueError("STOPPED", "the queues of this node have ended", { id }));
      });
      engine.enter({ type: "resolve", requestId, ...parsed, deadlineMs });
    });
  }

  // What the core did.

  #onEffect(effect: HostEffect): void {
    switch (effect.type) {
      case "enqueued":
        return this.#entering.answered(effect.requestId, effect.result, this.#engine);
      case "deliver":
        return this.#deliver(effect.item);
      case "verdict": {
        const done = this.#verdicts.get(effect.requestId);
        this.#verdicts.delete(effect.requestId);
        return done?.(effect.code);
      }
      case "leaseLost": {
        const message = this.#held.get(messageId(effect.lane, effect.seq));
        return message?.epoch === effect.epoch ? message.lose() : undefined;
      }
      case "resolved": {
        const done = this.#resolves.get(effect.requestId);
        this.#resolves.delete(effect.requestId);
        return done?.(effect.resolution);
      }
      case "managed":
      case "inspected":
      case "fetched":
        return this.#operations.onAnswer(effect);
      case "defined":
        return this.#define(effect.definition);
      case "deleted":
        return this.#onDeleted(effect);
      case "died":
        return this.#onDied(effect);
      case "elected":
        this.#counts.elections += 1;
        return countOne(this.#metrics.of(effect.queue).elections, effect.peer);
      case "stole":
        this.#counts.steals += 1;
        this.#metrics.of(effect.queue).steals += 1;
        return this.#emitter.emit("lane:stolen", { lane: effect.lane, queue: effect.queue });
      case "moved":
        this.#counts.lanesMoved += 1;
        this.#metrics.of(effect.moved.queue).moves += 1;
        return this.#emitter.emit("lane:moved", effect.moved);
      case "fault": {
        this.#counts.faults += 1;
        const { peer, what } = effect;
        this.#logger.warn("the queue's protocol was broken", { peer, what });
        return this.#emitter.emit("protocol:fault", { peer, what });
      }
    }
  }

  #onDied({ queue, lane, seq, value }: Extract<HostEffect, { type: "died" }>): void {
    const { epoch, deliveries, reason = "", attributes } = value;
    const failures = failuresOf(attributes);
    this.#hooks.onDead(queue, { id: messageId(lane, seq), epoch, reason, deliveries, failures });
  }

  stats(): QueuesStats {
    return statsOf(this.#engine, this.#counts);
  }

  metricFamilies(): readonly MetricFamily[] {
    const now = systemClock.now();
    return this.#metrics.families({
      census: this.#engine?.core.census(now) ?? { queues: new Map(), lanes: [] },
      wallMs: now.wallMs,
      stats: this.stats(),
      consumers: this.#sessions.counts(),
      hooks: this.#hooks.counts(),
    });
  }

  // The end.

  #onFailed(error: Error): void {
    this.#state = "failed";
    this.#failure = error;
    this.#logger.error("the queues of this node have failed", { err: error });
    this.#endRequests("FAILED");
    this.#emitter.emit("queues:failed", { error });
  }

  #endRequests(code: "FAILED" | "STOPPED"): void {
    const why = code === "FAILED" ? `failed: ${this.#failure?.message}` : "stopped";
    const text = `the queues of this node have ${why}`;
    const verdicts = [...this.#verdicts.values()];
    const resolves = [...this.#resolves.values()];
    this.#verdicts.clear();
    this.#resolves.clear();
    this.#entering.end(this.#engine, code, text, this.#failure);
    for (const done of verdicts) done(code);
    for (const done of resolves) done(undefined);
    this.#exchanges.stop();
    this.#schedules.stop();
    this.#controls.stop();
    this.#operations.end();
    this.#sessions.fail(new QueueError(code, text));
    for (const message of this.#held.values()) message.lose();
    this.#held.clear();
  }

  async stop(options?: { readonly timeoutMs?: number | undefined }): Promise<void> {
    const timeoutMs = parseTimeout(options, STOP_MS);
    this.#stopping ??= this.#stop(timeoutMs);
    await this.#stopping;
    this.#sessions.abandon();
  }

  async #stop(timeoutMs: number): Promise<void> {
    if (this.#state === "failed") return;
    this.#state = "stopping";
    const stopped = new QueueError("STOPPED", "the queues of this node have stopped");
    const untilMs = systemClock.now().monoMs + timeoutMs;
    await within(Promise.all([this.#sessions.stop(stopped), this.#entering.idle()]), timeoutMs);
    for (const message of this.#held.values()) if (!message.isSettled) message.lose();
    const left = [...this.#held.values()].filter((message) => !message.isSettled);
    const released = left.map(
      (message) => new Promise<void>((done) => message.settle({ kind: "release" }, () => done())),
    );
    // Who cannot be told sees that this node is gone.
    await within(Promise.all(released), Math.max(RELEASE_MS, untilMs - systemClock.now().monoMs));
    await this.#engine?.stop();
    this.#state = "stopped";
    this.#endRequests("STOPPED");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
