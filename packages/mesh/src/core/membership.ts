import type { Core, Instant, Random } from "@klatsch/kit/core";
import { Context } from "./context.ts";
import { Dialing } from "./dialing.ts";
import { Doubts } from "./doubts.ts";
import type { MemberSnapshot, MembershipEffect, MembershipInput } from "./membership-types.ts";
import type { MemberMessage, MemberRecord } from "./messages.ts";
import { OwnStanding } from "./own-standing.ts";
import { Probes } from "./probes.ts";
import { Roster } from "./roster.ts";
import type { Entry } from "./roster.ts";
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
}

/** A dial of one peer tries at most this many addresses. */
const DIAL_ADDRESSES_MAX = 16;

/** Who is there, as one node sees it: SWIM with the Lifeguard extensions over links, for a full mesh. Pure. */
export class Membership implements Core<MembershipInput, MembershipEffect> {
  readonly #seeds: ReadonlyMap<string, readonly string[]>;
  readonly #context: Context;
  readonly #roster: Roster;
  readonly #dialing: Dialing;
  readonly #probes: Probes;
  readonly #standings: Standings;
  readonly #doubts: Doubts;
  readonly #own: OwnStanding;
  #links = 0;

  constructor(init: MembershipInit, now: Instant) {
    const { times, random } = init;
    this.#seeds = init.seeds;
    this.#roster = new Roster({ membersMax: init.membersMax, forgetMs: times.forgetMs });
    const self = this.#roster.add(init.self, "alive", "self", now.monoMs);
    const context = new Context(times, this.#roster, self, now);
    this.#context = context;
    this.#dialing = new Dialing(times, random, {
      unlinked: () => this.#unlinked(),
      isLinked: (peer) => this.#roster.entries.get(peer)?.linked === true,
    });
    this.#probes = new Probes({ context, random });
    this.#standings = new Standings(context, this.#probes, this.#dialing);
    this.#doubts = new Doubts(context, this.#probes, this.#dialing, this.#standings);
    this.#own = new OwnStanding(context, this.#standings);
    for (const peer of init.seeds.keys()) if (peer !== init.self.peer) this.#dialing.want(peer, 0);
  }

  /** Of the whole table: equal tables, equal digests. */
  get digest(): number {
    return this.#roster.digest(this.#context.monoMs);
  }

  /** What this node says of itself. */
  get self(): MemberRecord {
    return this.#context.self.record;
  }

  /** Everybody known, this node included. */
  members(): MemberSnapshot[] {
    return [...this.#roster.entries.values()].map((entry) => this.#context.snapshot(entry));
  }

  member(peer: string): MemberSnapshot | undefined {
    const entry = this.#roster.entries.get(peer);
    return entry === undefined ? undefined : this.#context.snapshot(entry);
  }

  /** Whether a peer may become a member: it is one, or there is room, or somebody gone to forget for it. */
  hasRoomFor(peer: string): boolean {
    return this.#roster.entries.has(peer) || this.#roster.hasRoom || this.#roster.oldestEnded !== undefined;
  }

  nextDeadline(): number {
    const { monoMs, times } = this.#context;
    const tickAt = monoMs + times.tickMs;
    const { floodAt } = this.#standings;
    if (floodAt === undefined) return tickAt;
    // Not at this very instant: sums of fractions round, and a deadline just missed would come again at once.
    return Math.min(tickAt, Math.max(this.#context.toMonoMs(floodAt), monoMs + 1));
  }

  step(input: MembershipInput, now: Instant): readonly MembershipEffect[] {
    this.#advanceTo(now);
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
        for (const { peer, atMs } of input.heard) this.#heard(peer, this.#context.toCoreTime(atMs));
        break;
      case "dialed":
        this.#dialed(input.peer, input.outcome);
        break;
      case "turnedAway":
        this.#roster.candidates.delete(input.peer);
        this.#dialing.leaveAlone(input.peer, this.#context.now);
        break;
      case "booted":
        // Whoever turned the old boot away may be tried again.
        if (this.#own.booted(input.boot))
          for (const peer of this.#unlinked()) this.#dialing.want(peer, this.#context.now);
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
    if (!this.#own.isDeparting) this.#work();
    this.#standings.flood();
    return this.#context.take();
  }

  /** M3: after a sleep, rounds that were open prove nothing. */
  #advanceTo(now: Instant): void {
    if (!this.#context.advanceTo(now)) return;
    for (const entry of this.#roster.entries.values()) {
      if (entry.round !== undefined) this.#probes.schedule(entry, this.#context.now);
    }
  }

  #work(): void {
    const { now, times, self } = this.#context;
    const factor = this.#links === 0 ? times.isolatedFactor : 1;
    this.#probes.rank(now);
    this.#probes.expire(now);
    for (const entry of this.#roster.entries.values()) {
      if (entry === self) continue;
      if (isEnded(entry.status)) this.#standings.forgetIfDue(entry);
      else this.#doubts.watch(entry, factor);
    }
    for (const [peer, { since }] of this.#roster.candidates) {
      if (now - since < times.unverifiedMs) continue;
      this.#roster.candidates.delete(peer);
      this.#dialing.forget(peer);
    }
    this.#own.refuteIfDue();
    for (const peer of this.#dialing.due(now)) this.#dial(peer);
  }

  #linkUp({ peer, link, record, digest }: Extract<MembershipInput, { type: "linkUp" }>): void {
    const { now, monoMs } = this.#context;
    const known = this.#roster.entries.get(peer);
    if (known === undefined && !this.#standings.makeRoom()) {
      this.#context.effect({ type: "disconnect", peer, reason: "no room for more members" });
      return;
    }
    const isSame = digest === this.#roster.digest(monoMs);
    const entry = known ?? this.#roster.add(record, "alive", "direct", monoMs);
    if (!entry.linked) this.#links += 1;
    entry.linked = true;
    entry.neighbour = true;
    entry.gone.clear();
    entry.refusedAt = undefined;
    entry.differsSince = undefined;
    if (known === undefined) {
      this.#context.emitMember("joined", entry);
      this.#standings.markDirty(peer, peer);
    } else this.#standings.greet(entry, { ...record, status: "alive", ageMs: 0 });
    if (entry.status === "alive") entry.evidence = "direct";
    this.#heard(peer, now);
    this.#probes.schedule(entry, now);
    this.#roster.touch();
    this.#context.emit({ type: "linkUp", peer, link });
    // The whole table, our view of the peer itself included: it may have to refute that. Whoever greeted us with
    // the same has it, and sends us what it learnt since.
    if (!isSame) this.#context.send(peer, { type: "views", views: this.#context.views() });
  }

  #linkDown(peer: string, reason: string): void {
    const entry = this.#roster.entries.get(peer);
    if (entry?.linked !== true) return;
    entry.linked = false;
    this.#links -= 1;
    this.#roster.touch();
    this.#context.emit({ type: "linkDown", peer, reason });
    this.#own.onLinkDown(peer);
    this.#standings.onLinkDown(entry);
    if (isEnded(entry.status) || this.#own.isDeparting) return;
    this.#dialing.want(peer, this.#context.now);
    this.#probes.hasten(entry, this.#context.now);
    if (this.#links === 0) this.#context.emit({ type: "isolated" });
  }

  /** A frame came directly from this member, at core time `at`. */
  #heard(peer: string, at: number): void {
    const entry = this.#roster.entries.get(peer);
    if (entry === undefined || at <= entry.heardAt) return;
    entry.heardAt = at;
    this.#probes.onHeard(entry, this.#context.now);
    this.#doubts.heard(entry, at);
  }

  #message(peer: string, message: MemberMessage): void {
    const from = this.#roster.entries.get(peer);
    if (from?.linked !== true) return;
    const { now, monoMs, selfPeer } = this.#context;
    this.#heard(peer, now);
    switch (message.type) {
      case "ping":
        this.#context.send(peer, { type: "ack", nonce: message.nonce, hash: this.#roster.digest(monoMs) });
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
          if (view.peer === selfPeer) this.#own.learn(view);
          else this.#standings.learn(view, peer);
        }
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
    const entry = this.#roster.entries.get(peer);
    const watched = entry !== undefined && !entry.linked && !isEnded(entry.status);
    const wanted = watched || (entry === undefined && this.#isWantedStranger(peer));
    this.#dialing.done(peer, outcome === "connected", wanted, this.#context.now);
    if (watched) this.#doubts.dialed(entry, outcome === "refused");
  }

  #isWantedStranger(peer: string): boolean {
    return this.#roster.candidates.has(peer) || (this.#links === 0 && this.#seeds.has(peer));
  }

  /** Everybody worth a dial now and then. */
  #unlinked(): string[] {
    const isWanted = (entry: Entry): boolean =>
      !entry.linked && entry !== this.#context.self && entry.status !== "left";
    const members = [...this.#roster.entries.values()].filter(isWanted).map(({ record }) => record.peer);
    const strangers = [...this.#seeds.keys(), ...this.#roster.candidates.keys()].filter(
      (peer) => !this.#roster.entries.has(peer),
    );
    return [...new Set([...members, ...strangers])];
  }
}
