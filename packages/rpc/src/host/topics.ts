import type { Logger } from "@klatsch/kit";

import { HISTORY_MAX, NAME_LENGTH_MAX, TOPICS_MAX } from "../core/limits.ts";
import type { Message } from "../core/messages.ts";
import { rpcError } from "../errors.ts";
import { parse } from "../schema.ts";
import type { Schema } from "../schema.ts";
import { routeOf } from "./engine.ts";
import type { Engine } from "./engine.ts";

type Emit = Message & { readonly type: "emit" };
/** `no` grows with every value a process emits; a value is known by `(peer, boot, no)`. */
type Handler = (value: never, info: { readonly peerId: string; readonly replayed: boolean }) => unknown;

interface Subscription {
  readonly topic: string;
  readonly schema: Schema;
  readonly handler: Handler;
  readonly last: number;
  /** Numbers lately seen from each peer's process: what is replayed may have come live. */
  readonly seen: Map<string, Set<number>>;
}

/** Numbers remembered of each peer: what can be replayed, and as many that came since. */
const SEEN_MAX = HISTORY_MAX * 2;

export interface TopicsInit {
  readonly self: string;
  readonly engine: () => Engine;
  readonly bootOf: (peer: string) => number;
  readonly logger: Logger;
}

/** What this node emits and hears. Values go to all linked peers; each keeps the history of what it emitted. */
export class Topics {
  readonly #init: TopicsInit;
  readonly #subscriptions = new Set<Subscription>();
  readonly #histories = new Map<string, Emit[]>();
  #lastNo = 0;

  constructor(init: TopicsInit) {
    this.#init = init;
  }

  /** Peers that could not be sent to are returned. @throws RpcError `INVALID_OPTIONS`. */
  emit(topic: string, value: unknown): readonly string[] {
    checkTopic(topic);
    const { engine, self } = this.#init;
    this.#lastNo += 1;
    const message: Emit = { type: "emit", topic, no: this.#lastNo, value, replayed: false };
    this.#keep(message);
    // Hearing oneself takes the same way as for others.
    return [self, ...engine().peers()].filter(
      (peer) => engine().send(routeOf(peer, "normal"), message) !== undefined,
    );
  }

  subscribe(topic: string, schema: Schema, handler: Handler, last: number): () => void {
    checkTopic(topic);
    if (!Number.isSafeInteger(last) || last < 0 || last > HISTORY_MAX) {
      throw rpcError("INVALID_OPTIONS", `last: must be a whole number up to ${HISTORY_MAX}`);
    }
    const subscription: Subscription = { topic, schema, handler, last, seen: new Map() };
    this.#subscriptions.add(subscription);
    const { engine, self } = this.#init;
    if (last > 0) for (const peer of [self, ...engine().peers()]) this.#recall(peer, subscription);
    return () => void this.#subscriptions.delete(subscription);
  }

  /** A peer's session began: it may have emitted before, or while the link was gone. */
  onUp(peer: string): void {
    for (const subscription of this.#subscriptions)
      if (subscription.last > 0) this.#recall(peer, subscription);
  }

  onMessage(peer: string, message: Message & { readonly type: "emit" | "recall" }): void {
    if (message.type === "recall") {
      const history = this.#histories.get(message.topic) ?? [];
      const count = Math.min(message.count, HISTORY_MAX);
      for (const one of count === 0 ? [] : history.slice(-count)) {
        this.#init.engine().send(routeOf(peer, "normal"), { ...one, replayed: true });
      }
      return;
    }
    const process = `${peer} ${this.#init.bootOf(peer)}`;
    for (const subscription of this.#subscriptions) {
      if (subscription.topic === message.topic) void this.#hear(subscription, peer, process, message);
    }
  }

  #recall(peer: string, { topic, last }: Subscription): void {
    this.#init.engine().send(routeOf(peer, "normal"), { type: "recall", topic, count: last });
  }

  #keep(message: Emit): void {
    const history = this.#histories.get(message.topic) ?? [];
    this.#histories.delete(message.topic); // Back at the end: the topic longest silent is given up first.
    const [oldest] = this.#histories.keys();
    if (oldest !== undefined && this.#histories.size >= TOPICS_MAX) this.#histories.delete(oldest);
    this.#histories.set(message.topic, [...history.slice(1 - HISTORY_MAX), message]);
  }

  async #hear(subscription: Subscription, peer: string, process: string, message: Emit): Promise<void> {
    const { schema, handler, last, seen } = subscription;
    if (message.replayed && last === 0) return; // Another subscription of this node asked for it.
    if (last > 0 && isSeen(seen, process, message.no)) return;
    try {
      const value = await parse(schema, message.value, "INVALID_INPUT", message.topic);
      await handler(value as never, { peerId: peer, replayed: message.replayed });
    } catch (error) {
      this.#init.logger.warn("a topic's value was not handled", { err: error, topic: message.topic, peer });
    }
  }
}

function isSeen(seen: Map<string, Set<number>>, process: string, no: number): boolean {
  const numbers = seen.get(process) ?? new Set();
  if (numbers.has(no)) return true;
  numbers.add(no);
  const [oldest] = numbers;
  if (oldest !== undefined && numbers.size > SEEN_MAX) numbers.delete(oldest);
  seen.delete(process);
  const [stale] = seen.keys();
  if (stale !== undefined && seen.size >= TOPICS_MAX) seen.delete(stale);
  seen.set(process, numbers);
  return false;
}

function checkTopic(topic: string): void {
  if (typeof topic === "string" && topic.length > 0 && topic.length <= NAME_LENGTH_MAX) return;
  throw rpcError("INVALID_OPTIONS", `topic: must have 1 to ${NAME_LENGTH_MAX} characters`);
}
