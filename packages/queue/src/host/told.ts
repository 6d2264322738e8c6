import { messageId } from "../core/message-id.ts";
import type { EnqueueResult } from "../core/lane-register.ts";
import type { Definition } from "../core/types.ts";
import type { Durability, QueueDescription, QueuesStats } from "../types.ts";
import { QueueError } from "../errors.ts";
import type { QueueGauges } from "../core/queue-core.ts";
import type { Engine } from "./engine.ts";
import { BODY_BYTES_DEFAULT, checkBody, SHARDS } from "../options.ts";
import type { MessageOptions, QueueOptions } from "../options.ts";

/** What all nodes agree on of a queue, as its declarer wants it; what makes it ordered is chosen apart. */
export function agreedOf(name: string, options: QueueOptions): Omit<Definition, "queue" | "ordered"> {
  const { replicas, leaseMs, maxDeliveries, retry, exclusive } = options;
  const { maxLength, maxBytes, bodyBytesMax, deadTtlMs } = options;
  return {
    name,
    replicas,
    leaseMs,
    maxDeliveries,
    ...(retry === undefined ? {} : { retry }),
    ...(exclusive ? { exclusive } : {}),
    ...(maxLength === undefined ? {} : { maxLength }),
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(bodyBytesMax === undefined ? {} : { bodyBytesMax }),
    ...(deadTtlMs === undefined ? {} : { deadTtlMs }),
    ...(options.durability === "relaxed" ? { relaxed: true } : {}),
  };
}

/** How a queue differs from what somebody wants of it; `undefined` if it does not. */
function differenceOf(known: Definition, options: QueueOptions): string | undefined {
  for (const field of [
    "replicas",
    "leaseMs",
    "maxDeliveries",
    "retry",
    "exclusive",
    "maxLength",
    "maxBytes",
    "bodyBytesMax",
    "deadTtlMs",
  ] as const) {
    const here = JSON.stringify(field === "exclusive" ? known.exclusive === true : known[field]);
    const wanted = JSON.stringify(options[field]);
    if (here !== wanted) return `${field} ${here}, not ${wanted}`;
  }
  const durability = durabilityOf(known);
  if (durability !== options.durability) return `durability ${durability}, not ${options.durability}`;
  const here = orderOf(known);
  for (const field of ["groups", "dedupMs", "shards"] as const) {
    const wanted = field === "shards" ? shardsOf(options) : options[field];
    if (here[field] !== wanted) return `${field} ${here[field]}, not ${wanted}`;
  }
  return undefined;
}

/** How two queues of one name differ in their options; `undefined` if in nothing but where they were placed, or how often deleted. */
export function differenceBetween(kept: Definition, other: Definition): string | undefined {
  const [here, there] = [describeQueue(kept, false), describeQueue(other, false)];
  for (const field of Object.keys(here) as (keyof QueueDescription)[]) {
    const [one, two] = [JSON.stringify(here[field]), JSON.stringify(there[field])];
    if (one !== two) return `${field} ${one}, not ${two}`;
  }
  return undefined;
}

/** Whether a queue is what somebody wants of it: as it is now, or as it was declared. */
export function isSame(declared: Definition, now: Definition, options: QueueOptions): boolean {
  return differenceOf(now, options) === undefined || differenceOf(declared, options) === undefined;
}

/** Throws `QUEUE_CONFLICT` if it is not. */
export function assertSame(declared: Definition, now: Definition, options: QueueOptions): void {
  if (isSame(declared, now, options)) return;
  throw new QueueError("QUEUE_CONFLICT", `queue ${now.name} exists with ${differenceOf(now, options)}`);
}

/** The options of a queue that make it ordered, as its declarer gave them. */
export function orderOf({ ordered }: Definition): {
  groups: boolean;
  dedupMs: number | undefined;
  shards: number;
} {
  const dedupMs = ordered === undefined || ordered.dedupMs === 0 ? undefined : ordered.dedupMs;
  return { groups: ordered?.groups ?? false, dedupMs, shards: ordered?.shards ?? 0 };
}

export function describeQueue(definition: Definition, isPaused: boolean): QueueDescription {
  const { name, replicas, leaseMs, maxDeliveries, exclusive, maxLength, maxBytes, deadTtlMs } = definition;
  const retry = definition.retry && { ...definition.retry };
  const plain = { name, replicas, leaseMs, maxDeliveries, retry, exclusive: exclusive === true };
  const bodyBytesMax = definition.bodyBytesMax ?? BODY_BYTES_DEFAULT;
  const durability = durabilityOf(definition);
  const limits = { maxLength, maxBytes, bodyBytesMax, deadTtlMs };
  return { ...plain, ...orderOf(definition), ...limits, durability, isPaused };
}

export function durabilityOf({ relaxed }: Definition): Durability {
  return relaxed === true ? "relaxed" : "fsync";
}

/** Parts of the queue; 0 if it is not ordered. */
export function shardsOf({ groups, dedupMs, shards }: QueueOptions): number {
  return groups || dedupMs !== undefined ? (shards ?? SHARDS) : 0;
}

/** Throws `MESSAGE_TOO_LARGE` or `INVALID_OPTIONS` for what this queue does not take. */
export function checkFit(
  definition: Definition,
  body: Uint8Array,
  { group, dedupKey }: Pick<MessageOptions, "group" | "dedupKey">,
): void {
  checkBody(body, definition.bodyBytesMax ?? BODY_BYTES_DEFAULT);
  checkOrder(definition, group, dedupKey);
}

/** Throws `INVALID_OPTIONS` for what this queue knows nothing of. */
function checkOrder(definition: Definition, group: string | undefined, dedupKey: string | undefined): void {
  const { groups, dedupMs } = orderOf(definition);
  const { name } = definition;
  if (group !== undefined && !groups) {
    throw new QueueError("INVALID_OPTIONS", `options.group: queue ${name} is declared without groups`);
  }
  if (dedupKey !== undefined && dedupMs === undefined) {
    throw new QueueError("INVALID_OPTIONS", `options.dedupKey: queue ${name} is declared without dedupMs`);
  }
}

/** What is published goes to queues of all kinds: each gets what it knows of. */
export function fitTo(definition: Definition, message: MessageOptions, key: string): MessageOptions {
  const { groups, dedupMs } = orderOf(definition);
  const group = groups ? message.group : undefined;
  return { ...message, group, dedupKey: dedupMs === undefined ? undefined : (message.dedupKey ?? key) };
}

export function statsOf(
  engine: Engine | undefined,
  counts: Omit<QueuesStats, keyof QueueGauges | "storeId" | "batches">,
): QueuesStats {
  const none: QueueGauges = {
    lanesWritten: 0,
    lanesWeak: 0,
    lanesMoving: 0,
    lanesKept: 0,
    held: 0,
    alive: 0,
    waitingEnqueues: 0,
    peers: 0,
  };
  const { storeId = "", batchNo = 0 } = engine?.store ?? {};
  return { storeId, ...counts, batches: batchNo, ...(engine?.core.gauges() ?? none) };
}

/** What an enqueue that failed tells its caller. */
export function enqueueError(result: Exclude<EnqueueResult, { code: "OK" }>): QueueError {
  switch (result.code) {
    case "QUORUM_UNAVAILABLE": {
      const { have, need } = result;
      const isLate = have >= need;
      const found = `${have} replicas can be reached, ${need} are needed`;
      const text = isLate
        ? `its turn did not come in time: ${found}, others of its group or lane were first`
        : found;
      return new QueueError("QUORUM_UNAVAILABLE", text);
    }
    case "INDETERMINATE": {
      const id = idIn(result);
      const text = `no quorum answered in time; ${whoTells(id)}`;
      return new QueueError("INDETERMINATE", text, { outcome: "unknown", id });
    }
    case "QUEUE_DELETED":
      return new QueueError("QUEUE_DELETED", "the queue was deleted meanwhile");
    case "QUEUE_FULL":
      return new QueueError("QUEUE_FULL", `the queue is at its ${result.limit}`);
    case "OVERLOADED": {
      const { waiting, waitingBytes } = result;
      const text = `${waiting} enqueues of ${waitingBytes} bytes wait for a quorum already: await some of them first`;
      return new QueueError("OVERLOADED", text);
    }
  }
}

function idIn({ lane, seq }: Extract<EnqueueResult, { code: "INDETERMINATE" }>): string | undefined {
  return lane === undefined ? undefined : messageId(lane, seq);
}

function whoTells(id: string | undefined): string {
  return id === undefined
    ? "the same dedupKey again finds it, if there is one"
    : `resolve("${id}") tells what became of the message`;
}

/** What an enqueue is told that was under way when the queues of its node ended, by what is known of it. */
export function endedError(
  result: EnqueueResult | undefined,
  code: "FAILED" | "STOPPED",
  text: string,
  cause: unknown,
): QueueError {
  if (result?.code !== "INDETERMINATE") {
    return new QueueError(code, `${text}; nothing was enqueued`, { cause });
  }
  const id = idIn(result);
  return new QueueError(
    code,
    `${text}; ${whoTells(id)}, on another node or here once they are opened again`,
    {
      outcome: "unknown",
      id,
      cause,
    },
  );
}
