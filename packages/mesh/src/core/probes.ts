import { randomBelow } from "@klatsch/kit/core";
import type { Random } from "@klatsch/kit/core";
import type { Context } from "./context.ts";
import type { Entry, Roster, Round } from "./roster.ts";
import type { MembershipTimes } from "./times.ts";
import { isEnded, mix32 } from "./views.ts";

interface Relay {
  readonly requester: string;
  readonly nonce: number;
  readonly startedAt: number;
}

/** Requests of others to ping somebody that may be open at once. */
const RELAYS_MAX = 256;
/** Weight of a new round-trip time in the smoothed one (RFC 6298). */
const SMOOTHING = 1 / 8;
const ROUND_TRIPS_MIN = 4;

/** Watches members: rounds of pings, and pings on behalf of others. */
export class Probes {
  readonly #context: Context;
  readonly #times: MembershipTimes;
  readonly #random: Random;
  readonly #roster: Roster;
  readonly #relays = new Map<string, Relay[]>();
  #relayCount = 0;
  #rankedRevision = -1;
  #rankedAt = -Infinity;
  /** Whoever probes this node most often. */
  #watcher: Entry | undefined;

  constructor(init: { readonly context: Context; readonly random: Random }) {
    this.#context = init.context;
    this.#times = init.context.times;
    this.#roster = init.context.roster;
    this.#random = init.random;
  }

  /** Recomputes who watches whom after any change; a new period takes effect at once. */
  rank(now: number): void {
    if (this.#rankedRevision === this.#roster.revision || now < this.#rankedAt + this.#times.tickMs) return;
    this.#rankedRevision = this.#roster.revision;
    this.#rankedAt = now;
    this.#watcher = this.#findWatcher();
    for (const entry of this.#roster.linked) {
      const rank = this.#rankOf(entry);
      if (rank === entry.rank || isEnded(entry.status)) continue;
      entry.rank = rank;
      if (entry.round === undefined) this.schedule(entry, now);
    }
  }

  /**
   * Looks after a watcher that is silent. Whoever is cut off and watches nobody often itself would else notice only
   * when its rarest probe is due.
   */
  missWatcher(now: number): void {
    const watcher = this.#watcher;
    if (watcher?.linked !== true || watcher.round !== undefined || watcher.suspicion !== undefined) return;
    if (now - Math.max(watcher.heardAt, watcher.linkedAt) > this.#times.unprobedMs) this.hasten(watcher, now);
  }

  /** Goes on with the probing of one member that nobody suspects. `silent`: the round ended without an answer. */
  advance(entry: Entry, now: number, factor: number): "silent" | undefined {
    const round = entry.round;
    if (round === undefined) {
      if (now >= entry.probeAt) this.#start(entry, now);
      return undefined;
    }
    if (entry.heardAt > round.startedAt) {
      this.succeed(entry, now);
      return undefined;
    }
    const age = now - round.startedAt;
    if (age >= Math.max(this.#times.roundMs, (entry.smoothedMs ?? 0) * ROUND_TRIPS_MIN) * factor) {
      this.schedule(entry, now);
      return "silent";
    }
    if (entry.linked && round.pings < 3 && age >= this.#times.pingEveryMs * round.pings)
      this.#ping(entry, round, now);
    if (!round.asked && (!entry.linked || age >= this.#times.askOthersAfterMs)) this.#askOthers(entry, round);
    return undefined;
  }

  /** Pings a member under suspicion, not more often than every quarter of a second. */
  pingSuspect(entry: Entry, now: number): void {
    if (!entry.linked || now - entry.pingedAt < this.#times.pingEveryMs) return;
    entry.pingedAt = now;
    this.#sendPing(entry, this.#nonce());
  }

  /** Pings a member because somebody wants to know. */
  ask(entry: Entry): void {
    entry.pingedAt = this.#context.now;
    this.#sendPing(entry, this.#nonce());
  }

  /** An answer came, from itself or by way of somebody else. */
  succeed(entry: Entry, now: number): void {
    this.schedule(entry, now);
  }

  /** Ends a round, if any, and plans the next. */
  schedule(entry: Entry, now: number): void {
    entry.round = undefined;
    const isWatched = entry.linked || entry.wanted !== undefined || this.#wasLinked(entry, now);
    entry.probeAt = isWatched ? now + this.#period(entry) : Infinity;
    if (isWatched) this.#roster.active.add(entry);
  }

  /** Starts a round at the next opportunity. */
  hasten(entry: Entry, now: number): void {
    entry.round = undefined;
    entry.probeAt = now;
    this.#roster.active.add(entry);
  }

  onAck(entry: Entry, nonce: number, now: number): void {
    const round = entry.round;
    if (round?.nonce !== nonce) return;
    // Of several pings only the last can be timed, and never shorter than it was.
    const tookMs = now - entry.pingedAt;
    entry.smoothedMs =
      entry.smoothedMs === undefined ? tookMs : entry.smoothedMs + (tookMs - entry.smoothedMs) * SMOOTHING;
    this.succeed(entry, now);
  }

  onIndirectAck(nonce: number, now: number): void {
    for (const entry of this.#roster.active) {
      if (entry.round?.nonce !== nonce) continue;
      this.succeed(entry, now);
      if (entry.linked) this.#missed(entry, now);
    }
  }

  /** Others hear it and we do not: the fault may be ours, or the link's. TCP would keep that for a quarter of an hour. */
  #missed(entry: Entry, now: number): void {
    const { muteMs, muteRounds, probeMs } = this.#times;
    this.#context.health.worsen(now);
    entry.muteRounds += 1;
    entry.probeAt = Math.min(entry.probeAt, now + probeMs[0]);
    const patienceMs = Math.max(muteMs, ROUND_TRIPS_MIN * 2 * (entry.smoothedMs ?? 0));
    if (entry.muteRounds < muteRounds || now - entry.heardAt < patienceMs) return;
    entry.muteRounds = 0;
    const reason = "nothing comes over it, though others hear the peer";
    this.#context.effect({ type: "disconnect", peer: entry.record.peer, reason });
  }

  /** Somebody asks us to ping a member. */
  onRequest(requester: string, nonce: number, targetPeer: string, now: number): void {
    const target = this.#roster.entries.get(targetPeer);
    if (target?.linked !== true || this.#relayCount >= RELAYS_MAX) return;
    const relays = this.#relays.get(target.record.peer) ?? [];
    relays.push({ requester, nonce, startedAt: now });
    this.#relays.set(target.record.peer, relays);
    this.#relayCount += 1;
    this.#sendPing(target, this.#nonce());
  }

  /** A frame came directly from this member: those who asked are told. */
  onHeard(entry: Entry, now: number): void {
    const relays = this.#relays.get(entry.record.peer);
    if (relays === undefined) return;
    const open = relays.filter(
      (relay) => relay.startedAt >= entry.heardAt && now - relay.startedAt < this.#times.roundMs,
    );
    this.#relayCount -= relays.length - open.length;
    if (open.length === 0) this.#relays.delete(entry.record.peer);
    else this.#relays.set(entry.record.peer, open);
    for (const relay of relays) {
      if (relay.startedAt < entry.heardAt)
        this.#context.send(relay.requester, { type: "indirectAck", nonce: relay.nonce });
    }
  }

  /** Drops requests that nobody waits for any more. */
  expire(now: number): void {
    for (const [peer, relays] of this.#relays) {
      const open = relays.filter((relay) => now - relay.startedAt < this.#times.roundMs);
      this.#relayCount -= relays.length - open.length;
      if (open.length === 0) this.#relays.delete(peer);
      else this.#relays.set(peer, open);
    }
  }

  #start(entry: Entry, now: number): void {
    const round: Round = { startedAt: now, nonce: this.#nonce(), pings: 0, asked: false };
    entry.round = round;
    if (entry.linked) this.#ping(entry, round, now);
    else this.#askOthers(entry, round);
  }

  #ping(entry: Entry, round: Round, now: number): void {
    round.pings += 1;
    entry.pingedAt = now;
    this.#sendPing(entry, round.nonce);
  }

  #sendPing(entry: Entry, nonce: number): void {
    const hash = this.#roster.digest;
    this.#context.send(entry.record.peer, { type: "ping", nonce, hash });
  }

  /** Asks a few that say they are linked with it; who knows of none asks whoever told of it, and anybody. */
  #askOthers(entry: Entry, round: Round): void {
    round.asked = true;
    const linked = [...this.#roster.linked].filter((other) => other.status === "alive" && other !== entry);
    const knowing = linked.filter(
      (other) => other.neighbours?.includes(entry.hash) === true || other.record.peer === entry.voucher,
    );
    const others = knowing.length > 0 ? knowing : linked;
    for (let asked = 0; asked < this.#times.othersAsked && others.length > 0; asked += 1) {
      const [other] = others.splice(randomBelow(this.#random, others.length), 1);
      if (other === undefined) return;
      this.#context.send(other.record.peer, {
        type: "pingReq",
        nonce: round.nonce,
        target: entry.record.peer,
      });
    }
  }

  /** M2: the place of this node among the neighbours of a member that are there. */
  #rankOf(subject: Entry): number {
    const { self } = this.#context;
    if (subject.neighbours === undefined) return 0; // It will say so in a moment.
    const mine = mix32(subject.hash, self.hash);
    let rank = 0;
    for (const hash of subject.neighbours) {
      if (hash === self.hash || mix32(subject.hash, hash) >= mine) continue;
      const other = this.#roster.byHash(hash);
      if (other === undefined || isEnded(other.status)) continue;
      rank += 1;
      if (rank === 2) return rank;
    }
    return rank;
  }

  #findWatcher(): Entry | undefined {
    const { self } = this.#context;
    let watcher: Entry | undefined;
    for (const entry of this.#roster.linked) {
      if (isEnded(entry.status)) continue;
      if (watcher === undefined || mix32(self.hash, entry.hash) < mix32(self.hash, watcher.hash))
        watcher = entry;
    }
    return watcher;
  }

  #wasLinked(entry: Entry, now: number): boolean {
    return entry.neighbour && now - entry.lostAt <= this.#times.neighbourMs;
  }

  #period(entry: Entry): number {
    const [first, second, others] = this.#times.probeMs;
    const rankMs = entry.rank === 0 ? first : entry.rank === 1 ? second : others;
    const linkedMs = entry.wanted === "attended" ? this.#times.attendMs : rankMs;
    const periodMs = entry.linked ? linkedMs : Math.min(linkedMs, this.#times.probeUnlinkedMs);
    return periodMs * (0.95 + (this.#random.uint32() / 0x1_0000_0000) * 0.1);
  }

  #nonce(): number {
    return this.#random.uint32();
  }
}
