import { hash } from "node:crypto";

import { systemClock } from "@klatsch/kit";
import { rendezvousOrder } from "@klatsch/kit/core";
import type { Mesh, SharedChange } from "@klatsch/mesh";
import { Cron } from "croner";
import { z } from "zod";

import type { Definition } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import { nameSchema, parseEnqueue, refuse, SCHEDULE_BYTES_MAX } from "../options.ts";
import type { EnqueueOptions, MessageHeaders, ScheduleInfo, ScheduleInit } from "../types.ts";
import { makeContent } from "./content.ts";
import { checkFit, orderOf } from "./told.ts";

const SCHEDULE = "queue/schedule/";
/** Schedules one node follows at most. */
const SCHEDULES_MAX = 10_000;
/** A due time that nobody could enqueue for within this long is missed, in milliseconds. */
const LATE_MS = 60_000;
/** Keys of the queue have to count this long: due times are enqueued late, by clocks that differ by up to a minute. */
const SCHEDULE_DEDUP_MS: number = 3 * LATE_MS;
/** Nodes that see to one due time, each so long after the one before. */
const NODES_MAX = 8;
const RANK_MS = 1_000;
const RETRY_MS = 2_000;
/** A clock that is set is noticed within this long. */
const LOOK_MS = 10_000;

/** A schedule as all members share it. */
interface Entry {
  readonly queue: string;
  readonly cron: string | null;
  readonly everyMs: number | null;
  readonly timezone: string;
  readonly body: string;
  readonly options: Pick<EnqueueOptions, "headers" | "priority" | "ttlMs" | "group">;
}

const entrySchema: z.ZodType<Entry> = z.object({
  queue: nameSchema,
  cron: z.string().max(256).nullable(),
  everyMs: z.int().min(1_000).nullable(),
  timezone: z.string().max(64),
  body: z.string().max(2 * SCHEDULE_BYTES_MAX),
  options: z.object({
    headers: z.record(z.string(), z.string()).optional(),
    priority: z.int().optional(),
    ttlMs: z.number().optional(),
    group: z.string().optional(),
  }),
});

/** What schedules need of the node. */
export interface SchedulePort {
  readonly self: string;
  /** Peers that may enqueue as well, this one among them. */
  peers(): readonly string[];
  enqueue(queue: string, body: Uint8Array, options: EnqueueOptions): Promise<unknown>;
  onMissed(name: string, dueWallMs: number, error: unknown): void;
}

interface Running {
  readonly entry: Entry;
  readonly due: (afterWallMs: number) => number | undefined;
  readonly writtenWallMs: number;
  /** Since when, by the wall clock, it was looked at without a gap: a clock that was ahead left one before it. */
  fromMs: number;
  /** By the wall clock; `undefined`: never again. */
  nextMs: number | undefined;
}

/**
 * Schedules that all members share. For each due time the first few nodes, in an order that is another one each
 * time, enqueue one after the other under the same key: the queue takes the first of them, whichever that is.
 */
export class Schedules {
  readonly #shared: Mesh["state"]["shared"];
  readonly #port: SchedulePort;
  readonly #running = new Map<string, Running>();
  /** Due times being enqueued. */
  readonly #waiting = new Set<NodeJS.Timeout>();
  readonly #unwatch: () => void;
  #timer: NodeJS.Timeout | undefined;
  /** New ones on their way to disk. */
  #setting = 0;
  #stopped = false;

  constructor(mesh: Mesh, port: SchedulePort) {
    this.#shared = mesh.state.shared;
    this.#port = port;
    for (const entry of this.#shared.entries({ prefix: SCHEDULE })) this.#follow(entry);
    this.#unwatch = this.#shared.watch({ prefix: SCHEDULE }, (change) => this.#follow(change));
  }

  stop(): void {
    this.#stopped = true;
    this.#unwatch();
    clearTimeout(this.#timer);
    for (const timer of this.#waiting) clearTimeout(timer);
  }

  async set(
    name: string,
    { queue, cron, everyMs, timezone = "UTC", body, ...options }: ScheduleInit,
  ): Promise<void> {
    const entry = { queue, cron: cron ?? null, everyMs: everyMs ?? null, timezone, options };
    // At once: the application may write over its own body then.
    const written = { ...entry, body: Buffer.concat([body]).toString("base64"), options: given(options) };
    const due = dueTimes(entry); // An expression that cannot be is refused here.
    if (due(systemClock.now().wallMs) === undefined) refuse("options.cron", "is never due");
    const added = this.#running.has(name) ? 0 : 1;
    if (added > 0 && this.#running.size + this.#setting >= SCHEDULES_MAX) {
      throw new QueueError("LIMIT_REACHED", `there are ${SCHEDULES_MAX} schedules already`);
    }
    this.#setting += added;
    try {
      await this.#shared.set(SCHEDULE + name, written);
    } finally {
      this.#setting -= added;
    }
  }

  async delete(name: string): Promise<boolean> {
    return await this.#shared.delete(SCHEDULE + name);
  }

  list(): readonly ScheduleInfo[] {
    const { wallMs } = systemClock.now();
    return [...this.#running]
      .map(([name, { entry, due, nextMs: foundMs }]) => {
        // What was seen to once is not due again, although the clock was set back. And asking croner takes its time.
        const isNext = foundMs === undefined || foundMs > wallMs;
        const nextMs = isNext ? foundMs : due(wallMs);
        const { queue, cron, everyMs, timezone } = entry;
        const nextAt = nextMs === undefined ? undefined : new Date(nextMs);
        return { name, queue, cron: cron ?? undefined, everyMs: everyMs ?? undefined, timezone, nextAt };
      })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  #follow({ key, value, writtenWallMs }: SharedChange): void {
    const name = key.slice(SCHEDULE.length);
    this.#running.delete(name);
    const running = this.#running.size < SCHEDULES_MAX ? runningOf(value, writtenWallMs) : undefined;
    if (running === undefined) return;
    this.#running.set(name, running);
    // Once for all that are read at the start: each look is at all of them.
    this.#lookIn(1);
  }

  #lookIn(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), delayMs);
  }

  #look(): void {
    if (this.#stopped) return;
    const { wallMs } = systemClock.now();
    let wakeMs = wallMs + LOOK_MS;
    for (const [name, running] of this.#running) {
      // Set back to before it was looked at first: none of what is due now was seen to.
      if (wallMs < running.fromMs) begin(running, wallMs);
      while (running.nextMs !== undefined && running.nextMs <= wallMs) {
        if (wallMs - running.nextMs < LATE_MS) {
          this.#see(name, running.entry, running.nextMs);
          running.nextMs = running.due(running.nextMs);
        } else begin(running, wallMs);
      }
      wakeMs = Math.min(wakeMs, running.nextMs ?? wakeMs);
    }
    this.#lookIn(Math.max(1, wakeMs - wallMs));
  }

  /** Sees to one due time when this node's turn comes. */
  #see(name: string, entry: Entry, dueMs: number): void {
    const order = rendezvousOrder(`${name}\0${dueMs}`, this.#port.peers());
    const rank = order.indexOf(this.#port.self);
    if (rank < 0 || rank >= NODES_MAX) return;
    this.#at(dueMs + rank * RANK_MS, () => void this.#enqueue(name, entry, dueMs));
  }

  #at(wallMs: number, run: () => void): void {
    const timer = setTimeout(
      () => {
        this.#waiting.delete(timer);
        run();
      },
      Math.max(0, wallMs - systemClock.now().wallMs),
    );
    this.#waiting.add(timer);
  }

  async #enqueue(name: string, entry: Entry, dueMs: number): Promise<void> {
    const { queue, body, options } = entry;
    const headers = scheduledHeaders(name, dueMs, options.headers);
    const dedupKey = `~${hash("sha256", `${name}\0${dueMs}`, "hex")}`;
    try {
      await this.#port.enqueue(queue, Buffer.from(body, "base64"), { ...options, headers, dedupKey });
    } catch (error) {
      if (this.#stopped) return;
      const { wallMs } = systemClock.now();
      if (wallMs + RETRY_MS - dueMs >= LATE_MS) return this.#port.onMissed(name, dueMs, error);
      this.#at(wallMs + RETRY_MS, () => void this.#enqueue(name, entry, dueMs));
    }
  }
}

/** `undefined`: what another member wrote and is not as it must be counts as absent. */
function runningOf(value: SharedChange["value"], writtenWallMs: number): Running | undefined {
  const parsed = entrySchema.safeParse(value);
  if (!parsed.success) return undefined;
  const entry = parsed.data;
  try {
    const running = { entry, due: dueTimes(entry), writtenWallMs, fromMs: 0, nextMs: undefined };
    begin(running, systemClock.now().wallMs);
    return running;
  } catch {
    return undefined;
  }
}

/** What was due since it was made, while nobody was there, is enqueued late, or missed. The clock it was made by may be ahead. */
function begin(running: Running, wallMs: number): void {
  running.fromMs = Math.max(wallMs - LATE_MS, Math.min(wallMs, running.writtenWallMs));
  running.nextMs = running.due(running.fromMs);
}

/** Those of what is enqueued for one due time. */
function scheduledHeaders(name: string, dueMs: number, headers: MessageHeaders = {}): MessageHeaders {
  return { ...headers, schedule: name, due: new Date(dueMs).toISOString() };
}

/** Throws `INVALID_OPTIONS` or `MESSAGE_TOO_LARGE` for what could never be enqueued there. */
export function checkScheduled(definition: Definition, name: string, init: ScheduleInit): void {
  const { body, priority, ttlMs, group } = init;
  // The queue has to tell the enqueues of one due time from those of another.
  if ((orderOf(definition).dedupMs ?? 0) < SCHEDULE_DEDUP_MS) {
    const text = `options.queue: ${definition.name} needs a dedupMs of ${SCHEDULE_DEDUP_MS} or more`;
    throw new QueueError("INVALID_OPTIONS", text);
  }
  const { wallMs } = systemClock.now();
  const message = parseEnqueue({
    headers: scheduledHeaders(name, wallMs, init.headers),
    priority,
    ttlMs,
    group,
  });
  checkFit(definition, body, message);
  makeContent(body, message, wallMs);
}

/** Without what was left out: shared values hold no `undefined`. */
function given(options: Entry["options"]): Record<string, never> {
  return JSON.parse(JSON.stringify(options)) as Record<string, never>;
}

/** The due time that comes after an instant. Throws `INVALID_OPTIONS` for an expression that nobody can read. */
function dueTimes({ cron, everyMs, timezone }: Pick<Entry, "cron" | "everyMs" | "timezone">): Running["due"] {
  if (everyMs !== null) return (afterMs) => (Math.floor(afterMs / everyMs) + 1) * everyMs;
  try {
    const job = new Cron(cron ?? "", { timezone, paused: true });
    job.nextRun(new Date());
    return (afterMs) => job.nextRun(new Date(afterMs))?.getTime();
  } catch (error) {
    const text = `options.cron: ${error instanceof Error ? error.message : "cannot be read"}`;
    throw new QueueError("INVALID_OPTIONS", text, { cause: error });
  }
}
