import { FAILURE_REASON_MAX } from "../core/register.ts";
import type { Consumer, ConsumerStats, Handler } from "../types.ts";
import type { HeldMessage } from "./message.ts";

/** Runs a handler for each delivery: returning acknowledges, throwing fails. */
export class HandlerConsumer implements Consumer {
  readonly session: string;
  readonly #handler: Handler;
  readonly #end: () => void;
  readonly #stats: { -readonly [Key in keyof ConsumerStats]: number } = {
    delivered: 0,
    redelivered: 0,
    acked: 0,
    failed: 0,
    unconfirmed: 0,
  };
  #running = 0;
  #ended = false;
  readonly #idle: (() => void)[] = [];

  constructor(session: string, handler: Handler, end: () => void) {
    this.session = session;
    this.#handler = handler;
    this.#end = end;
  }

  get stats(): ConsumerStats {
    return { ...this.#stats };
  }

  deliver(message: HeldMessage): void {
    this.#running += 1;
    this.#stats.delivered += 1;
    if (message.attempt > 1) this.#stats.redelivered += 1;
    void this.#run(message);
  }

  async #run(message: HeldMessage): Promise<void> {
    let reason: string | undefined;
    try {
      await this.#handler(message);
    } catch (error) {
      reason = String(error).slice(0, FAILURE_REASON_MAX);
    }
    if (message.isSettled) return this.#done();
    if (reason !== undefined) {
      this.#stats.failed += 1;
      message.settle({ kind: "nack", reason }, () => this.#done());
      return;
    }
    message.settle({ kind: "ack" }, (code) => {
      if (code === "DONE") this.#stats.acked += 1;
      else this.#stats.unconfirmed += 1;
      this.#done();
    });
  }

  #done(): void {
    this.#running -= 1;
    if (this.#running === 0) for (const then of this.#idle.splice(0)) then();
  }

  async stop(): Promise<void> {
    if (!this.#ended) {
      this.#ended = true;
      this.#end();
    }
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
