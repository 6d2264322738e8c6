import { Sluice } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { z } from "zod";

import { isAccess, isSchema, method } from "../contract.ts";
import type { Access, Method } from "../contract.ts";
import { packValue, unpackValue } from "../codec/packr.ts";
import { HEARD_MAX, HELD_BYTES_MAX, HISTORY_MAX, NAME_LENGTH_MAX, TOPICS_MAX } from "../core/limits.ts";
import type { EmitMessage, Route } from "../core/messages.ts";
import { Seen } from "../core/seen.ts";
import { rpcError } from "../errors.ts";
import { checkKnown, readable } from "../known.ts";
import { parse } from "../schema.ts";
import type { Schema } from "../schema.ts";
import type { SubscribeOptions } from "../types.ts";
import type { Guard } from "./access.ts";
import { checkFunction, checkName } from "./checks.ts";
import type { Engine } from "./engine.ts";
import { routeOf } from "./route.ts";
import type { Spreading } from "./spreading.ts";

/** `no` grows with every value a process emits; a value is known by `(peer, boot, no)`. */
type Handler = (value: never, info: { readonly peerId: string; readonly replayed: boolean }) => unknown;

interface Subscription {
  readonly topic: string;
  readonly schema: Schema;
  readonly handler: Handler;
  readonly last: number;
  readonly access: Access;
  /** What is replayed may have come live. Remembers what can be replayed, and as many that came since. */
  readonly seen: Seen;
  /** Of values whose handler runs. */
  readonly running: { count: number; bytes: number };
}

/** Topics that a neighbour is told of in one turn of the event loop, and that wait for the next. */
const RECALLS_MAX = 64;
const RECALLS_WAITING_MAX = 8_192;

/** What members that are no neighbours are asked for, all together. */
export interface Recall {
  readonly topic: string;
  readonly count: number;
}
export type Recalled = readonly (readonly [no: number, value: unknown])[];

/** A value as it was emitted, whatever the application makes of it later. */
interface Past {
  readonly no: number;
  readonly packed: Uint8Array;
}

export const RECALL = "klatsch.topic.recall";
export const recallMethod: Method<Schema<Recall>, Schema<Recalled>, "none"> = method({
  input: z.object({ topic: z.string().max(NAME_LENGTH_MAX), count: z.int().min(0) }),
  output: z.array(z.tuple([z.int().min(0), z.unknown()])).max(HISTORY_MAX),
  access: "members", // As for what comes live: whoever is a member may hear it.
  idempotent: true,
});

export interface TopicsInit {
  readonly self: string;
  readonly engine: () => Engine;
  readonly guard: Guard;
  readonly spreading: Spreading;
  /** Says nothing once this node's rpc has stopped. */
  readonly resend: (route: Route, message: EmitMessage) => void;
  readonly bootOf: (peer: string) => number;
  /** Asks these members for what they emitted last. */
  readonly gather: (
    peers: readonly string[],
    recall: Recall,
  ) => Promise<readonly { readonly peerId: string; readonly value: Recalled }[]>;
  readonly logger: Logger;
}

/** What this node emits and hears. Values go to all members; each keeps the history of what it emitted. */
export class Topics {
  readonly #init: TopicsInit;
  readonly #subscriptions = new Set<Subscription>();
  readonly #histories = new Map<string, readonly Past[]>();
  /** What each neighbour has asked for. */
  readonly #recalls = new Map<string, Sluice<Recall>>();
  /** Values that a subscription's access rule refused. */
  denied = 0;
  /** Values that came while as many handlers of a subscription ran as may. */
  dropped = 0;

  constructor(init: TopicsInit) {
    this.#init = init;
  }

  /** Peers that could not be sent to are returned. @throws RpcError `INVALID_OPTIONS`, `INVALID_INPUT`, `TOO_LARGE`. */
  async emit(topic: string, value: unknown): Promise<readonly string[]> {
    checkName(topic, "topic");
    const { engine, self, spreading } = this.#init;
    const far = spreading.far();
    const spread = far.length > 0;
    const message: EmitMessage = {
      type: "emit",
      topic,
      no: spreading.nextNo(),
      value,
      replayed: false,
      spread,
    };
    // Hearing oneself takes the same way as for others.
    const peers = [self, ...engine().peers()];
    const routes = peers.map((peer) => routeOf(peer, "normal"));
    const refused = engine().sendToAll(routes, message);
    const unfit = refused.find((reason) => reason?.code === "INVALID_INPUT" || reason?.code === "TOO_LARGE");
    if (unfit !== undefined) throw rpcError(unfit.code, unfit.message);
    this.#keep(message);
    const unreachable = peers.filter((_, at) => refused[at] !== undefined);
    return !spread || (await spreading.tell(message)) ? unreachable : [...unreachable, ...far];
  }

  subscribe(topic: string, schema: Schema, handler: Handler, options: SubscribeOptions): () => void {
    checkName(topic, "topic");
    if (!readable("schema", () => isSchema(schema)))
      throw rpcError("INVALID_OPTIONS", "schema: must be a Standard Schema");
    checkFunction(handler, "handler");
    const { last, access } = checkedOptions(options);
    const seen = new Seen({ numbersMax: HISTORY_MAX * 2, sendersMax: TOPICS_MAX });
    const running = { count: 0, bytes: 0 };
    const subscription: Subscription = { topic, schema, handler, last, access, seen, running };
    this.#subscriptions.add(subscription);
    const { engine, self } = this.#init;
    if (last > 0) {
      for (const peer of [self, ...engine().peers()]) this.#recall(peer, subscription);
      void this.#recallFar(subscription);
    }
    return () => void this.#subscriptions.delete(subscription);
  }

  /** A peer's session began: it may have emitted before, or while the link was gone. */
  onUp(peer: string): void {
    for (const subscription of this.#subscriptions)
      if (subscription.last > 0) this.#recall(peer, subscription);
  }

  /** Nothing can be said to the peer any more. */
  onDown(peer: string): void {
    this.#recalls.get(peer)?.stop();
    this.#recalls.delete(peer);
  }

  /** A neighbour asks for what was last. A few bytes ask for 64 values: so there is a limit to a turn of the event loop. */
  onRecall(peer: string, recall: Recall): void {
    let recalls = this.#recalls.get(peer);
    if (recalls === undefined) {
      recalls = new Sluice({ turnMax: RECALLS_MAX, waitingMax: RECALLS_WAITING_MAX }, (one) => {
        const { topic } = one;
        const told = { type: "emit", topic, replayed: true, spread: false } as const;
        for (const [no, value] of this.recalled(one))
          this.#init.resend(routeOf(peer, "normal"), { ...told, no, value });
      });
      this.#recalls.set(peer, recalls);
    }
    recalls.enter(recall);
  }

  /** A value that is the first copy of it. */
  onEmit(peer: string, message: EmitMessage): void {
    const process = `${peer} ${this.#init.bootOf(peer)}`;
    for (const subscription of this.#subscriptions) {
      if (subscription.topic === message.topic) void this.#hear(subscription, peer, process, message);
    }
  }

  /** What this node emitted last. The handler of {@link RECALL}. */
  recalled(recall: Recall): Recalled {
    const { topic, count } = recall;
    const last = count === 0 ? [] : (this.#histories.get(topic) ?? []).slice(-Math.min(count, HISTORY_MAX));
    return last.map(({ no, packed }) => [no, unpackValue(packed)]);
  }

  #recall(peer: string, { topic, last }: Subscription): void {
    this.#init.engine().send(routeOf(peer, "normal"), { type: "recall", topic, count: last });
  }

  async #recallFar(subscription: Subscription): Promise<void> {
    const { spreading, gather, logger, bootOf } = this.#init;
    const { topic, last } = subscription;
    const far = spreading.far();
    if (far.length === 0) return;
    try {
      for (const { peerId, value } of await gather(far, { topic, count: last })) {
        for (const [no, one] of value) {
          const message: EmitMessage = { type: "emit", topic, no, value: one, replayed: true, spread: false };
          await this.#hear(subscription, peerId, `${peerId} ${bootOf(peerId)}`, message);
        }
      }
    } catch (error) {
      logger.warn("what a topic had before could not be asked for", { err: error, topic });
    }
  }

  #keep({ topic, no, value }: EmitMessage): void {
    const history = this.#histories.get(topic) ?? [];
    this.#histories.delete(topic); // Back at the end: the topic longest silent is given up first.
    const [oldest] = this.#histories.keys();
    if (oldest !== undefined && this.#histories.size >= TOPICS_MAX) this.#histories.delete(oldest);
    this.#histories.set(topic, [...history.slice(1 - HISTORY_MAX), { no, packed: packValue(value) }]);
  }

  async #hear(
    subscription: Subscription,
    peer: string,
    process: string,
    message: EmitMessage,
  ): Promise<void> {
    const { last, access, seen, running } = subscription;
    const { guard } = this.#init;
    if (!this.#subscriptions.has(subscription)) return;
    if (message.replayed && last === 0) return; // Another subscription of this node asked for it.
    if (last > 0 && !seen.isNew(process, message.no)) return;
    if (!guard.admits(access, guard.caller(peer), message.topic)) {
      this.denied += 1;
      return;
    }
    const { bytes = 0 } = message;
    if (running.count >= HEARD_MAX || running.bytes + bytes > HELD_BYTES_MAX) {
      this.dropped += 1;
      return;
    }
    await this.#handle(subscription, peer, message);
  }

  async #handle(
    { schema, handler, running }: Subscription,
    peer: string,
    message: EmitMessage,
  ): Promise<void> {
    const { topic, replayed, bytes = 0 } = message;
    running.count += 1;
    running.bytes += bytes;
    try {
      // What is not async ends at once, and counts for nobody: thousands may come in one turn of the event loop.
      let value = parse(schema, message.value, "INVALID_INPUT", topic);
      if (value instanceof Promise) value = await value;
      const given = handler(value as never, { peerId: peer, replayed });
      if (typeof given === "object") await (given as PromiseLike<unknown> | null); // Any library's promise.
    } catch (error) {
      this.#init.logger.warn("a topic's value was not handled", { err: error, topic, peer });
    } finally {
      running.count -= 1;
      running.bytes -= bytes;
    }
  }
}

/** @throws RpcError `INVALID_OPTIONS`. */
function checkedOptions(options: SubscribeOptions | null): {
  readonly last: number;
  readonly access: Access;
} {
  return readable("options", () => {
    checkKnown(options ?? undefined, ["last", "access"]);
    const { last = 0, access = "members" } = options ?? {};
    if (!Number.isSafeInteger(last) || last < 0 || last > HISTORY_MAX)
      throw rpcError("INVALID_OPTIONS", `last: must be a whole number up to ${HISTORY_MAX}`);
    if (!isAccess(access)) throw rpcError("INVALID_OPTIONS", "access: must say whose values are heard");
    return { last, access };
  });
}
