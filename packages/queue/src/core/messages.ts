import type { Ballot, Pid, Right } from "./ballot.ts";
import type { PackedPage } from "./register-table.ts";
import type {
  Attributes,
  Definition,
  Descriptor,
  EndValue,
  Keys,
  LaneId,
  ManageAct,
  ManageScope,
  Place,
  QueueId,
  Ranges,
  Resolution,
  SettledCode,
  StoreId,
  Value,
  Verdict,
} from "./types.ts";

/** One register's next value. A body travels where the receiver may not have it yet. */
export interface AcceptOp {
  readonly seq: number;
  readonly step: number;
  readonly value: Value;
  readonly body: Uint8Array | undefined;
  /** The body is on the sender's disk: its host attaches it before the frame leaves. Never on the wire. */
  readonly attach?: boolean;
  /** An heir takes over what is known to be chosen in the lane before: by its clocks, its time has come (A7). */
  readonly imported?: boolean;
}

/** The part of an `ops` frame that concerns one lane. */
export interface Section {
  readonly lane: LaneId;
  /** Sent once per link session and lane, and again on NEED_LANE. */
  readonly descriptor: Descriptor | undefined;
  readonly round: number;
  readonly pid: Pid;
  readonly accepts: readonly AcceptOp[];
  /** Flow 3: seqs whose DONE was chosen. */
  readonly learned: Ranges;
  readonly end: { readonly step: number; readonly value: EndValue } | undefined;
  /** Flow 8: `closed` was chosen. */
  readonly closed: EndValue | undefined;
}

export type LaneRefusal = "REFUSED" | "CLOSED" | "NEED_LANE" | "BAD_LANE";
/** Index of a page that no transfer has. */
export const NO_MORE = 0xffff_ffff;

/** `EARLY`: by this replica's clock the time for it is not near (A7). `VETO`: its hook does not vote for the lease. */
export type OpRefusal = "OLDER" | "GONE" | "NEED_BODY" | "CONFLICT" | "EARLY" | "VETO";

/** A whole section an OK does not cover. */
export interface LaneException {
  readonly section: number;
  readonly code: LaneRefusal;
  readonly promise: Right | undefined;
  readonly end: EndValue | undefined;
}

/** One operation an OK does not cover. */
export interface OpException {
  readonly section: number;
  /** A seq, or −1 for the section's END. */
  readonly seq: number;
  readonly code: OpRefusal;
  /** What the replica has instead, for OLDER and CONFLICT. */
  readonly ballot: Ballot | undefined;
}

export type Exception = LaneException | OpException;

export interface RegisterEntry {
  readonly seq: number;
  readonly ballot: Ballot;
  readonly value: Value;
}

/** Keys of a finished message. */
export interface KeptKeys {
  readonly seq: number;
  readonly keys: Keys;
}

/** A message on its way to the writer of an ordered lane; its token is in its attributes. */
export interface EnterItem {
  readonly value: Value;
  readonly body: Uint8Array;
}

/**
 * `PENDING`: appended. `OK`, `DUPLICATE`: q replicas have it, or the one that came first. `ELSEWHERE`: not here, where
 * nothing was done. `RETRY`: whoever writes the lane next may find it.
 */
export type EnteredCode = "PENDING" | "OK" | "DUPLICATE" | "RETRY" | "FULL" | "ELSEWHERE";

export interface EnteredItem {
  readonly token: string;
  readonly code: EnteredCode;
  readonly seq: number;
}

interface MessageRef {
  readonly lane: LaneId;
  readonly seq: number;
  readonly epoch: number;
}

/** A message in a consumer's hands, as its node tells a lane writer. */
export interface HeldItem extends MessageRef {
  readonly session: string;
}

export interface Delivery extends HeldItem {
  readonly leaseMs: number;
  /** Time since the writer last (re)started the lease's timer, in milliseconds. */
  readonly ageMs: number;
  /** How often the message was handed out before. */
  readonly deliveries: number;
  /** As in the message's register. */
  readonly enqueuedWallMs: number;
  readonly attributes: Attributes | undefined;
  /** Why the message is dead, for consumers of the dead view. */
  readonly reason: string | undefined;
  readonly body: Uint8Array | undefined;
  /** As in {@link AcceptOp}. */
  readonly attach?: boolean;
  /** How long the body is that is to be attached. It does not travel. */
  readonly bodyBytes?: number;
}

export interface VerdictItem extends HeldItem {
  readonly verdict: Verdict;
}

export interface SettledItem extends HeldItem {
  /** Which question this answers: a release may have been given for the same epoch as an ack. */
  readonly kind: Verdict["kind"];
  readonly code: SettledCode;
  /** Who may know better, for RETRY. */
  readonly hint: string | undefined;
}

export interface CreditItem {
  readonly session: string;
  readonly queue: QueueId;
  /** Cumulative within one link session. */
  readonly total: number;
  /** Asks for what is unused back. */
  readonly recall: boolean;
}

/** A queue that somebody deleted, and when. */
export type Deleted = readonly [queue: QueueId, atWallMs: number];

/** A batch that a store said it had answered by, and what shows that it did: whoever has not heard it cannot make it up. */
export interface Echo {
  readonly batchNo: number;
  readonly proof: number;
}

/** The highest echoes of a store: what it said itself, and what others did. */
export interface Told {
  readonly said: Echo;
  readonly heard: Echo;
}

export type Echoes = readonly (readonly [store: StoreId, batchNo: number, proof: number])[];

export type Message =
  | {
      readonly type: "hello";
      readonly store: StoreId | undefined;
      readonly boot: number;
      readonly definitions: readonly Definition[];
      readonly consumes: readonly QueueId[];
      readonly floor: Floor | undefined;
      /** Highest synced batches that the sender counted on, of the stores that it knows the receiver to have, or to have had. */
      readonly echoes: Echoes;
      readonly deleted: readonly Deleted[];
    }
  /** To this node itself: the lane's descriptor, or part of what is left of it, is on disk. Never on the wire. */
  | { readonly type: "synced"; readonly lane: LaneId }
  | { readonly type: "roster"; readonly consumes: readonly QueueId[] }
  | { readonly type: "declare"; readonly definition: Definition }
  /** Told on by whoever it is news to. */
  | { readonly type: "deleted"; readonly queues: readonly Deleted[] }
  | {
      readonly type: "ops";
      readonly session: number;
      readonly no: number;
      readonly sections: readonly Section[];
      /** Highest synced batches the sender counted, per store. */
      readonly echoes: Echoes;
    }
  | {
      readonly type: "ok";
      readonly session: number;
      readonly no: number;
      readonly exceptions: readonly Exception[];
      /** The batch that made it durable, with the store's proof of it; the host fills them in as the answer leaves. */
      readonly batchNo: number;
      readonly proof: number;
    }
  | {
      readonly type: "prepare";
      readonly lane: LaneId;
      readonly descriptor: Descriptor;
      readonly round: number;
      readonly pid: Pid;
    }
  | {
      readonly type: "refused";
      readonly lane: LaneId;
      readonly round: number;
      readonly promise: Right | undefined;
    }
  | {
      readonly type: "page";
      readonly lane: LaneId;
      readonly round: number;
      readonly snapshot: number;
      readonly index: number;
      readonly last: boolean;
      readonly registers: readonly RegisterEntry[];
      readonly finished: Ranges;
      readonly end: { readonly ballot: Ballot; readonly value: EndValue } | undefined;
      /** Of ordered lanes. */
      readonly keys: readonly KeptKeys[];
      /** Registers of messages that wait, in columns as stores keep them. */
      readonly packed: readonly PackedPage[];
    }
  /** Asks for a page; `NO_MORE` says that the rest is not wanted. */
  | { readonly type: "more"; readonly lane: LaneId; readonly snapshot: number; readonly index: number }
  | { readonly type: "closed"; readonly lane: LaneId; readonly end: EndValue | undefined }
  | { readonly type: "getBody"; readonly lane: LaneId; readonly seq: number }
  | {
      readonly type: "body";
      readonly lane: LaneId;
      readonly seq: number;
      readonly body: Uint8Array | undefined;
      readonly attach?: boolean;
    }
  | { readonly type: "askGone"; readonly lane: LaneId; readonly pid: Pid }
  | { readonly type: "gone"; readonly lane: LaneId; readonly pid: Pid; readonly gone: boolean }
  | { readonly type: "askLane"; readonly lane: LaneId }
  | { readonly type: "lane"; readonly lane: LaneId; readonly serving: boolean }
  | {
      readonly type: "confirm";
      readonly lane: LaneId;
      readonly round: number;
      readonly pid: Pid;
      readonly token: number;
    }
  | { readonly type: "confirmed"; readonly lane: LaneId; readonly token: number; readonly yes: boolean }
  | { readonly type: "floor"; readonly floor: Floor }
  | { readonly type: "resolve"; readonly lane: LaneId; readonly seq: number }
  | {
      readonly type: "resolved";
      readonly lane: LaneId;
      readonly seq: number;
      readonly resolution: Resolution;
    }
  | { readonly type: "credit"; readonly items: readonly CreditItem[]; readonly stampMs: number }
  | { readonly type: "returned"; readonly session: string; readonly count: number }
  | { readonly type: "offer"; readonly queue: QueueId; readonly count: number }
  | {
      readonly type: "deliver";
      readonly items: readonly Delivery[];
      readonly descriptors: readonly (readonly [LaneId, Descriptor])[];
      /** The receiver's last stamp on this link plus the time since it came: its clock when this left, at least. */
      readonly stampMs: number;
    }
  | { readonly type: "held"; readonly items: readonly HeldItem[] }
  | { readonly type: "verdicts"; readonly items: readonly VerdictItem[]; readonly stampMs: number }
  | { readonly type: "settled"; readonly items: readonly SettledItem[] }
  | {
      readonly type: "manage";
      readonly token: number;
      readonly queue: QueueId;
      readonly act: ManageAct;
      readonly scope: ManageScope;
      readonly only: Place | undefined;
      readonly limit: number;
      /** Only what lies behind it. */
      readonly after: Place | undefined;
      /** Those that were enqueued first. */
      readonly oldest: boolean;
    }
  | {
      readonly type: "managed";
      readonly token: number;
      readonly items: readonly ManagedItem[];
      /** How many were found or changed. */
      readonly count: number;
      readonly counts: Counts;
      readonly consumers: readonly RosterEntry[];
      readonly groups: readonly GroupItem[];
      /** Shards of the queue that the sender writes. */
      readonly shards: readonly number[];
      /** Where the sender stopped because of a limit: behind it there may be more. */
      readonly last: Place | undefined;
      /** Of a list. Earlier versions do not say. */
      readonly lanes: ListedLanes | undefined;
    }
  /** To the writer of an ordered lane, as far as the sender knows who that is. */
  | { readonly type: "enter"; readonly lane: LaneId; readonly items: readonly EnterItem[] }
  | {
      readonly type: "entered";
      readonly lane: LaneId;
      readonly items: readonly EnteredItem[];
      /** Who may know better, for RETRY. */
      readonly hint: string | undefined;
    }
  /** What the sender's lanes hold of queues with a limit. */
  | {
      readonly type: "usage";
      readonly items: readonly { readonly queue: QueueId; readonly count: number; readonly bytes: number }[];
    }
  /** Flow 10, to the writer of a lane: it holds its origin's floor back, and should get an heir. */
  | { readonly type: "askHeir"; readonly lane: LaneId }
  /** Of an heir, or of a lane that the asker keeps and may not end: does it have all its messages? Only a yes is answered. */
  | {
      readonly type: "askMoved";
      readonly lane: LaneId;
      readonly descriptor: Descriptor;
      readonly kept: boolean;
      /** The lane has an END there: whatever it had to import is in it. */
      readonly ended: boolean;
    }
  | { readonly type: "moved"; readonly lane: LaneId }
  /** Lanes of ordered queues that took over from those the definitions name: who enqueues has to know. */
  | { readonly type: "heirs"; readonly descriptors: readonly Descriptor[] }
  | { readonly type: "inspect"; readonly token: number; readonly lane: LaneId; readonly seq: number }
  | {
      readonly type: "inspected";
      readonly token: number;
      readonly store: StoreId;
      /** The store has, or had, a part in the lane. */
      readonly known: boolean;
      readonly isWriter: boolean;
      readonly finished: boolean;
      readonly promise: Right | undefined;
      readonly register: RegisterEntry | undefined;
      readonly end: EndValue | undefined;
    };

/** A message as the writer of its lane sees it. */
export interface ManagedItem {
  readonly lane: LaneId;
  readonly seq: number;
  readonly value: Value;
}

/** Lanes of a list's queue, by the first of their line, from where it begins to where the sender stopped. */
export interface ListedLanes {
  /** Those the sender writes: whatever is in them it listed. */
  readonly served: readonly LaneId[];
  /** Those its store has messages of, and how many. */
  readonly kept: readonly (readonly [lane: LaneId, count: number])[];
}

/** A group with messages that are neither done nor dead. */
export interface GroupItem {
  readonly group: string;
  readonly count: number;
  /** The one that is held, or next. */
  readonly head: ManagedItem;
}

/** A consumer, as its own node knows it. */
export interface RosterEntry {
  readonly session: string;
  readonly prefetch: number;
  readonly held: number;
}

/** What one node's lanes hold of a queue. */
export interface Counts {
  readonly ready: number;
  readonly delayed: number;
  readonly leased: number;
  readonly dead: number;
  /** In lanes that nobody serves now. */
  readonly unserved: number;
  /** Lanes with messages: short of replicas, on their way to an heir. */
  readonly lanes: number;
  readonly weakLanes: number;
  readonly movingLanes: number;
  /** When the oldest that is not dead was enqueued, 0 for none. */
  readonly oldestWallMs: number;
}

/** Flow 8: every lane of this store below (boot, laneNo) is closed and its enqueues are answered. */
export interface Floor {
  readonly boot: number;
  readonly laneNo: number;
}
