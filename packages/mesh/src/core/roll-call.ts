import type { Context } from "./context.ts";
import type { Entry } from "./roster.ts";
import { isEnded, mix32 } from "./views.ts";

/** Hashes in one message. */
const HASHES_MAX = 2_048;

interface Roll {
  readonly startedAt: number;
  /** Hashes of those who are here, and of those they are linked with. */
  readonly present: Set<number>;
  /** What is to be passed on. */
  pending: number[];
  /** Late askers that were told the outcome. */
  readonly told: Set<string>;
  isOver: boolean;
}

/**
 * Who is linked with whom, asked when many died at once (M5). A member that nobody within reach is linked with has
 * nobody to watch it: behind a cut that leaves few on this side, most are such orphans. Everybody here says whom it
 * is linked with; whoever is not named is suspected, and has the usual time to show itself.
 */
export class RollCall {
  readonly #context: Context;
  /** Suspects a member; all who heard the same roll do so in the same words. */
  readonly #suspect: (entry: Entry, id: string, accuser: string) => void;
  #deaths: number[] = [];
  #roll: Roll | undefined;
  #passAt = 0;

  constructor(context: Context, suspect: (entry: Entry, id: string, accuser: string) => void) {
    this.#context = context;
    this.#suspect = suspect;
  }

  get dueAt(): number | undefined {
    return (this.#roll?.pending.length ?? 0) > 0 ? this.#passAt : undefined;
  }

  /** Somebody was declared dead: where that is one of many, others may be gone whom nobody watched. */
  onDeath(): void {
    const { now, times, roster } = this.#context;
    this.#deaths = this.#deaths.filter((at) => now - at < times.rollWindowMs);
    this.#deaths.push(now);
    const before = roster.liveCount + this.#deaths.length;
    const isMany = this.#deaths.length >= Math.max(times.rollDeathsMin, before * times.rollDeathsShare);
    if (isMany && !this.#isRecent) this.#start();
  }

  onPresent(from: Entry, hashes: readonly number[]): void {
    const { peer } = from.record;
    if (!this.#isRecent) this.#start();
    const roll = this.#roll;
    if (roll === undefined) return;
    if (roll.isOver) {
      // It calls where we have done so already.
      if (roll.told.has(peer)) return;
      roll.told.add(peer);
      this.#send(peer, [...roll.present]);
      return;
    }
    for (const hash of hashes) this.#add(roll, hash);
  }

  work(): void {
    const { now, times, isBarred } = this.#context;
    const roll = this.#roll;
    if (roll === undefined || roll.isOver) return;
    if (roll.pending.length > 0 && now >= this.#passAt) {
      this.#passAt = now + times.floodMs;
      const pending = roll.pending.splice(0);
      for (const { record } of this.#context.linked()) this.#send(record.peer, pending);
    }
    if (now - roll.startedAt < times.rollMs) return;
    roll.isOver = true;
    if (!isBarred) this.#judge(roll);
  }

  get #isRecent(): boolean {
    return (
      this.#roll !== undefined && this.#context.now - this.#roll.startedAt < this.#context.times.rollAgainMs
    );
  }

  #start(): void {
    const { now, self } = this.#context;
    const roll: Roll = { startedAt: now, present: new Set(), pending: [], told: new Set(), isOver: false };
    this.#roll = roll;
    this.#add(roll, self.hash);
    for (const entry of this.#context.linked()) if (!isEnded(entry.status)) this.#add(roll, entry.hash);
  }

  #add(roll: Roll, hash: number): void {
    // A hash that is nobody's could be one of very many.
    if (roll.present.has(hash) || this.#context.roster.byHash(hash) === undefined) return;
    roll.present.add(hash);
    roll.pending.push(hash);
  }

  #send(peer: string, hashes: readonly number[]): void {
    for (let at = 0; at < hashes.length; at += HASHES_MAX)
      this.#context.send(peer, { type: "present", hashes: hashes.slice(at, at + HASHES_MAX) });
  }

  #judge(roll: Roll): void {
    const { roster, self } = this.#context;
    for (const entry of roster.entries.values()) {
      if (entry === self || entry.linked || entry.status !== "alive" || roll.present.has(entry.hash))
        continue;
      const { boot, inc } = entry.record;
      const accuser = this.#accuserOf(entry, roll)?.record.peer ?? self.record.peer;
      const id = `roll:${entry.hash.toString(36)}:${boot.toString(36)}:${inc.toString(36)}`;
      this.#suspect(entry, id, accuser);
    }
  }

  /** One of those present in whose name all accuse it: a thousand accusers would each be heard by everybody. */
  #accuserOf(entry: Entry, roll: Roll): Entry | undefined {
    let chosen: number | undefined;
    for (const hash of roll.present) {
      if (chosen === undefined || mix32(entry.hash, hash) < mix32(entry.hash, chosen)) chosen = hash;
    }
    return chosen === undefined ? undefined : this.#context.roster.byHash(chosen);
  }
}
