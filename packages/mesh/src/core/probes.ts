import { randomBelow } from "@klatsch/kit/core";
import type { Random } from "@klatsch/kit/core";
import type { Context } from "./context.ts";
import type { Entry, Roster, Round } from "./roster.ts";
import type { MembershipTimes } from "./times.ts";
import { isEnded } from "./views.ts";

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

  constructor(init: { readonly context: Context; readonly random: Random }) {
    this.#context = init.context;
    this.#times = init.context.times;
    this.#roster = init.context.roster;
    this.#random = init.random;
  }

  /** Recomputes who watches whom after any change; a shorter period takes effect at once. */
  rank(now: number): void {
    if (this.#rankedRevision === this.#roster.revision) return;
    this.#rankedRevision = this.#roster.revision;
    for (const entry of this.#roster.entries.values()) {
      if (isEnded(entry.status) || entry === this.#context.self) continue;
      entry.rank = this.#rankOf(entry);
      entry.probeAt = Math.min(entry.probeAt, now + this.#period(entry));
    }
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

  /** An answer came, from itself or by way of somebody else. */
  succeed(entry: Entry, now: number): void {
    this.schedule(entry, now);
  }

  /** Ends a round, if any, and plans the next. */
  schedule(entry: Entry, now: number): void {
    entry.round = undefined;
    entry.probeAt = now + this.#period(entry);
  }

  /** Starts a round at the next opportunity. */
  hasten(entry: Entry, now: number): void {
    entry.round = undefined;
    entry.probeAt = now;
  }

  onAck(entry: Entry, nonce: number, now: number): void {
    const round = entry.round;
    if (round?.nonce !== nonce) return;
    // Of several pings only the last can be timed, and never shorter than it was.
    const tookMs = now - entry.pingedAt;
    entry.smoothedMs =
      entry.smoothedMs === undefined ? tookMs : entry.smoothedMs + (tookMs - entry.smoothedMs) * SMOOTHING;
  }

  onIndirectAck(nonce: number, now: number): void {
    for (const entry of this.#roster.entries.values())
      if (entry.round?.nonce === nonce) this.succeed(entry, now);
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
    const hash = this.#roster.digest(this.#context.monoMs);
    this.#context.send(entry.record.peer, { type: "ping", nonce, hash });
  }

  #askOthers(entry: Entry, round: Round): void {
    round.asked = true;
    const others = [...this.#roster.entries.values()].filter(
      (other) => other.linked && other.status === "alive" && other !== entry,
    );
    const voucherAt = others.findIndex((other) => other.record.peer === entry.voucher);
    for (let asked = 0; asked < this.#times.othersAsked && others.length > 0; asked += 1) {
      const isVoucher = asked === 0 && voucherAt >= 0;
      const [other] = others.splice(isVoucher ? voucherAt : randomBelow(this.#random, others.length), 1);
      if (other === undefined) return;
      this.#context.send(other.record.peer, {
        type: "pingReq",
        nonce: round.nonce,
        target: entry.record.peer,
      });
    }
  }

  #rankOf(subject: Entry): number {
    const { self } = this.#context;
    const mine = mix(subject.hash, self.hash);
    let rank = 0;
    for (const other of this.#roster.entries.values()) {
      if (other === subject || other === self || isEnded(other.status)) continue;
      if (mix(subject.hash, other.hash) < mine) rank += 1;
    }
    return Math.min(rank, 2);
  }

  #period(entry: Entry): number {
    const [first, second, others] = this.#times.probeMs;
    const linkedMs = entry.rank === 0 ? first : entry.rank === 1 ? second : others;
    const periodMs = entry.linked ? linkedMs : Math.min(linkedMs, this.#times.probeUnlinkedMs);
    return periodMs * (0.95 + (this.#random.uint32() / 0x1_0000_0000) * 0.1);
  }

  #nonce(): number {
    return this.#random.uint32();
  }
}

/** H(X‖n) from two hashes that are already well mixed. */
function mix(subject: number, watcher: number): number {
  const hash = Math.imul(subject ^ Math.imul(watcher, 0x9e3779b1), 0x85ebca6b);
  return (hash ^ (hash >>> 15)) >>> 0;
}
