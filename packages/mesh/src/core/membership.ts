import type { Core, Instant, Random } from "@klatsch/kit/core";
import { Context } from "./context.ts";
import { Dialing, firstDialMs } from "./dialing.ts";
import { Doubts } from "./doubts.ts";
import { Inquiries } from "./inquiries.ts";
import { LinkKeeper } from "./link-keeper.ts";
import type { MemberSnapshot, MembershipEffect, MembershipInput } from "./membership-types.ts";
import type { MemberMessage, MemberRecord } from "./messages.ts";
import { Overlay, OVERLAY_OPTIONS } from "./overlay.ts";
import type { OverlayOptions } from "./overlay.ts";
import { OwnStanding } from "./own-standing.ts";
import { Probes } from "./probes.ts";
import { Roster } from "./roster.ts";
import type { Entry } from "./roster.ts";
import { RollCall } from "./roll-call.ts";
import { Snapshots } from "./snapshots.ts";
import { Standings } from "./standings.ts";
import type { MembershipTimes } from "./times.ts";
import { isEnded } from "./views.ts";

export interface MembershipInit {
  readonly self: MemberRecord;
  /** Addresses to join by, by peer. */
  readonly seeds: ReadonlyMap<string, readonly string[]>;
  readonly membersMax: number;
  readonly times: MembershipTimes;
  readonly random: Random;
  readonly overlay?: OverlayOptions | undefined;
}

/** A dial of one peer tries at most this many addresses. */
const DIAL_ADDRESSES_MAX = 16;

/** Who is there, as one node sees it: SWIM with the Lifeguard extensions over links, whoever is linked with whom. Pure. */
export class Membership implements Core<MembershipInput, MembershipEffect> {
  readonly #seeds: ReadonlyMap<string, readonly string[]>;
  readonly #context: Context;
  readonly #roster: Roster;
  readonly #dialing: Dialing;
  readonly #probes: Probes;
  readonly #standings: Standings;
  readonly #doubts: Doubts;
  readonly #own: OwnStanding;
  readonly #snapshots: Snapshots;
  readonly #keeper: LinkKeeper;
  readonly #inquiries: Inquiries;
  readonly #rollCall: RollCall;
  /** Something came that may call for more than an answer before the next tick. */
  #isPressing = false;

  constructor(init: MembershipInit, now: Instant) {
    const { times, random } = init;
    this.#seeds = init.seeds;
    this.#roster = new Roster({ membersMax: init.membersMax, forgetMs: times.forgetMs });
    const self = this.#roster.add(init.self, "alive", "self", now.monoMs, now.monoMs);
    const context = new Context(times, this.#roster, self, now);
    this.#context = context;
    this.#dialing = new Dialing(times, random, {
      unlinked: () => this.#unlinked(),
      isLinked: (peer) => this.#roster.entries.get(peer)?.linked === true,
    });
    this.#probes = new Probes({ context, random });
    const overlay = new Overlay(init.overlay ?? OVERLAY_OPTIONS, this.#roster, self);
    const probes = this.#probes;
    this.#keeper = new LinkKeeper({ context, overlay, dialing: this.#dialing, probes, random });
    this.#snapshots = new Snapshots(context);
    this.#inquiries = new Inquiries(context, this.#probes, this.#dialing);
    this.#standings = new Standings({
      context,
      probes: this.#probes,
      dialing: this.#dialing,
      keeper: this.#keeper,
      snapshots: this.#snapshots,
    });
    this.#doubts = new Doubts(context, this.#probes, this.#dialing, this.#standings);
    this.#rollCall = new RollCall(context, (entry, id, accuser) =>
      this.#doubts.suspectOrphan(entry, id, accuser),
    );
    this.#standings.onDeath = () => this.#rollCall.onDeath();
    this.#own = new OwnStanding(context, this.#standings);
    this.#wantSeeds(init);
  }

  /** Of the whole table: equal tables, equal digests. */
  get digest(): number {
    return this.#roster.digest;
  }

  /** What this node says of itself. */
  get self(): MemberRecord {
    return this.#context.self.record;
  }

  /** Everybody known, this node included. */
  members(): MemberSnapshot[] {
    return [...this.#roster.entries.values()].map((entry) => this.#context.snapshot(entry));
  }

  /** Who is alive, this node included. */
  alive(): MemberRecord[] {
    const entries = [...this.#roster.entries.values()];
    return entries.flatMap(({ status, record }) => (status === "alive" ? [record] : []));
  }

  member(peer: string): MemberSnapshot | undefined {
    const entry = this.#roster.entries.get(peer);
    return entry === undefined ? undefined : this.#context.snapshot(entry);
  }

  /** Whether a peer may become a member: it is one, or there is room, or somebody gone to forget for it. */
  hasRoomFor(peer: string): boolean {
    const { entries, hasRoom } = this.#roster;
    return entries.has(peer) || hasRoom || (this.#roster.oldestEnded ?? this.#roster.unmet) !== undefined;
  }

  /** Whether a peer that comes by itself may have a link; else it is sent to `referrals`. */
  admits(peer: string, cloud: string): boolean {
    return this.#keeper.admits(peer, cloud);
  }

  /** Members for a peer to try that was not admitted. */
  referrals(): readonly MemberRecord[] {
    return this.#keeper.referrals();
  }

  nextDeadline(): number {
    const { monoMs } = this.#context;
    const due = [this.#standings.floodAt, this.#snapshots.dueAt, this.#rollCall.dueAt];
    const dueAt = Math.min(...due.map((at) => at ?? Infinity));
    const { wantedMs } = this.#context;
    if (dueAt === Infinity) return wantedMs;
    // Not at this very instant: sums of fractions round, and a deadline just missed would come again at once.
    return Math.min(wantedMs, Math.max(this.#context.toMonoMs(dueAt), monoMs + 1));
  }

  step(input: MembershipInput, now: Instant): readonly MembershipEffect[] {
    this.#advanceTo(now);
    this.#isPressing ||= input.type !== "heard" && !(input.type === "message" && isRoutine(input.message));
    switch (input.type) {
      case "linkUp":
        this.#linkUp(input);
        break;
      case "linkDown":
        this.#linkDown(input.peer, input.reason);
        break;
      case "message":
        this.#message(input.peer, input.message);
        break;
      case "heard":
        for (const { peer, atMs, usedAtMs } of input.heard) {
          this.#heard(peer, this.#context.toCoreTime(atMs));
          const entry = this.#roster.entries.get(peer);
          if (entry !== undefined && usedAtMs !== undefined)
            entry.usedAt = this.#context.toCoreTime(usedAtMs);
        }
        break;
      case "dialed":
        this.#dialed(input.peer, input.outcome);
        break;
      case "turnedAway":
        this.#roster.candidates.delete(input.peer);
        this.#dialing.leaveAlone(input.peer, this.#context.now);
        break;
      case "busy":
        this.#keeper.onBusy(input.peer, input.records);
        break;
      case "attend":
        this.#keeper.attend(input.peer, input.on, input.closely);
        break;
      case "ask":
        this.#inquiries.ask(input.id, input.peer, input.boot);
        break;
      case "booted":
        // Whoever turned the old boot away may be tried again.
        if (this.#own.booted(input.boot))
          for (const peer of this.#unlinked()) this.#dialing.want(peer, this.#context.now);
        break;
      case "retag":
        this.#own.retag(input.tags);
        break;
      case "depart":
        this.#own.depart(input.status);
        break;
      case "tick":
        break;
    }
    return this.#context.take();
  }

  flush(now: Instant): readonly MembershipEffect[] {
    this.#advanceTo(now);
    this.#own.settleFarewell();
    const isDue = now.monoMs >= this.#context.wantedMs;
    let restMs = this.#context.times.tickMs;
    if (!this.#own.isDeparting && (this.#isPressing || isDue)) restMs = this.#work();
    const isNews = this.#isPressing || isDue;
    this.#isPressing = false;
    this.#standings.flood();
    this.#snapshots.work();
    // Kept until it has passed, or calm is over: a new deadline with each message would arm a timer with each message.
    const wantedMs = now.monoMs + restMs;
    if (isDue || (isNews && wantedMs < this.#context.wantedMs)) this.#context.wantedMs = wantedMs;
    return this.#context.take();
  }

  /** M3: after a sleep, rounds that were open prove nothing. */
  #advanceTo(now: Instant): void {
    if (!this.#context.advanceTo(now)) return;
    for (const entry of this.#roster.active) {
      if (entry.round !== undefined) this.#probes.schedule(entry, this.#context.now);
    }
  }

  /** Looks at whatever time may have changed; how long it may be until the next look. */
  #work(): number {
    const { now, times, health } = this.#context;
    health.recover(now);
    const factor = this.#roster.linked.size === 0 ? times.isolatedFactor : health.factor;
    this.#keeper.work();
    this.#probes.rank(now);
    this.#probes.missWatcher(now);
    this.#probes.expire(now);
    for (const entry of this.#roster.active) {
      if (!isEnded(entry.status)) this.#doubts.watch(entry, factor);
      else this.#standings.remind(entry);
      if (!this.#isActive(entry)) this.#roster.active.delete(entry);
    }
    this.#inquiries.work();
    this.#rollCall.work();
    this.#standings.forgetDue();
    this.#standings.learnDue();
    for (const [peer, { since }] of this.#roster.candidates) {
      if (now - since < times.unverifiedMs) continue;
      this.#roster.candidates.delete(peer);
      this.#dialing.forget(peer);
    }
    this.#own.refuteIfDue();
    for (const peer of this.#dialing.due(now)) this.#dial(peer);
    return this.#restMs();
  }

  /** How long nothing has to be looked at, if no news comes. */
  #restMs(): number {
    const { now, times, health } = this.#context;
    const isBusy = this.#inquiries.areOpen || this.#own.isRefuting || this.#roster.candidates.size > 0;
    if (isBusy || health.factor > 1) return times.tickMs;
    let dueAt = Math.min(now + times.calmTickMs, this.#dialing.dueAt);
    for (const entry of this.#roster.active) {
      if (!isCalm(entry, now)) return times.tickMs;
      if (entry.round === undefined) dueAt = Math.min(dueAt, entry.probeAt);
    }
    return Math.max(times.tickMs, dueAt - now);
  }

  #linkUp({ peer, link, record, digest }: Extract<MembershipInput, { type: "linkUp" }>): void {
    const { now, monoMs } = this.#context;
    const known = this.#roster.entries.get(peer);
    if (known === undefined && !this.#standings.makeRoom(true)) {
      this.#context.effect({ type: "disconnect", peer, reason: "no room for more members" });
      return;
    }
    const isSame = digest === this.#roster.digest;
    const entry = known ?? this.#roster.add(record, "alive", "direct", monoMs, monoMs);
    this.#roster.setLinked(entry, true);
    this.#keeper.onLinkUp(entry);
    entry.neighbour = true;
    entry.gone = undefined;
    entry.isHidden = false;
    entry.refusedAt = undefined;
    entry.differsSince = undefined;
    if (known === undefined) {
      this.#context.emitMember("joined", entry);
      this.#standings.markDirty(peer, peer);
    } else this.#standings.greet(entry, { ...record, status: "alive", ageMs: 0 });
    if (entry.status === "alive") entry.evidence = "direct";
    this.#heard(peer, now);
    this.#probes.schedule(entry, now);
    this.#context.emit({ type: "linkUp", peer, link });
    // The whole table, our view of the peer itself included: it may have to refute that. Whoever greeted us with
    // the same has it, and sends us what it learnt since.
    if (!isSame) this.#snapshots.offer(entry);
  }

  #linkDown(peer: string, reason: string): void {
    const entry = this.#roster.entries.get(peer);
    if (entry?.linked !== true) return;
    this.#roster.setLinked(entry, false);
    entry.lostAt = this.#context.now;
    const agreed = this.#keeper.onLinkDown(entry);
    this.#snapshots.onLinkDown(peer);
    this.#context.emit({ type: "linkDown", peer, reason });
    this.#own.onLinkDown(peer);
    this.#standings.onLinkDown(entry);
    if (isEnded(entry.status) || this.#own.isDeparting) return;
    if (agreed) {
      // It says nothing about the member, and we are its neighbour no longer.
      entry.neighbour = false;
      this.#probes.schedule(entry, this.#context.now);
      return;
    }
    this.#dialing.want(peer, this.#context.now);
    this.#probes.hasten(entry, this.#context.now);
    if (this.#roster.linked.size === 0) this.#context.emit({ type: "isolated" });
  }

  /** A frame came directly from this member, at core time `at`. */
  #heard(peer: string, at: number): void {
    const entry = this.#roster.entries.get(peer);
    if (entry === undefined || at <= entry.heardAt) return;
    entry.heardAt = at;
    entry.muteRounds = 0;
    this.#probes.onHeard(entry, this.#context.now);
    this.#doubts.heard(entry, at);
  }

  #message(peer: string, message: MemberMessage): void {
    const from = this.#roster.entries.get(peer);
    if (from?.linked !== true) return;
    const { now, selfPeer } = this.#context;
    this.#heard(peer, now);
    switch (message.type) {
      case "ping":
        this.#context.send(peer, { type: "ack", nonce: message.nonce, hash: this.#roster.digest });
        this.#standings.compareDigest(from, message.hash);
        return;
      case "ack":
        this.#probes.onAck(from, message.nonce, now);
        this.#own.onAck(peer, message.nonce);
        this.#standings.compareDigest(from, message.hash);
        return;
      case "pingReq":
        this.#probes.onRequest(peer, message.nonce, message.target, now);
        return;
      case "indirectAck":
        this.#probes.onIndirectAck(message.nonce, now);
        return;
      case "suspect":
        if (message.subject === selfPeer) this.#own.onSuspect(message.boot, message.inc);
        else this.#doubts.onSuspect(peer, message);
        return;
      case "heard":
        this.#doubts.onHeard(peer, message);
        return;
      case "gone":
        this.#doubts.onGone(peer, message);
        return;
      case "views":
        for (const view of message.views) {
          if (view.peer === selfPeer) this.#own.learn(view, peer);
          else this.#standings.learn(view, peer);
        }
        return;
      case "buckets":
        this.#snapshots.onBuckets(from, message.hashes);
        return;
      case "neighbours":
        this.#keeper.onNeighbours(from, message.hashes);
        return;
      case "present":
        this.#rollCall.onPresent(from, message.hashes);
        return;
      case "closeRequest":
        this.#keeper.onCloseRequest(from);
        return;
      case "closeOk":
      case "closeNo":
        this.#keeper.onCloseAnswer(from, message.type === "closeOk");
        return;
    }
  }

  #dial(peer: string): void {
    const addresses = new Set([
      ...(this.#roster.entries.get(peer)?.record.addresses ?? []),
      ...(this.#roster.candidates.get(peer)?.record.addresses ?? []),
      ...(this.#seeds.get(peer) ?? []),
    ]);
    if (addresses.size === 0) this.#dialing.done(peer, false, false, this.#context.now);
    else this.#context.effect({ type: "dial", peer, addresses: [...addresses].slice(0, DIAL_ADDRESSES_MAX) });
  }

  #dialed(peer: string, outcome: "connected" | "refused" | "failed"): void {
    const { now } = this.#context;
    const entry = this.#roster.entries.get(peer);
    const isUnlinked = entry !== undefined && !entry.linked && !isEnded(entry.status);
    const isMissed = (entry: Entry): boolean =>
      this.#keeper.isFull || entry.wanted !== undefined || this.#doubts.isNeighbour(entry);
    const isWatched = isUnlinked && isMissed(entry);
    const isWanted = isWatched || (entry === undefined && this.#isWantedStranger(peer));
    this.#dialing.done(peer, outcome === "connected", isWanted, now);
    if (!isUnlinked || outcome === "connected") return;
    this.#keeper.onDialFailed(entry);
    this.#doubts.dialFailed(entry, outcome === "refused");
  }

  #isWantedStranger(peer: string): boolean {
    return this.#roster.candidates.has(peer) || (this.#roster.linked.size === 0 && this.#seeds.has(peer));
  }

  /** Whether time changes anything about it. */
  #isActive(entry: Entry): boolean {
    if (entry.linked) return true;
    if (isEnded(entry.status)) return false;
    const isHeld = entry.hearsay !== undefined && entry.hearsay.deniedBy === undefined;
    return isHeld || entry.suspicion !== undefined || entry.gone !== undefined || entry.probeAt !== Infinity;
  }

  #wantSeeds({ seeds, self, times, random }: MembershipInit): void {
    const at = firstDialMs(seeds.size, times, random);
    for (const peer of seeds.keys()) if (peer !== self.peer) this.#dialing.want(peer, at);
  }

  /** Everybody worth a dial now and then: whoever we miss, and whoever may come back. */
  #unlinked(): string[] {
    const { roster, self } = this.#context;
    const members = this.#keeper.isFull ? roster.entries.values() : [...roster.ended, ...roster.active];
    const isWanted = (entry: Entry): boolean =>
      !entry.linked &&
      entry !== self &&
      entry.status !== "left" &&
      (this.#keeper.isFull || isEnded(entry.status) || entry.wanted !== undefined);
    const strangers = [...this.#seeds.keys(), ...roster.candidates.keys()].filter(
      (peer) => peer !== self.record.peer && !roster.entries.has(peer),
    );
    const missed = [...members].filter(isWanted).map(({ record }) => record.peer);
    return [...new Set([...missed, ...strangers])];
  }
}

/** In touch, and neither doubted nor asked for an answer that has yet to come. */
function isCalm({ linked, status, round, gone, hearsay, wanted }: Entry, now: number): boolean {
  const isWaiting = round !== undefined && round.startedAt < now;
  const isDoubted = status !== "alive" || gone !== undefined || hearsay !== undefined;
  return linked && !isWaiting && !isDoubted && wanted !== "attended";
}

/** Messages that are answered, or noted, and change nothing else. */
function isRoutine(message: MemberMessage): boolean {
  return message.type === "ping" || message.type === "ack" || message.type === "neighbours";
}
