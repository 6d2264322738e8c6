import type { Context } from "./context.ts";
import { merged, toRanges } from "./finished.ts";
import type { Section } from "./messages.ts";
import type { LaneSender, ReplicaLink } from "./replica-link.ts";
import type { Timer } from "./timers.ts";
import type { EndValue, Ranges } from "./types.ts";

/** Ranges of finished seqs that are told at a time: as many as there may be gaps in a lane do not fit one section. */
const RANGES_EACH = 2_048;
/** Finished seqs that wait for one replica are made ranges of when they are so many: it may be away for days. */
const LEARNED_MAX = 4_096;

/** What one replica has not been told yet. */
interface Owed {
  readonly seqs: Set<number>;
  /** Refused as EARLY: owed again a while later. */
  readonly early: Set<number>;
  learned: number[];
  /** Ranges of them, of a steal or a link that was lost. */
  before: Ranges;
  end: boolean;
  closed: boolean;
}

/** What the replicas of one lane are owed by its writer. */
export class LaneDebts {
  readonly #context: Context;
  readonly #sender: LaneSender;
  readonly #links: readonly ReplicaLink[];
  readonly #owed: readonly Owed[];
  /** Finished seqs that nobody was told of. */
  readonly #toLearn: number[] = [];
  #learnTimer: Timer | undefined;
  #earlyTimer: Timer | undefined;

  constructor(context: Context, sender: LaneSender, links: readonly ReplicaLink[]) {
    this.#context = context;
    this.#sender = sender;
    this.#links = links;
    this.#owed = links.map(() => {
      return { seqs: new Set(), early: new Set(), learned: [], before: [], end: false, closed: false };
    });
  }

  /**
   * Whether a register may leave at once. One that goes without a body, a lease or a verdict, waits neither for
   * those that take one along nor for their window.
   */
  mayGo(index: number, seq: number, isLight: boolean): boolean {
    const [link, owed] = [this.#links[index], this.#owed[index]];
    if (link === undefined || owed === undefined) return false;
    if (isLight) return link.takesLight && !owed.seqs.has(seq);
    return link.hasRoom && owed.seqs.size === 0 && !owed.end;
  }

  add(index: number, seq: number): void {
    this.#owed[index]?.seqs.add(seq);
    this.#links[index]?.owe(this.#sender);
  }

  /** A7: a replica whose clock is behind is asked again, for as long as its clock is. */
  addEarly(index: number, seq: number): void {
    this.#owed[index]?.early.add(seq);
    if (this.#earlyTimer !== undefined) return;
    const at = this.#context.now.monoMs + this.#context.tuning.earlyRetryMs;
    this.#earlyTimer = this.#context.timers.set(at, () => {
      this.#earlyTimer = undefined;
      this.#all(({ early, seqs }) => {
        for (const seq of early) seqs.add(seq);
        early.clear();
      });
    });
  }

  #all(change: (owed: Owed) => void): void {
    this.#owed.forEach(change);
    for (const link of this.#links) link.owe(this.#sender);
  }

  /** A seq is finished: its replicas learn it with others, soon, and are owed nothing else of it. */
  addFinished(seq: number): void {
    for (const { seqs, early } of this.#owed) {
      // A replica may be away for days, and an ordered lane is never over.
      if (seqs.size > 0) seqs.delete(seq);
      if (early.size > 0) early.delete(seq);
    }
    this.#toLearn.push(seq);
    const { learnSeqs, learnDelayMs } = this.#context.tuning;
    if (this.#toLearn.length >= learnSeqs) this.learn();
    else if (this.#learnTimer === undefined) {
      const at = this.#context.now.monoMs + learnDelayMs;
      this.#learnTimer = this.#context.timers.set(at, () => this.learn());
    }
  }

  learn(): void {
    this.#context.timers.cancel(this.#learnTimer);
    this.#learnTimer = undefined;
    const learned = this.#toLearn.splice(0);
    this.#all((owed) => {
      owed.learned.push(...learned);
      if (owed.learned.length >= LEARNED_MAX) gather(owed);
    });
  }

  learnRanges(ranges: Ranges): void {
    this.#all((owed) => (owed.before = [...owed.before, ...ranges]));
  }

  addEnd(): void {
    this.#all((owed) => (owed.end = true));
  }

  /** Once more, to one of them. */
  addEndAt(index: number): void {
    const owed = this.#owed[index];
    if (owed !== undefined) owed.end = true;
    this.#links[index]?.owe(this.#sender);
  }

  addClosed(): void {
    this.#context.timers.cancel(this.#learnTimer);
    this.#all((owed) => {
      owed.closed = true;
      forgive(owed);
    });
  }

  /** `true`: all replicas know that the lane closed. */
  onClosedLearnt(index: number): boolean {
    const owed = this.#owed[index];
    if (owed !== undefined) owed.closed = false;
    return this.#owed.every((one) => !one.closed);
  }

  /** What a section held, whose replica may not have it. */
  again(link: ReplicaLink, { accepts, learned, end }: Section): void {
    const owed = this.#owed[this.#links.indexOf(link)];
    if (owed === undefined) return;
    for (const { seq } of accepts) owed.seqs.add(seq);
    owed.before = [...owed.before, ...learned];
    if (end !== undefined) owed.end = true;
    link.owe(this.#sender);
  }

  /** Tells a replica all but the registers it is owed, which are returned: whoever sends one takes it out. */
  pay(link: ReplicaLink, end: { readonly step: number; readonly value: EndValue | undefined }): Set<number> {
    const owed = this.#owed[this.#links.indexOf(link)];
    const { value, step } = end;
    if (owed === undefined) return new Set();
    if (owed.closed && value !== undefined) {
      forgive(owed);
      link.closed(this.#sender, value);
      return owed.seqs;
    }
    if (owed.learned.length > 0 || owed.before.length > 0) {
      gather(owed);
      for (let at = 0; at < owed.before.length; at += RANGES_EACH) {
        link.learn(this.#sender, owed.before.slice(at, at + RANGES_EACH));
      }
      owed.before = [];
    }
    if (owed.end && value !== undefined) {
      owed.end = false;
      link.end(this.#sender, step, value);
    }
    return owed.seqs;
  }

  stop(): void {
    this.#context.timers.cancel(this.#learnTimer);
    this.#context.timers.cancel(this.#earlyTimer);
  }
}

function gather(owed: Owed): void {
  owed.before = merged([...owed.before, ...toRanges(owed.learned)]);
  owed.learned = [];
}

/** That the lane closed is all that has to be said. */
function forgive(owed: Owed): void {
  owed.seqs.clear();
  owed.early.clear();
  owed.learned = [];
  owed.before = [];
  owed.end = false;
}
