import type { Context } from "./context.ts";
import type { View } from "./messages.ts";
import type { Probes } from "./probes.ts";
import type { Entry, Hearsay } from "./roster.ts";

/**
 * Holds a reported death back for a moment and passes it on: whoever is linked with the member asks it, and
 * who hears it says so. Otherwise all that one side of a healed partition believed of the other would kill
 * there before it could be refuted.
 */
export class Hearsays {
  readonly #context: Context;
  readonly #probes: Probes;
  #passing: { readonly view: View; readonly from: string }[] = [];

  constructor(context: Context, probes: Probes) {
    this.#context = context;
    this.#probes = probes;
  }

  /** Whether our own evidence says the same: then there is nothing to wait for. */
  agrees(entry: Entry): boolean {
    const { now, times, isBarred } = this.#context;
    const { suspicion } = entry;
    // As old as a verdict of our own, about: the report may be of other times, and the member busy for two seconds.
    if (suspicion !== undefined && now - suspicion.startedAt >= times.agreeMs && !isBarred) return true;
    return !entry.linked && (entry.gone?.size ?? 0) >= times.goneNeeded;
  }

  /** Holds the report back, and passes it on if it is new. */
  hold(entry: Entry, view: View, from: string): void {
    const { now, times } = this.#context;
    const known = entry.hearsay;
    const isKnown = known !== undefined && known.view.inc >= view.inc;
    if (isKnown && now - known.since < times.hearsayKeptMs) {
      if (known.deniedBy !== undefined) this.#sendDenial(from, known.view, known.deniedBy);
      return;
    }
    entry.hearsay = { view, from, since: now, askedAt: now, deniedBy: undefined };
    this.#context.roster.active.add(entry);
    this.#passing.push({ view, from });
    if (entry.linked) this.#probes.ask(entry);
  }

  /** Goes on asking about a report that waits: the answer, or the question, may have been lost. */
  askAgain(entry: Entry): void {
    const { hearsay } = entry;
    const { now, times } = this.#context;
    if (hearsay === undefined || hearsay.deniedBy !== undefined) return;
    if (now - hearsay.askedAt < times.hearsayAgainMs) return;
    hearsay.askedAt = now;
    this.#passing.push(hearsay);
    if (entry.linked) this.#probes.ask(entry);
  }

  /** We hear the member: what is said of it is not so, and it is told to say so itself. */
  deny(entry: Entry, view: View, from: string): void {
    const { now, selfPeer: deniedBy } = this.#context;
    const { hearsay } = entry;
    this.#context.send(entry.record.peer, { type: "views", views: [view] });
    // Who says so does not watch it any more: it is for us to do so.
    if (entry.round === undefined) this.#probes.hasten(entry, now);
    if (hearsay?.deniedBy !== undefined && hearsay.view.inc >= view.inc) {
      this.#sendDenial(from, view, deniedBy);
      return;
    }
    entry.hearsay = { view, from, since: now, askedAt: now, deniedBy };
    for (const { record } of this.#context.linked())
      if (record.peer !== view.peer) this.#sendDenial(record.peer, view, deniedBy);
  }

  /** A frame came directly from the member. */
  heard(entry: Entry, at: number): void {
    const { hearsay } = entry;
    if (hearsay === undefined || hearsay.deniedBy !== undefined || at <= hearsay.since || !entry.linked)
      return;
    this.deny(entry, hearsay.view, hearsay.from);
  }

  /** A witness heard the member although it was said to be dead. `true`: that is news, and was passed on. */
  onDenial(entry: Entry, id: string, witness: string): boolean {
    const { hearsay } = entry;
    if (hearsay === undefined || hearsay.deniedBy !== undefined || denialId(hearsay.view.inc) !== id)
      return false;
    hearsay.deniedBy = witness;
    return true;
  }

  /** The report to believe by now: nobody denied it in time. */
  due(entry: Entry): Hearsay | undefined {
    const { hearsay } = entry;
    if (hearsay === undefined || hearsay.deniedBy !== undefined || this.#context.isBarred) return undefined;
    return this.#context.now - hearsay.since >= this.#context.times.hearsayMs ? hearsay : undefined;
  }

  /** What came since the last call and has to go on to others. */
  takePassing(): readonly { readonly view: View; readonly from: string }[] {
    const passing = this.#passing;
    this.#passing = [];
    return passing;
  }

  get isPassing(): boolean {
    return this.#passing.length > 0;
  }

  #sendDenial(to: string, { peer: subject, boot, inc }: View, witness: string): void {
    this.#context.send(to, { type: "heard", subject, boot, id: denialId(inc), witness });
  }
}

/** Names the report that a member is dead at this incarnation, as a suspicion's id names a doubt. */
function denialId(inc: number): string {
  return `dead:${inc.toString(36)}`;
}
