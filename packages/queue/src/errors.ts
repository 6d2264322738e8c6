import { KlatschError } from "@klatsch/kit";
import type { KlatschErrorInit } from "@klatsch/kit";

/**
 * What went wrong. Removing one is a breaking change.
 * - `INVALID_OPTIONS`: an option or argument is missing or wrong; the message names the field.
 * - `QUEUE_CONFLICT`: the queue exists with other options, as far as this node has heard; the message names the difference.
 * - `QUEUE_NOT_FOUND`: no queue of that name is known here.
 * - `QUEUE_DELETED`: somebody deleted the queue while this waited for it; what was enqueued went with it.
 * - `EXCHANGE_NOT_FOUND`: no exchange of that name is known here.
 * - `EXCHANGE_CONFLICT`: the exchange exists with another kind or alternate.
 * - `UNROUTABLE`: no queue is bound for the message, not even by an alternate; nothing was enqueued.
 * - `PUBLISH_INCOMPLETE`: not all queues confirmed; `published` says which, and publishing again with it is safe.
 * - `NOT_DRAINED`: messages are left after the time that `drain` may take.
 * - `REFUSED`: the application's `beforeEnqueue` threw or took too long; nothing was enqueued.
 * - `QUEUE_FULL`: the queue holds as much as it may; nothing was enqueued.
 * - `MESSAGE_TOO_LARGE`: the body exceeds the limit, which the message names.
 * - `QUORUM_UNAVAILABLE`: too few replicas could be reached until the deadline, or others of its group came first; nothing was
 *   enqueued.
 * - `INDETERMINATE`: no quorum answered in time, but the message may exist: `resolve(id)` tells.
 * - `OVERLOADED`: more enqueues wait for a quorum, or for `beforeEnqueue`, than the limit; nothing was enqueued.
 * - `LIMIT_REACHED`: too many queues, consumers, held messages, bindings or schedules.
 * - `STALE`: the lease was over; somebody else may hold the message at a higher epoch.
 * - `FINISHED`: the message is over, and who finished it is no longer known.
 * - `UNCONFIRMED`: nobody confirmed the outcome in time; it may still take effect.
 * - `SETTLED`: this message has its outcome already.
 * - `STORE_LOCKED`: another process has the directory open.
 * - `FAILED`: the node's store failed; reopen to go on.
 * - `STOPPED`: used after `stop`.
 */
export type QueueErrorCode =
  | "INVALID_OPTIONS"
  | "QUEUE_CONFLICT"
  | "QUEUE_NOT_FOUND"
  | "QUEUE_DELETED"
  | "EXCHANGE_NOT_FOUND"
  | "EXCHANGE_CONFLICT"
  | "UNROUTABLE"
  | "PUBLISH_INCOMPLETE"
  | "NOT_DRAINED"
  | "REFUSED"
  | "QUEUE_FULL"
  | "MESSAGE_TOO_LARGE"
  | "QUORUM_UNAVAILABLE"
  | "INDETERMINATE"
  | "OVERLOADED"
  | "LIMIT_REACHED"
  | "STALE"
  | "FINISHED"
  | "UNCONFIRMED"
  | "SETTLED"
  | "STORE_LOCKED"
  | "FAILED"
  | "STOPPED";

const RETRYABLE: ReadonlySet<QueueErrorCode> = new Set([
  "QUORUM_UNAVAILABLE",
  "OVERLOADED",
  "QUEUE_FULL",
  "PUBLISH_INCOMPLETE",
  "STORE_LOCKED",
]);

/** Thrown by the public calls of this package. Branch on `code`; `message` is for people. */
export class QueueError extends KlatschError {
  override readonly name: string = "QueueError";
  declare readonly code: QueueErrorCode;
  /** The message concerned, where there is one. */
  readonly id: string | undefined;

  constructor(
    code: QueueErrorCode,
    message: string,
    init?: Omit<KlatschErrorInit, "code" | "retryable"> & {
      readonly id?: string | undefined;
    },
  ) {
    super(message, { ...init, code, retryable: RETRYABLE.has(code) });
    this.id = init?.id;
  }
}
