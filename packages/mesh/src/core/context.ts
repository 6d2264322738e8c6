import type { Instant } from "@klatsch/kit/core";
import type { MemberEvent, MemberSnapshot, MembershipEffect, MembershipEvent } from "./membership-types.ts";
import type { MemberMessage, View } from "./messages.ts";
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
  /** Core time, starting at 0. */
  now = 0;
  /** The monotonic instant that `now` stands for. */
  monoMs: number;
  #sleptMs: number;
  #wallMs: number;
  #wokeAt = 0;
  #barredUntil = 0;
  #effects: MembershipEffect[] = [];
  #idCount = 0;

  constructor(times: MembershipTimes, roster: Roster, self: Entry, now: Instant) {
    this.times = times;
    this.roster = roster;
    this.self = self;
    this.monoMs = now.monoMs;
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
    const slept = gapMs > this.times.lateMs;
    if (slept) this.#sleptMs += gapMs - this.times.tickMs;
    // A machine that was suspended: its monotonic clock stood still, too.
    const suspended = now.wallMs - this.#wallMs > gapMs + this.times.lateMs;
    this.#wallMs = now.wallMs;
    this.monoMs = now.monoMs;
    this.now = now.monoMs - this.#sleptMs;
    if (slept || suspended) this.#wokeAt = this.now;
    if (slept) this.#barredUntil = this.now + this.times.barMs;
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

  /** Whether this node may say that the member is there: it has a link, and after a sleep has heard it again. */
  vouchesFor(entry: Entry): boolean {
    return entry.linked && entry.heardAt >= this.#wokeAt;
  }

  /** Our view of a member as it travels; `undefined` for what is too old to be spread. */
  viewOf(entry: Entry): View | undefined {
    const view = this.roster.viewOf(entry, this.monoMs);
    return view?.status === "alive" && this.vouchesFor(entry) ? { ...view, vouched: true } : view;
  }

  /** The whole table as it travels. */
  views(): View[] {
    return [...this.roster.entries.values()].flatMap((entry) => this.viewOf(entry) ?? []);
  }

  snapshot(entry: Entry): MemberSnapshot {
    const { record, status, evidence, linked, heardAt } = entry;
    return {
      record,
      status,
      evidence,
      linked,
      heardAgoMs: heardAt === -Infinity ? undefined : this.now - heardAt,
    };
  }

  linked(): Entry[] {
    return [...this.roster.entries.values()].filter((entry) => entry.linked);
  }

  countLinkedAlive(except: Entry): number {
    let count = 0;
    for (const entry of this.roster.entries.values()) {
      if (entry.linked && entry.status === "alive" && entry !== except) count += 1;
    }
    return count;
  }

  /** Names a suspicion or a finding; unique over all members and boots. */
  newId(): string {
    this.#idCount += 1;
    return `${this.self.hash.toString(36)}:${this.self.record.boot.toString(36)}:${this.#idCount.toString(36)}`;
  }
}
