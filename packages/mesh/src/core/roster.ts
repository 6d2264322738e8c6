import type { MemberRecord, View, ViewStatus } from "./messages.ts";
import type { Suspicion } from "./suspicion.ts";
import { hash32, isEnded, viewHash } from "./views.ts";
import type { Status } from "./views.ts";

/** A third party's word that a member is dead, which we had no reason to think ourselves. */
export interface Hearsay {
  readonly view: View;
  readonly from: string;
  /** Core time of when it came. */
  readonly since: number;
  /** Core time of when others were last asked about it. */
  askedAt: number;
  /** Who heard the member since: the same word is not passed on again for a while. */
  deniedBy: string | undefined;
}

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
  /** Rounds since then that only others had an answer to. */
  muteRounds: number;
  suspicion: Suspicion | undefined;
  /** Ids of suspicions that a witness took back, oldest first: a copy still on its way must not revive one. */
  settledIds: Set<string> | undefined;
  round: Round | undefined;
  probeAt: number;
  /** Place among the watchers of this member: 0 and 1 probe often. */
  rank: number;
  /** When we last pinged it; bounds how often a suspect is pinged. */
  pingedAt: number;
  smoothedMs: number | undefined;
  /** Who found all its addresses refusing, and under which id. */
  gone: Map<string, string> | undefined;
  /** Core time at which enough of them had. */
  goneAt: number | undefined;
  /** Core time at which we last said so. */
  goneToldAt: number;
  /** When all addresses first refused us, since the link was lost. */
  refusedAt: number | undefined;
  /** Its addresses refused us while others heard it: until we are linked with it again, that they do says nothing. */
  isHidden: boolean;
  /** Core time of our last dial of it, if all addresses refused us then. */
  refusedLastAt: number;
  /** Core time of our last dial of it that failed. */
  dialFailedAt: number;
  /** Dials that failed in a row. */
  dialFailures: number;
  /** The overlay looks for others before this. */
  avoidUntil: number;
  linkedAt: number;
  /** Core time at which a channel last used the link, in either direction. */
  usedAt: number;
  /** Both ends agree to close the link, or one has asked: its end says nothing about the member. */
  isClosing: boolean;
  /** Core time at which it was last told our digests. */
  offeredAt: number;
  differsSince: number | undefined;
  repairedAt: number;
  /** Hashes of the members it says it is linked with; `undefined` before it has said so. */
  neighbours: readonly number[] | undefined;
  /** Core time at which our own link to it ended; −∞ if we had none. */
  lostAt: number;
  /** Core time at which somebody in touch with it last said that it is there; −∞ if nobody did. */
  vouchedAt: number;
  /** Why the overlay wants a link with it, if it does; see `Overlay`. */
  wanted: "ring" | "full" | "gateway" | "kept" | "attended" | undefined;
  /** Hash of its peer id. */
  readonly hash: number;
  /** What it adds to the digests now. */
  share: number;
  /** How it last travelled, as long as nothing has changed. */
  sent: View | undefined;
}

/** Settled ids kept per member: far more than can be on their way at once. */
const SETTLED_IDS_MAX = 128;

/** Remembers that a suspicion is over. `false` if that is known. */
export function settleId(entry: Entry, id: string): boolean {
  entry.settledIds ??= new Set();
  const ids = entry.settledIds;
  if (ids.has(id)) return false;
  const [oldest] = ids;
  if (oldest !== undefined && ids.size >= SETTLED_IDS_MAX) ids.delete(oldest);
  ids.add(id);
  return true;
}

/** Buckets of the table, by hash of the peer: where two tables differ, only these travel. */
export const BUCKETS = 64;

export function bucketOf(entry: Entry): number {
  return entry.hash % BUCKETS;
}

/** A peer that only a third party told of: dialled, but not a member before it greeted us itself. */
export interface Candidate {
  readonly record: MemberRecord;
  since: number;
}

/**
 * The membership table: this node, all it knows, and candidates apart. Most members are of no concern at any
 * moment: those that are have indexes, so that time costs nothing for the rest.
 */
export class Roster {
  readonly entries: Map<string, Entry> = new Map();
  readonly candidates: Map<string, Candidate> = new Map();
  /** Members we have a link to. */
  readonly linked: Set<Entry> = new Set();
  /** Members that time changes something about: linked, doubted, or to be probed. */
  readonly active: Set<Entry> = new Set();
  readonly ended: Set<Entry> = new Set();
  readonly #byHash = new Map<number, Entry>();
  readonly #membersMax: number;
  readonly #forgetMs: number;
  readonly #buckets: Uint32Array = new Uint32Array(BUCKETS);
  #digest = 0;
  #revision = 0;
  #liveRevision = 0;
  #sweptMonoMs = 0;

  constructor(init: { readonly membersMax: number; readonly forgetMs: number }) {
    this.#membersMax = init.membersMax;
    this.#forgetMs = init.forgetMs;
  }

  /** Grows with each change of a link, of a neighbour list, or of who is there. */
  get revision(): number {
    return this.#revision;
  }

  /** Grows with each change of who is there. */
  get liveRevision(): number {
    return this.#liveRevision;
  }

  /** Members that have not ended, this node included. */
  get liveCount(): number {
    return this.entries.size - this.ended.size;
  }

  get hasRoom(): boolean {
    return this.entries.size < this.#membersMax;
  }

  /** Sum of the members' hashes: equal tables, equal digests. */
  get digest(): number {
    return this.#digest;
  }

  /** The same for each bucket. */
  get bucketDigests(): readonly number[] {
    return [...this.#buckets];
  }

  /** The ended entry that could go first, were there no room for the living. */
  get oldestEnded(): Entry | undefined {
    let oldest: Entry | undefined;
    for (const entry of this.ended) {
      if (entry.linked || entry.evidence === "self") continue;
      if (oldest === undefined || entry.endedMonoMs < oldest.endedMonoMs) oldest = entry;
    }
    return oldest;
  }

  /** One that we never were in touch with and cannot reach: a list full of such must not keep out who is at the door. */
  get unmet(): Entry | undefined {
    for (const entry of this.entries.values()) {
      const { linked, neighbour, heardAt, status, dialFailures } = entry;
      const isUnmet = !linked && !neighbour && heardAt === -Infinity;
      if (isUnmet && (status === "suspect" || dialFailures > 0)) return entry;
    }
    return undefined;
  }

  byHash(hash: number): Entry | undefined {
    return this.#byHash.get(hash);
  }

  /** Links or neighbour lists have changed. */
  touch(): void {
    this.#revision += 1;
  }

  /** Something about this member has changed that others see, or its place in the indexes. */
  changed(entry: Entry, nowMonoMs: number): void {
    const wasEnded = this.ended.has(entry);
    const ended = isEnded(entry.status);
    if (ended !== wasEnded) {
      this.#revision += 1;
      this.#liveRevision += 1;
      if (ended) this.ended.add(entry);
      else this.ended.delete(entry);
    }
    entry.sent = undefined;
    this.#share(entry, nowMonoMs);
  }

  /** Links that the mesh has for itself: who is linked because somebody here asked for it is beside its limits. */
  get meshLinks(): number {
    let count = 0;
    for (const { wanted } of this.linked) if (wanted !== "kept" && wanted !== "attended") count += 1;
    return count;
  }

  setLinked(entry: Entry, linked: boolean): void {
    entry.linked = linked;
    if (linked) this.linked.add(entry);
    else this.linked.delete(entry);
    this.active.add(entry);
    this.#revision += 1;
  }

  add(
    record: MemberRecord,
    status: Status,
    evidence: Evidence,
    endedMonoMs: number,
    nowMonoMs: number,
  ): Entry {
    const entry: Entry = {
      record,
      status,
      evidence,
      endedMonoMs,
      linked: false,
      neighbour: false,
      voucher: undefined,
      reportedEnd: undefined,
      hearsay: undefined,
      deadInc: status === "dead" ? record.inc : undefined,
      heardAt: -Infinity,
      muteRounds: 0,
      suspicion: undefined,
      settledIds: undefined,
      round: undefined,
      probeAt: Infinity,
      rank: 0,
      pingedAt: -Infinity,
      smoothedMs: undefined,
      gone: undefined,
      goneAt: undefined,
      goneToldAt: -Infinity,
      refusedAt: undefined,
      isHidden: false,
      refusedLastAt: -Infinity,
      dialFailedAt: -Infinity,
      dialFailures: 0,
      avoidUntil: -Infinity,
      linkedAt: -Infinity,
      usedAt: -Infinity,
      isClosing: false,
      offeredAt: -Infinity,
      differsSince: undefined,
      repairedAt: -Infinity,
      neighbours: undefined,
      lostAt: -Infinity,
      vouchedAt: -Infinity,
      wanted: undefined,
      hash: hash32(record.peer),
      share: 0,
      sent: undefined,
    };
    this.entries.set(record.peer, entry);
    this.#byHash.set(entry.hash, entry);
    this.candidates.delete(record.peer);
    this.#liveRevision += 1;
    this.changed(entry, nowMonoMs);
    return entry;
  }

  /** Keeps a third party's word for a while. */
  propose(record: MemberRecord, at: number): void {
    const known = this.candidates.get(record.peer);
    if (known === undefined && this.candidates.size >= this.#membersMax) return;
    this.candidates.set(record.peer, { record, since: known?.since ?? at });
  }

  remove(entry: Entry): void {
    this.entries.delete(entry.record.peer);
    this.#byHash.delete(entry.hash);
    this.linked.delete(entry);
    this.active.delete(entry);
    this.ended.delete(entry);
    this.#put(entry, 0);
    this.#revision += 1;
    this.#liveRevision += 1;
  }

  /** An entry as it travels; `undefined` for what is too old to be spread. */
  viewOf(entry: Entry, nowMonoMs: number): View | undefined {
    const status: ViewStatus = entry.status === "suspect" ? "alive" : entry.status;
    if (!isEnded(status)) return (entry.sent ??= { ...entry.record, status, ageMs: 0 });
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

  /** Lets what is too old fall out of the digests; who can be forgotten. At most once in a second. */
  sweep(nowMonoMs: number): readonly Entry[] {
    if (nowMonoMs - this.#sweptMonoMs < SWEEP_MS) return [];
    this.#sweptMonoMs = nowMonoMs;
    const forgettable: Entry[] = [];
    for (const entry of this.ended) {
      if (this.isForgettable(entry, nowMonoMs)) forgettable.push(entry);
      else if (entry.share !== 0) this.#share(entry, nowMonoMs);
    }
    return forgettable;
  }

  #share(entry: Entry, nowMonoMs: number): void {
    const isHashed = !isEnded(entry.status) || this.isSpreadable(nowMonoMs - entry.endedMonoMs);
    const { boot, inc } = entry.record;
    this.#put(entry, isHashed ? viewHash(entry.hash, { boot, inc, status: entry.status }) : 0);
  }

  #put(entry: Entry, share: number): void {
    const bucket = bucketOf(entry);
    const difference = share - entry.share;
    entry.share = share;
    this.#digest = (this.#digest + difference) >>> 0;
    this.#buckets[bucket] = ((this.#buckets[bucket] ?? 0) + difference) >>> 0;
  }
}

/** Between two looks at who has been gone for how long, in milliseconds. */
const SWEEP_MS = 1_000;
