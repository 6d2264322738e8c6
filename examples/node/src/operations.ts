/** What a node does for those who ask at its socket. */
import { once } from "node:events";
import { renderMetrics } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";
import { BODY_BYTES_LIMIT } from "@klatsch/queue";
import type { Message, Queue, QueueInit, Queues } from "@klatsch/queue";
import type { Rpc } from "@klatsch/rpc";
import { NodeError } from "./errors.ts";
import type { Fields } from "./fields.ts";
import { FAREWELLS, MEMBER_CHANGES, VERDICTS, WAIT_MS_MAX } from "./protocol.ts";
import type { Farewell, MemberChange, Operation, TendingOperation } from "./protocol.ts";
import type { Operations } from "./operation-types.ts";
import { rpcOperations } from "./rpc-operations.ts";
import { stateOperations } from "./state-operations.ts";
import { statuses, statusOf, tendingOperations } from "./tending-operations.ts";

/** Messages that one connection may hold. */
const HOLDS_MAX = 64;

export interface OperationsInit {
  readonly mesh: Mesh;
  readonly queues: Queues;
  readonly rpc: Rpc;
  /** Resolves once the node has left the mesh; the socket is still open then. */
  readonly stop: (how: Farewell) => Promise<void>;
}

/** Tells each change of the membership until the returned function is called. */
export function watchMembers(mesh: Mesh, tell: (change: MemberChange) => void): () => void {
  const ends = MEMBER_CHANGES.map((change) =>
    mesh.on(`member:${change}`, (member) => tell({ change, member })),
  );
  return () => {
    for (const end of ends) end();
  };
}

export function createOperations({ mesh, queues, rpc, stop }: OperationsInit): Operations {
  return {
    status: async (args) => {
      args.only();
      const { name, peerId, boot } = mesh;
      return { name, peerId, boot, pid: process.pid, addresses: mesh.addresses() };
    },
    members: async (args) => {
      args.only();
      return mesh.members();
    },
    "members.watch": async (args, { signal }, emit) => {
      args.only();
      const end = watchMembers(mesh, emit);
      if (!signal.aborted) await once(signal, "abort");
      end();
      return {};
    },
    tags: async (args) => {
      args.only("set", "delete");
      const [set, gone] = [args.textByName("set"), args.texts("delete")];
      const tagsNow = (): Readonly<Record<string, string>> => mesh.member(mesh.peerId)?.tags ?? {};
      if (set === undefined && gone === undefined) return tagsNow();
      const kept = Object.entries(tagsNow()).filter(([key]) => gone?.includes(key) !== true);
      await mesh.setTags({ ...Object.fromEntries(kept), ...set });
      return tagsNow();
    },
    trace: async (args) => {
      const peer = mesh.resolve(args.only("member").requiredText("member"));
      const traces = peer === mesh.peerId ? [] : await mesh.trace(peer); // There is no way to oneself.
      return traces.map(({ class: name, hops, code }) => ({
        class: name,
        hops: hops.map((hop) => ({ name: mesh.member(hop.peerId)?.name ?? "?", ...hop })),
        code,
      }));
    },
    ...queueOperations(queues),
    ...tendingOperations(queues),
    ...stateOperations(mesh),
    ...rpcOperations(mesh, rpc),
    "admission.publish": async (args) => {
      await mesh.admission.publish(args.only("text").requiredText("text"));
      return {};
    },
    stats: async (args) => {
      args.only();
      const uptimeMs = Math.round(process.uptime() * 1_000);
      return {
        mesh: mesh.stats(),
        queues: queues.stats(),
        rpc: rpc.stats(),
        process: { pid: process.pid, uptimeMs, rssBytes: process.memoryUsage.rss() },
      };
    },
    metrics: async (args) => {
      args.only();
      const sources = [mesh, queues, rpc];
      return { text: renderMetrics(sources.flatMap((source) => source.metricFamilies())) };
    },
    stop: async (args) => {
      await stop(args.only("how").oneOf("how", FAREWELLS));
      return {};
    },
  };
}

type QueueOperation = Exclude<Extract<Operation, `queue.${string}`>, TendingOperation>;
const QUEUE_FIELDS = [
  "queue",
  "replicas",
  "leaseMs",
  "maxDeliveries",
  "groups",
  "dedupMs",
  "shards",
  "maxLength",
  "maxBytes",
  "bodyBytesMax",
  "deadTtlMs",
  "relaxed",
] as const;

const MESSAGE_FIELDS = ["group", "dedupKey", "priority", "delayMs", "ttlMs", "headers"] as const;
/** Longest delay and time to live, in milliseconds. */
const YEAR_MS: number = 366 * 24 * 3_600_000;

function queueOperations(queues: Queues): Pick<Operations, QueueOperation> {
  let lastHold = 0;

  /** A queue with the options given; without any, as it is known, or with the defaults. */
  const open = async (args: Fields): Promise<Queue> => {
    const name = args.requiredText("queue");
    const init: QueueInit = {
      replicas: args.wholeNumber("replicas", 1, 15),
      leaseMs: args.wholeNumber("leaseMs", 1_000, WAIT_MS_MAX),
      maxDeliveries: args.wholeNumber("maxDeliveries", 1, 1_000_000),
      bodyBytesMax: args.wholeNumber("bodyBytesMax", 1, BODY_BYTES_LIMIT),
      deadTtlMs: args.wholeNumber("deadTtlMs", 1_000, YEAR_MS),
      maxLength: args.wholeNumber("maxLength", 1, Number.MAX_SAFE_INTEGER),
      maxBytes: args.wholeNumber("maxBytes", 1, Number.MAX_SAFE_INTEGER),
      groups: args.flag("groups") ? true : undefined,
      dedupMs: args.wholeNumber("dedupMs", 1_000, WAIT_MS_MAX),
      shards: args.wholeNumber("shards", 1, 64),
      durability: args.flag("relaxed") ? "relaxed" : undefined,
    };
    const isPlain = Object.values(init).every((value) => value === undefined);
    if (isPlain && queues.list().some((known) => known.name === name)) return queues.open(name);
    return await queues.declare(name, init);
  };

  return {
    "queue.declare": async (args) => statusOf(queues, (await open(args.only(...QUEUE_FIELDS))).name),
    "queue.put": async (args) => {
      args.only(...QUEUE_FIELDS, "body", ...MESSAGE_FIELDS, "timeoutMs");
      // First: what is refused should make no queue known.
      const body = bytesOf(args.text("body"));
      const options = {
        timeoutMs: args.wholeNumber("timeoutMs", 1, WAIT_MS_MAX),
        group: args.text("group"),
        dedupKey: args.text("dedupKey"),
        priority: args.wholeNumber("priority", 0, 9),
        delayMs: args.wholeNumber("delayMs", 0, YEAR_MS),
        ttlMs: args.wholeNumber("ttlMs", 1, YEAR_MS),
        headers: args.textByName("headers"),
      };
      return await (await open(args)).enqueue(body, options);
    },
    "queue.take": async (args, caller) => {
      args.only(...QUEUE_FIELDS, "timeoutMs");
      const timeoutMs = args.wholeNumber("timeoutMs", 1, WAIT_MS_MAX);
      if (caller.holds.size >= HOLDS_MAX) {
        throw new NodeError("LIMIT_REACHED", `a connection holds ${HOLDS_MAX} messages at most`);
      }
      const message = await take(await open(args), caller.signal, timeoutMs);
      lastHold += 1;
      caller.holds.set(lastHold, message);
      const { id, epoch, attempt, body } = message;
      return { hold: lastHold, id, epoch, attempt, body: Buffer.from(body).toString("base64") };
    },
    "queue.settle": async (args, { holds }) => {
      args.only("hold", "verdict");
      const hold = args.wholeNumber("hold", 1, Number.MAX_SAFE_INTEGER) ?? 0;
      const verdict = args.oneOf("verdict", VERDICTS);
      const message = holds.get(hold);
      if (message === undefined) throw new NodeError("BAD_REQUEST", `hold: ${hold} is not held here`);
      holds.delete(hold);
      await message[verdict]();
      return {};
    },
    "queue.list": async (args) => {
      args.only();
      return statuses(queues);
    },
    "queue.resolve": async (args) => {
      args.only("id", "timeoutMs");
      const timeoutMs = args.wholeNumber("timeoutMs", 1, WAIT_MS_MAX);
      return { resolution: await queues.resolve(args.requiredText("id"), { timeoutMs }) };
    },
  };
}

async function take(queue: Queue, gone: AbortSignal, timeoutMs: number | undefined): Promise<Message> {
  const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signal = late === undefined ? gone : AbortSignal.any([gone, late]);
  const message = await queue.take({ signal }).catch((error: unknown) => {
    if (gone.aborted) throw new NodeError("CANCELLED", "nobody waits for the message any more");
    if (late?.aborted === true) throw new NodeError("TIMED_OUT", `no message within ${timeoutMs} ms`);
    throw error;
  });
  if (!gone.aborted) return message;
  await message.release(); // It came in the moment its taker went.
  throw new NodeError("CANCELLED", "nobody waits for the message any more");
}

/** @throws NodeError `BAD_REQUEST`: `Buffer.from` alone would skip what is no base64. */
function bytesOf(text: string | undefined): Uint8Array {
  if (text === undefined) throw new NodeError("BAD_REQUEST", "body: is required");
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw new NodeError("BAD_REQUEST", "body: must be base64");
  return bytes;
}
