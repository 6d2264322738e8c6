import type { Context } from "./context.ts";
import type { Dialing } from "./dialing.ts";
import type { MemberMessage } from "./messages.ts";
import type { Probes } from "./probes.ts";
import { settleId } from "./roster.ts";
import type { Entry, Evidence } from "./roster.ts";
import type { Standings } from "./standings.ts";
import { Suspicion } from "./suspicion.ts";
import { isEnded } from "./views.ts";

type Message<Type extends MemberMessage["type"]> = Extract<MemberMessage, { type: Type }>;

/** Whether a member is still there: soft evidence (M2, M4), hard evidence (M1), and both taken back. */
export class Doubts {
  readonly #context: Context;
  readonly #probes: Probes;
  readonly #dialing: Dialing;
  readonly #standings: Standings;

  constructor(context: Context, probes: Probes, dialing: Dialing, standings: Standings) {
    this.#context = context;
    this.#probes = probes;
    this.#dialing = dialing;
    this.#standings = standings;
  }

  /** Goes on with watching one member that has not ended. `factor` stretches soft timers. */
  watch(entry: Entry, factor: number): void {
    const { now, isBarred, times } = this.#context;
    const { suspicion } = entry;
    if (suspicion === undefined) {
      if (this.#probes.advance(entry, now, factor) === "silent" && !isBarred) this.#accuse(entry);
    } else {
      this.#probes.pingSuspect(entry, now);
      if (isBarred) return;
      this.#maybeConfirm(entry, suspicion);
      const possible = this.#possibleConfirmers(entry, suspicion);
      if (now >= suspicion.deadline(times, possible, factor)) this.#standings.declareDead(entry, "silence");
    }
    if (!isEnded(entry.status)) this.#standings.believeIfDue(entry);
    if (!isEnded(entry.status)) this.#judgeGone(entry);
  }

  /** A frame came directly from this member, at core time `at`: what was doubted since before is answered. */
  heard(entry: Entry, at: number): void {
    const { suspicion } = entry;
    if (suspicion !== undefined && at > suspicion.startedAt) {
      for (const id of suspicion.ids) this.#vouch(entry, id);
      this.#endSuspicion(entry, "direct");
    }
    this.#standings.hearsays.heard(entry, at);
    if (!entry.linked || entry.gone.size === 0) return;
    for (const id of new Set(entry.gone.values())) this.#vouch(entry, id);
    entry.gone.clear();
  }

  /** Somebody suspects a member other than us. */
  onSuspect(from: string, message: Message<"suspect">): void {
    const { subject, boot, inc, id, accuser } = message;
    const { entries } = this.#context.roster;
    const entry = entries.get(subject);
    if (entry === undefined || boot > entry.record.boot || !entries.has(accuser)) return;
    if (boot < entry.record.boot || inc < entry.record.inc || isEnded(entry.status)) {
      this.#context.tell(from, entry);
      return;
    }
    if (this.#addAccusation(entry, inc, id, accuser)) this.#context.sendAll(message, from);
  }

  /** A witness heard the member after it had learnt of this doubt. */
  onHeard(from: string, message: Message<"heard">): void {
    const entry = this.#context.roster.entries.get(message.subject);
    if (entry === undefined || entry.record.boot !== message.boot || message.witness === message.subject)
      return;
    if (this.#standings.hearsays.onDenial(entry, message.id)) {
      this.#context.sendAll(message, from);
      return;
    }
    // Remembered even if the suspicion itself has not come yet: it may be on a longer way.
    if (!settleId(entry, message.id)) return;
    this.#context.sendAll(message, from);
    for (const [witness, id] of entry.gone) {
      if (id !== message.id) continue;
      entry.gone.delete(witness);
      entry.refusedAt = undefined;
    }
    if (entry.suspicion?.takeBack(message.id) === true && entry.suspicion.isOver) {
      this.#endSuspicion(entry, "reported");
    }
  }

  /** Somebody found a member gone. Who has a link asks it; who has none looks for itself. */
  onGone(from: string, message: Message<"gone">): void {
    const { subject, boot, id, witness } = message;
    const { entries } = this.#context.roster;
    const entry = entries.get(subject);
    if (entry === undefined || entry === this.#context.self) return;
    if (entry.record.boot !== boot || isEnded(entry.status)) return;
    if (witness === subject || !entries.has(witness)) return;
    if (entry.gone.get(witness) === id || entry.settledIds.has(id)) return;
    entry.gone.set(witness, id);
    this.#context.sendAll(message, from);
    if (entry.linked) this.#probes.pingSuspect(entry, this.#context.now);
    else this.#dialing.want(subject, this.#context.now);
  }

  /** A dial of a member without link ended: two refusals in a row, some time apart, are hard evidence. */
  dialed(entry: Entry, refused: boolean): void {
    const { now, times } = this.#context;
    if (!refused) entry.refusedAt = undefined;
    else if (entry.refusedAt === undefined) {
      entry.refusedAt = now;
      this.#dialing.want(entry.record.peer, now + times.redialMs);
    } else if (now - entry.refusedAt >= times.redialMs) this.#findGone(entry);
  }

  #accuse(entry: Entry): void {
    const { now, times, selfPeer: accuser } = this.#context;
    const { peer, boot, inc } = entry.record;
    const id = this.#context.newId();
    this.#addAccusation(entry, inc, id, accuser);
    this.#context.sendAll({ type: "suspect", subject: peer, boot, inc, id, accuser });
    // Where one fell silent others may have too, with those who watch them: without this a partition is seen
    // link by link, each at the pace of its last watcher.
    for (const other of this.#context.linked()) {
      if (other.round === undefined && now - other.heardAt > times.roundMs) this.#probes.hasten(other, now);
    }
  }

  #addAccusation(entry: Entry, inc: number, id: string, accuser: string): boolean {
    if (entry.settledIds.has(id)) return false;
    if (entry.suspicion !== undefined && entry.suspicion.inc >= inc)
      return entry.suspicion.accuse(id, accuser);
    if (inc > entry.record.inc) entry.record = { ...entry.record, inc };
    const first = entry.suspicion === undefined;
    entry.suspicion = new Suspicion({ inc, startedAt: this.#context.now, id, accuser });
    entry.round = undefined;
    entry.status = "suspect";
    entry.evidence = accuser === this.#context.selfPeer ? "silence" : "reported";
    this.#context.roster.touch();
    if (first) this.#context.emitMember("suspected", entry);
    return true;
  }

  /** Our own pings went unanswered too. */
  #maybeConfirm(entry: Entry, suspicion: Suspicion): void {
    const { now, times, selfPeer: accuser } = this.#context;
    if (now - suspicion.startedAt < times.confirmAfterMs) return;
    const { peer, boot } = entry.record;
    for (const id of suspicion.ids) {
      if (!suspicion.accuse(id, accuser)) continue;
      this.#context.sendAll({ type: "suspect", subject: peer, boot, inc: suspicion.inc, id, accuser });
    }
  }

  /** Members that could join the first accuser, as far as we can see: those we have no link to count for nothing. */
  #possibleConfirmers(entry: Entry, suspicion: Suspicion): number {
    const first = suspicion.firstAccuser;
    const others = this.#context.countLinkedAlive(entry);
    if (first === this.#context.selfPeer) return others;
    const accuser = this.#context.roster.entries.get(first);
    return others + 1 - (accuser?.linked === true && accuser.status === "alive" ? 1 : 0);
  }

  #endSuspicion(entry: Entry, evidence: Evidence): void {
    entry.suspicion = undefined;
    entry.status = "alive";
    entry.evidence = evidence;
    this.#probes.schedule(entry, this.#context.now);
    this.#context.roster.touch();
    this.#context.emitMember("refuted", entry);
  }

  #vouch(entry: Entry, id: string): void {
    settleId(entry, id);
    const { peer, boot } = entry.record;
    this.#context.sendAll({ type: "heard", subject: peer, boot, id, witness: this.#context.selfPeer });
  }

  #findGone(entry: Entry): void {
    const witness = this.#context.selfPeer;
    // Who never had a link may be the one that cannot reach it: it joins those who lost theirs, at most.
    if (entry.gone.has(witness) || (!entry.neighbour && entry.gone.size === 0)) return;
    const { peer, boot } = entry.record;
    const id = this.#context.newId();
    entry.gone.set(witness, id);
    this.#context.sendAll({ type: "gone", subject: peer, boot, id, witness });
  }

  /** Enough members that could see it found it gone, and nobody heard it since. */
  #judgeGone(entry: Entry): void {
    if (entry.gone.size === 0 || entry.linked || this.#context.isBarred) return;
    const possible = 1 + this.#context.countLinkedAlive(entry);
    if (entry.gone.size >= Math.min(this.#context.times.goneNeeded, possible)) {
      this.#standings.declareDead(entry, "refused");
    }
  }
}
