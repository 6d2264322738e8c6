import type { MemberMessage, MemberRecord } from "./messages.ts";
import type { Evidence } from "./roster.ts";
import type { Status } from "./views.ts";

export type MembershipInput =
  /** A link with completed hello; `record` is what the peer says of itself, `digest` what its table had then. */
  | {
      readonly type: "linkUp";
      readonly peer: string;
      readonly link: number;
      readonly record: MemberRecord;
      readonly digest: number | undefined;
    }
  | { readonly type: "linkDown"; readonly peer: string; readonly reason: string }
  | { readonly type: "message"; readonly peer: string; readonly message: MemberMessage }
  /** When bytes of any kind last came from linked peers, and a channel last used the link; monotonic milliseconds. */
  | {
      readonly type: "heard";
      readonly heard: readonly {
        readonly peer: string;
        readonly atMs: number;
        readonly usedAtMs?: number | undefined;
      }[];
    }
  | { readonly type: "dialed"; readonly peer: string; readonly outcome: "connected" | "refused" | "failed" }
  /** The peer turned us away, or we it, for good reason. */
  | { readonly type: "turnedAway"; readonly peer: string }
  /** The peer has all the links it takes, and names others. */
  | { readonly type: "busy"; readonly peer: string; readonly records: readonly MemberRecord[] }
  /** Somebody here needs a direct link with this peer and wants to know soon when it is gone; or no longer. */
  | { readonly type: "attend"; readonly peer: string; readonly on: boolean; readonly closely: boolean }
  /** Is this boot of the peer gone? Answered within about a second under the same id. */
  | { readonly type: "ask"; readonly id: number; readonly peer: string; readonly boot: number }
  /** A higher boot of ours is durable. */
  | { readonly type: "booted"; readonly boot: number }
  /** From now on this node has these tags. */
  | { readonly type: "retag"; readonly tags: Readonly<Record<string, string>> }
  | { readonly type: "depart"; readonly status: "stopped" | "left" }
  | { readonly type: "tick" };

/** How a member looks at one moment. */
export interface MemberSnapshot {
  readonly record: MemberRecord;
  readonly status: Status;
  readonly evidence: Evidence;
  readonly linked: boolean;
  /** Smoothed round trip of probes, if it ever answered one. */
  readonly roundTripMs: number | undefined;
  /** Milliseconds since a frame came directly from it. */
  readonly heardAgoMs: number | undefined;
}

export interface MemberEvent {
  readonly type: "joined" | "updated" | "suspected" | "refuted" | "died" | "stopped" | "left" | "forgotten";
  readonly member: MemberSnapshot;
}

export type MembershipEvent =
  | MemberEvent
  | { readonly type: "linkUp"; readonly peer: string; readonly link: number }
  | { readonly type: "linkDown"; readonly peer: string; readonly reason: string }
  | { readonly type: "declaredDead"; readonly boot: number; readonly inc: number }
  | { readonly type: "isolated" };

export type MembershipEffect =
  | { readonly type: "send"; readonly to: string; readonly message: MemberMessage }
  | { readonly type: "dial"; readonly peer: string; readonly addresses: readonly string[] }
  | { readonly type: "disconnect"; readonly peer: string; readonly reason: string }
  /** Somebody knows a higher boot of ours: make a higher one durable and answer with `booted`. */
  | { readonly type: "raiseBoot"; readonly above: number }
  | { readonly type: "emit"; readonly event: MembershipEvent }
  | { readonly type: "answer"; readonly id: number; readonly gone: boolean }
  /** The others know that we go, as far as they could be told. */
  | { readonly type: "departed" };
