import { textOf } from "@klatsch/kit/core";

import { FAILURE_REASON_MAX } from "../core/register.ts";
import { parseStop } from "../options.ts";
import type { Consumer, ConsumerStats, Handler, StopOptions } from "../types.ts";
import type { HeldMessage } from "./message.ts";
import type { Turn } from "./turn.ts";
import { RELEASE_MS, within } from "./within.ts";

/** A consumer that may begin next in days looks at the clock once in an hour, in milliseconds. */
const LOOK_MS = 3_600_000;

/** How much of a consumer's work goes on at a time. */
export interface Pace {
  /** Handlers side by side at most. */
  readonly concurrency: number;
  /** Handlers begun in a second at most; without it as fast as they come. */
  readonly rate: number | undefined;
  readonly turn: Turn;
}

/** What a handler threw, and at which message. */
export interface Failure {
  readonly message: HeldMessage;
  readonly error: unknown;
}

/** What a consumer tells of itself. */
interface ConsumerEvents {
  onHandled(tookMs: number, failure: Failure | undefined): void;
  /** It wants no more messages. */
  onEnd(): void;
}

/** Runs a handler for each delivery: returning acknowledges, throwing fails. */
export class HandlerConsumer implements Consumer {
  readonly #session: () => string;
  readonly #handler: Handler;
  readonly #pace: Pace;
  readonly #events: ConsumerEvents;
  readonly #stats: { -readonly [Key in keyof ConsumerStats]: number } = {
    delivered: 0,
    redelivered: 0,
    acked: 0,
    failed: 0,
    unconfirmed: 0,
  };
  /** In hand and not begun; their leases are renewed like the others'. Bounded by the prefetch. */
  readonly #waiting: HeldMessage[] = [];
  /** Handlers run for these, settled or not. */
  readonly #running = new Set<HeldMessage>();
  /** Handled, and the outcome is not confirmed yet. */
  #concluding = 0;
  #ended = false;
  #abandoned = false;
  #givenUp: Promise<void> | undefined;
  #tokens: number;
  #filledMs: number;
  #timer: NodeJS.Timeout | undefined;
  readonly #onTurn = (): void => this.#next();
  readonly #idle: (() => void)[] = [];

  constructor(session: () => string, handler: Handler, pace: Pace, events: ConsumerEvents) {
    this.#session = session;
    this.#handler = handler;
    this.#pace = pace;
    this.#events = events;
    this.#tokens = 1;
    this.#filledMs = performance.now();
  }

  get session(): string {
    return this.#session();
  }

  get stats(): ConsumerStats {
    return { ...this.#stats };
  }

  deliver(message: HeldMessage): void {
    this.#stats.delivered += 1;
    if (message.attempt > 1) this.#stats.redelivered += 1;
    if (this.#ended) return message.giveBack();
    this.#waiting.push(message);
    this.#next();
  }

  #next(): void {
    while (this.#running.size < this.#pace.concurrency) {
      const message = this.#waiting[0];
      if (message === undefined) return;
      // Somebody else has it by now, or will soon: that is enough.
      if (!message.isLost && !this.#mayBegin()) return;
      this.#waiting.shift();
      if (message.isLost) {
        message.giveBack();
      } else {
        this.#running.add(message);
        void this.#run(message);
      }
    }
  }

  #mayBegin(): boolean {
    return this.#pace.turn.mayBegin(this.#onTurn) && this.#hasToken();
  }

  /** A bucket of one second's worth at most: after a pause there is a burst, never more than the rate allows. */
  #hasToken(): boolean {
    const { rate } = this.#pace;
    if (rate === undefined) return true;
    const nowMs = performance.now();
    this.#tokens = Math.min(Math.max(1, rate), this.#tokens + ((nowMs - this.#filledMs) * rate) / 1_000);
    this.#filledMs = nowMs;
    if (this.#tokens >= 1) {
      this.#tokens -= 1;
      return true;
    }
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        this.#next();
      },
      Math.min(LOOK_MS, Math.ceil(((1 - this.#tokens) * 1_000) / rate)),
    );
    return false;
  }

  async #run(message: HeldMessage): Promise<void> {
    let failure: Failure | undefined;
    const beganMs = performance.now();
    try {
      await this.#begin(message);
    } catch (error) {
      failure = { message, error };
    }
    const reason = failure && nameAndText(failure.error).slice(0, FAILURE_REASON_MAX).toWellFormed();
    this.#events.onHandled(performance.now() - beganMs, failure);
    if (!message.isSettled) this.#conclude(message, reason);
    this.#running.delete(message);
    this.#next();
    this.#rest();
  }

  /** Whatever is thrown at once comes a little later: a thousand of these must not lie on the stack. */
  #begin(message: HeldMessage): Promise<void> | void {
    try {
      return this.#handler(message);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The next handler does not wait for the quorum: outcomes under way are bounded by the prefetch, which counts them. */
  #conclude(message: HeldMessage, reason: string | undefined): void {
    this.#concluding += 1;
    if (reason !== undefined) this.#stats.failed += 1;
    message.settle(reason === undefined ? { kind: "ack" } : { kind: "nack", reason }, (code) => {
      if (reason === undefined) this.#stats[code === "DONE" ? "acked" : "unconfirmed"] += 1;
      this.#concluding -= 1;
      this.#rest();
    });
  }

  #rest(): void {
    if (this.#isBusy) return;
    for (const then of this.#idle.splice(0)) then();
  }

  /** Handlers run, or outcomes wait to be confirmed, and that is waited for. */
  get #isBusy(): boolean {
    return !this.#abandoned && this.#running.size + this.#concluding > 0;
  }

  /** Nobody waits for the handlers that still run: they may never return. */
  abandon(): void {
    this.#abandoned = true;
    this.#rest();
  }

  /** What is in hand and not begun. */
  giveBack(): void {
    for (const message of this.#waiting.splice(0)) message.giveBack();
  }

  async stop(options?: StopOptions): Promise<void> {
    const { timeoutMs, signal } = parseStop(options);
    if (!this.#ended) {
      this.#ended = true;
      clearTimeout(this.#timer);
      this.#events.onEnd();
      this.giveBack();
    }
    if (!this.#isBusy) return;
    const idle = new Promise<void>((resolve) => this.#idle.push(resolve));
    if (!(await within(idle, timeoutMs, signal))) await (this.#givenUp ??= this.#giveUp());
  }

  /** Handlers that still run had their time: they hear of it, and others get their messages. */
  async #giveUp(): Promise<void> {
    const left = [...this.#running].filter((message) => !message.isSettled);
    for (const message of left) message.lose();
    const released = left.map(
      (message) => new Promise<void>((done) => message.settle({ kind: "release" }, () => done())),
    );
    await within(Promise.all(released), RELEASE_MS);
    this.abandon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Of an error its name as well. Anything can be thrown, even what has no text. */
function nameAndText(error: unknown): string {
  try {
    return String(error);
  } catch {
    return textOf(error);
  }
}
