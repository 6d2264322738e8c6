import type { RouteProbe } from "./routing/types.ts";

/** What a member says about itself; spread unchanged by others. */
export interface MemberRecord {
  readonly peer: string;
  readonly boot: number;
  readonly inc: number;
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Full multiaddrs, `/p2p/<peer>` included. */
  readonly addresses: readonly string[];
  /** It carries traffic between its cloud and others. */
  readonly gateway?: boolean | undefined;
  /** Nobody can dial it: it is behind address translation, and keeps links itself. */
  readonly dialOnly?: boolean | undefined;
  /** Clouds besides its own that it may have links with; all if it does not say. */
  readonly reach?: readonly string[] | undefined;
  /** The member's own, over what it says here and its status, in a mesh of certificates; opaque to the core. */
  readonly signature?: Uint8Array | undefined;
}

/** Highest boot and incarnation: members raise theirs above what others say of them, and whoever lies must not leave them without a number. */
export const STANDING_MAX: number = 2 ** 48;

/** Statuses that travel. A suspicion is a message of its own. */
export type ViewStatus = "alive" | "dead" | "stopped" | "left";

/** A view of a member as it travels. */
export interface View extends MemberRecord {
  readonly status: ViewStatus;
  /** How long ago the status was entered, in milliseconds; only grows on its way. 0 for `alive`. */
  readonly ageMs: number;
  /** The sender has a link to it and hears it: it vouches that the member is there. */
  readonly vouched?: boolean | undefined;
}

/** Between linked members. `hash` is the sender's digest of its table, to find differences that floods missed. */
export type MemberMessage =
  | { readonly type: "ping"; readonly nonce: number; readonly hash: number }
  | { readonly type: "ack"; readonly nonce: number; readonly hash: number }
  /** Please ping `target` and tell me with `indirectAck` if it answers. */
  | { readonly type: "pingReq"; readonly nonce: number; readonly target: string }
  | { readonly type: "indirectAck"; readonly nonce: number }
  /** `accuser` got no answer from `subject`. The id names the suspicion; several may run at once. */
  | {
      readonly type: "suspect";
      readonly subject: string;
      readonly boot: number;
      readonly inc: number;
      readonly id: string;
      readonly accuser: string;
    }
  /** `witness` got a frame directly from `subject` after it learnt of suspicion `id`. */
  | {
      readonly type: "heard";
      readonly subject: string;
      readonly boot: number;
      readonly id: string;
      readonly witness: string;
    }
  /** `witness` lost its last connection to `subject`, and every address refused a redial, twice. */
  | {
      readonly type: "gone";
      readonly subject: string;
      readonly boot: number;
      readonly id: string;
      readonly witness: string;
    }
  | { readonly type: "views"; readonly views: readonly View[] }
  /** Digests of the sender's table by bucket: whoever has others sends what differs. */
  | { readonly type: "buckets"; readonly hashes: readonly number[] }
  /** Hashes of the members that the sender is linked with: those who watch it agree who does so most. */
  | { readonly type: "neighbours"; readonly hashes: readonly number[] }
  /** A roll is called: hashes of members that are within reach, or linked with one that is. */
  | { readonly type: "present"; readonly hashes: readonly number[] }
  /** The sender does not need the link any more; the answer says whether the receiver does. */
  | { readonly type: "closeRequest" }
  | { readonly type: "closeOk" }
  | { readonly type: "closeNo" };

/** Says who we are, first thing on a link. */
export interface Hello {
  readonly mesh: string;
  /** Random per process start. */
  readonly instance: string;
  /** Wall clock at sending; a hint for finding clocks that are off. */
  readonly wallMs: number;
  /** Highest boot of the *receiver* that the sender knows of; 0 if none. */
  readonly knownBoot: number;
  /** Longest channel frame the sender takes, in bytes. */
  readonly frameBytesMax: number;
  readonly record: MemberRecord;
  /** Digest of the sender's table: where both ends have the same, nobody sends it. Older peers do not say. */
  readonly digest: number | undefined;
}

/** Why a connection is turned away. */
export type RefusalCode =
  | "MESH_NAME"
  | "PROTOCOL_VERSION"
  | "MEMBERS_MAX"
  | "DUPLICATE"
  | "SUPERSEDED"
  | "BOOT_LOW"
  | "UNCERTIFIED"
  | "BUSY"
  | "FORBIDDEN";

/** About the connection itself. */
export type LinkMessage =
  | { readonly type: "hello"; readonly hello: Hello }
  | { readonly type: "accept" }
  /** The sender takes no more links; others to try. */
  | { readonly type: "busy"; readonly records: readonly MemberRecord[] }
  | { readonly type: "refuse"; readonly code: RefusalCode; readonly detail: string }
  | { readonly type: "test" }
  | { readonly type: "testAck" }
  | RouteProbe;
