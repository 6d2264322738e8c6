import { randomBelow } from "@klatsch/kit/core";
import type { Random } from "@klatsch/kit/core";
import type { Context } from "./context.ts";
import type { Dialing } from "./dialing.ts";
import type { MemberRecord } from "./messages.ts";
import type { Overlay } from "./overlay.ts";
import type { Probes } from "./probes.ts";
import type { Entry } from "./roster.ts";
import { isEnded } from "./views.ts";

/** Peers a busy node names instead of itself. */
const REFERRALS = 30;
/** Of those, this many are dialled at once. */
const REFERRALS_DIALED = 3;
/** Links taken beyond those wanted: as many again. */
const SURPLUS_FACTOR = 2;

/** Has the links that the overlay wants, and no more than that for long. */
export class LinkKeeper {
  readonly #context: Context;
  readonly #overlay: Overlay;
  readonly #dialing: Dialing;
  readonly #probes: Probes;
  readonly #random: Random;
  /** How many want a link with a peer, and how many of them want it watched closely. */
  readonly #attended = new Map<string, { count: number; closely: number }>();
  #wanted = new Set<Entry>();
  #plannedRevision = -1;
  #plannedAt = -Infinity;
  #replanAt = Infinity;
  #thinnedAt = 0;
  /** When our neighbours are told whom we are linked with. */
  #tellAt = Infinity;
  #toldAt = -Infinity;
  #isTold = true;

  constructor(init: {
    readonly context: Context;
    readonly overlay: Overlay;
    readonly dialing: Dialing;
    readonly probes: Probes;
    readonly random: Random;
  }) {
    this.#context = init.context;
    this.#overlay = init.overlay;
    this.#dialing = init.dialing;
    this.#probes = init.probes;
    this.#random = init.random;
  }

  /** Everybody links to everybody. */
  get isFull(): boolean {
    return this.#overlay.isFull;
  }

  /** Goes on: plans anew after a change, closes what is too much, tells neighbours. */
  work(): void {
    this.#plan();
    this.#thinOut();
    this.#tell();
  }

  /** Whether a peer that comes by itself may have a link. */
  admits(peer: string, cloud: string): boolean {
    const { meshLinks, entries } = this.#context.roster;
    if (meshLinks < this.#overlay.degree * SURPLUS_FACTOR) return true;
    return entries.get(peer)?.wanted !== undefined || this.#overlay.wouldWant(peer, cloud);
  }

  /** Members to try instead of this busy one. */
  referrals(): readonly MemberRecord[] {
    const alive: MemberRecord[] = [];
    for (const { status, record } of this.#context.roster.entries.values()) {
      if (status === "alive" && record.dialOnly !== true && record.addresses.length > 0) alive.push(record);
    }
    return Array.from({ length: Math.min(REFERRALS, alive.length) }, () => {
      const [record] = alive.splice(randomBelow(this.#random, alive.length), 1);
      return record as MemberRecord;
    });
  }

  /** A busy peer named others. */
  onBusy(peer: string, records: readonly MemberRecord[]): void {
    const { roster, now, times, selfPeer } = this.#context;
    this.#dialing.leaveAlone(peer, now, times.busyMs);
    if (roster.meshLinks >= REFERRALS_DIALED) return;
    const others = records.filter((record) => record.peer !== selfPeer && record.peer !== peer);
    for (let count = 0; count < REFERRALS_DIALED && others.length > 0; count += 1) {
      const [record] = others.splice(randomBelow(this.#random, others.length), 1);
      if (record === undefined || roster.entries.get(record.peer)?.linked === true) continue;
      if (!roster.entries.has(record.peer)) roster.propose(record, now);
      this.#dialing.want(record.peer, now);
    }
  }

  /** Somebody here needs a direct link with this peer, or does not any more. */
  attend(peer: string, on: boolean, closely: boolean): void {
    const wish = this.#attended.get(peer) ?? { count: 0, closely: 0 };
    const step = on ? 1 : -1;
    wish.count += step;
    if (closely) wish.closely += step;
    if (wish.count > 0) this.#attended.set(peer, wish);
    else this.#attended.delete(peer);
    this.#replanAt = this.#context.now;
  }

  onLinkUp(entry: Entry): void {
    entry.linkedAt = this.#context.now;
    entry.isClosing = false;
    entry.dialFailures = 0;
    entry.avoidUntil = -Infinity;
    this.#tellSoon();
  }

  /** `true`: both ends had agreed on it. */
  onLinkDown(entry: Entry): boolean {
    this.#tellSoon();
    const agreed = entry.isClosing;
    entry.isClosing = false;
    // Agreed while it was planned anew.
    if (entry.wanted !== undefined) this.#dialing.want(entry.record.peer, this.#context.now);
    return agreed && entry.wanted === undefined;
  }

  /** A dial failed: the overlay tries others before long. */
  onDialFailed(entry: Entry): void {
    const { now, times } = this.#context;
    entry.dialFailures += 1;
    if (this.isFull || entry.dialFailures < times.avoidAfter) return;
    entry.avoidUntil =
      now + Math.min(times.avoidMs[0] * 2 ** (entry.dialFailures - times.avoidAfter), times.avoidMs[1]);
    this.#replanAt = now;
  }

  onCloseRequest(entry: Entry): void {
    const agreed = this.#isSurplus(entry, 0);
    entry.isClosing = agreed;
    this.#context.send(entry.record.peer, { type: agreed ? "closeOk" : "closeNo" });
  }

  onCloseAnswer(entry: Entry, agreed: boolean): void {
    if (!entry.isClosing) return;
    entry.isClosing = agreed && entry.wanted === undefined;
    if (entry.isClosing)
      this.#context.effect({ type: "disconnect", peer: entry.record.peer, reason: "no longer needed" });
    else entry.linkedAt = this.#context.now; // It is asked again after another while.
  }

  onNeighbours(entry: Entry, hashes: readonly number[]): void {
    entry.neighbours = hashes;
    this.#context.roster.touch();
  }

  #plan(): void {
    const { roster, now, times } = this.#context;
    const isStale = this.#plannedRevision !== roster.liveRevision || now >= this.#replanAt;
    if (!isStale || now < this.#plannedAt + times.planMs) return;
    this.#plannedRevision = roster.liveRevision;
    this.#plannedAt = now;
    this.#replanAt = Infinity;
    const wasFull = this.isFull;
    const wants = this.#overlay.plan(now);
    const wanted = new Set<Entry>(wants.keys());
    for (const peer of this.#attended.keys()) {
      const entry = roster.entries.get(peer);
      if (entry !== undefined && !isEnded(entry.status)) wanted.add(entry);
    }
    for (const entry of this.#wanted) {
      if (!wanted.has(entry)) this.#release(entry);
    }
    this.#wanted = wanted;
    for (const entry of wanted) {
      const want = wants.get(entry);
      const isNew = entry.wanted === undefined;
      const wish = this.#attended.get(entry.record.peer);
      entry.wanted = wish === undefined ? want?.why : wish.closely > 0 ? "attended" : (want?.why ?? "kept");
      if (!isNew || entry.linked) continue;
      this.#probes.schedule(entry, now);
      if (wish !== undefined)
        this.#dialing.want(entry.record.peer, this.#isHasty(wish, entry) ? now : now + times.patienceMs);
      // A full mesh is dialled as its members become known.
      else if (want?.why !== "full" || !wasFull)
        this.#dialing.want(entry.record.peer, want?.isDialer === true ? now : now + times.patienceMs);
    }
    this.#forgetDials(wasFull);
    for (const entry of roster.active)
      if (entry.avoidUntil > now) this.#replanAt = Math.min(this.#replanAt, entry.avoidUntil);
  }

  /** Of two that keep each other one dials first. */
  #isHasty({ closely }: { readonly closely: number }, { record }: Entry): boolean {
    return closely > 0 || this.#context.selfPeer < record.peer;
  }

  /** What a full mesh wanted to dial is nobody's wish any more. */
  #forgetDials(wasFull: boolean): void {
    if (!wasFull || this.isFull) return;
    for (const entry of this.#context.roster.entries.values()) {
      if (!entry.linked && entry.wanted === undefined && !isEnded(entry.status))
        this.#dialing.forget(entry.record.peer);
    }
  }

  #release(entry: Entry): void {
    entry.wanted = undefined;
    if (entry.linked) return;
    if (!isEnded(entry.status)) this.#dialing.forget(entry.record.peer);
    if (entry.round === undefined) this.#probes.schedule(entry, this.#context.now);
  }

  /** One at a time: a link that neither end wants is closed. */
  #thinOut(): void {
    const { roster, now, times } = this.#context;
    if (this.isFull || now < this.#thinnedAt + times.thinMs) return;
    this.#thinnedAt = now;
    const isTooMany = roster.meshLinks > this.#overlay.degree * SURPLUS_FACTOR;
    const idleMs = isTooMany ? times.crowdedMs : times.idleMs;
    for (const entry of roster.linked) {
      if (entry.isClosing || !this.#isSurplus(entry, idleMs)) continue;
      entry.isClosing = true;
      this.#context.send(entry.record.peer, { type: "closeRequest" });
      return;
    }
  }

  #isSurplus(entry: Entry, idleMs: number): boolean {
    const { now, times } = this.#context;
    if (entry.wanted !== undefined || this.isFull || entry.suspicion !== undefined) return false;
    return (
      now - entry.linkedAt >= idleMs &&
      now - entry.usedAt >= Math.min(times.idleMs, Math.max(idleMs, times.usedMs))
    );
  }

  #tellSoon(): void {
    const { now, times } = this.#context;
    const [soonMs, againMs] = times.tellMs;
    this.#isTold = false;
    this.#tellAt = Math.min(this.#tellAt, Math.max(now + soonMs, this.#toldAt + againMs));
  }

  /** Twice after a change, lest the first be lost, and then now and then. */
  #tell(): void {
    const { roster, now, times } = this.#context;
    if (now < this.#tellAt) return;
    const [, againMs, seldomMs] = times.tellMs;
    this.#tellAt = now + (this.#isTold ? seldomMs : againMs);
    this.#isTold = true;
    this.#toldAt = now;
    const hashes = [...roster.linked].map(({ hash }) => hash);
    this.#context.sendAll({ type: "neighbours", hashes });
  }
}
