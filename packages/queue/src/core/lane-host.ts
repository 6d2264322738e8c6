import type { PendingEnqueue, Register, Waiter } from "./lane-register.ts";
import type { Usage } from "./quota.ts";
import type { RegisterTable } from "./register-table.ts";
import type { ReplicaLink } from "./replica-link.ts";
import type { Definition, EndValue, Holder, LaneId, Ranges, Replica } from "./types.ts";

/** What a lane writer asks of, and tells, the node it is part of. */
export interface LaneHost<Lane> {
  /** What this node's own store has accepted. */
  stored(lane: LaneId): RegisterTable | undefined;
  definition(lane: Lane): Definition;
  link(replica: Replica): ReplicaLink;
  isHolderGone(holder: Holder): boolean;
  /** q durable copies of the message exist. */
  onEnqueued(lane: Lane, register: Register, pending: PendingEnqueue): void;
  /** The message is READY or, for the dead view, DEAD; chosen, and due. */
  onClaimable(lane: Lane, register: Register): void;
  /** The same of many that were found so, and rest. */
  onRested(lane: Lane, runs: Ranges): void;
  /** Where what the lane holds is counted. */
  usage(lane: Lane): Usage;
  /** q votes elected the holder: only now it may hear of it (P4). */
  onLeased(lane: Lane, register: Register): void;
  /** A nomination came to nothing: its credit is free again. */
  onUnused(lane: Lane, holder: Holder): void;
  /** Too few replicas vote for the holder. */
  onVetoed(lane: Lane, holder: Holder): void;
  onSettled(lane: Lane, seq: number, waiter: Waiter, code: "DONE" | "FINISHED"): void;
  onFinished(lane: Lane, register: Register): void;
  /** It is dead, chosen, and was not before. */
  onDied(lane: Lane, register: Register): void;
  /** A replica wants the body, and neither memory nor the own store has it. */
  onBodyWanted(lane: Lane, register: Register): void;
  /** END was chosen; with `closed`, the lane is over. */
  onEnd(lane: Lane, end: EndValue): void;
  /** Every replica has learnt that the lane closed: nothing is left to say. */
  onSpread(lane: Lane): void;
  /** Fewer than q replicas follow: somebody else writes this lane. */
  onRoleLost(lane: Lane, end: EndValue | undefined): void;
}
