import { systemRandom } from "@klatsch/kit";

import { decodeHeaders } from "../codec/headers.ts";
import { REASON_MAX } from "../codec/value.ts";
import { messageId } from "../core/message-id.ts";
import type { Delivery } from "../core/messages.ts";
import { retryDelayMs } from "../core/retry.ts";
import type { Attributes, QueueId, SettledCode, Verdict } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import { parseNack } from "../options.ts";
import type { Failure, Message, MessageHeaders, NackOptions } from "../types.ts";

export type SettleDone = (code: SettledCode | "TIMEOUT" | "STOPPED" | "FAILED") => void;

/** Asks the lane's writer for a verdict until it is confirmed. */
export type Settle = (message: HeldMessage, verdict: Verdict, done: SettleDone) => void;

const NO_FAILURES: readonly Failure[] = Object.freeze([]);

/** Of the application's own: what it did to those of the core would be in what this node writes and tells others. */
export function failuresOf(attributes: Attributes | undefined): readonly Failure[] {
  if (attributes === undefined || attributes.failures.length === 0) return NO_FAILURES;
  return attributes.failures.map((one) => ({ ...one }));
}

/** A delivered message in the application's hands. */
export class HeldMessage implements Message {
  /** Whose consumer it was handed to; empty if that had gone. */
  readonly queue: QueueId;
  readonly id: string;
  readonly lane: string;
  readonly seq: number;
  readonly epoch: number;
  readonly attempt: number;
  readonly ageMs: number;
  readonly priority: number;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
  readonly reason: string | undefined;
  readonly failures: readonly Failure[];
  readonly body: Uint8Array;
  readonly #settle: Settle;
  readonly #headerBytes: Uint8Array;
  #headers: MessageHeaders | undefined;
  #settled = false;
  #lost = false;
  #abort: AbortController | undefined;

  constructor(item: Delivery, queue: QueueId, content: Uint8Array, wallMs: number, settle: Settle) {
    this.queue = queue;
    this.id = messageId(item.lane, item.seq);
    this.lane = item.lane;
    this.seq = item.seq;
    this.epoch = item.epoch;
    this.attempt = item.deliveries + 1;
    this.ageMs = item.enqueuedWallMs === 0 ? 0 : Math.max(0, wallMs - item.enqueuedWallMs);
    this.priority = item.attributes?.priority ?? 0;
    this.group = item.attributes?.group;
    this.dedupKey = item.attributes?.dedupKey;
    this.reason = item.reason;
    this.failures = failuresOf(item.attributes);
    const headerBytes = item.attributes?.headerBytes ?? 0;
    this.#headerBytes = content.subarray(0, headerBytes);
    this.body = headerBytes === 0 ? content : content.subarray(headerBytes);
    this.#settle = settle;
  }

  /** Read on first use. */
  get headers(): MessageHeaders {
    this.#headers ??= decodeHeaders(this.#headerBytes);
    return this.#headers;
  }

  /** Made on first use: most handlers never look at it. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#lost) this.#abort.abort(this.#staleError());
    return this.#abort.signal;
  }

  get isSettled(): boolean {
    return this.#settled;
  }

  get isLost(): boolean {
    return this.#lost;
  }

  /** The lease is over: whatever the holder does now may happen twice. */
  lose(): void {
    this.#lost = true;
    this.#abort?.abort(this.#staleError());
  }

  #staleError(): QueueError {
    return new QueueError("STALE", `the lease of ${this.id} at epoch ${this.epoch} is over`, {
      id: this.id,
    });
  }

  ack(): Promise<void> {
    return this.#ask({ kind: "ack" });
  }

  async nack(options?: NackOptions): Promise<void> {
    const { delayMs, retry, reason } = parseNack(options);
    const failed = this.attempt;
    const byRetry = retry === undefined ? undefined : retryDelayMs(retry, failed, systemRandom);
    await this.#ask({ kind: "nack", delayMs: delayMs ?? byRetry, reason });
  }

  async redrive(): Promise<void> {
    if (this.reason === undefined) {
      throw new QueueError("INVALID_OPTIONS", `${this.id} is not dead`, { id: this.id });
    }
    await this.#ask({ kind: "redrive" });
  }

  release(): Promise<void> {
    return this.#ask({ kind: "release" });
  }

  /** Released, and nobody waits to hear that it is. */
  giveBack(): void {
    this.settle({ kind: "release" }, () => undefined);
  }

  reject(reason: string): Promise<void> {
    if (typeof reason !== "string" || reason.length > REASON_MAX) {
      const text = `reason: must be text of up to ${REASON_MAX} characters`;
      return Promise.reject(new QueueError("INVALID_OPTIONS", text));
    }
    return this.#ask({ kind: "reject", reason: reason.toWellFormed() });
  }

  #ask(verdict: Verdict): Promise<void> {
    return new Promise((resolve, reject) => {
      this.settle(verdict, (code) => {
        const error = this.errorOf(code);
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  }

  /** The outcome without a promise. `done` is called once. */
  settle(verdict: Verdict, done: SettleDone): void {
    if (this.#settled) {
      done("RETRY");
      return;
    }
    this.#settled = true;
    this.#settle(this, verdict, done);
  }

  errorOf(code: Parameters<SettleDone>[0]): QueueError | undefined {
    const { id } = this;
    switch (code) {
      case "DONE":
        return undefined;
      case "STALE":
        return this.#staleError();
      case "FINISHED":
        return new QueueError("FINISHED", `${id} is over, by whom is forgotten`, {
          id,
          outcome: "unknown",
        });
      case "TIMEOUT":
        return new QueueError("UNCONFIRMED", `nobody confirmed the outcome of ${id} in time`, {
          id,
          outcome: "unknown",
        });
      case "RETRY":
        return new QueueError("SETTLED", `${id} has its outcome already`, { id });
      case "STOPPED":
      case "FAILED":
        return new QueueError(code, `the queues of this node have ended: ${id} is unconfirmed`, {
          id,
          outcome: "unknown",
        });
    }
  }
}
