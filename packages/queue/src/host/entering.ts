import { systemClock } from "@klatsch/kit";

import type { EnqueueResult } from "../core/lane-register.ts";
import { messageId } from "../core/message-id.ts";
import type { QueueId } from "../core/types.ts";
import type { QueueError } from "../errors.ts";
import type { Enqueued } from "../types.ts";
import type { makeContent } from "./content.ts";
import type { Engine } from "./engine.ts";
import type { QueueMetrics } from "./queue-metrics.ts";
import { countOne } from "./queue-metrics.ts";
import { endedError, enqueueError } from "./told.ts";

type Content = ReturnType<typeof makeContent>;

export interface Waiter {
  readonly resolve: (result: Enqueued) => void;
  readonly reject: (error: QueueError) => void;
}

interface Entered extends Waiter {
  readonly queue: QueueId;
  readonly beganMs: number;
  readonly deadlineMs: number;
  readonly message: Content;
}

export interface EnteringPort {
  /** @throws QueueError `STOPPED`, `FAILED`. */
  running(): Engine;
  request(): number;
  /** Of a queue that was deleted. */
  successorOf(queue: QueueId): QueueId | undefined;
  readonly metrics: QueueMetrics;
  onEnqueued(): void;
}

/** Enqueues under way, from the call to the core's answer. */
export class Entering {
  readonly #port: EnteringPort;
  readonly #entered = new Map<number, Entered>();
  #onIdle: (() => void) | undefined;

  constructor(port: EnteringPort) {
    this.#port = port;
  }

  enter(queue: QueueId, message: Content, timeoutMs: number, { resolve, reject }: Waiter): void {
    const engine = this.#port.running();
    const { monoMs: beganMs } = systemClock.now();
    const requestId = this.#port.request();
    const deadlineMs = beganMs + timeoutMs;
    this.#entered.set(requestId, { resolve, reject, queue, beganMs, deadlineMs, message });
    engine.enter({ type: "enqueue", requestId, queue, ...message, deadlineMs });
  }

  answered(requestId: number, result: EnqueueResult, engine: Engine | undefined): void {
    const entered = this.#entered.get(requestId);
    if (entered === undefined) return;
    if (result.code === "QUEUE_DELETED" && this.#enterAgain(requestId, entered, engine)) return;
    this.#entered.delete(requestId);
    if (this.#entered.size === 0) this.#onIdle?.();
    const { metrics } = this.#port;
    if (result.code === "OK") {
      this.#port.onEnqueued();
      metrics.enqueued(entered.queue, systemClock.now().monoMs - entered.beganMs);
      entered.resolve({ id: messageId(result.lane, result.seq), duplicate: result.duplicate === true });
    } else {
      countOne(metrics.of(entered.queue).failures, result.code);
      entered.reject(enqueueError(result));
    }
  }

  /** `true`: the queue has a successor on this node, which gets what the one before never had or lost. */
  #enterAgain(requestId: number, entered: Entered, engine: Engine | undefined): boolean {
    const queue = this.#port.successorOf(entered.queue);
    if (queue === undefined) return false;
    this.#entered.set(requestId, { ...entered, queue });
    const { message, deadlineMs } = entered;
    engine?.enter({ type: "enqueue", requestId, queue, ...message, deadlineMs });
    return true;
  }

  /** Resolves once none is under way. */
  async idle(): Promise<void> {
    if (this.#entered.size > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
  }

  /** The node's queues have ended: nobody answers what is under way. */
  end(engine: Engine | undefined, code: "FAILED" | "STOPPED", text: string, cause: unknown): void {
    const entered = [...this.#entered];
    this.#entered.clear();
    this.#onIdle?.();
    for (const [requestId, { reject }] of entered) {
      reject(endedError(engine?.core.origin.whatIfLeft(requestId), code, text, cause));
    }
  }
}
