import { systemRandom } from "@klatsch/kit";
import { randomHex } from "@klatsch/kit/core";

import { SESSION_DIGITS } from "../codec/value.ts";
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
import { ExclusiveConsumer } from "./exclusive.ts";
import type { HeldMessage } from "./message.ts";
import { MessageStream } from "./messages.ts";

/** Consumers of one node, `take` included. */
const CONSUMERS_MAX = 65_536;
/** How long an active consumer whose node vanished is waited for, in milliseconds. */
const ELECT_MS = 10_000;

/** What those who are handed messages need of the node's queues. */
interface SessionsPort {
  /** The way to the core, while the queues may be used; throws once they may not. */
  assertRunning(): (input: QueueInput) => void;
  elect(name: string, leaseMs: number, signal: AbortSignal): Promise<Leadership>;
  /** A handler ran for so long, and returned or threw. */
  onHandled(queue: QueueId, tookMs: number, failed: boolean): void;
}

interface Session {
  readonly queue: QueueId;
  readonly sink: (message: HeldMessage) => void;
}

/** Who in this process is handed messages: handlers, streams, and those who wait in `take`. */
export class Sessions {
  readonly #port: SessionsPort;
  readonly #sessions = new Map<string, Session>();
  /** Those who wait in `take`, and streams. */
  readonly #takers = new Map<string, (error: QueueError) => void>();
  readonly #consumers = new Set<HandlerConsumer>();
  readonly #exclusive = new Set<ExclusiveConsumer>();

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
    if (known === undefined) message.settle({ kind: "release" }, () => undefined);
    else known.sink(message);
  }

  #begin(queue: QueueId, sink: Session["sink"]): string {
    if (this.#sessions.size >= CONSUMERS_MAX) {
      throw new QueueError("LIMIT_REACHED", `this node has ${CONSUMERS_MAX} consumers already`);
    }
    const session = randomHex(systemRandom, SESSION_DIGITS);
    this.#sessions.set(session, { queue, sink });
    return session;
  }

  consume(queue: QueueId, handler: Handler, options: ConsumeOptions | undefined): Consumer {
    const enter = this.#port.assertRunning();
    const { prefetch, ...pace } = parseConsume(options);
    assertHandler(handler);
    const session = this.#begin(queue, (message) => consumer.deliver(message));
    const consumer: HandlerConsumer = new HandlerConsumer(session, handler, pace, {
      onHandled: (tookMs, failed) => this.#port.onHandled(queue, tookMs, failed),
      onEnd: () => {
        enter({ type: "endConsumer", session });
        this.#consumers.delete(consumer);
        this.#sessions.delete(session);
      },
    });
    this.#consumers.add(consumer);
    enter({ type: "consume", session, queue, prefetch });
    return consumer;
  }

  /** As active consumer while it is elected, and waiting for that while it is not. */
  consumeAlone(queue: QueueId, handler: Handler, options: ConsumeOptions | undefined): Consumer {
    this.#port.assertRunning();
    parseConsume(options);
    assertHandler(handler);
    const consumer = new ExclusiveConsumer({
      consume: () => this.consume(queue, handler, options),
      elect: (signal) => this.#port.elect(`exclusive.${queue.slice(0, 32)}`, ELECT_MS, signal),
      onEnd: () => this.#exclusive.delete(consumer),
    });
    this.#exclusive.add(consumer);
    return consumer;
  }

  messages(queue: QueueId, options: MessagesOptions | undefined): Messages {
    const enter = this.#port.assertRunning();
    const { prefetch, signal } = parseMessages(options);
    signal?.throwIfAborted();
    const onAbort = (): void => stream.fail(reasonOf(signal));
    const session = this.#begin(queue, (message) => stream.deliver(message));
    const stream: MessageStream = new MessageStream(() => {
      this.#sessions.delete(session);
      this.#takers.delete(session);
      signal?.removeEventListener("abort", onAbort);
      enter({ type: "endConsumer", session });
    });
    this.#takers.set(session, (error) => stream.fail(error));
    signal?.addEventListener("abort", onAbort, { once: true });
    enter({ type: "consume", session, queue, prefetch });
    return stream;
  }

  async take(queue: QueueId, options: TakeOptions | undefined): Promise<Message> {
    const enter = this.#port.assertRunning();
    const { signal } = parseTake(options);
    signal?.throwIfAborted();
    return await new Promise<Message>((resolve, reject) => {
      const end = (): void => {
        this.#sessions.delete(session);
        this.#takers.delete(session);
        signal?.removeEventListener("abort", onAbort);
        enter({ type: "endConsumer", session });
      };
      const onAbort = (): void => {
        end();
        reject(reasonOf(signal));
      };
      const session = this.#begin(queue, (message) => {
        end();
        resolve(message);
      });
      this.#takers.set(session, (error) => {
        end();
        reject(error);
      });
      signal?.addEventListener("abort", onAbort, { once: true });
      enter({ type: "consume", session, queue, prefetch: 1 });
    });
  }

  /** Ends the consumers, once their handlers are done. */
  async stop(): Promise<void> {
    await Promise.all([...this.#exclusive].map((consumer) => consumer.stop()));
    await Promise.all([...this.#consumers].map((consumer) => consumer.stop()));
  }

  /** The queues have ended: who waits learns why, and nobody asks to be elected any more. */
  fail(error: QueueError): void {
    for (const consumer of this.#exclusive) void consumer.stop();
    for (const fail of [...this.#takers.values()]) fail(error);
  }
}

function assertHandler(handler: unknown): asserts handler is Handler {
  if (typeof handler === "function") return;
  throw new QueueError("INVALID_OPTIONS", "handler: must be a function");
}

function reasonOf(signal: AbortSignal | undefined): Error {
  return signal?.reason instanceof Error ? signal.reason : new Error("aborted");
}
