import { Budgets } from "./budgets.ts";
import type { Context } from "./context.ts";
import type { Dialing } from "./dialing.ts";
import { Hearsays } from "./hearsay.ts";
import type { LinkKeeper } from "./link-keeper.ts";
import type { View } from "./messages.ts";
import type { Probes } from "./probes.ts";
import type { Entry, Evidence } from "./roster.ts";
import type { Snapshots } from "./snapshots.ts";
import type { Budget } from "./state/token-bucket.ts";
import { compareViews, hash32, isEnded, recordOf } from "./views.ts";
import type { Status } from "./views.ts";

/** Changes of one member, its tags and restarts among them, that are taken over at once; then one a second, the last. */
export const CHANGE_BUDGET: Budget = { burst: 10, refillMs: 1_000 };

/** Moves members' standings up, never down, and tells others. */
export class Standings {
  readonly #context: Context;
  readonly #probes: Probes;
  readonly #dialing: Dialing;
  readonly #keeper: LinkKeeper;
  readonly #snapshots: Snapshots;
  /** Members whose view is to be flooded, and the peer it came from, who need not hear it again. */
  readonly #dirty = new Map<string, string | undefined>();
  #floodAt = 0;
  /** How often what is known of each may change: all are told of each change, and the application. */
  readonly #changes = new Budgets(CHANGE_BUDGET);
  /** What came beyond that, by member: its last word, and who told it. */
  readonly #postponed = new Map<string, { readonly view: View; readonly from: string }>();
  readonly hearsays: Hearsays;
  /** Called for each member declared dead. */
  onDeath: () => void = () => {};

  constructor(init: {
    readonly context: Context;
    readonly probes: Probes;
    readonly dialing: Dialing;
    readonly keeper: LinkKeeper;
    readonly snapshots: Snapshots;
  }) {
    this.#context = init.context;
    this.#probes = init.probes;
    this.#dialing = init.dialing;
    this.#keeper = init.keeper;
    this.#snapshots = init.snapshots;
    this.hearsays = new Hearsays(init.context, init.probes);
  }

  /** Core time at which a flood is due, if anything waits for one. */
  get floodAt(): number | undefined {
    return this.#dirty.size === 0 && !this.hearsays.isPassing ? undefined : this.#floodAt;
  }

  markDirty(peer: string, source?: string): void {
    this.#dirty.set(peer, source);
  }

  /** A view of somebody else has come from `from`. */
  learn(view: View, from: string): void {
    const entry = this.#context.roster.entries.get(view.peer);
    if (entry === undefined) {
      this.#learnUnknown(view, from);
      return;
    }
    if (view.vouched === true && view.boot === entry.record.boot) {
      entry.voucher = from;
      entry.vouchedAt = this.#context.now;
    }
    const order = compareViews(view, standing(entry));
    if (order === 0 && isEnded(view.status)) {
      entry.endedMonoMs = Math.min(entry.endedMonoMs, this.#context.monoMs - view.ageMs);
    }
    if (order > 0) this.#learnLater(entry, view, from);
  }

  /** Takes over what had to wait, the last word of each. */
  learnDue(): void {
    const { roster, now } = this.#context;
    for (const [peer, { view, from }] of this.#postponed) {
      const entry = roster.entries.get(peer);
      if (entry !== undefined && !this.#changes.take(peer, now)) continue;
      this.#postponed.delete(peer);
      if (entry !== undefined && compareViews(view, standing(entry)) > 0) this.#judge(entry, view, from);
    }
  }

  /** A member has greeted us itself: what it says of itself may be news. */
  greet(entry: Entry, view: View): void {
    if (compareViews(view, standing(entry)) > 0) {
      this.#changes.take(view.peer, this.#context.now);
      this.adopt(entry, view, "direct", view.peer);
    }
    this.#tellOfDeath(entry);
  }

  /** Takes over a later view: the one place where a member's standing moves. */
  adopt(entry: Entry, view: View, evidence: Evidence, from?: string): void {
    const was = entry.status;
    const restarted = view.boot > entry.record.boot;
    const isRetagged = !isSameTags(view.tags, entry.record.tags);
    entry.record = recordOf(view);
    entry.status = view.status;
    entry.evidence = evidence;
    entry.suspicion = undefined;
    entry.reportedEnd = undefined;
    entry.hearsay = undefined;
    entry.gone = undefined;
    entry.refusedAt = undefined;
    entry.endedMonoMs = this.#context.monoMs - view.ageMs;
    if (restarted) {
      entry.deadInc = undefined;
      entry.neighbour = entry.linked;
      entry.neighbours = undefined;
      entry.voucher = view.vouched === true ? from : undefined;
    }
    if (view.status === "dead") entry.deadInc = view.inc;
    if (view.vouched === true) entry.vouchedAt = this.#context.now;
    else if (restarted || isEnded(view.status)) entry.vouchedAt = -Infinity;
    this.#context.changed(entry);
    this.markDirty(view.peer, from);
    if (view.status === "alive") {
      this.#revived(entry, was, restarted);
      if (isRetagged && !restarted && !isEnded(was)) this.#context.emitMember("updated", entry);
    } else this.#ended(entry, view.status);
  }

  /** The link is gone: what others said of a planned end is true after all. */
  onLinkDown(entry: Entry): void {
    const { reportedEnd } = entry;
    entry.reportedEnd = undefined;
    if (reportedEnd !== undefined && compareViews(reportedEnd, standing(entry)) > 0) {
      this.adopt(entry, reportedEnd, "announced");
    }
  }

  declareDead(entry: Entry, evidence: Evidence): void {
    this.adopt(entry, { ...entry.record, status: "dead", ageMs: 0 }, evidence);
  }

  /** Believes a reported death that nobody denied in time. */
  believeIfDue(entry: Entry): void {
    const hearsay = this.hearsays.due(entry);
    if (hearsay === undefined) return;
    if (compareViews(hearsay.view, standing(entry)) <= 0) {
      entry.hearsay = undefined; // A later doubt has raised its incarnation meanwhile.
      return;
    }
    const waitedMs = this.#context.now - hearsay.since;
    this.adopt(entry, { ...hearsay.view, ageMs: hearsay.view.ageMs + waitedMs }, "reported", hearsay.from);
  }

  /** A member that we hold dead is linked with us: it is told so until it says otherwise. */
  remind(entry: Entry): void {
    const { now, times } = this.#context;
    if (!entry.linked || entry.status !== "dead" || now - entry.pingedAt < times.refuteMs) return;
    entry.pingedAt = now;
    this.#context.tell(entry.record.peer, entry);
  }

  /** Forgets who has been gone for long enough. */
  forgetDue(): void {
    for (const entry of this.#context.roster.sweep(this.#context.monoMs)) this.#forget(entry);
  }

  /**
   * Makes room for one that is there by forgetting who has been gone longest; for one that `isHere`, linked with us, also by one whom
   * we know from others alone and cannot reach. `false`: all are there.
   */
  makeRoom(isHere = false): boolean {
    const { roster } = this.#context;
    if (roster.hasRoom) return true;
    const last = roster.oldestEnded ?? (isHere ? roster.unmet : undefined);
    if (last !== undefined) this.#forget(last);
    return roster.hasRoom;
  }

  #forget(entry: Entry): void {
    const { roster } = this.#context;
    roster.remove(entry);
    this.#changes.forget(entry.record.peer);
    this.#postponed.delete(entry.record.peer);
    this.#dialing.forget(entry.record.peer);
    this.#context.emitMember("forgotten", entry);
  }

  /** Sends what changed to all who did not tell us themselves; at once, then not more often than `floodMs`. */
  flood(): void {
    const { now, times, roster } = this.#context;
    if (this.floodAt === undefined || now < this.#floodAt) return;
    this.#floodAt = now + times.floodMs;
    const passing = this.hearsays.takePassing().map(({ view, from }) => ({ view, source: from }));
    const dirty = [...this.#dirty].flatMap(([peer, source]) => {
      const entry = roster.entries.get(peer);
      const view = entry === undefined ? undefined : this.#context.viewOf(entry);
      return view === undefined ? [] : [{ view, source }];
    });
    const changes = [...passing, ...dirty];
    this.#dirty.clear();
    for (const { record } of this.#context.linked()) {
      const views = changes.filter(({ source }) => source !== record.peer).map(({ view }) => view);
      if (views.length > 0) this.#context.send(record.peer, { type: "views", views });
    }
  }

  /** Digests that stay apart mean that a flood was missed: the whole table repairs that. */
  compareDigest(from: Entry, hash: number): void {
    const { roster, now, times } = this.#context;
    if (hash === roster.digest) {
      from.differsSince = undefined;
      return;
    }
    from.differsSince ??= now;
    if (now - from.differsSince < times.repairAfterMs || now - from.repairedAt < times.repairMs) return;
    from.repairedAt = now;
    this.#snapshots.offer(from);
  }

  #learnLater(entry: Entry, view: View, from: string): void {
    const { peer } = view;
    const postponed = this.#postponed.get(peer);
    if (postponed !== undefined && compareViews(view, postponed.view) <= 0) return;
    // That somebody is there no more never waits: each such word needs one before it that says that it is.
    const isEnd = isEnded(view.status) && !isEnded(entry.status);
    if (isEnd || (postponed === undefined && this.#changes.take(peer, this.#context.now)))
      this.#judge(entry, view, from);
    else this.#postponed.set(peer, { view, from });
  }

  #judge(entry: Entry, view: View, from: string): void {
    const { now, times } = this.#context;
    const heard = entry.linked && now - entry.heardAt <= times.heardMs && view.boot === entry.record.boot;
    const announced = view.status === "stopped" || view.status === "left";
    if (heard && isEnded(view.status) && from !== view.peer) {
      // M6: we hear it, so it can say so itself; it is told what is believed of it.
      this.hearsays.deny(entry, view, from);
      if (announced) entry.reportedEnd = view;
      return;
    }
    const isReport = view.status === "dead" && view.boot === entry.record.boot && !isEnded(entry.status);
    if (isReport && !this.hearsays.agrees(entry)) {
      this.hearsays.hold(entry, view, from);
      return;
    }
    this.adopt(entry, view, announced ? "announced" : from === view.peer ? "direct" : "reported", from);
  }

  #learnUnknown(view: View, from: string): void {
    const { roster, now, monoMs } = this.#context;
    if (view.status === "alive" && view.vouched === true) {
      this.#joinVouched(view, from);
      return;
    }
    if (!roster.hasRoom) return;
    if (view.status === "alive") {
      // M7: hearsay makes nobody a member: it may be of somebody long forgotten. It is worth a dial.
      roster.propose(recordOf(view), now);
      if (this.#keeper.isFull) this.#dialPolitely(view.peer);
      return;
    }
    if (!roster.isSpreadable(view.ageMs)) return;
    const evidence = view.status === "dead" ? "reported" : "announced";
    roster.add(recordOf(view), view.status, evidence, monoMs - view.ageMs, monoMs);
  }

  /** A member that we are linked to has a link to it: it is there, and our own link can wait for quieter times. */
  #joinVouched(view: View, from: string): void {
    if (!this.makeRoom()) return;
    const { roster, now, monoMs } = this.#context;
    const entry = roster.add(recordOf(view), "alive", "reported", monoMs, monoMs);
    entry.voucher = from;
    entry.vouchedAt = now;
    this.#probes.schedule(entry, now);
    this.#context.emitMember("joined", entry);
    this.markDirty(view.peer, from);
    if (this.#keeper.isFull) this.#dialing.wantSoon(view.peer, this.#isFirst(view.peer), now);
  }

  #revived(entry: Entry, was: Status, restarted: boolean): void {
    this.#probes.schedule(entry, this.#context.now);
    this.#tellOfDeath(entry);
    if (restarted || isEnded(was)) this.#context.emitMember("joined", entry);
    else if (was === "suspect") this.#context.emitMember("refuted", entry);
    const isMissed = this.#keeper.isFull || entry.wanted !== undefined;
    if (!entry.linked && isMissed) this.#dialPolitely(entry.record.peer);
  }

  #ended(entry: Entry, status: "dead" | "stopped" | "left"): void {
    entry.round = undefined;
    entry.probeAt = Infinity;
    this.#context.emitMember(status === "dead" ? "died" : status, entry);
    if (status === "dead") this.onDeath();
    // A connection to the dead would sleep in TCP's own back-off; one to those who go is theirs to close.
    if (status === "dead" && entry.linked) {
      this.#context.effect({ type: "disconnect", peer: entry.record.peer, reason: "declared dead" });
    }
  }

  /** Who is back has to know that it was held dead: others may have taken over what it held. */
  #tellOfDeath(entry: Entry): void {
    if (!entry.linked || entry.deadInc === undefined) return;
    const dead: View = { ...entry.record, inc: entry.deadInc, status: "dead", ageMs: 0 };
    entry.deadInc = undefined;
    this.#context.send(entry.record.peer, { type: "views", views: [dead] });
  }

  /** One end dials first; else both would, and one connection would be for nothing. */
  #dialPolitely(peer: string): void {
    const { now, times } = this.#context;
    this.#dialing.want(peer, this.#isFirst(peer) ? now : now + times.politeMs);
  }

  /** Of each pair one end or the other, so that everybody dials about half of the others. */
  #isFirst(peer: string): boolean {
    const { self, selfPeer } = this.#context;
    const isEven = ((self.hash ^ hash32(peer)) & 1) === 0;
    return isEven === selfPeer < peer;
  }
}

function isSameTags(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key])
  );
}

function standing(entry: Entry): { readonly boot: number; readonly inc: number; readonly status: Status } {
  return { boot: entry.record.boot, inc: entry.record.inc, status: entry.status };
}
