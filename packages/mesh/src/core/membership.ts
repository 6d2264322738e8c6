import type { Core, Instant, Random } from "@klatsch/kit/core";
import { Dialing } from "./dialing.ts";
import type { MemberMessage, MemberRecord, View } from "./messages.ts";
import { Probes } from "./probes.ts";
import { Roster, settleId } from "./roster.ts";
import type { Entry, Evidence } from "./roster.ts";
import { Suspicion } from "./suspicion.ts";
import type { MembershipTimes } from "./times.ts";
import { compareViews, hash32, isEnded, recordOf } from "./views.ts";
import type { Status } from "./views.ts";

export type MembershipInput =
  /** A link with completed hello; `record` is what the peer says of itself. */
  | { readonly type: "linkUp"; readonly peer: string; readonly link: number; readonly record: MemberRecord }
  | { readonly type: "linkDown"; readonly peer: string; readonly reason: string }
  | { readonly type: "message"; readonly peer: string; readonly message: MemberMessage }
  /** When bytes of any kind last came from linked peers; monotonic milliseconds. */
  | { readonly type: "heard"; readonly heard: readonly { readonly peer: string; readonly atMs: number }[] }
  | { readonly type: "dialed"; readonly peer: string; readonly outcome: "connected" | "refused" | "failed" }
  /** The peer turned us away, or we it, for good reason. */
  | { readonly type: "turnedAway"; readonly peer: string }
  /** A higher boot of ours is durable. */
  | { readonly type: "booted"; readonly boot: number }
  | { readonly type: "depart"; readonly status: "stopped" | "left" }
  | { readonly type: "tick" };

/** How a member looks at one moment. */
export interface MemberSnapshot {
  readonly record: MemberRecord;
  readonly status: Status;
  readonly evidence: Evidence;
  readonly linked: boolean;
  /** Milliseconds since a frame came directly from it. */
  readonly heardAgoMs: number | undefined;
}

export type MembershipEvent =
  | {
      readonly type: "joined" | "suspected" | "refuted" | "died" | "stopped" | "left" | "forgotten";
      readonly member: MemberSnapshot;
    }
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
  /** The others know that we go, as far as they could be told. */
  | { readonly type: "departed" };

export interface MembershipInit {
  readonly self: MemberRecord;
  /** Addresses to join by, by peer. */
  readonly seeds: ReadonlyMap<string, readonly string[]>;
  readonly membersMax: number;
  readonly times: MembershipTimes;
  readonly random: Random;
}

/** Dials of one peer try at most this many addresses. */
const DIAL_ADDRESSES_MAX = 16;

/**
 * Who is there, as one node sees it: SWIM with the Lifeguard extensions over links, for a full mesh. Pure.
 * All its deadlines are in *core time*, monotonic time without the stretches this process slept through:
 * so a sleeper shifts its own deadlines and never convicts others for its own absence (M3).
 */
export class Membership implements Core<MembershipInput, MembershipEffect> {
  readonly #times: MembershipTimes;
  readonly #seeds: ReadonlyMap<string, readonly string[]>;
  readonly #roster: Roster;
  readonly #dialing: Dialing;
  readonly #probes: Probes;
  readonly #self: Entry;
  #effects: MembershipEffect[] = [];
  /** Core time, and the monotonic time it stands for. */
  #now = 0;
  #monoMs: number;
  #sleptMs = 0;
  #barredUntil = 0;
  #links = 0;
  #idCount = 0;
  /** Members whose view is to be flooded, and the peer it came from, who need not hear it again. */
  readonly #dirty = new Map<string, string | undefined>();
  #floodAt = 0;
  #refutedAt = -Infinity;
  #refuteInc: number | undefined;
  /** Highest incarnation of this boot that somebody held dead. */
  #deadInc = -1;
  #askedBoot = 0;
  #farewell: { readonly nonce: number; readonly waiting: Set<string>; readonly until: number } | undefined;

  constructor(init: MembershipInit, now: Instant) {
    this.#times = init.times;
    this.#seeds = init.seeds;
    this.#monoMs = now.monoMs;
    this.#sleptMs = now.monoMs;
    this.#roster = new Roster({ membersMax: init.membersMax, forgetMs: init.times.forgetMs });
    this.#self = this.#roster.add(init.self, "alive", "self", now.monoMs);
    this.#dialing = new Dialing(init.times, init.random, {
      unlinked: () => this.#unlinked(),
      isLinked: (peer) => this.#roster.entries.get(peer)?.linked === true,
    });
    this.#probes = new Probes({
      self: init.self.peer,
      selfHash: this.#self.hash,
      times: init.times,
      random: init.random,
      roster: this.#roster,
      ports: {
        send: (peer, message) => this.#send(peer, message),
        digest: () => this.#roster.digest(this.#monoMs),
      },
    });
    for (const peer of init.seeds.keys()) if (peer !== init.self.peer) this.#dialing.want(peer, 0);
  }

  /** What this node says of itself. */
  get self(): MemberRecord {
    return this.#self.record;
  }

  /** Everybody known, this node included. */
  members(): MemberSnapshot[] {
    return [...this.#roster.entries.values()].map((entry) => this.#snapshot(entry));
  }

  member(peer: string): MemberSnapshot | undefined {
    const entry = this.#roster.entries.get(peer);
    return entry === undefined ? undefined : this.#snapshot(entry);
  }

  /** Whether a peer may become a member: it is one, or there is room. */
  hasRoomFor(peer: string): boolean {
    return this.#roster.entries.has(peer) || this.#roster.hasRoom;
  }

  nextDeadline(): number {
    const tickAt = this.#monoMs + this.#times.tickMs;
    if (this.#dirty.size === 0) return tickAt;
    // Not at this very instant: sums of fractions round, and a deadline just missed would come again at once.
    return Math.min(tickAt, Math.max(this.#floodAt + this.#sleptMs, this.#monoMs + 1));
  }

  step(input: MembershipInput, now: Instant): readonly MembershipEffect[] {
    this.#advanceTo(now);
    switch (input.type) {
      case "linkUp":
        this.#linkUp(input.peer, input.link, input.record);
        break;
      case "linkDown":
        this.#linkDown(input.peer, input.reason);
        break;
      case "message":
        this.#message(input.peer, input.message);
        break;
      case "heard":
        for (const { peer, atMs } of input.heard) this.#heard(this.#roster.entries.get(peer), atMs - this.#sleptMs);
        break;
      case "dialed":
        this.#dialed(input.peer, input.outcome);
        break;
      case "turnedAway":
        this.#roster.candidates.delete(input.peer);
        this.#dialing.leaveAlone(input.peer, this.#now);
        break;
      case "booted":
        this.#booted(input.boot);
        break;
      case "depart":
        this.#depart(input.status);
        break;
      case "tick":
        break;
    }
    return this.#take();
  }

  flush(now: Instant): readonly MembershipEffect[] {
    this.#advanceTo(now);
    this.#settleFarewell();
    if (this.#farewell === undefined) this.#work();
    this.#flood();
    return this.#take();
  }

  /** M3: a gap means that we slept; deadlines move with it, rounds are void, nobody is judged for a while. */
  #advanceTo(now: Instant): void {
    const gapMs = now.monoMs - this.#monoMs;
    this.#monoMs = now.monoMs;
    if (gapMs > this.#times.lateMs) {
      this.#sleptMs += gapMs - this.#times.tickMs;
      this.#now = now.monoMs - this.#sleptMs;
      this.#barredUntil = this.#now + this.#times.barMs;
      for (const entry of this.#roster.entries.values()) {
        if (entry.round !== undefined) this.#probes.schedule(entry, this.#now);
      }
    }
    this.#now = now.monoMs - this.#sleptMs;
  }

  #work(): void {
    const factor = this.#links === 0 ? this.#times.isolatedFactor : 1;
    this.#probes.rank(this.#now);
    this.#probes.expire(this.#now);
    for (const entry of this.#roster.entries.values()) {
      if (entry === this.#self) continue;
      if (isEnded(entry.status)) this.#maybeForget(entry);
      else this.#watch(entry, factor);
    }
    for (const [peer, candidate] of this.#roster.candidates) {
      if (this.#now - candidate.since < this.#times.unverifiedMs) continue;
      this.#roster.candidates.delete(peer);
      this.#dialing.forget(peer);
    }
    this.#maybeRefute();
    for (const peer of this.#dialing.due(this.#now)) this.#dial(peer);
  }

  #watch(entry: Entry, factor: number): void {
    const suspicion = entry.suspicion;
    if (suspicion === undefined) {
      const silent = this.#probes.advance(entry, this.#now, factor) === "silent";
      if (silent && !this.#isBarred()) this.#accuse(entry);
    } else {
      this.#probes.pingSuspect(entry, this.#now);
      if (this.#isBarred()) return;
      this.#maybeConfirm(entry, suspicion);
      const possible = this.#possibleConfirmers(entry, suspicion);
      if (this.#now >= suspicion.deadline(this.#times, possible, factor)) this.#declareDead(entry, "silence");
    }
    if (!isEnded(entry.status)) this.#judgeGone(entry);
  }

  // ── links ──────────────────────────────────────────────────────────────────────────────────────

  #linkUp(peer: string, link: number, record: MemberRecord): void {
    const known = this.#roster.entries.get(peer);
    if (known === undefined && !this.#roster.hasRoom) {
      this.#effects.push({ type: "disconnect", peer, reason: "no room for more members" });
      return;
    }
    const entry = known ?? this.#roster.add(record, "alive", "direct", this.#monoMs);
    if (!entry.linked) this.#links += 1;
    entry.linked = true;
    entry.gone.clear();
    entry.refusedAt = undefined;
    entry.differsSince = undefined;
    if (known === undefined) {
      this.#emitMember("joined", entry);
      this.#markDirty(peer, peer);
    } else if (compareViews({ ...record, status: "alive" }, standing(entry)) > 0) {
      this.#adopt(entry, { ...record, status: "alive", ageMs: 0 }, "direct", peer);
    }
    this.#tellOfDeath(entry);
    this.#heard(entry, this.#now);
    this.#probes.schedule(entry, this.#now);
    this.#roster.touch();
    this.#effects.push({ type: "emit", event: { type: "linkUp", peer, link } });
    // The whole table, our view of the peer itself included: it may have to refute that.
    this.#send(peer, { type: "views", views: this.#roster.views(this.#monoMs) });
  }

  #linkDown(peer: string, reason: string): void {
    const entry = this.#roster.entries.get(peer);
    if (entry?.linked !== true) return;
    entry.linked = false;
    this.#links -= 1;
    this.#roster.touch();
    this.#effects.push({ type: "emit", event: { type: "linkDown", peer, reason } });
    this.#farewell?.waiting.delete(peer);
    if (isEnded(entry.status) || this.#farewell !== undefined) return;
    this.#dialing.want(peer, this.#now);
    this.#probes.hasten(entry, this.#now);
    if (this.#links === 0) this.#effects.push({ type: "emit", event: { type: "isolated" } });
  }

  /** A frame came directly from this member, at core time `at`. */
  #heard(entry: Entry | undefined, at: number): void {
    if (entry === undefined || at <= entry.heardAt) return;
    entry.heardAt = at;
    this.#probes.onHeard(entry, this.#now);
    const suspicion = entry.suspicion;
    if (suspicion !== undefined && at > suspicion.startedAt) {
      for (const id of suspicion.ids) this.#vouch(entry, id);
      this.#endSuspicion(entry, "direct");
    }
    if (entry.linked && entry.gone.size > 0) {
      for (const id of new Set(entry.gone.values())) this.#vouch(entry, id);
      entry.gone.clear();
    }
  }

  #vouch(entry: Entry, id: string): void {
    settleId(entry, id);
    const { peer, boot } = entry.record;
    this.#sendAll({ type: "heard", subject: peer, boot, id, witness: this.#self.record.peer });
  }

  // ── dialling and hard evidence (M1, M8) ────────────────────────────────────────────────────────

  #dial(peer: string): void {
    const addresses = new Set([
      ...(this.#roster.entries.get(peer)?.record.addresses ?? []),
      ...(this.#roster.candidates.get(peer)?.record.addresses ?? []),
      ...(this.#seeds.get(peer) ?? []),
    ]);
    if (addresses.size === 0) this.#dialing.done(peer, false, false, this.#now);
    else this.#effects.push({ type: "dial", peer, addresses: [...addresses].slice(0, DIAL_ADDRESSES_MAX) });
  }

  #dialed(peer: string, outcome: "connected" | "refused" | "failed"): void {
    const entry = this.#roster.entries.get(peer);
    const wanted = entry === undefined ? this.#isWantedStranger(peer) : !entry.linked && !isEnded(entry.status);
    this.#dialing.done(peer, outcome === "connected", wanted, this.#now);
    if (entry === undefined || entry.linked || isEnded(entry.status)) return;
    if (outcome !== "refused") {
      entry.refusedAt = undefined;
    } else if (entry.refusedAt === undefined) {
      entry.refusedAt = this.#now;
      this.#dialing.want(peer, this.#now + this.#times.redialMs);
    } else if (this.#now - entry.refusedAt >= this.#times.redialMs) this.#findGone(entry);
  }

  #isWantedStranger(peer: string): boolean {
    return this.#roster.candidates.has(peer) || (this.#links === 0 && this.#seeds.has(peer));
  }

  #findGone(entry: Entry): void {
    const witness = this.#self.record.peer;
    if (entry.gone.has(witness)) return;
    const { peer, boot } = entry.record;
    const id = this.#newId();
    entry.gone.set(witness, id);
    this.#sendAll({ type: "gone", subject: peer, boot, id, witness });
  }

  /** Enough members that could see it found it gone, and nobody heard it since. */
  #judgeGone(entry: Entry): void {
    if (entry.gone.size === 0 || entry.linked || this.#isBarred()) return;
    const possible = 1 + this.#countLinkedAlive(entry);
    if (entry.gone.size >= Math.min(this.#times.goneNeeded, possible)) this.#declareDead(entry, "refused");
  }

  #unlinked(): string[] {
    const members = [...this.#roster.entries.values()].filter(
      (entry) => !entry.linked && entry !== this.#self && entry.status !== "left",
    );
    const names = members.map((entry) => entry.record.peer);
    const strangers = [...this.#seeds.keys(), ...this.#roster.candidates.keys()].filter(
      (peer) => !this.#roster.entries.has(peer),
    );
    return [...new Set([...names, ...strangers])];
  }

  // ── messages ───────────────────────────────────────────────────────────────────────────────────

  #message(peer: string, message: MemberMessage): void {
    const from = this.#roster.entries.get(peer);
    if (from?.linked !== true) return;
    this.#heard(from, this.#now);
    switch (message.type) {
      case "ping":
        this.#send(peer, { type: "ack", nonce: message.nonce, hash: this.#roster.digest(this.#monoMs) });
        this.#compareDigest(from, message.hash);
        return;
      case "ack":
        this.#probes.onAck(from, message.nonce, this.#now);
        if (this.#farewell?.nonce === message.nonce) this.#farewell.waiting.delete(peer);
        this.#compareDigest(from, message.hash);
        return;
      case "pingReq": {
        const target = this.#roster.entries.get(message.target);
        if (target !== undefined) this.#probes.onRequest(peer, message.nonce, target, this.#now);
        return;
      }
      case "indirectAck":
        this.#probes.onIndirectAck(message.nonce, this.#now);
        return;
      case "suspect":
        this.#suspected(peer, message);
        return;
      case "heard":
        this.#takenBack(peer, message);
        return;
      case "gone":
        this.#foundGone(peer, message);
        return;
      case "views":
        for (const view of message.views) this.#learn(view, peer);
        return;
    }
  }

  /** Digests that stay apart mean that a flood was missed: the whole table repairs that. */
  #compareDigest(from: Entry, hash: number): void {
    if (hash === this.#roster.digest(this.#monoMs)) {
      from.differsSince = undefined;
      return;
    }
    from.differsSince ??= this.#now;
    const { repairAfterMs, repairMs } = this.#times;
    if (this.#now - from.differsSince < repairAfterMs || this.#now - from.repairedAt < repairMs) return;
    from.repairedAt = this.#now;
    this.#send(from.record.peer, { type: "views", views: this.#roster.views(this.#monoMs) });
  }

  #suspected(from: string, message: Extract<MemberMessage, { type: "suspect" }>): void {
    const { subject, boot, inc, id, accuser } = message;
    if (subject === this.#self.record.peer) {
      if (boot === this.#self.record.boot && inc >= this.#self.record.inc) this.#refute(inc);
      return;
    }
    const entry = this.#roster.entries.get(subject);
    if (entry === undefined || boot > entry.record.boot || !this.#roster.entries.has(accuser)) return;
    if (boot < entry.record.boot || inc < entry.record.inc || isEnded(entry.status)) {
      this.#tell(from, entry); // It does not know the latest.
      return;
    }
    if (this.#addAccusation(entry, inc, id, accuser)) this.#sendAll(message, from);
  }

  #addAccusation(entry: Entry, inc: number, id: string, accuser: string): boolean {
    if (entry.settledIds.has(id)) return false;
    if (entry.suspicion !== undefined && entry.suspicion.inc >= inc) return entry.suspicion.accuse(id, accuser);
    if (inc > entry.record.inc) entry.record = { ...entry.record, inc };
    const first = entry.suspicion === undefined;
    entry.suspicion = new Suspicion({ inc, startedAt: this.#now, id, accuser });
    entry.round = undefined;
    entry.status = "suspect";
    entry.evidence = accuser === this.#self.record.peer ? "silence" : "reported";
    this.#roster.touch();
    if (first) this.#emitMember("suspected", entry);
    return true;
  }

  #accuse(entry: Entry): void {
    const accuser = this.#self.record.peer;
    const { peer, boot, inc } = entry.record;
    const id = this.#newId();
    this.#addAccusation(entry, inc, id, accuser);
    this.#sendAll({ type: "suspect", subject: peer, boot, inc, id, accuser });
    // Where one fell silent others may have too, with those who watch them: without this a partition is seen
    // link by link, each at the pace of its last watcher.
    for (const other of this.#linkedEntries()) {
      if (other.round === undefined && this.#now - other.heardAt > this.#times.roundMs) this.#probes.hasten(other, this.#now);
    }
  }

  /** Our own pings went unanswered too. */
  #maybeConfirm(entry: Entry, suspicion: Suspicion): void {
    if (this.#now - suspicion.startedAt < this.#times.confirmAfterMs) return;
    const accuser = this.#self.record.peer;
    const { peer, boot } = entry.record;
    for (const id of suspicion.ids) {
      if (!suspicion.accuse(id, accuser)) continue;
      this.#sendAll({ type: "suspect", subject: peer, boot, inc: suspicion.inc, id, accuser });
    }
  }

  #possibleConfirmers(entry: Entry, suspicion: Suspicion): number {
    const first = suspicion.firstAccuser;
    const others = this.#countLinkedAlive(entry);
    if (first === this.#self.record.peer) return others;
    const firstCounted = this.#roster.entries.get(first);
    return others + 1 - (firstCounted?.linked === true && firstCounted.status === "alive" ? 1 : 0);
  }

  #takenBack(from: string, message: Extract<MemberMessage, { type: "heard" }>): void {
    const entry = this.#roster.entries.get(message.subject);
    if (entry === undefined || entry.record.boot !== message.boot || message.witness === message.subject) return;
    // Remembered even if the suspicion itself has not come yet: it may be on a longer way.
    if (!settleId(entry, message.id)) return;
    this.#sendAll(message, from);
    for (const [witness, id] of entry.gone) {
      if (id !== message.id) continue;
      entry.gone.delete(witness);
      entry.refusedAt = undefined;
    }
    if (entry.suspicion?.takeBack(message.id) === true && entry.suspicion.isOver) this.#endSuspicion(entry, "reported");
  }

  #endSuspicion(entry: Entry, evidence: Evidence): void {
    entry.suspicion = undefined;
    entry.status = "alive";
    entry.evidence = evidence;
    this.#probes.schedule(entry, this.#now);
    this.#roster.touch();
    this.#emitMember("refuted", entry);
  }

  #foundGone(from: string, message: Extract<MemberMessage, { type: "gone" }>): void {
    const { subject, boot, id, witness } = message;
    const entry = this.#roster.entries.get(subject);
    if (entry === undefined || entry === this.#self || entry.record.boot !== boot || isEnded(entry.status)) return;
    if (witness === subject || !this.#roster.entries.has(witness)) return;
    if (entry.gone.get(witness) === id || entry.settledIds.has(id)) return;
    entry.gone.set(witness, id);
    this.#sendAll(message, from);
    if (entry.linked) this.#probes.pingSuspect(entry, this.#now);
    else this.#dialing.want(subject, this.#now);
  }

  // ── views ──────────────────────────────────────────────────────────────────────────────────────

  #learn(view: View, from: string): void {
    const entry = this.#roster.entries.get(view.peer);
    if (entry === this.#self) this.#learnAboutSelf(view);
    else if (entry === undefined) this.#learnUnknown(view);
    else {
      const order = compareViews(view, standing(entry));
      const endedMonoMs = this.#monoMs - view.ageMs;
      if (order === 0 && isEnded(view.status)) entry.endedMonoMs = Math.min(entry.endedMonoMs, endedMonoMs);
      if (order > 0) this.#learnLater(entry, view, from);
    }
  }

  #learnLater(entry: Entry, view: View, from: string): void {
    const alive = entry.linked && this.#now - entry.heardAt <= this.#times.heardMs;
    if (view.status === "dead" && alive && view.boot === entry.record.boot) {
      // M6: we hear it, so it can say so itself; it is told what is believed of it.
      this.#send(view.peer, { type: "views", views: [view] });
      return;
    }
    const announced = view.status === "stopped" || view.status === "left";
    this.#adopt(entry, view, announced ? "announced" : from === view.peer ? "direct" : "reported", from);
  }

  #learnUnknown(view: View): void {
    if (view.status !== "alive") {
      if (!this.#roster.hasRoom || !this.#roster.isSpreadable(view.ageMs)) return;
      const evidence = view.status === "dead" ? "reported" : "announced";
      this.#roster.add(recordOf(view), view.status, evidence, this.#monoMs - view.ageMs);
      return;
    }
    if (!this.#roster.hasRoom) return;
    this.#roster.propose(recordOf(view), this.#now);
    this.#dialing.want(view.peer, this.#now + this.#politeness(view.peer));
  }

  /** The lower peer id dials first; else both would, and one connection would be for nothing. */
  #politeness(peer: string): number {
    return this.#self.record.peer < peer ? 0 : this.#times.politeMs;
  }

  /** Takes over a later view: the one place where a member's standing moves up. */
  #adopt(entry: Entry, view: View, evidence: Evidence, from: string | undefined): void {
    const was = entry.status;
    const restarted = view.boot > entry.record.boot;
    entry.record = recordOf(view);
    entry.status = view.status;
    entry.evidence = evidence;
    entry.suspicion = undefined;
    entry.gone.clear();
    entry.refusedAt = undefined;
    entry.endedMonoMs = this.#monoMs - view.ageMs;
    if (restarted) entry.deadInc = undefined;
    if (view.status === "dead") entry.deadInc = view.inc;
    this.#roster.touch();
    this.#markDirty(view.peer, from);
    if (view.status !== "alive") {
      this.#ended(entry, view.status);
      return;
    }
    this.#probes.schedule(entry, this.#now);
    this.#tellOfDeath(entry);
    if (restarted || isEnded(was)) this.#emitMember("joined", entry);
    else if (was === "suspect") this.#emitMember("refuted", entry);
    if (!entry.linked) this.#dialing.want(view.peer, this.#now + this.#politeness(view.peer));
  }

  /** Who is back has to know that it was held dead: others may have taken over what it held. */
  #tellOfDeath(entry: Entry): void {
    if (!entry.linked || entry.deadInc === undefined) return;
    const dead: View = { ...entry.record, inc: entry.deadInc, status: "dead", ageMs: 0 };
    entry.deadInc = undefined;
    this.#send(entry.record.peer, { type: "views", views: [dead] });
  }

  #ended(entry: Entry, status: "dead" | "stopped" | "left"): void {
    entry.round = undefined;
    entry.probeAt = Infinity;
    this.#emitMember(status === "dead" ? "died" : status, entry);
    // A connection to the dead would sleep in TCP's own back-off; one to those who go is theirs to close.
    if (status === "dead" && entry.linked) {
      this.#effects.push({ type: "disconnect", peer: entry.record.peer, reason: "declared dead" });
    }
  }

  #declareDead(entry: Entry, evidence: Evidence): void {
    this.#adopt(entry, { ...entry.record, status: "dead", ageMs: 0 }, evidence, undefined);
  }

  #maybeForget(entry: Entry): void {
    if (!this.#roster.isForgettable(entry, this.#monoMs)) return;
    this.#roster.remove(entry.record.peer);
    this.#dialing.forget(entry.record.peer);
    this.#emitMember("forgotten", entry);
  }

  // ── this node itself ───────────────────────────────────────────────────────────────────────────

  #learnAboutSelf(view: View): void {
    const { boot, inc } = this.#self.record;
    if (view.boot > boot && view.boot > this.#askedBoot) {
      this.#askedBoot = view.boot;
      this.#effects.push({ type: "raiseBoot", above: view.boot });
    }
    if (view.boot !== boot || this.#farewell !== undefined) return;
    const ended = isEnded(view.status);
    if (view.inc > inc || (ended && view.inc === inc)) this.#refute(view.inc);
    // Even if it was refuted already, as a mere suspicion: others may have acted on our death.
    if (!ended || view.inc <= this.#deadInc) return;
    this.#deadInc = view.inc;
    const refutedBy = Math.max(this.#self.record.inc, this.#refuteInc ?? 0);
    this.#effects.push({ type: "emit", event: { type: "declaredDead", boot, inc: refutedBy } });
  }

  /** Others believe us suspect or dead at `inc`: a higher one says that we are here. */
  #refute(inc: number): void {
    if (this.#farewell !== undefined) return;
    this.#refuteInc = Math.max(this.#refuteInc ?? 0, inc + 1);
    this.#maybeRefute();
  }

  #maybeRefute(): void {
    if (this.#refuteInc === undefined || this.#now - this.#refutedAt < this.#times.refuteMs) return;
    const inc = this.#refuteInc;
    const { record } = this.#self;
    this.#self.record = { ...record, inc };
    this.#refutedAt = this.#now;
    this.#refuteInc = undefined;
    this.#roster.touch();
    this.#markDirty(record.peer, undefined);
  }

  #booted(boot: number): void {
    if (boot <= this.#self.record.boot) return;
    this.#self.record = { ...this.#self.record, boot, inc: 0 };
    this.#refuteInc = undefined;
    this.#deadInc = -1;
    this.#roster.touch();
    this.#markDirty(this.#self.record.peer, undefined);
    // Whoever turned the old boot away may be tried again.
    for (const peer of this.#unlinked()) this.#dialing.want(peer, this.#now);
  }

  #depart(status: "stopped" | "left"): void {
    if (this.#farewell !== undefined) return;
    this.#self.status = status;
    this.#self.endedMonoMs = this.#monoMs;
    this.#roster.touch();
    const nonce = hash32(this.#newId());
    const waiting = new Set<string>();
    const views = [this.#roster.viewOf(this.#self, this.#monoMs) ?? []].flat();
    for (const entry of this.#linkedEntries()) {
      waiting.add(entry.record.peer);
      this.#send(entry.record.peer, { type: "views", views });
      // On one stream in order: who answers this has read that.
      this.#send(entry.record.peer, { type: "ping", nonce, hash: this.#roster.digest(this.#monoMs) });
    }
    this.#farewell = { nonce, waiting, until: this.#now + this.#times.farewellMs };
  }

  #settleFarewell(): void {
    const farewell = this.#farewell;
    if (farewell === undefined || farewell.until === Infinity) return;
    if (farewell.waiting.size > 0 && this.#now < farewell.until) return;
    this.#farewell = { ...farewell, until: Infinity };
    this.#effects.push({ type: "departed" });
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────

  #flood(): void {
    if (this.#dirty.size === 0 || this.#now < this.#floodAt) return;
    this.#floodAt = this.#now + this.#times.floodMs;
    const changes = [...this.#dirty].flatMap(([peer, source]) => {
      const entry = this.#roster.entries.get(peer);
      const view = entry === undefined ? undefined : this.#roster.viewOf(entry, this.#monoMs);
      return view === undefined ? [] : [{ view, source }];
    });
    this.#dirty.clear();
    for (const { record } of this.#linkedEntries()) {
      const views = changes.filter(({ source }) => source !== record.peer).map(({ view }) => view);
      if (views.length > 0) this.#send(record.peer, { type: "views", views });
    }
  }

  #markDirty(peer: string, source: string | undefined): void {
    this.#dirty.set(peer, source);
  }

  #tell(peer: string, entry: Entry): void {
    const view = this.#roster.viewOf(entry, this.#monoMs);
    if (view !== undefined) this.#send(peer, { type: "views", views: [view] });
  }

  #send(to: string, message: MemberMessage): void {
    this.#effects.push({ type: "send", to, message });
  }

  #sendAll(message: MemberMessage, except?: string): void {
    for (const { record } of this.#linkedEntries()) if (record.peer !== except) this.#send(record.peer, message);
  }

  #linkedEntries(): Entry[] {
    return [...this.#roster.entries.values()].filter((entry) => entry.linked);
  }

  #countLinkedAlive(except: Entry): number {
    let count = 0;
    for (const entry of this.#roster.entries.values()) {
      if (entry.linked && entry.status === "alive" && entry !== except) count += 1;
    }
    return count;
  }

  #isBarred(): boolean {
    return this.#now < this.#barredUntil;
  }

  #newId(): string {
    this.#idCount += 1;
    const { boot } = this.#self.record;
    return `${this.#self.hash.toString(36)}:${boot.toString(36)}:${this.#idCount.toString(36)}`;
  }

  #emitMember(type: Extract<MembershipEvent, { readonly member: MemberSnapshot }>["type"], entry: Entry): void {
    this.#effects.push({ type: "emit", event: { type, member: this.#snapshot(entry) } });
  }

  #snapshot(entry: Entry): MemberSnapshot {
    const { record, status, evidence, linked, heardAt } = entry;
    return { record, status, evidence, linked, heardAgoMs: heardAt === -Infinity ? undefined : this.#now - heardAt };
  }

  #take(): readonly MembershipEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}

function standing(entry: Entry): { readonly boot: number; readonly inc: number; readonly status: Status } {
  return { boot: entry.record.boot, inc: entry.record.inc, status: entry.status };
}
