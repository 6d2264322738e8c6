import { deadViewOf } from "../core/dead-queue.ts";
import type { Definition, QueueId } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import { parseBrowse, parseChange, parseTimeout } from "../options.ts";
import type { Changed, ChangeOptions, DeadLetters, Queue } from "../types.ts";
import type { Controls } from "./controls.ts";
import type { Operations } from "./operate.ts";
import type { Sessions } from "./sessions.ts";
import { durabilityOf, orderOf } from "./told.ts";

/** How long `drain` waits by default, in milliseconds. */
const DRAIN_MS = 60_000;

/** What an open queue needs of the node. */
export interface HandlePort extends Pick<Queue, "enqueue" | "enqueueMany" | "consume"> {
  /** The queue that is meant: once it is deleted, whatever has its name. @throws QueueError `QUEUE_NOT_FOUND` */
  now(): Definition;
  /** The same, deleted or not. */
  last(): Definition;
  depth(): number;
  readonly controls: Controls;
  readonly operations: Operations;
  readonly sessions: Sessions;
}

/** One queue, as applications see it. */
export function makeHandle(definition: Definition, port: HandlePort): Queue {
  const { name, replicas } = definition;
  const { operations, sessions, controls } = port;
  const id = (): QueueId => port.now().queue;
  return {
    name,
    replicas,
    get leaseMs() {
      return port.last().leaseMs;
    },
    get maxDeliveries() {
      return port.last().maxDeliveries;
    },
    durability: durabilityOf(definition),
    get depth() {
      return port.depth();
    },
    enqueue: port.enqueue,
    enqueueMany: port.enqueueMany,
    consume: port.consume,
    take: async (options) => await sessions.take(sharedId(port), options),
    messages: (options) => sessions.messages(sharedId(port), options),
    get isPaused() {
      return controls.isPaused(port.last().queue);
    },
    pause: async () => await controls.pause(id()),
    resume: async () => await controls.resume(id()),
    alter: async (changes) => await controls.alter(port.now(), changes),
    drain: async (options) => await operations.drain(id(), name, parseTimeout(options, DRAIN_MS)),
    dead: makeDead(name, port),
    groups: async (options) =>
      await operations.groups(id(), orderOf(port.now()).shards, parseTimeout(options)),
    counts: async (options) => await operations.counts(id(), parseTimeout(options)),
    browse: async (options) => {
      return await operations.browse(id(), parseBrowse(options));
    },
    peek: async (options) => {
      return await operations.peek(id(), parseBrowse(options));
    },
    purge: async (options) => await change(operations, id(), "discard", "ready", options),
  };
}

function makeDead(name: string, port: HandlePort): DeadLetters {
  const { operations, sessions } = port;
  const id = (): QueueId => port.now().queue;
  const view = (): QueueId => deadViewOf(id());
  return {
    name: `${name}.dead`,
    list: async (options) => {
      return await operations.browse(id(), { ...parseBrowse(options), state: "dead" });
    },
    take: async (options) => await sessions.take(view(), options),
    consume: (handler, options) => sessions.consume(view(), handler, options),
    redrive: async (options) => await change(operations, id(), "redrive", "dead", options),
    purge: async (options) => await change(operations, id(), "discard", "dead", options),
  };
}

async function change(
  operations: Operations,
  queue: QueueId,
  act: "redrive" | "discard",
  scope: "ready" | "dead",
  options: ChangeOptions | undefined,
): Promise<Changed> {
  const { ids, limit, timeoutMs } = parseChange(options);
  if (ids === undefined) return await operations.change(queue, act, scope, limit, timeoutMs);
  return await operations.changeThese(queue, act, scope, ids, timeoutMs);
}

/** Of an exclusive queue one consumer at a time is handed messages, and that is told by `consume` alone. */
function sharedId(port: HandlePort): QueueId {
  const { queue, name, exclusive } = port.now();
  if (exclusive !== true) return queue;
  throw new QueueError("INVALID_OPTIONS", `${name} is exclusive: consume it`);
}
