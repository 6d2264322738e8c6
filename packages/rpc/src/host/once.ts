import { createHash } from "node:crypto";
import { systemClock, textOf } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import { pack, unpack } from "../codec/packr.ts";
import { CodecError, textAt } from "../codec/read.ts";
import type { Values } from "../codec/read.ts";
import type { Method } from "../contract.ts";
import { NAME_LENGTH_MAX, TAG_SCOPES_MAX, TASK_DEAD_TTL_MS } from "../core/limits.ts";
import { faultOf, RpcError, rpcError } from "../errors.ts";
import { parse } from "../schema.ts";
import type {
  OnceConsumer,
  OnceMessage,
  OnceOptions,
  OnceQueue,
  OnceScope,
  OnceStatus,
  OnceTask,
} from "../types.ts";
import type { Guard } from "./access.ts";
import { Context } from "./handlers.ts";
import type { Handlers } from "./handlers.ts";
import { deadlineOf, within } from "./patience.ts";
import type { Registry } from "./registry.ts";

const TASK_VERSION = 1;

export interface OnceInit {
  readonly mesh: Mesh;
  readonly registry: Registry;
  readonly guard: Guard;
  readonly handlers: Handlers;
  readonly options: OnceOptions | undefined;
  readonly logger: Logger;
}

/**
 * Tasks that run once per scope: one message in one queue for each scope, taken by the members that are in it. What a
 * queue promises holds: a task whose node dies runs again elsewhere, so its effect should bear it.
 */
export class Once {
  readonly #init: OnceInit;
  readonly #queues = new Map<string, Promise<OnceQueue>>();
  /** By scope; nothing where the queue could not be consumed. */
  readonly #consumers = new Map<string, Promise<OnceConsumer | undefined>>();
  readonly #leaving = new Set<Promise<void>>();
  #unsubscribe: (() => void)[] = [];
  readonly #running = new Set<Context>();
  #stopped = false;

  constructor(init: OnceInit) {
    this.#init = init;
  }

  /** Takes the tasks of the scopes that this node is in, also after its tags have changed. */
  start(): void {
    const { mesh, options } = this.#init;
    if (options === undefined) return;
    this.#unsubscribe = [
      mesh.on("member:updated", ({ self }) => {
        if (self) this.#follow();
      }),
      options.queues.on("queue:deleted", ({ name }) => this.#onDeleted(name)),
    ];
    this.#follow();
  }

  /** Tasks of its scope go into a new one. */
  #onDeleted(queue: string): void {
    for (const scope of this.#queues.keys()) if (queueName(scope) === queue) this.#queues.delete(scope);
    for (const scope of [...this.#consumers.keys()]) {
      if (queueName(scope) !== queue) continue;
      this.#leave(scope);
      this.#take(scope);
    }
  }

  #follow(): void {
    const { mesh } = this.#init;
    const tags = Object.entries(mesh.member(mesh.peerId)?.tags ?? {}).slice(0, TAG_SCOPES_MAX);
    const scopes = new Set(["mesh", `cloud=${mesh.cloud}`, `node=${mesh.peerId}`]);
    for (const [key, value] of tags) scopes.add(tagScope(key, value));
    for (const scope of this.#consumers.keys()) if (!scopes.has(scope)) this.#leave(scope);
    for (const scope of scopes) if (!this.#consumers.has(scope)) this.#take(scope);
  }

  #take(scope: string): void {
    const consumer = this.#consume(scope);
    this.#consumers.set(scope, consumer);
    void consumer.then((taken) => {
      // The next change of this node tries again.
      if (taken === undefined && this.#consumers.get(scope) === consumer) this.#consumers.delete(scope);
    });
  }

  #leave(scope: string): void {
    const consumer = this.#consumers.get(scope);
    this.#consumers.delete(scope);
    const leaving = this.#end(scope, consumer).finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
  }

  async #end(scope: string, consumer: Promise<OnceConsumer | undefined> | undefined): Promise<void> {
    try {
      await (await consumer)?.stop();
    } catch (error) {
      this.#init.logger.error("tasks of a scope may still be taken here", { err: error, scope });
    }
  }

  /** Takes no more tasks. Resolves once those that run have ended. */
  async drain(): Promise<void> {
    if (!this.#stopped) {
      this.#stopped = true;
      for (const unsubscribe of this.#unsubscribe) unsubscribe();
      for (const scope of [...this.#consumers.keys()]) this.#leave(scope);
    }
    await Promise.all(this.#leaving);
  }

  /** The same, and tells those that run to end. */
  async stop(): Promise<void> {
    for (const context of this.#running) context.abort(rpcError("UNAVAILABLE", "this node stops"));
    await this.drain();
  }

  /** @throws RpcError `NO_QUEUE`, `DENIED`, `INVALID_INPUT`, `INVALID_TARGET`, and what the queue throws. */
  async enter(
    scope: OnceScope | undefined,
    name: string,
    method: Method,
    input: unknown,
    at: Date | undefined,
  ): Promise<readonly OnceTask[]> {
    void this.#options;
    checkAccess(name, method);
    const checked = parse(method.input, input, "INVALID_INPUT", "input");
    const patience = {
      name,
      deadlineAt: deadlineOf(undefined, false),
      signal: undefined,
      outcome: "none",
    } as const;
    if (checked instanceof Promise) await within(checked, patience);
    const scopes = this.#scopes(scope);
    if (scopes.length === 0) throw rpcError("INVALID_TARGET", "scope: no live member has this tag");
    const delayMs = delayUntil(at);
    const body = packTask(name, input);
    return await Promise.all(
      scopes.map(async (one): Promise<OnceTask> => {
        const { id } = await (await this.#queue(one)).enqueue(body, { delayMs });
        return { id, scope: one };
      }),
    );
  }

  /** @throws RpcError `NO_QUEUE`, and what the queue throws. */
  async status(id: string): Promise<OnceStatus> {
    const { replicas } = await this.#options.queues.inspect(id);
    const seen = replicas.flatMap(({ message }) => (message === undefined ? [] : [message]));
    // Replicas may lag: who knows of a later delivery knows more.
    const [newest] = seen.toSorted((a, b) => b.epoch - a.epoch);
    const failures = newest?.failures ?? [];
    const isDone = replicas.some(({ finished }) => finished) && newest?.state !== "dead";
    const state = isDone || newest?.state === "done" ? "done" : stateOf(newest?.state);
    return { state, peerId: newest?.holder?.peer, reason: newest?.reason, failures };
  }

  get #options(): OnceOptions {
    const { options } = this.#init;
    if (options !== undefined) return options;
    throw rpcError("NO_QUEUE", "once: needs queues, wired in by createRpc({ mesh, once: { queues } })");
  }

  /** The scopes that there are now; of tags, one for each value that a live member has. */
  #scopes(scope: OnceScope | undefined): readonly string[] {
    if (scope === "mesh") return ["mesh"];
    const there = this.#init.mesh
      .members()
      .filter(({ status }) => status === "alive" || status === "suspect");
    if (scope === "node") return there.map(({ peerId }) => `node=${peerId}`);
    if (scope === "cloud") return [...new Set(there.map(({ cloud }) => `cloud=${cloud}`))];
    const tag: unknown = (scope as { readonly tag?: unknown } | null | undefined)?.tag;
    if (typeof tag !== "string")
      throw rpcError("INVALID_TARGET", "scope: must be mesh, cloud, node or { tag }");
    return [
      ...new Set(
        there.flatMap(({ tags }) => (Object.hasOwn(tags, tag) ? [tagScope(tag, tags[tag] ?? "")] : [])),
      ),
    ];
  }

  #queue(scope: string): Promise<OnceQueue> {
    let queue = this.#queues.get(scope);
    if (queue === undefined) {
      const { queues, replicas } = this.#options;
      const copies = replicas === undefined ? {} : { replicas };
      queue = queues.declare(queueName(scope), { ...copies, deadTtlMs: TASK_DEAD_TTL_MS });
      this.#queues.set(scope, queue);
      queue.catch(() => this.#queues.delete(scope)); // The next one tries again.
    }
    return queue;
  }

  async #consume(scope: string): Promise<OnceConsumer | undefined> {
    try {
      const queue = await this.#queue(scope);
      return this.#stopped ? undefined : queue.consume(async (message) => await this.#run(message));
    } catch (error) {
      this.#init.logger.error("tasks of a scope are not taken here", { err: error, scope });
      return undefined;
    }
  }

  /** Runs a task; what throws is in its history, and it comes again, here or elsewhere. */
  async #run(message: OnceMessage): Promise<void> {
    const { mesh, registry, guard, handlers } = this.#init;
    const task = readTask(message.body);
    if (task === undefined) {
      await message.reject("no task");
      return;
    }
    const verdict = registry.judge(task.name, [mesh.peerId]);
    if (!verdict.ok) throw new RpcError(verdict.fault);
    const served = registry.get(task.name);
    if (served === undefined) throw rpcError("NOT_FOUND", `no method ${task.name} is served here`);
    checkAccess(task.name, served.method);
    // Whoever entered the task is not proven by a queue: to the handler this node itself is the caller.
    const context = new Context(task.name, guard.caller(mesh.peerId), message.id, undefined);
    const onLost = (): void => context.abort(rpcError("UNAVAILABLE", "the task may run elsewhere by now"));
    message.signal.addEventListener("abort", onLost, { once: true });
    this.#running.add(context);
    try {
      await handlers.direct(served, context, task.input);
    } catch (error) {
      const { code, remoteCode, message: text } = faultOf(error);
      throw new Error(`${remoteCode ?? code} at ${mesh.name}: ${text}`, { cause: error });
    } finally {
      this.#running.delete(context);
      message.signal.removeEventListener("abort", onLost);
    }
  }
}

/** A queue does not prove who entered a message: only what any member may do can be a task. */
function checkAccess(name: string, { access, stream }: Method): void {
  if (stream !== "none") throw rpcError("INVALID_OPTIONS", `${name}: a task has one input and one output`);
  if (access === "members") return;
  throw rpcError("DENIED", `${name}: only a method whose access is "members" can be a task`);
}

/** Milliseconds. @throws RpcError `INVALID_OPTIONS`. */
function delayUntil(at: unknown): number {
  if (at === undefined) return 0;
  const atWallMs = at instanceof Date ? at.getTime() : Number.NaN;
  if (Number.isNaN(atWallMs)) throw rpcError("INVALID_OPTIONS", "at: is no date");
  return Math.max(0, atWallMs - systemClock.now().wallMs);
}

/** @throws RpcError `INVALID_INPUT`. */
function packTask(name: string, input: unknown): Uint8Array {
  try {
    return pack([TASK_VERSION, name, input]);
  } catch (error) {
    throw rpcError("INVALID_INPUT", `input: cannot be encoded: ${textOf(error)}`, error);
  }
}

function readTask(body: Uint8Array): { readonly name: string; readonly input: unknown } | undefined {
  try {
    const values = unpack(body);
    if (!Array.isArray(values) || values[0] !== TASK_VERSION) return undefined;
    const fields: Values = values;
    return { name: textAt(fields, 1, NAME_LENGTH_MAX), input: fields[2] };
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

function tagScope(key: string, value: string): string {
  return `tag ${key}=${value}`;
}

/** Clouds and peer ids have letters that queues' names may have; tags may have any. */
function queueName(scope: string): string {
  const [, key, rest] = /^(mesh|cloud|node|tag)[ =]?(.*)$/s.exec(scope) ?? [];
  if (key !== "tag") return rest === "" ? `klatsch.once.${key}` : `klatsch.once.${key}.${rest}`;
  return `klatsch.once.tag.${createHash("sha256").update(scope).digest("hex").slice(0, 32)}`;
}

function stateOf(state: string | undefined): OnceStatus["state"] {
  if (state === undefined) return "unknown";
  if (state === "leased") return "running";
  return state === "dead" ? "dead" : "waiting";
}
