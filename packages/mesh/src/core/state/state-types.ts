import type { Random } from "@klatsch/kit/core";
import type { StateMessage } from "./messages.ts";
import type { OwnChange } from "./own-entries.ts";
import type { Budget } from "./token-bucket.ts";

export type StateInput =
  /** A link of a member whose wall clock showed `aheadMs` more than ours. */
  | { readonly type: "linkUp"; readonly peer: string; readonly aheadMs: number }
  | { readonly type: "linkDown"; readonly peer: string }
  | { readonly type: "message"; readonly peer: string; readonly message: StateMessage }
  /** A PING or ACK leaves for this peer: the hash of all travels with it. */
  | { readonly type: "probed"; readonly peer: string }
  /** A member is there, in its process `boot`. */
  | { readonly type: "joined"; readonly peer: string; readonly boot: number }
  /** A member is dead, has stopped or left. */
  | { readonly type: "ended"; readonly peer: string }
  | { readonly type: "forgotten"; readonly peer: string }
  /** A higher boot of ours is durable. */
  | { readonly type: "booted"; readonly boot: number }
  | { readonly type: "tick" };

export type StateEffect =
  | { readonly type: "send"; readonly to: string; readonly message: StateMessage }
  | { readonly type: "ownChanged"; readonly change: OwnChange }
  /** Others hold what this node never said under its boot: it needs a higher one. */
  | { readonly type: "raiseBoot"; readonly above: number }
  /** Something of a peer's was not taken over. */
  | { readonly type: "refused"; readonly peer: string; readonly reason: StateRefusal };

/** Why something of a peer's was not taken over: beyond the limits. */
type StateRefusal = "tooLarge";

export interface StateInit {
  /** Peer id of this node. */
  readonly self: string;
  readonly boot: number;
  readonly times: StateTimes;
  readonly random: Random;
}

/** All durations in milliseconds. */
export interface StateTimes {
  /** Publications of this node's own state, for the mesh's keys and the application's each. */
  readonly ownBudget: Budget;
  /** The more members, the slower: each gets a share of this many publications a second (S4). */
  readonly ownRefillMsPerMember: number;
  /** Changes of one member that are passed on: the owner's budget, and room for what gathers. */
  readonly relayBudget: Budget;
  /** A new link is compared after this: what both have in common may still be on its way. */
  readonly compareNewMs: number;
  /** A difference is looked into once it has lasted so long; by the higher peer id a second later. */
  readonly doubtMs: number;
  readonly politeMs: number;
  /** Between two comparisons over one link, while there is more. */
  readonly continueMs: number;
  /** Buckets that one comparison looks into. */
  readonly bucketsMax: number;
  /** Answers to one message of a peer, in bytes. */
  readonly replyBytesMax: number;
  /** The same is not asked for twice within this. */
  readonly pullAgainMs: number;
  /** One bucket is compared by heads although its hash is the same, this often: hashes collide. */
  readonly collisionMs: number;
}

export const STATE_TIMES: StateTimes = {
  ownBudget: { burst: 5, refillMs: 10_000 },
  ownRefillMsPerMember: 100,
  relayBudget: { burst: 20, refillMs: 1_000 },
  compareNewMs: 100,
  doubtMs: 2_000,
  politeMs: 1_000,
  continueMs: 200,
  bucketsMax: 4,
  replyBytesMax: 1024 * 1024,
  pullAgainMs: 500,
  collisionMs: 600_000,
};
