import type { Enqueued } from "./register.ts";
import type { KeptKeys } from "./messages.ts";
import type { RegisterTable } from "./register-table.ts";
import type { Timer } from "./timers.ts";
import type { EndValue, LaneId, Ranges, Value, Verdict } from "./types.ts";

/** How an enqueue ended. */
export type EnqueueResult =
  /** `duplicate`: of a message that came before. */
  | { readonly code: "OK"; readonly lane: LaneId; readonly seq: number; readonly duplicate?: boolean }
  | { readonly code: "QUORUM_UNAVAILABLE"; readonly have: number; readonly need: number }
  | { readonly code: "QUEUE_FULL"; readonly limit: string }
  | { readonly code: "QUEUE_DELETED" }
  /** Without a lane nobody said where it was appended, if it was. */
  | { readonly code: "INDETERMINATE"; readonly lane: LaneId | undefined; readonly seq: number }
  | { readonly code: "OVERLOADED"; readonly waiting: number; readonly waitingBytes: number };

/** An enqueue of this node that waits for its quorum. */
export interface PendingEnqueue extends Enqueued {
  readonly requestId: number;
  readonly deadlineMs: number;
}

/** Who asked for the transition a register is in. */
export interface Waiter {
  readonly peer: string;
  readonly session: string;
  readonly epoch: number;
  readonly kind: Verdict["kind"];
}

/** One message as its lane's writer sees it. */
export interface Register {
  readonly seq: number;
  /** Latest value proposed in this round, or found by the steal. */
  value: Value;
  /** Its step; −1 for a value found already chosen, before anything is proposed in this round. */
  step: number;
  /** Replicas that have `value` at `step`, one bit each. */
  acks: number;
  chosen: boolean;
  /** Replicas whose hook does not vote for the lease proposed, one bit each. */
  vetoes: number;
  /** The value proposed makes it dead. */
  dying: boolean;
  /** Replicas that hold the message: an accept of any step of this round, or a steal's answer; of what rested since, presumed. */
  heldBy: number;
  /** The body, until it is in this node's own store; while the message waits to be delivered, within the budget. */
  body: Uint8Array | undefined;
  /** The body counts against the budget. */
  kept: boolean;
  enqueue: PendingEnqueue | undefined;
  waiter: Waiter | undefined;
  timer: Timer | undefined;
  /** Monotonic instant at which the lease's timer was last (re)started. */
  leasedMs: number;
  /** Found by a steal and not chosen again yet: END waits for it [M7]. */
  recovering: boolean;
  /** What it has at step 0 was chosen in the lane that this one is the heir of. */
  imported: boolean;
  /** The verdict that ended the last lease: a repeated question gets the same answer. */
  settled: { readonly epoch: number; readonly kind: Verdict["kind"] } | undefined;
}

/** A message with nothing under way: `value` is chosen. */
export function restingRegister(seq: number, value: Value, step: number, heldBy: number): Register {
  return {
    seq,
    value,
    step,
    acks: 0,
    chosen: true,
    vetoes: 0,
    dying: false,
    heldBy,
    body: undefined,
    kept: false,
    enqueue: undefined,
    waiter: undefined,
    timer: undefined,
    leasedMs: 0,
    recovering: false,
    imported: false,
    settled: undefined,
  };
}

/** One register as q snapshots of a steal showed it. */
export interface RecoveredRegister {
  readonly seq: number;
  readonly value: Value;
  /** q answers at this very ballot: it is chosen already. */
  readonly proven: boolean;
  /** Replicas that answered with the message, one bit each. */
  readonly heldBy: number;
}

/** Pages of registers that are chosen and only wait, as this node's own store has them too. */
export interface FoundPages {
  readonly registers: RegisterTable;
  readonly pages: readonly number[];
  /** Replicas that are presumed to hold them, one bit each. */
  readonly heldBy: number;
}

/** What q snapshots of a lane say of its END: to be proposed again, or, in an ordered lane, the new writer's cut. */
export interface Recovered {
  readonly found: readonly RecoveredRegister[];
  /** What is not in `found`; none in an ordered lane, an heir, or a lane that has one. */
  readonly whole: FoundPages;
  readonly finished: Ranges;
  /** One above the highest seq that anybody had. */
  readonly nextSeq: number;
  readonly end: EndValue | undefined;
  /** Of finished messages of an ordered lane. */
  readonly keys: readonly KeptKeys[];
}

export function bitCount(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}

/** Whether it goes to that replica without its body, which is there, or is needed no more. */
export function isLight({ heldBy, value }: Register, index: number): boolean {
  return (heldBy & (1 << index)) !== 0 || value.state === "DONE";
}
