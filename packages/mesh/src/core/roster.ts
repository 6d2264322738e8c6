import type { Hearsay } from "./hearsay.ts";
import type { MemberRecord, View, ViewStatus } from "./messages.ts";
import type { Suspicion } from "./suspicion.ts";
import { hash32, isEnded, viewHash } from "./views.ts";
import type { Status } from "./views.ts";

/** Why a status is what it is; see `MemberEvidence`. */
export type Evidence = "self" | "direct" | "reported" | "silence" | "refused" | "announced";

/** One attempt to get a sign of life: pings, then pings by others. */
export interface Round {
  readonly startedAt: number;
  readonly nonce: number;
  pings: number;
  asked: boolean;
}

/** All that this node holds of one member. Times are core times unless named otherwise. */
export interface Entry {
  record: MemberRecord;
  status: Status;
  evidence: Evidence;
  /** Monotonic instant at which an ended status was entered; never later than any report of it says. */
  endedMonoMs: number;
  linked: boolean;
  /** Whether there was a link to this boot of it: only neighbours are the first to call it gone. */
  neighbour: boolean;
  /** Who said last that it has a link to this member: the one to ask for it while we have none. */
  voucher: string | undefined;
  /** Incarnation at which we held this boot dead, as long as the member has not been told. */
  deadInc: number | undefined;
  /** A third party says that it stopped or left, though we hear it: believed once the link is gone. */
  reportedEnd: View | undefined;
  hearsay: Hearsay | undefined;
  /** When a frame last came directly from it; −∞ if never. */
  heardAt: number;
  suspicion: Suspicion | undefined;
  /** Ids of suspicions that a witness took back, oldest first: a copy still on its way must not revive one. */
  readonly settledIds: Set<string>;
  round: Round | undefined;
  probeAt: number;
  /** Place among the watchers of this member: 0 and 1 probe often. */
  rank: number;
  /** When we last pinged it; bounds how often a suspect is pinged. */
  pingedAt: number;
  smoothedMs: number | undefined;
  /** Who found all its addresses refusing, and under which id. */
  readonly gone: Map<string, string>;
  /** When all addresses first refused us, since the link was lost. */
  refusedAt: number | undefined;
  differsSince: number | undefined;
  repairedAt: number;
  readonly hash: number;
}

/** Settled ids kept per member: far more than can be on their way at once. */
const SETTLED_IDS_MAX = 128;

/** Remembers that a suspicion is over. `false` if that is known. */
export function settleId(entry: Entry, id: string): boolean {
  if (entry.settledIds.has(id)) return false;
  const [oldest] = entry.settledIds;
  if (oldest !== undefined && entry.settledIds.size >= SETTLED_IDS_MAX) entry.settledIds.delete(oldest);
  entry.settledIds.add(id);
  return true;
}

/** A peer that only a third party told of: dialled, but not a member before it greeted us itself. */
export interface Candidate {
  readonly record: MemberRecord;
  since: number;
}

/** The membership table: this node, all it knows, and candidates apart. */
export class Roster {
  readonly entries: Map<string, Entry> = new Map();
  readonly candidates: Map<string, Candidate> = new Map();
  readonly #membersMax: number;
  readonly #forgetMs: number;
  #revision = 0;
  #digest = 0;
  #digestOf = -1;
  #digestMonoMs = 0;

  constructor(init: { readonly membersMax: number; readonly forgetMs: number }) {
    this.#membersMax = init.membersMax;
    this.#forgetMs = init.forgetMs;
  }

  /** Grows with each change of anybody's standing. */
  get revision(): number {
    return this.#revision;
  }

  get hasRoom(): boolean {
    return this.entries.size < this.#membersMax;
  }

  /** The ended entry that could go first, were there no room for the living. */
  get oldestEnded(): Entry | undefined {
    let oldest: Entry | undefined;
    for (const entry of this.entries.values()) {
      if (!isEnded(entry.status) || entry.linked || entry.evidence === "self") continue;
      if (oldest === undefined || entry.endedMonoMs < oldest.endedMonoMs) oldest = entry;
    }
    return oldest;
  }

  touch(): void {
    this.#revision += 1;
  }

  add(record: MemberRecord, status: Status, evidence: Evidence, nowMonoMs: number): Entry {
    const entry: Entry = {
      record,
      status,
      evidence,
      endedMonoMs: nowMonoMs,
      linked: false,
      neighbour: false,
      voucher: undefined,
      reportedEnd: undefined,
      hearsay: undefined,
      deadInc: status === "dead" ? record.inc : undefined,
      heardAt: -Infinity,
      suspicion: undefined,
      settledIds: new Set(),
      round: undefined,
      probeAt: Infinity,
      rank: 2,
      pingedAt: -Infinity,
      smoothedMs: undefined,
      gone: new Map(),
      refusedAt: undefined,
      differsSince: undefined,
      repairedAt: -Infinity,
      hash: hash32(record.peer),
    };
    this.entries.set(record.peer, entry);
    this.candidates.delete(record.peer);
    this.touch();
    return entry;
  }

  /** Keeps a third party's word for a while. */
  propose(record: MemberRecord, at: number): void {
    const known = this.candidates.get(record.peer);
    if (known === undefined && this.candidates.size >= this.#membersMax) return;
    this.candidates.set(record.peer, { record, since: known?.since ?? at });
  }

  remove(peer: string): void {
    this.entries.delete(peer);
    this.touch();
  }

  /** An entry as it travels; `undefined` for what is too old to be spread. */
  viewOf(entry: Entry, nowMonoMs: number): View | undefined {
    const status: ViewStatus = entry.status === "suspect" ? "alive" : entry.status;
    if (!isEnded(status)) return { ...entry.record, status, ageMs: 0 };
    const ageMs = Math.max(0, Math.round(nowMonoMs - entry.endedMonoMs));
    return this.isSpreadable(ageMs) ? { ...entry.record, status, ageMs } : undefined;
  }

  /** Beyond half its life an ended entry is neither sent, hashed nor learnt: else it would circle for ever. */
  isSpreadable(ageMs: number): boolean {
    return ageMs < this.#forgetMs / 2;
  }

  isForgettable(entry: Entry, nowMonoMs: number): boolean {
    return isEnded(entry.status) && !entry.linked && nowMonoMs - entry.endedMonoMs >= this.#forgetMs;
  }

  /** Sum of the members' hashes: equal tables, equal digests. */
  digest(nowMonoMs: number): number {
    if (this.#digestOf === this.#revision && nowMonoMs - this.#digestMonoMs < 1_000) return this.#digest;
    this.#digestOf = this.#revision;
    this.#digestMonoMs = nowMonoMs;
    this.#digest = 0;
    for (const entry of this.entries.values()) {
      const view = this.viewOf(entry, nowMonoMs);
      if (view !== undefined) this.#digest = (this.#digest + viewHash(view)) >>> 0;
    }
    return this.#digest;
  }
}
