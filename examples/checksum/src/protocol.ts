/** A file to be done: a message of the queue `files`. */
export interface Job {
  /** Its place in the starter's list. */
  readonly file: number;
  /** Relative to the directory. One character per byte (latin1): file names need not be UTF-8. */
  readonly path: string;
  /** {@link nowMs} of the node that enqueued it. */
  readonly enqueuedAt: number;
}

/** What became of a file: a message of the queue `digests`. */
export interface Result {
  readonly file: number;
  /** The node that read it. */
  readonly node: string;
  readonly enqueuedAt: number;
  readonly outcome: Outcome;
}

export type Outcome = { readonly sha256: string; readonly bytes: number } | { readonly error: string };

/** A result that has come out of the queue `digests`, and when. */
export interface Done extends Result {
  readonly doneAt: number;
}

/** What a node counts; the last ones reported also stand for a node that was killed. */
export interface Counters {
  /** Bytes of files read so far, unfinished files included: progress of huge files. */
  readonly bytesRead: number;
  /** Messages of `files` this node's consumer was elected for. */
  readonly electionsWon: number;
  /** Messages this node's consumers got that somebody had been given before, in both queues. */
  readonly redelivered: number;
}

/** From the starter to a node, over the IPC channel of the forked process. */
export type ToNode =
  | {
      readonly type: "setup";
      readonly name: string;
      /** This node's own, empty. */
      readonly dataDir: string;
      /** Whose files are summed, absolute. */
      readonly directory: string;
      /** Addresses of the first node. */
      readonly bootstrap: readonly string[];
      /** How many nodes there are in all. */
      readonly nodes: number;
    }
  /** This node's share; each is reported in `enqueued` once a quorum has it on disk. */
  | { readonly type: "enqueue"; readonly jobs: readonly Pick<Job, "file" | "path">[] }
  /** Take no more messages and finish those in hand. Quorums are still needed for that: no node leaves yet. */
  | { readonly type: "drain" }
  | { readonly type: "stop" };

/** From a node to the starter. */
export type FromNode =
  | { readonly type: "listening"; readonly addresses: readonly string[] }
  /** This node sees all others, and their queues. */
  | { readonly type: "ready" }
  | {
      readonly type: "report";
      readonly enqueued: readonly number[];
      readonly done: readonly Done[];
      readonly counters: Counters;
    }
  | { readonly type: "drained"; readonly counters: Counters }
  | { readonly type: "failed"; readonly reason: string };

export function encode(message: Job | Result): Uint8Array {
  return Buffer.from(JSON.stringify(message));
}

/** What {@link encode} made; only our own nodes write to these queues. */
export function decode(body: Uint8Array): unknown {
  return JSON.parse(Buffer.from(body).toString());
}

/** Milliseconds of the monotonic clock that all processes of a machine share. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
