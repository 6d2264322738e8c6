import { types } from "node:util";

import { textOf } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";

import { DEFAULT_TUNING } from "../core/context.ts";
import type { CoreHooks, ProposedLease } from "../core/hooks.ts";
import { messageId } from "../core/message-id.ts";
import type { Holder, QueueId } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import type { AckedMessage, DeadMessage, OutgoingMessage, QueueHooks } from "../hooks.ts";
import { parseItem } from "../options.ts";
import type { MessageOptions } from "../options.ts";
import { copyOf } from "./content.ts";
import { isElection } from "./elect.ts";

/** How long a hook may take, in milliseconds; one that the core waits for, before it is reported. */
const HOOK_MS = 5_000;
const CORE_HOOK_MS = 50;
/** `afterAck` and `onDead` under way at a time; further calls are left out, and counted. */
const RUNNING_MAX = 1_024;
/** Messages that wait for `beforeEnqueue` at most, and their bytes: as many as may wait for a quorum after that. */
const SHOWN_MAX: number = DEFAULT_TUNING.pendingEnqueues;
const SHOWN_BYTES_MAX: number = DEFAULT_TUNING.pendingBytes;
/** Faults of one hook logged within this time once, in milliseconds. */
const LOG_MS = 1_000;

type HookName = keyof QueueHooks;
/** `threw`; `late`: took too long; `invalid`: returned what it may not; `dropped`: too many run already. */
type HookFault = "threw" | "late" | "invalid" | "dropped";

/** Calls of one hook. */
export interface HookCounts {
  calls: number;
  /** In milliseconds, until it returned or was given up. */
  tookMs: number;
  readonly faults: Record<HookFault, number>;
}

/** Runs the hooks of an application so that none of them can do harm. */
export class HookRunner {
  readonly #hooks: QueueHooks;
  readonly #logger: Logger;
  readonly #nameOf: (queue: QueueId) => string | undefined;
  readonly #counts = new Map<HookName, HookCounts>();
  readonly #loggedMs = new Map<HookName, number>();
  #running = 0;
  #shown = 0;
  #shownBytes = 0;

  constructor(hooks: QueueHooks, logger: Logger, nameOf: (queue: QueueId) => string | undefined) {
    this.#hooks = hooks;
    this.#logger = logger;
    this.#nameOf = nameOf;
  }

  counts(): ReadonlyMap<HookName, HookCounts> {
    return this.#counts;
  }

  /** What the core asks: only those hooks that there are. */
  get core(): CoreHooks {
    const has = (name: HookName): boolean => this.#hooks[name] !== undefined;
    return {
      nominate: has("nominate") ? (queue, all) => this.#nominate(queue, all) : undefined,
      vote: has("vote") ? (lease) => this.#vote(lease) : undefined,
    };
  }

  #nominate(queue: QueueId, candidates: readonly Holder[]): number | undefined {
    const name = this.#nameOf(queue);
    if (name === undefined || isElection(name)) return undefined;
    const at = this.#now("nominate", () => {
      // Of their own: whoever sorts them, or writes into one, changes nothing here.
      const chosen = this.#hooks.nominate?.(
        name,
        candidates.map((one) => ({ ...one })),
      );
      if (chosen === undefined) return undefined;
      const wanted = isRejectable(chosen) ? undefined : (chosen as Partial<Holder> | null)?.session;
      return candidates.findIndex(({ session }) => session === wanted);
    });
    if (at === undefined || at >= 0) return at;
    this.#fault("nominate", "invalid", new Error("returned none of the candidates"));
    return undefined;
  }

  #vote({ queue, lane, seq, epoch, holder }: ProposedLease): boolean {
    const name = this.#nameOf(queue);
    if (name === undefined || isElection(name)) return true;
    const vote = { queue: name, id: messageId(lane, seq), epoch, ...holder };
    const says = this.#now("vote", () => {
      const said: unknown = this.#hooks.vote?.(vote);
      return isRejectable(said) ? null : said;
    });
    if (says === undefined || typeof says === "boolean") return says !== false;
    this.#fault("vote", "invalid", new Error("returned no boolean"));
    return true;
  }

  /** `undefined` if it threw. */
  #now<T>(name: HookName, run: () => T): T | undefined {
    const beganMs = performance.now();
    try {
      return run();
    } catch (error) {
      this.#fault(name, "threw", error);
      return undefined;
    } finally {
      const tookMs = this.#count(name, beganMs);
      if (tookMs > CORE_HOOK_MS) this.#fault(name, "late", new Error(`took ${Math.round(tookMs)} ms`));
    }
  }

  /** Whether messages of this queue have to be shown to the application before they enter. */
  looksAt(queue: string): boolean {
    return this.#hooks.beforeEnqueue !== undefined && !isElection(queue);
  }

  /** Shows the application a copy. @throws QueueError `REFUSED`, `OVERLOADED`. */
  async beforeEnqueue(
    queue: string,
    given: Uint8Array,
    options: MessageOptions,
  ): Promise<MessageOptions & { readonly body: Uint8Array }> {
    if (this.#shown >= SHOWN_MAX || this.#shownBytes >= SHOWN_BYTES_MAX) {
      const text = `${this.#shown} enqueues of ${this.#shownBytes} bytes wait for beforeEnqueue already: await some of them first`;
      throw new QueueError("OVERLOADED", text);
    }
    const body = copyOf(given);
    const bytes = body.length;
    // Headers of its own: those of a publish are those of its other queues, too, and what is written into them is not looked at.
    const headers = options.headers && { ...options.headers };
    const message: OutgoingMessage = { queue, body, ...options, headers };
    this.#shown += 1;
    this.#shownBytes += bytes;
    try {
      const changed = await this.#inTime(
        "beforeEnqueue",
        async () => await this.#hooks.beforeEnqueue?.(message),
      );
      if (changed === undefined) return { body, ...options };
      // `{ ...message, priority: 9 }` is what one writes.
      const { queue: named = queue, ...rest }: Partial<OutgoingMessage> = changed;
      if (named !== queue) throw new QueueError("INVALID_OPTIONS", "queue: a message cannot go elsewhere");
      return parseItem({ body, ...options, ...rest });
    } catch (error) {
      if (error instanceof QueueError) this.#fault("beforeEnqueue", "invalid", error);
      const why = textOf(error);
      throw new QueueError("REFUSED", `beforeEnqueue refused the message: ${why}`, { cause: error });
    } finally {
      this.#shown -= 1;
      this.#shownBytes -= bytes;
    }
  }

  afterAck(queue: QueueId, { id, epoch, attempt }: Omit<AckedMessage, "queue">): void {
    const name = this.#hooks.afterAck === undefined ? undefined : this.#nameOf(queue);
    if (name === undefined || isElection(name)) return;
    const message = { queue: name, id, epoch, attempt };
    this.#aside("afterAck", async () => await this.#hooks.afterAck?.(message));
  }

  onDead(queue: QueueId, message: Omit<DeadMessage, "queue">): void {
    const name = this.#hooks.onDead === undefined ? undefined : this.#nameOf(queue);
    if (name === undefined || isElection(name)) return;
    this.#aside("onDead", async () => await this.#hooks.onDead?.({ queue: name, ...message }));
  }

  #aside(name: HookName, run: () => Promise<unknown>): void {
    if (this.#running >= RUNNING_MAX) {
      this.#fault(name, "dropped", new Error(`${RUNNING_MAX} hooks run already`));
      return;
    }
    this.#running += 1;
    void this.#inTime(name, run)
      .catch(() => undefined) // It was counted and logged.
      .finally(() => (this.#running -= 1));
  }

  /** Rejects with what the hook threw, or because it takes too long. */
  async #inTime<T>(name: HookName, run: () => Promise<T>): Promise<T> {
    const beganMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    let fault: HookFault = "threw";
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        fault = "late";
        reject(new Error(`took more than ${HOOK_MS} ms`));
      }, HOOK_MS);
    });
    try {
      return await Promise.race([run(), late]);
    } catch (error) {
      this.#fault(name, fault, error);
      throw error;
    } finally {
      clearTimeout(timer);
      this.#count(name, beganMs);
    }
  }

  #of(name: HookName): HookCounts {
    let counts = this.#counts.get(name);
    if (counts === undefined) {
      counts = { calls: 0, tookMs: 0, faults: { threw: 0, late: 0, invalid: 0, dropped: 0 } };
      this.#counts.set(name, counts);
    }
    return counts;
  }

  #count(name: HookName, beganMs: number): number {
    const tookMs = performance.now() - beganMs;
    const counts = this.#of(name);
    counts.calls += 1;
    counts.tookMs += tookMs;
    return tookMs;
  }

  #fault(name: HookName, fault: HookFault, error: unknown): void {
    this.#of(name).faults[fault] += 1;
    const nowMs = performance.now();
    if (nowMs - (this.#loggedMs.get(name) ?? Number.NEGATIVE_INFINITY) < LOG_MS) return;
    this.#loggedMs.set(name, nowMs);
    this.#logger.warn("a queue hook is at fault", { hook: name, fault, err: error });
  }
}

/** Whether a hook that must return at once returned a promise: where that rejects and nobody looks, the process ends. */
function isRejectable(value: unknown): boolean {
  if (!types.isPromise(value)) return false;
  void Promise.prototype.then.call(value, undefined, () => undefined);
  return true;
}
