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
    const { now, times } = this.#context;
    if (entry.linked) return false;
    const { suspicion } = entry;
    if (suspicion !== undefined && now - suspicion.startedAt >= times.hearsayMs) return true;
    return (entry.gone?.size ?? 0) >= times.goneNeeded;
  }

  /** Holds the report back, and passes it on if it is new. */
  hold(entry: Entry, view: View, from: string): void {
    const { now, times } = this.#context;
    const known = entry.hearsay;
    const isKnown = known !== undefined && known.view.inc >= view.inc;
    if (isKnown && now - known.since < times.hearsayKeptMs) return;
    entry.hearsay = { view, from, since: now, isDenied: false };
    this.#context.roster.active.add(entry);
    this.#passing.push({ view, from });
    if (entry.linked) this.#probes.pingSuspect(entry, now);
  }

  /** We hear the member: what is said of it is not so, and it is told to say so itself. */
  deny(entry: Entry, view: View, from: string): void {
    const { now, selfPeer: witness } = this.#context;
    const { peer, boot } = entry.record;
    this.#context.send(peer, { type: "views", views: [view] });
    const isNew = entry.hearsay === undefined || entry.hearsay.view.inc < view.inc || !entry.hearsay.isDenied;
    if (!isNew) return;
    entry.hearsay = { view, from, since: now, isDenied: true };
    this.#context.sendAll({ type: "heard", subject: peer, boot, id: denialId(view.inc), witness }, peer);
  }

  /** A frame came directly from the member. */
  heard(entry: Entry, at: number): void {
    const { hearsay } = entry;
    if (hearsay === undefined || hearsay.isDenied || at <= hearsay.since || !entry.linked) return;
    this.deny(entry, hearsay.view, hearsay.from);
  }

  /** A witness heard the member although it was said to be dead. `true`: that is news, and was passed on. */
  onDenial(entry: Entry, id: string): boolean {
    const { hearsay } = entry;
    if (hearsay === undefined || hearsay.isDenied || denialId(hearsay.view.inc) !== id) return false;
    hearsay.isDenied = true;
    return true;
  }

  /** The report to believe by now: nobody denied it in time. */
  due(entry: Entry): Hearsay | undefined {
    const { hearsay } = entry;
    if (hearsay === undefined || hearsay.isDenied || this.#context.isBarred) return undefined;
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
}

/** Names the report that a member is dead at this incarnation, as a suspicion's id names a doubt. */
function denialId(inc: number): string {
  return `dead:${inc.toString(36)}`;
}
