import type { Context } from "./context.ts";
import type { Dialing } from "./dialing.ts";
import type { MemberMessage } from "./messages.ts";
import type { Probes } from "./probes.ts";
import { settleId } from "./roster.ts";
import type { Entry, Evidence } from "./roster.ts";
import type { Standings } from "./standings.ts";
import { Suspicion } from "./suspicion.ts";
import { isEnded, mix32 } from "./views.ts";

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
    const { now, isBarred } = this.#context;
    const { suspicion } = entry;
    if (suspicion === undefined) {
      if (this.#probes.advance(entry, now, factor) === "silent" && !isBarred) this.#accuse(entry);
    } else {
      this.#probes.pingSuspect(entry, now);
      if (isBarred) return;
      this.#maybeConfirm(entry, suspicion);
      this.#repeat(entry, suspicion);
      this.#judgeSilence(entry, suspicion, factor);
    }
    if (!isEnded(entry.status)) this.#standings.believeIfDue(entry);
    if (!isEnded(entry.status)) this.#judgeGone(entry);
    if (!isEnded(entry.status)) this.#standings.hearsays.askAgain(entry);
  }

  /** A frame came directly from this member, at core time `at`: what was doubted since before is answered. */
  heard(entry: Entry, at: number): void {
    const { suspicion } = entry;
    if (suspicion !== undefined && at > suspicion.startedAt) {
      for (const id of suspicion.ids) this.#vouch(entry, id);
      this.#endSuspicion(entry, "direct");
    }
    this.#standings.hearsays.heard(entry, at);
    if (!entry.linked || entry.gone === undefined) return;
    for (const id of new Set(entry.gone.values())) this.#vouch(entry, id);
    entry.gone = undefined;
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
    else if (entry.settledIds?.has(id) === true) this.#tellHeard(from, accuser, message);
  }

  /** What was said is taken back already, and whoever repeats its own word does not know. */
  #tellHeard(from: string, author: string, { subject, boot, id }: Message<"suspect" | "gone">): void {
    if (author !== from) return;
    this.#context.send(from, { type: "heard", subject, boot, id, witness: this.#context.selfPeer });
  }

  /** A witness heard the member after it had learnt of this doubt. */
  onHeard(from: string, message: Message<"heard">): void {
    const entry = this.#context.roster.entries.get(message.subject);
    if (entry === undefined || entry.record.boot !== message.boot || message.witness === message.subject)
      return;
    if (this.#standings.hearsays.onDenial(entry, message.id, message.witness)) {
      this.#context.sendAll(message, from);
      return;
    }
    // Remembered even if the suspicion itself has not come yet: it may be on a longer way.
    if (!settleId(entry, message.id)) return;
    this.#context.sendAll(message, from);
    for (const [witness, id] of entry.gone ?? []) {
      if (id !== message.id) continue;
      if (witness === this.#context.selfPeer) entry.isHidden = true;
      entry.gone?.delete(witness);
      entry.goneAt = undefined;
      entry.refusedAt = undefined;
    }
    if (entry.suspicion?.takeBack(message.id) === true && entry.suspicion.isOver) {
      if (entry.suspicion.firstAccuser === this.#context.selfPeer)
        this.#context.health.worsen(this.#context.now);
      this.#endSuspicion(entry, "reported");
    }
  }

  /** Somebody found a member gone. Who has a link asks it; who has none looks for itself. */
  onGone(from: string, message: Message<"gone">): void {
    const { subject, boot, id, witness } = message;
    const { entries } = this.#context.roster;
    const entry = entries.get(subject);
    if (entry === undefined || entry === this.#context.self) return;
    if (entry.record.boot !== boot || witness === subject || !entries.has(witness)) return;
    if (isEnded(entry.status)) {
      // It may have said so itself, to others.
      if (witness === from) this.#context.tell(from, entry);
      return;
    }
    if (entry.settledIds?.has(id) === true) {
      this.#tellHeard(from, witness, message);
      return;
    }
    const isNew = entry.gone?.get(witness) !== id;
    if (isNew) {
      this.#addWitness(entry, witness, id);
      this.#context.sendAll(message, from);
    }
    if (entry.linked) this.#probes.ask(entry);
    else if (!isNew) return;
    else if (entry.wanted !== undefined || this.isNeighbour(entry) || this.#isGuardian(entry))
      this.#dialing.want(subject, this.#context.now);
  }

  /** A dial of a member without link failed: two refusals in a row, some time apart, are hard evidence. */
  dialFailed(entry: Entry, refused: boolean): void {
    const { now, times } = this.#context;
    entry.dialFailedAt = now;
    entry.refusedLastAt = refused ? now : -Infinity;
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

  /** Nobody within reach is linked with it, as a roll has shown. */
  suspectOrphan(entry: Entry, id: string, accuser: string): void {
    const { peer, boot, inc } = entry.record;
    // Whoever heard the same roll accuses it in the same words: this goes to those who did not.
    if (this.#addAccusation(entry, inc, id, accuser))
      this.#context.sendAll({ type: "suspect", subject: peer, boot, inc, id, accuser });
  }

  #addAccusation(entry: Entry, inc: number, id: string, accuser: string): boolean {
    if (entry.settledIds?.has(id) === true) return false;
    if (entry.suspicion !== undefined && entry.suspicion.inc >= inc)
      return entry.suspicion.accuse(id, accuser);
    if (inc > entry.record.inc) entry.record = { ...entry.record, inc };
    const first = entry.suspicion === undefined;
    entry.suspicion = new Suspicion({ inc, startedAt: this.#context.now, id, accuser });
    entry.round = undefined;
    entry.status = "suspect";
    entry.evidence = accuser === this.#context.selfPeer ? "silence" : "reported";
    this.#context.roster.active.add(entry);
    this.#context.changed(entry);
    // It may be within reach although no link is: a cut that was the reason may be over.
    if (!entry.linked && (entry.wanted !== undefined || this.isNeighbour(entry)))
      this.#dialing.want(entry.record.peer, this.#context.now);
    if (first) this.#context.emitMember("suspected", entry);
    return true;
  }

  /** Whoever suspected it first says so again: a frame that took it back may be lost, and nobody sends it twice. */
  #repeat(entry: Entry, suspicion: Suspicion): void {
    const { now, times, selfPeer: accuser } = this.#context;
    if (suspicion.firstAccuser !== accuser || now - suspicion.repeatedAt < times.repeatMs) return;
    suspicion.repeatedAt = now;
    const { peer, boot } = entry.record;
    const [id] = suspicion.ids;
    if (id !== undefined)
      this.#context.sendAll({ type: "suspect", subject: peer, boot, inc: suspicion.inc, id, accuser });
  }

  /** Our own pings went unanswered too. */
  #maybeConfirm(entry: Entry, suspicion: Suspicion): void {
    const { now, times, selfPeer: accuser } = this.#context;
    // Whoever never heard it has nothing to add.
    if (now - suspicion.startedAt < times.confirmAfterMs || !this.isNeighbour(entry)) return;
    const { peer, boot } = entry.record;
    for (const id of suspicion.ids) {
      if (!suspicion.accuse(id, accuser)) continue;
      this.#context.sendAll({ type: "suspect", subject: peer, boot, inc: suspicion.inc, id, accuser });
    }
  }

  /** Members that could join the first accuser, as far as they matter. */
  #possibleConfirmers(entry: Entry, suspicion: Suspicion): number {
    const { selfPeer, times } = this.#context;
    const first = suspicion.firstAccuser;
    let count = first !== selfPeer && this.isNeighbour(entry) ? 1 : 0;
    for (const other of this.#context.otherNeighbours(entry)) {
      if (count >= times.confirmationsMax) break;
      if (other.record.peer !== first) count += 1;
    }
    return count;
  }

  /** M5: its neighbours declare a member dead; if it has none that we can hear, those whom its name chooses. */
  #judgeSilence(entry: Entry, suspicion: Suspicion, factor: number): void {
    const { now, times } = this.#context;
    if (now < suspicion.startedAt + times.suspicionMsMin * factor) return;
    if (now < suspicion.deadline(times, this.#possibleConfirmers(entry, suspicion), factor)) return;
    if (this.isNeighbour(entry)) {
      this.#standings.declareDead(entry, "silence");
      return;
    }
    const age = now - suspicion.startedAt;
    if (age < times.orphanMs * factor) return;
    const isGuardian = this.#isGuardian(entry);
    if (isGuardian || age >= times.orphanMsMax * factor) {
      // All at once would hold dead whom they have not even dialled.
      if (entry.dialFailedAt > suspicion.startedAt || (isGuardian && this.#dialing.isFull))
        this.#standings.declareDead(entry, "silence");
      else this.#dialing.want(entry.record.peer, now);
    }
    if (age >= times.doubtMsMax * factor && entry.suspicion === suspicion)
      this.#endSuspicion(entry, "reported");
  }

  /** Whether we have a link to it, or had one a moment ago. */
  isNeighbour(entry: Entry): boolean {
    return (
      entry.linked || (entry.neighbour && this.#context.now - entry.lostAt <= this.#context.times.neighbourMs)
    );
  }

  /** Whether we are one of the few that answer for a member without neighbours. */
  #isGuardian(entry: Entry): boolean {
    const { self, roster, times } = this.#context;
    const mine = mix32(entry.hash, self.hash);
    let lower = 0;
    for (const other of roster.entries.values()) {
      if (other === entry || other === self || other.status !== "alive") continue;
      if (mix32(entry.hash, other.hash) < mine) lower += 1;
      if (lower >= times.guardians) return false;
    }
    return true;
  }

  #addWitness(entry: Entry, witness: string, id: string): void {
    if (entry.gone === undefined) {
      entry.gone = new Map();
      entry.goneAt = undefined;
    }
    entry.gone.set(witness, id);
    this.#context.roster.active.add(entry);
  }

  #endSuspicion(entry: Entry, evidence: Evidence): void {
    entry.suspicion = undefined;
    entry.status = "alive";
    entry.evidence = evidence;
    this.#probes.schedule(entry, this.#context.now);
    this.#context.changed(entry);
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
    if (entry.gone?.has(witness) === true || entry.record.dialOnly === true || entry.isHidden) return;
    if (!entry.neighbour && (entry.gone?.size ?? 0) === 0) return;
    const { peer, boot } = entry.record;
    const id = this.#context.newId();
    this.#addWitness(entry, witness, id);
    entry.goneToldAt = this.#context.now;
    this.#context.sendAll({ type: "gone", subject: peer, boot, id, witness });
  }

  /** Enough members that could see it found it gone, and nobody heard it since. */
  #judgeGone(entry: Entry): void {
    const found = entry.gone?.size ?? 0;
    if (found === 0 || entry.linked || this.#context.isBarred) return;
    const { now, times } = this.#context;
    // Alone with it, one's own word has to do, if it is of now: what refused us before may have let others through.
    if (found < times.goneNeeded) {
      if (!this.#isAloneWith(entry)) return;
      if (now - entry.refusedLastAt > times.redialMs) {
        this.#dialing.want(entry.record.peer, now);
        return;
      }
    }
    entry.goneAt ??= now;
    const waitedMs = now - entry.goneAt;
    const share = this.#shareOfWitnesses(entry);
    if (share === 1 || waitedMs >= (share > 0.5 ? times.objectMs : times.objectMsMax))
      this.#standings.declareDead(entry, "refused");
    else this.#repeatGone(entry);
  }

  /** Those who hear it may not have learnt that we do not, or their answer was lost. */
  #repeatGone(entry: Entry): void {
    const { now, times, selfPeer: witness } = this.#context;
    const id = entry.gone?.get(witness);
    if (id === undefined || now - entry.goneToldAt < times.objectMs) return;
    entry.goneToldAt = now;
    const { peer, boot } = entry.record;
    this.#context.sendAll({ type: "gone", subject: peer, boot, id, witness });
  }

  /** Nobody else is here who could know: no link, nor one just lost that is being dialled again. */
  #isAloneWith(entry: Entry): boolean {
    for (const other of this.#context.roster.active) {
      if (other === entry || other.status !== "alive") continue;
      if (other.linked || (this.isNeighbour(other) && other.dialFailedAt < other.lostAt)) return false;
    }
    return true;
  }

  /**
   * How many of those that are linked with it found it gone, by what it said of itself and, as that may be old, by
   * what they say; the others hear it, or will know before long.
   */
  #shareOfWitnesses(entry: Entry): number {
    const watching = new Set(this.#context.otherNeighbours(entry));
    for (const other of this.#context.linked()) {
      if (other !== entry && other.neighbours?.includes(entry.hash) !== false) watching.add(other);
    }
    let count = 0;
    for (const { record } of watching) if (entry.gone?.has(record.peer) === true) count += 1;
    return watching.size === 0 ? 1 : count / watching.size;
  }
}
