import type { Context } from "./context.ts";
import type { Dialing } from "./dialing.ts";
import type { Probes } from "./probes.ts";
import type { Entry } from "./roster.ts";
import { isEnded } from "./views.ts";

interface Inquiry {
  readonly id: number;
  readonly entry: Entry;
  readonly boot: number;
  readonly startedAt: number;
}

/** Open questions at once; more are answered "not gone", which is what nobody acts on. */
const INQUIRIES_MAX = 1_024;

/**
 * "Is it gone for you?" (M9): answered by what the member itself said, by hard evidence, or by a fresh look; never
 * by how long it has been silent so far, since the silence may have been ours.
 */
export class Inquiries {
  readonly #context: Context;
  readonly #probes: Probes;
  readonly #dialing: Dialing;
  #open: Inquiry[] = [];

  constructor(context: Context, probes: Probes, dialing: Dialing) {
    this.#context = context;
    this.#probes = probes;
    this.#dialing = dialing;
  }

  get areOpen(): boolean {
    return this.#open.length > 0;
  }

  ask(id: number, peer: string, boot: number): void {
    const { roster, now } = this.#context;
    const entry = roster.entries.get(peer);
    if (entry === undefined || entry === this.#context.self || this.#open.length >= INQUIRIES_MAX) {
      this.#answer(id, entry === undefined ? false : entry.record.boot > boot);
      return;
    }
    const known = this.#known(entry, boot);
    if (known !== undefined) {
      this.#answer(id, known);
      return;
    }
    this.#open.push({ id, entry, boot, startedAt: now });
    if (entry.linked) this.#probes.ask(entry);
    else this.#dialing.want(peer, now);
  }

  /** Answers who has been heard since, and who has not in time. */
  work(): void {
    if (this.#open.length === 0) return;
    const { now, times, isBarred } = this.#context;
    this.#open = this.#open.filter(({ id, entry, boot, startedAt }) => {
      const isHeard = entry.heardAt > startedAt && entry.record.boot === boot;
      const known = isHeard ? false : this.#known(entry, boot);
      const isOver = !isBarred && now - startedAt >= times.inquiryMs;
      if (known === undefined && !isOver) return true;
      this.#answer(id, known ?? true);
      return false;
    });
  }

  /** What needs no fresh look. */
  #known(entry: Entry, boot: number): boolean | undefined {
    if (entry.record.boot > boot) return true;
    if (!isEnded(entry.status)) return undefined;
    return entry.status !== "dead" || entry.evidence === "refused" ? true : undefined;
  }

  #answer(id: number, gone: boolean): void {
    this.#context.effect({ type: "answer", id, gone });
  }
}
