/** What is said on the socket of a node: JSON, one object a line, each answer with the id of its request. */
import type { Member, MeshStats } from "@klatsch/mesh";
import type {
  Browsed,
  Changed,
  ConsumerInfo,
  Enqueued,
  Groups,
  Inspection,
  PeekedMessage,
  QueueChanges,
  QueueCounts,
  QueueDescription,
  QueuesStats,
  Resolution,
} from "@klatsch/queue";
import type { CastResult, GatherResult, RpcStats } from "@klatsch/rpc";
import { NodeError } from "./errors.ts";
import { Fields } from "./fields.ts";

/** Longest line of either side, in bytes: the longest message body as base64, and room for its envelope. */
export const LINE_BYTES_MAX: number = 12 * 1_024 * 1_024;
/** Longest wait that can be asked for, in milliseconds. */
export const WAIT_MS_MAX = 2_147_483_647;

/** An operation without arguments that is answered at once, even before the node is up. */
export const PING = "ping";

/** Options of a queue; those left out have the package's defaults. */
export interface QueueArgs {
  readonly queue: string;
  readonly replicas?: number | undefined;
  readonly leaseMs?: number | undefined;
  readonly maxDeliveries?: number | undefined;
  readonly maxLength?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly groups?: boolean | undefined;
  readonly dedupMs?: number | undefined;
  readonly shards?: number | undefined;
  readonly bodyBytesMax?: number | undefined;
  readonly deadTtlMs?: number | undefined;
  readonly relaxed?: boolean | undefined;
}

interface NodeStatus {
  readonly name: string;
  readonly peerId: string;
  readonly boot: number;
  readonly pid: number;
  readonly addresses: readonly string[];
}

export interface QueueStatus extends QueueDescription {
  readonly depth: number;
}

interface Taken {
  /** What `queue.settle` calls it; it is released when the connection ends. */
  readonly hold: number;
  readonly id: string;
  readonly epoch: number;
  readonly attempt: number;
  /** In base64. */
  readonly body: string;
}

interface NodeStats {
  readonly mesh: MeshStats;
  readonly queues: QueuesStats;
  readonly rpc: RpcStats;
  readonly process: { readonly pid: number; readonly uptimeMs: number; readonly rssBytes: number };
}

export const MEMBER_CHANGES = [
  "joined",
  "updated",
  "suspected",
  "refuted",
  "died",
  "stopped",
  "left",
  "forgotten",
] as const;

export interface MemberChange {
  readonly change: (typeof MEMBER_CHANGES)[number];
  readonly member: Member;
}

/** Whether entries that all members share are meant, not those of single members. */
interface SharedArgs {
  readonly shared?: boolean | undefined;
}

/** An entry of gossip state as JSON has it: bytes are `{ base64 }`. */
export interface StateEntry {
  readonly key: string;
  /** Whose it is, or who wrote it if it is shared. */
  readonly peerId: string;
  readonly value: unknown;
}

/** Without `value` where the key is gone. */
export interface StateChange {
  readonly key: string;
  readonly peerId: string;
  readonly value?: unknown;
}

/** The way that a class of traffic takes to a member: names, and round trips up to each hop. */
export interface Trace {
  readonly class: string;
  readonly hops: readonly {
    readonly name: string;
    readonly peerId: string;
    readonly roundTripMs?: number | undefined;
  }[];
  /** Why the member was not reached. */
  readonly code?: string | undefined;
}

type None = Readonly<Record<string, never>>;

/** All operations, with what they are given and what they answer. */
export interface Contract {
  status: { args: None; result: NodeStatus };
  members: { args: None; result: readonly Member[] };
  /** Each change is an event; answered only when it ends. */
  "members.watch": { args: None; result: None };
  /** With `set` or `delete` its tags change first, until it stops. */
  tags: {
    args: {
      readonly set?: Readonly<Record<string, string>> | undefined;
      readonly delete?: readonly string[] | undefined;
    };
    result: Readonly<Record<string, string>>;
  };
  trace: { args: { readonly member: string }; result: readonly Trace[] };
  "queue.declare": { args: QueueArgs; result: QueueStatus };
  "queue.put": {
    args: QueueArgs & {
      readonly body: string;
      readonly group?: string | undefined;
      readonly dedupKey?: string | undefined;
      readonly priority?: number | undefined;
      readonly delayMs?: number | undefined;
      readonly ttlMs?: number | undefined;
      readonly headers?: Readonly<Record<string, string>> | undefined;
      readonly timeoutMs?: number | undefined;
    };
    result: Enqueued;
  };
  "queue.take": { args: QueueArgs & { readonly timeoutMs?: number | undefined }; result: Taken };
  "queue.settle": { args: { readonly hold: number; readonly verdict: Verdict }; result: None };
  "queue.list": { args: None; result: readonly QueueStatus[] };
  "queue.resolve": {
    args: { readonly id: string; readonly timeoutMs?: number | undefined };
    result: { readonly resolution: Resolution };
  };
  "queue.browse": { args: BrowseArgs; result: Browsed };
  /** Bodies in base64. */
  "queue.peek": { args: BrowseArgs; result: readonly Peeked[] };
  "queue.counts": { args: { readonly queue: string }; result: QueueCounts };
  "queue.groups": { args: { readonly queue: string }; result: Groups };
  "queue.consumers": { args: { readonly queue: string }; result: readonly ConsumerInfo[] };
  "queue.inspect": { args: { readonly id: string }; result: Inspection };
  "queue.redrive": { args: ChangeArgs; result: Changed };
  /** Of those that wait, or of the dead. */
  "queue.purge": { args: ChangeArgs & { readonly dead?: boolean | undefined }; result: Changed };
  /** Changes as of `queue.alter`. */
  "queue.alter": {
    args: { readonly queue: string; readonly changes: QueueChanges };
    result: QueueStatus;
  };
  /** With all that is in it. */
  "queue.delete": { args: { readonly queue: string }; result: Changed };
  "queue.pause": { args: { readonly queue: string; readonly paused: boolean }; result: None };
  /** Answered once no message is left that is not dead. */
  "queue.drain": {
    args: { readonly queue: string; readonly timeoutMs?: number | undefined };
    result: None;
  };
  "state.set": {
    args: { readonly key: string; readonly value: unknown } & SharedArgs;
    result: None;
  };
  /** Of this node, unless a member is named. */
  "state.get": {
    args: { readonly key: string; readonly member?: string | undefined } & SharedArgs;
    result: { readonly value: unknown };
  };
  "state.delete": {
    args: { readonly key: string } & SharedArgs;
    result: { readonly existed: boolean };
  };
  "state.list": {
    args: { readonly prefix?: string | undefined; readonly member?: string | undefined } & SharedArgs;
    result: readonly StateEntry[];
  };
  /** Each change is an event; answered only when it ends. */
  "state.watch": { args: { readonly prefix?: string | undefined } & SharedArgs; result: None };
  "rpc.call": {
    args: { readonly member: string; readonly deadlineMs?: number | undefined } & AskArgs;
    result: { readonly value?: unknown };
  };
  "rpc.cast": { args: { readonly target: string } & AskArgs; result: CastResult };
  "rpc.gather": {
    args: {
      readonly target: string;
      readonly reduce?: (typeof REDUCERS)[number] | undefined;
      /** Path of the field that counts. */
      readonly of?: string | undefined;
      readonly deadlineMs?: number | undefined;
    } & AskArgs;
    result: GatherResult;
  };
  /** Of this node, unless a member is named. */
  "rpc.methods": { args: { readonly member?: string | undefined }; result: readonly string[] };
  /** The text of a revocation or rotation, for all members. */
  "admission.publish": { args: { readonly text: string }; result: None };
  stats: { args: None; result: NodeStats };
  /** In the text format of Prometheus. */
  metrics: { args: None; result: { readonly text: string } };
  /** Answered once the node has left the mesh. */
  stop: { args: { readonly how: Farewell }; result: None };
}

export type Operation = keyof Contract;

/** What is asked: a method, by its name on the wire, and its input as JSON. */
interface AskArgs {
  readonly method: string;
  readonly input?: unknown;
}

/** How answers are folded; see `Reduce`. */
export const REDUCERS = ["count", "sum", "min", "max", "avg", "set", "concat"] as const;

/** Those of people who look after queues. */
export type TendingOperation =
  | `queue.${"browse" | "peek" | "counts" | "groups" | "consumers" | "inspect" | "redrive" | "purge"}`
  | "queue.alter"
  | "queue.delete"
  | "queue.pause"
  | "queue.drain";

/** Which messages are meant; `alive` ones wait or are held. */
export const STATES = ["any", "alive", "ready", "dead"] as const;

interface BrowseArgs {
  readonly queue: string;
  readonly state?: (typeof STATES)[number] | undefined;
  readonly limit?: number | undefined;
  /** `next` of the page before. */
  readonly after?: string | undefined;
  readonly timeoutMs?: number | undefined;
}

interface ChangeArgs {
  readonly queue: string;
  /** All, if left out. */
  readonly ids?: readonly string[] | undefined;
}

type Peeked = Omit<PeekedMessage, "body"> & { readonly body: string };

export const VERDICTS = ["ack", "release"] as const;
type Verdict = (typeof VERDICTS)[number];

/** `stop`: it may come back. `leave`: it is gone for good. */
export const FAREWELLS = ["stop", "leave"] as const;
export type Farewell = (typeof FAREWELLS)[number];

export interface Request {
  readonly id: number;
  readonly op: string;
  readonly args: Fields;
}

/** One line from a node. `id` is `null` where the request had none that could be read. */
export interface Answer {
  readonly id: number | null;
  readonly ok?: unknown;
  /** More follow, until `ok` or `error`. */
  readonly event?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
}

/** @throws NodeError `BAD_REQUEST` saying what is wrong. */
export function parseRequest(line: string): Request {
  const fields = new Fields(parseJson(line), "request: ", "BAD_REQUEST").only("id", "op", "args");
  const id = fields.wholeNumber("id", 0, Number.MAX_SAFE_INTEGER);
  if (id === undefined) throw new NodeError("BAD_REQUEST", "request: id: is required");
  const op = fields.requiredText("op");
  return { id, op, args: new Fields((JSON.parse(line) as { args?: unknown }).args ?? {}, "", "BAD_REQUEST") };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    throw new NodeError("BAD_REQUEST", "request: is not JSON");
  }
}

/** Cuts a stream of bytes into lines, and keeps no more than the longest allowed. */
export class LineReader {
  readonly #chunks: Buffer[] = [];
  #waiting = 0;

  /** The lines that are complete now. @throws NodeError `LIMIT_REACHED`; the reader is of no use afterwards. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      this.#keep(chunk.subarray(from, end));
      lines.push(Buffer.concat(this.#chunks.splice(0)).toString("utf8"));
      this.#waiting = 0;
      from = end + 1;
    }
    this.#keep(chunk.subarray(from));
    return lines;
  }

  #keep(bytes: Buffer): void {
    this.#waiting += bytes.length;
    if (this.#waiting > LINE_BYTES_MAX) {
      throw new NodeError("LIMIT_REACHED", `a line is longer than ${LINE_BYTES_MAX} bytes`);
    }
    if (bytes.length > 0) this.#chunks.push(bytes);
  }
}
