import type { Context } from "./context.ts";
import { STANDING_MAX } from "./messages.ts";
import type { View } from "./messages.ts";
import type { Standings } from "./standings.ts";
import { hash32, isEnded } from "./views.ts";

interface Farewell {
  readonly nonce: number;
  /** Who has not answered yet. */
  readonly waiting: Set<string>;
  readonly until: number;
}

/** What this node says of itself: its boot, how it refutes others' views (M6), and how it takes its leave. */
export class OwnStanding {
  readonly #context: Context;
  readonly #standings: Standings;
  #refutedAt = -Infinity;
  /** Incarnation to rise to as soon as `refuteMs` allows. */
  #refuteInc: number | undefined;
  /** Highest incarnation of this boot that somebody held dead. */
  #deadInc = -1;
  #askedBoot = 0;
  #farewell: Farewell | undefined;

  constructor(context: Context, standings: Standings) {
    this.#context = context;
    this.#standings = standings;
  }

  /** It is to refute somebody as soon as it may. */
  get isRefuting(): boolean {
    return this.#refuteInc !== undefined;
  }

  get isDeparting(): boolean {
    return this.#farewell !== undefined;
  }

  /** A view of this node, by `from`. */
  learn(view: View, from: string): void {
    const { boot, inc } = this.#context.self.record;
    if (Math.max(view.boot, view.inc) >= STANDING_MAX) return; // There is nothing above it to answer with.
    if (view.boot > boot && view.boot > this.#askedBoot) {
      this.#askedBoot = view.boot;
      this.#context.effect({ type: "raiseBoot", above: view.boot });
    }
    if (view.boot !== boot || this.#farewell !== undefined) return;
    const ended = isEnded(view.status);
    if (view.inc > inc || (ended && view.inc === inc)) this.#refute(view.inc);
    // It was refuted, and whoever still says so missed that.
    else if (ended) this.#context.tell(from, this.#context.self);
    // Even if it was refuted already, as a mere suspicion: others may have acted on our death.
    if (!ended || view.inc <= this.#deadInc) return;
    this.#deadInc = view.inc;
    const refutedBy = Math.max(this.#context.self.record.inc, this.#refuteInc ?? 0);
    this.#context.emit({ type: "declaredDead", boot, inc: refutedBy });
  }

  onSuspect(boot: number, inc: number): void {
    const { record } = this.#context.self;
    if (boot === record.boot && inc >= record.inc && inc < STANDING_MAX) this.#refute(inc);
  }

  /** Raises the incarnation if that is due; at most once in `refuteMs`, lest two who disagree raise each other for ever. */
  refuteIfDue(): void {
    const { now, times, self } = this.#context;
    if (this.#refuteInc === undefined || now - this.#refutedAt < times.refuteMs) return;
    self.record = { ...self.record, inc: this.#refuteInc };
    this.#refutedAt = now;
    this.#refuteInc = undefined;
    this.#changed();
  }

  /** A higher boot is durable. `false`: it is not higher. */
  booted(boot: number): boolean {
    const { self } = this.#context;
    if (boot <= self.record.boot) return false;
    self.record = { ...self.record, boot, inc: 0 };
    this.#refuteInc = undefined;
    this.#deadInc = -1;
    this.#changed();
    return true;
  }

  /** Says something else of itself, which takes a higher incarnation: others tell by it what is later. */
  retag(tags: Readonly<Record<string, string>>): void {
    const { self } = this.#context;
    if (this.#farewell !== undefined) return;
    self.record = { ...self.record, tags, inc: Math.max(self.record.inc, this.#refuteInc ?? 0) + 1 };
    this.#refuteInc = undefined;
    this.#changed();
    this.#context.emitMember("updated", self);
  }

  depart(status: "stopped" | "left"): void {
    if (this.#farewell !== undefined) return;
    const { self, monoMs, roster, now, times } = this.#context;
    self.status = status;
    self.endedMonoMs = monoMs;
    this.#context.changed(self);
    const nonce = hash32(this.#context.newId());
    const waiting = new Set<string>();
    for (const { record } of this.#context.linked()) {
      waiting.add(record.peer);
      this.#context.tell(record.peer, self);
      // On one stream in order: who answers this has read that.
      this.#context.send(record.peer, { type: "ping", nonce, hash: roster.digest });
    }
    this.#farewell = { nonce, waiting, until: now + times.farewellMs };
  }

  onAck(peer: string, nonce: number): void {
    if (this.#farewell?.nonce === nonce) this.#farewell.waiting.delete(peer);
  }

  onLinkDown(peer: string): void {
    this.#farewell?.waiting.delete(peer);
  }

  settleFarewell(): void {
    const farewell = this.#farewell;
    if (farewell === undefined || farewell.until === Infinity) return;
    if (farewell.waiting.size > 0 && this.#context.now < farewell.until) return;
    this.#farewell = { ...farewell, until: Infinity };
    this.#context.effect({ type: "departed" });
  }

  /** Others believe us suspect or dead at `inc`: a higher one says that we are here. */
  #refute(inc: number): void {
    if (this.#farewell !== undefined) return;
    this.#refuteInc = Math.max(this.#refuteInc ?? 0, inc + 1);
    this.refuteIfDue();
  }

  #changed(): void {
    this.#context.changed(this.#context.self);
    this.#standings.markDirty(this.#context.selfPeer);
  }
}
