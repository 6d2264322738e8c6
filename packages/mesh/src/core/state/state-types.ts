import type { Random } from "@klatsch/kit/core";
import type { SharedEntry, StateMessage } from "./messages.ts";
import type { OwnChange } from "./own-entries.ts";
import type { SharedLimit, SharedPorts } from "./shared-entries.ts";
import { CHECK_BUDGET } from "../budgets.ts";
import type { Budget } from "./token-bucket.ts";

export type StateInput =
  /** A link of a member whose wall clock showed `aheadMs` more than ours. */
  | { readonly type: "linkUp"; readonly peer: string; readonly aheadMs: number }
  | { readonly type: "linkDown"; readonly peer: string }
  | { readonly type: "message"; readonly peer: string; readonly message: StateMessage }
  /** A member is there, in its process `boot`. */
  | { readonly type: "joined"; readonly peer: string; readonly boot: number }
  /** A member is dead, has stopped or left. */
  | { readonly type: "ended"; readonly peer: string }
  | { readonly type: "forgotten"; readonly peer: string }
  /** A higher boot of ours is durable. */
  | { readonly type: "booted"; readonly boot: number }
  /** Writes a shared entry; answered by `reply` with the same `request`. */
  | {
      readonly type: "share";
      readonly request: number;
      readonly key: string;
      readonly value: Uint8Array | undefined;
      readonly override: boolean;
    }
  | { readonly type: "tick" };

/** What became of a write: done, needless, or why not. `ahead`: the key was last written by a clock that is too far ahead. */
export type ShareOutcome =
  | "written"
  | "unchanged"
  | "overridden"
  | "ahead"
  | "forbidden"
  | "skew"
  | SharedLimit;

export type StateEffect =
  | { readonly type: "send"; readonly to: string; readonly message: StateMessage }
  | { readonly type: "ownChanged"; readonly change: OwnChange }
  /** Others hold what this node never said under its boot: it needs a higher one. */
  | { readonly type: "raiseBoot"; readonly above: number }
  /** A shared entry has another value, for whoever watches it. */
  | { readonly type: "sharedChanged"; readonly entry: SharedEntry }
  /** A shared entry to be written to disk, or removed from it. */
  | { readonly type: "persist"; readonly key: string; readonly entry: SharedEntry | undefined }
  /** What all agreed on at the mesh's time `atMs`, to be written to disk. */
  | { readonly type: "agreed"; readonly atMs: number }
  | { readonly type: "reply"; readonly request: number; readonly outcome: ShareOutcome }
  /** Something of a peer's was not taken over. */
  | {
      readonly type: "refused";
      readonly peer: string;
      readonly reason: StateRefusal;
      readonly key: string | undefined;
    };

/** Why something of a peer's was not taken over. `FORGED`: its signature is not its writer's. */
export type StateRefusal = "STATE_TOO_LARGE" | "CLOCK_SKEW" | "FORBIDDEN" | "FORGED";

export interface StateInit {
  /** Peer id of this node. */
  readonly self: string;
  readonly boot: number;
  readonly times: StateTimes;
  readonly random: Random;
  readonly shared: {
    readonly ports: SharedPorts;
    /** What was on disk. */
    readonly entries: readonly SharedEntry[];
    /** The mesh's time at which this node last agreed with others, if it ever did. */
    readonly agreedAtMs: number | undefined;
  };
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
  /** Signatures that one peer makes us check: after these, one each `refillMs`. */
  readonly checkBudget: Budget;
  /** Answers of ours that one peer may have, in KiB: a question is cheap to ask, many at once would stop this node. */
  readonly answerBudget: Budget;
  /** Old deletions are looked for this often. */
  readonly collectMs: number;
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
  continueMs: 50,
  bucketsMax: 4,
  replyBytesMax: 1024 * 1024,
  checkBudget: CHECK_BUDGET,
  answerBudget: { burst: 8 * 1024, refillMs: 1 / 16 },
  collectMs: 60 * 60 * 1_000,
  pullAgainMs: 500,
  collisionMs: 600_000,
};
