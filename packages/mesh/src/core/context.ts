import type { Instant } from "@klatsch/kit/core";
import { LocalHealth } from "./health.ts";
import type { MemberEvent, MemberSnapshot, MembershipEffect, MembershipEvent } from "./membership-types.ts";
import type { MemberMessage, View } from "./messages.ts";
import { bucketOf } from "./roster.ts";
import type { Entry, Roster } from "./roster.ts";
import type { MembershipTimes } from "./times.ts";

/**
 * What the parts of membership share: the table, the time and the effects of the running step. Deadlines are in
 * *core time*, monotonic time without the stretches this process slept through: a sleeper shifts its own
 * deadlines and never convicts others for its own absence (M3).
 */
export class Context {
  readonly times: MembershipTimes;
  readonly roster: Roster;
  readonly self: Entry;
  readonly health: LocalHealth;
  /** Core time, starting at 0. */
  now = 0;
  /** The monotonic instant that `now` stands for. */
  monoMs: number;
  /** Monotonic instant by which the core wants an input. */
  wantedMs: number;
  #sleptMs: number;
  #wallMs: number;
  #wokeAt = -Infinity;
  #barredUntil = 0;
  #effects: MembershipEffect[] = [];
  #idCount = 0;

  constructor(times: MembershipTimes, roster: Roster, self: Entry, now: Instant) {
    this.times = times;
    this.roster = roster;
    this.self = self;
    this.health = new LocalHealth(times);
    this.monoMs = now.monoMs;
    this.wantedMs = now.monoMs;
    this.#sleptMs = now.monoMs;
    this.#wallMs = now.wallMs;
  }

  get selfPeer(): string {
    return this.self.record.peer;
  }

  /** After a sleep nobody is judged for a while: what was sent to us meanwhile is still to be read. */
  get isBarred(): boolean {
    return this.now < this.#barredUntil;
  }

  /** Moves on. `true`: this process slept since the last time. */
  advanceTo(now: Instant): boolean {
    const gapMs = now.monoMs - this.monoMs;
    const lateMs = now.monoMs - this.wantedMs;
    if (lateMs > 0) this.wantedMs = now.monoMs; // Late once.
    const slept = lateMs > this.times.lateMs;
    if (slept) this.#sleptMs += gapMs - this.times.tickMs;
    // A machine that was suspended: its monotonic clock stood still, too.
    const suspended = now.wallMs - this.#wallMs > gapMs + this.times.lateMs;
    this.#wallMs = now.wallMs;
    this.monoMs = now.monoMs;
    this.now = now.monoMs - this.#sleptMs;
    // What still waits in our sockets is from before.
    if (slept || suspended) this.#wokeAt = this.now + this.times.barMs;
    if (slept) this.#barredUntil = this.now + this.times.barMs;
    // Not asleep, but not well.
    else if (lateMs > this.times.sluggishMs) this.health.worsen(this.now);
    return slept;
  }

  /** Core time of a monotonic instant since the last sleep. */
  toCoreTime(monoMs: number): number {
    return monoMs - this.#sleptMs;
  }

  toMonoMs(coreTime: number): number {
    return coreTime + this.#sleptMs;
  }

  effect(effect: MembershipEffect): void {
    this.#effects.push(effect);
  }

  /** Hands out the effects since the last call. */
  take(): readonly MembershipEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  send(to: string, message: MemberMessage): void {
    this.#effects.push({ type: "send", to, message });
  }

  /** To every linked member, but for one. */
  sendAll(message: MemberMessage, except?: string): void {
    for (const { record } of this.linked()) if (record.peer !== except) this.send(record.peer, message);
  }

  /** Sends our view of one member to somebody who does not know the latest. */
  tell(to: string, entry: Entry): void {
    const view = this.viewOf(entry);
    if (view !== undefined) this.send(to, { type: "views", views: [view] });
  }

  emit(event: MembershipEvent): void {
    this.#effects.push({ type: "emit", event });
  }

  emitMember(type: MemberEvent["type"], entry: Entry): void {
    this.emit({ type, member: this.snapshot(entry) });
  }

  /** Whether this node may say that the member is there: it hears it, or somebody who does; and has since it last slept. */
  vouchesFor(entry: Entry): boolean {
    return (entry.linked && entry.heardAt >= this.#wokeAt) || entry.vouchedAt >= this.#wokeAt;
  }

  /** Our view of a member as it travels; `undefined` for what is too old to be spread. */
  viewOf(entry: Entry): View | undefined {
    const view = this.roster.viewOf(entry, this.monoMs);
    if (view?.status !== "alive") return view;
    const vouched = this.vouchesFor(entry);
    if ((view.vouched === true) === vouched) return view;
    entry.sent = { ...entry.record, status: "alive", ageMs: 0, vouched };
    return entry.sent;
  }

  /** The whole table as it travels, or some buckets of it. */
  views(buckets?: ReadonlySet<number>): View[] {
    const views: View[] = [];
    for (const entry of this.roster.entries.values()) {
      if (buckets !== undefined && !buckets.has(bucketOf(entry))) continue;
      const view = this.viewOf(entry);
      if (view !== undefined) views.push(view);
    }
    return views;
  }

  /** Something about a member has changed that others see. */
  changed(entry: Entry): void {
    this.roster.changed(entry, this.monoMs);
  }

  snapshot(entry: Entry): MemberSnapshot {
    const { record, status, evidence, linked, smoothedMs, heardAt } = entry;
    return {
      record,
      status,
      evidence,
      linked,
      roundTripMs: smoothedMs,
      heardAgoMs: heardAt === -Infinity ? undefined : this.now - heardAt,
    };
  }

  linked(): ReadonlySet<Entry> {
    return this.roster.linked;
  }

  /**
   * Members that watch this one besides us, as far as it has told us whom it is linked with; before that, all that
   * we are linked with ourselves. Only those count that are alive.
   */
  *otherNeighbours(entry: Entry): Iterable<Entry> {
    if (entry.neighbours === undefined) {
      for (const other of this.roster.linked) if (other !== entry && other.status === "alive") yield other;
      return;
    }
    for (const hash of entry.neighbours) {
      const other = this.roster.byHash(hash);
      if (other === undefined || other === this.self || other === entry) continue;
      if (other.status === "alive") yield other;
    }
  }

  /** Names a suspicion or a finding; unique over all members and boots. */
  newId(): string {
    this.#idCount += 1;
    return `${this.self.hash.toString(36)}:${this.self.record.boot.toString(36)}:${this.#idCount.toString(36)}`;
  }
}
