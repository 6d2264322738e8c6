import { setTimeout as delay } from "node:timers/promises";
import { parseStop } from "../options.ts";
import type { Consumer, ConsumerStats, Leadership, StopOptions } from "../types.ts";
import { RELEASE_MS, within } from "./within.ts";

/** Pause after an election that failed, in milliseconds. */
const RETRY_MS = 1_000;

interface ExclusivePort {
  consume(): Consumer;
  elect(signal: AbortSignal): Promise<Leadership>;
  onEnd(): void;
}

/** A consumer that is active while it is elected: of all that consume an exclusive queue, one at a time. */
export class ExclusiveConsumer implements Consumer {
  readonly #port: ExclusivePort;
  readonly #ended = new AbortController();
  readonly #running: Promise<void>;
  /** Ends what goes on in favour of a new election. */
  #round = new AbortController();
  #active: Consumer | undefined;
  #before: ConsumerStats = { delivered: 0, redelivered: 0, acked: 0, failed: 0, unconfirmed: 0 };

  constructor(port: ExclusivePort) {
    this.#port = port;
    this.#running = this.#run();
  }

  /** Of the consumer that is active now; empty while another one is. */
  get session(): string {
    return this.#active?.session ?? "";
  }

  get stats(): ConsumerStats {
    return sum(this.#before, this.#active?.stats);
  }

  async #run(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      this.#round = new AbortController();
      const signal = AbortSignal.any([this.#ended.signal, this.#round.signal]);
      try {
        await using leadership = await this.#port.elect(signal);
        await this.#serve(leadership, signal);
      } catch {
        // No quorum: asked again until this consumer is stopped, as it is when the queues end.
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #serve(leadership: Leadership, signal: AbortSignal): Promise<void> {
    const consumer = this.#port.consume();
    this.#active = consumer;
    const over = AbortSignal.any([leadership.signal, signal]);
    if (!over.aborted) {
      await new Promise((resolve) => over.addEventListener("abort", resolve, { once: true }));
    }
    // What is in hand is finished first: the next one begins with what is left.
    await consumer.stop();
    this.#before = sum(this.#before, consumer.stats);
    this.#active = undefined;
  }

  /** The queue is another one, and so is its election. */
  electAgain(): void {
    this.#round.abort(new Error("the queue is another one"));
  }

  async stop(options?: StopOptions): Promise<void> {
    const { timeoutMs, signal } = parseStop(options);
    this.#ended.abort(new Error("the consumer was stopped"));
    this.#port.onEnd();
    if (timeoutMs === undefined && signal === undefined) return await this.#running;
    await this.#active?.stop({ timeoutMs, signal });
    // It resigns. Who cannot be told sees that its lease ends.
    await within(this.#running, RELEASE_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function sum(a: ConsumerStats, b: ConsumerStats | undefined): ConsumerStats {
  if (b === undefined) return a;
  return {
    delivered: a.delivered + b.delivered,
    redelivered: a.redelivered + b.redelivered,
    acked: a.acked + b.acked,
    failed: a.failed + b.failed,
    unconfirmed: a.unconfirmed + b.unconfirmed,
  };
}
