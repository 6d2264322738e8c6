import type { Holder, LaneId, QueueId } from "./types.ts";

/** A lease that a replica is asked to vote for. */
export interface ProposedLease {
  readonly queue: QueueId;
  readonly lane: LaneId;
  readonly seq: number;
  readonly epoch: number;
  readonly holder: Holder;
}

/** What an application decides for the core. The host sees to it that none of them throws. */
export interface CoreHooks {
  /** Flow 2: the index of one of the consumers with credit; `undefined`: whose turn it is. */
  readonly nominate?: ((queue: QueueId, candidates: readonly Holder[]) => number | undefined) | undefined;
  /** Whether this replica votes for the lease. `false` is no vote, and nothing else. */
  readonly vote?: ((lease: ProposedLease) => boolean) | undefined;
}
