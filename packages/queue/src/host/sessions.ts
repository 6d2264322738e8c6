import { systemRandom } from "@klatsch/kit";
import { randomHex } from "@klatsch/kit/core";

import { SESSION_DIGITS } from "../codec/value.ts";
import { deadViewOf } from "../core/dead-queue.ts";
import type { QueueInput } from "../core/inputs.ts";
import type { QueueId } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import { parseConsume, parseMessages, parseTake } from "../options.ts";
import type {
  Consumer,
  ConsumeOptions,
  Handler,
  Leadership,
  Message,
  Messages,
  MessagesOptions,
  TakeOptions,
} from "../types.ts";
import { HandlerConsumer } from "./consumer.ts";
import type { Failure } from "./consumer.ts";
import { ExclusiveConsumer } from "./exclusive.ts";
import type { HeldMessage } from "./message.ts";
import { MessageStream } from "./messages.ts";
import { Turn } from "./turn.ts";

/** Consumers of one node, `take` included. */
const CONSUMERS_MAX = 65_536;
/** How long an active consumer whose node vanished is waited for, in milliseconds. */
const ELECT_MS = 10_000;

type Enter = (input: QueueInput) => void;

/** What those who are handed messages need of the node's queues. */
interface SessionsPort {
  /** The way to the core, while the queues may be used; throws once they may not. */
  assertRunning(): Enter;
  elect(name: string, leaseMs: number, signal: AbortSignal): Promise<Leadership>;
  /** A handler ran for so long, and returned or threw. */
  onHandled(queue: QueueId, tookMs: number, failure: Failure | undefined): void;
}

/** Somebody who is handed messages. Session and queue are others once the queue was deleted and declared again. */
interface Session {
  id: string;
  queue: QueueId;
  readonly prefetch: number;
  readonly sink: (message: HeldMessage) => void;
  /** There is nothing to wait for any more. */
  readonly end: (error: QueueError) => void;
  /** Returns what nobody has looked at yet. */
  readonly giveBack: () => void;
}

/** Who in this process is handed messages: handlers, streams, and those who wait in `take`. */
export class Sessions {
  readonly #port: SessionsPort;
  readonly #sessions = new Map<string, Session>();
  readonly #consumers = new Set<HandlerConsumer>();
  readonly #turn = new Turn();
  readonly #exclusive = new Map<ExclusiveConsumer, { queue: QueueId }>();

  constructor(port: SessionsPort) {
    this.#port = port;
  }

  /** Of which queue a session is, or was when a message left for it. */
  queueOf(session: string): QueueId | undefined {
    return this.#sessions.get(session)?.queue;
  }

  /** How many consume each queue. */
  counts(): ReadonlyMap<QueueId, number> {
    const counts = new Map<QueueId, number>();
    for (const { queue } of this.#sessions.values()) counts.set(queue, (counts.get(queue) ?? 0) + 1);
    return counts;
  }

  deliver(session: string, message: HeldMessage): void {
    const known = this.#sessions.get(session);
    if (known === undefined) message.giveBack();
    else known.sink(message);
  }

  #begin(rest: Omit<Session, "id">): Session {
    if (this.#sessions.size >= CONSUMERS_MAX) {
      throw new QueueError("LIMIT_REACHED", `this node has ${CONSUMERS_MAX} consumers already`);
    }
    const session = { id: randomHex(systemRandom, SESSION_DIGITS), ...rest };
    this.#sessions.set(session.id, session);
    return session;
  }

  #enter(enter: Enter, { id, queue, prefetch }: Session): void {
    enter({ type: "consume", session: id, queue, prefetch });
  }

  #end(enter: Enter, { id }: Session): void {
    this.#sessions.delete(id);
    enter({ type: "endConsumer", session: id });
  }

  consume(queue: QueueId, handler: Handler, options: ConsumeOptions | undefined): Consumer {
    const enter = this.#port.assertRunning();
    const { prefetch, ...rest } = parseConsume(options);
    const pace = { ...rest, turn: this.#turn };
    assertHandler(handler);
    const session = this.#begin({
      queue,
      prefetch,
      sink: (message) => consumer.deliver(message),
      end: () => void consumer.stop(),
      giveBack: () => consumer.giveBack(),
    });
    const consumer: HandlerConsumer = new HandlerConsumer(() => session.id, handler, pace, {
      onHandled: (tookMs, failure) => this.#port.onHandled(session.queue, tookMs, failure),
      onEnd: () => {
        this.#end(enter, session);
        // Whoever stops all waits for its handlers, too, although it takes nothing more.
        void consumer.stop().then(() => this.#consumers.delete(consumer));
      },
    });
    this.#consumers.add(consumer);
    this.#enter(enter, session);
    return consumer;
  }

  /** As active consumer while it is elected, and waiting for that while it is not. */
  consumeAlone(queue: QueueId, handler: Handler, options: ConsumeOptions | undefined): Consumer {
    this.#port.assertRunning();
    parseConsume(options);
    assertHandler(handler);
    const of = { queue };
    const consumer = new ExclusiveConsumer({
      consume: () => this.consume(of.queue, handler, options),
      elect: (signal) => this.#port.elect(exclusiveElection(of.queue), ELECT_MS, signal),
      onEnd: () => this.#exclusive.delete(consumer),
    });
    this.#exclusive.set(consumer, of);
    return consumer;
  }

  messages(queue: QueueId, options: MessagesOptions | undefined): Messages {
    const enter = this.#port.assertRunning();
    const { prefetch, signal } = parseMessages(options);
    signal?.throwIfAborted();
    const onAbort = (): void => stream.fail(reasonOf(signal));
    const session = this.#begin({
      queue,
      prefetch,
      sink: (message) => stream.deliver(message),
      end: (error) => stream.fail(error),
      giveBack: () => stream.giveBack(),
    });
    const stream: MessageStream = new MessageStream(() => {
      signal?.removeEventListener("abort", onAbort);
      this.#end(enter, session);
    });
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#enter(enter, session);
    return stream;
  }

  async take(queue: QueueId, options: TakeOptions | undefined): Promise<Message> {
    const enter = this.#port.assertRunning();
    const { signal } = parseTake(options);
    signal?.throwIfAborted();
    return await new Promise<Message>((resolve, reject) => {
      const end = (): void => {
        signal?.removeEventListener("abort", onAbort);
        this.#end(enter, session);
      };
      const onAbort = (): void => {
        end();
        reject(reasonOf(signal));
      };
      const session = this.#begin({
        queue,
        prefetch: 1,
        sink: (message) => {
          end();
          resolve(message);
        },
        end: (error) => {
          end();
          reject(error);
        },
        giveBack: () => undefined,
      });
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#enter(enter, session);
    });
  }

  /** The queue was deleted: who waits learns why, and its consumers end. */
  endQueue(queue: QueueId, error: QueueError): void {
    for (const [consumer, of] of this.#exclusive) if (of.queue === queue) void consumer.stop();
    for (const session of this.#of(queue)) session.end(error);
  }

  /**
   * The queue was deleted, and another one has its place: its consumers are that one's from now on. Under other names, for what
   * was sent to them before may still come.
   */
  move(queue: QueueId, next: QueueId): void {
    const enter = this.#port.assertRunning();
    for (const session of this.#of(queue)) {
      session.giveBack();
      this.#end(enter, session);
      session.id = randomHex(systemRandom, SESSION_DIGITS);
      session.queue = session.queue === queue ? next : deadViewOf(next);
      this.#sessions.set(session.id, session);
      this.#enter(enter, session);
    }
    for (const [consumer, of] of this.#exclusive) {
      if (of.queue !== queue) continue;
      of.queue = next;
      consumer.electAgain();
    }
  }

  /** Those that consume the queue or what is dead in it. */
  #of(queue: QueueId): readonly Session[] {
    const views = [queue, deadViewOf(queue)];
    return [...this.#sessions.values()].filter((one) => views.includes(one.queue));
  }

  /** Hands out nothing any more, and ends once the handlers that run are done. */
  async stop(error: QueueError): Promise<void> {
    const consumers = [...this.#exclusive.keys(), ...this.#consumers];
    this.fail(error);
    await Promise.all(consumers.map((consumer) => consumer.stop()));
  }

  /** Handlers that still run were waited for long enough. */
  abandon(): void {
    for (const consumer of this.#consumers) consumer.abandon();
  }

  /** Who waits learns why, consumers end, and nobody asks to be elected any more. */
  fail(error: QueueError): void {
    for (const consumer of this.#exclusive.keys()) void consumer.stop();
    for (const session of [...this.#sessions.values()]) session.end(error);
  }
}

/** The election of who consumes an exclusive queue. */
export function exclusiveElection(queue: QueueId): string {
  return `exclusive.${queue.slice(0, 32)}`;
}

function assertHandler(handler: unknown): asserts handler is Handler {
  if (typeof handler === "function") return;
  throw new QueueError("INVALID_OPTIONS", "handler: must be a function");
}

function reasonOf(signal: AbortSignal | undefined): Error {
  return signal?.reason as Error; // Whatever it is: what `throwIfAborted` throws.
}
