import type { Random } from "@klatsch/kit/core";
import type { MembershipTimes } from "./times.ts";

interface Target {
  /** Core time of the next dial out of turn; ∞ without one. */
  at: number;
  inFlight: boolean;
  retryMs: number;
  /** It turned us away: no dial before this. */
  quietUntil: number;
  /** No dial before newcomers have ceased to come, until then at the latest. */
  calmBy: number | undefined;
}

/** What dialling has to know about everybody. */
export interface DialingPorts {
  /** Peers to keep trying in rotation, none of them linked: seeds, members and candidates. */
  unlinked(): readonly string[];
  isLinked(peer: string): boolean;
}

/**
 * Whom to dial and when: at once where something changed, and besides one unlinked peer after the other for
 * ever, so that a healed partition is found with nobody's help.
 */
export class Dialing {
  readonly #times: MembershipTimes;
  readonly #random: Random;
  readonly #ports: DialingPorts;
  readonly #targets = new Map<string, Target>();
  #inFlight = 0;
  #rotationAt = 0;
  /** Newcomers have ceased to come if none does before this. */
  #calmAt = 0;
  #lastRotated = "";

  constructor(times: MembershipTimes, random: Random, ports: DialingPorts) {
    this.#times = times;
    this.#random = random;
    this.#ports = ports;
  }

  /** Dials the peer at core time `at`, or earlier if that was planned. */
  want(peer: string, at: number): void {
    const target = this.#target(peer);
    target.at = Math.min(target.at, Math.max(at, target.quietUntil));
  }

  /**
   * A newcomer that others are linked to: it is dialled when the list has settled, for who is listed matters more
   * than links while many join at once. The end that does not dial first waits for the other's dial.
   */
  wantSoon(peer: string, first: boolean, now: number): void {
    const { calmMs, calmMsMax, waitMs } = this.#times;
    this.#calmAt = now + calmMs;
    this.want(peer, first ? now : now + calmMsMax + waitMs);
    this.#target(peer).calmBy = now + calmMsMax;
  }

  /** No more dials for now. */
  get isFull(): boolean {
    return this.#inFlight >= this.#times.dialsMax;
  }

  /** When somebody is to be dialled out of turn; ∞ if nobody is. */
  get dueAt(): number {
    let dueAt = Infinity;
    for (const { at, inFlight } of this.#targets.values()) if (!inFlight) dueAt = Math.min(dueAt, at);
    return dueAt;
  }

  /** Whom to dial now. */
  due(now: number): string[] {
    const due: string[] = [];
    for (const [peer, target] of this.#targets) {
      if (now < target.at || target.inFlight) continue;
      if (now < this.#calmAt && now < (target.calmBy ?? 0)) continue;
      const isLinked = this.#ports.isLinked(peer);
      if (!isLinked && !this.#start(target)) break; // The others come when these have ended.
      target.at = Infinity;
      target.calmBy = undefined;
      if (!isLinked) due.push(peer);
    }
    if (now < this.#rotationAt) return due;
    this.#rotationAt = now + jittered(this.#random, this.#times.rotationMs);
    const rotated = this.#nextInRotation(now);
    if (rotated !== undefined && this.#start(this.#target(rotated))) due.push(rotated);
    return due;
  }

  /** A dial ended. After one that failed, a peer that `isWanted` is tried again, ever more slowly. */
  done(peer: string, connected: boolean, isWanted: boolean, now: number): void {
    const target = this.#targets.get(peer);
    if (target === undefined) return;
    if (target.inFlight) this.#inFlight -= 1;
    target.inFlight = false;
    if (connected) {
      target.retryMs = this.#times.retryMs[0];
      if (!isWanted) this.forget(peer);
      // If no link comes of it, somebody has to notice.
      if (isWanted) this.want(peer, now + jittered(this.#random, this.#times.retryMs[1]));
      return;
    }
    if (isWanted) this.want(peer, now + jittered(this.#random, target.retryMs));
    target.retryMs = Math.min(target.retryMs * 2, this.#times.retryMs[1]);
  }

  /** The peer turned us away for a reason that will not go by itself. */
  leaveAlone(peer: string, now: number, durationMs: number = this.#times.refusedMs): void {
    const target = this.#targets.get(peer);
    if (target === undefined) return; // A stranger that came by itself: nothing to remember.
    target.quietUntil = now + durationMs;
    target.at = Infinity;
  }

  forget(peer: string): void {
    const target = this.#targets.get(peer);
    if (target?.inFlight === false) this.#targets.delete(peer);
  }

  #start(target: Target): boolean {
    if (this.#inFlight >= this.#times.dialsMax) return false;
    target.inFlight = true;
    this.#inFlight += 1;
    return true;
  }

  #nextInRotation(now: number): string | undefined {
    const names = this.#ports
      .unlinked()
      .filter((peer) => {
        const target = this.#targets.get(peer);
        return target === undefined || (!target.inFlight && now >= target.quietUntil);
      })
      .toSorted();
    const next = names.find((peer) => peer > this.#lastRotated) ?? names[0];
    if (next !== undefined) this.#lastRotated = next;
    return next;
  }

  #target(peer: string): Target {
    const known = this.#targets.get(peer);
    if (known !== undefined) return known;
    const target: Target = {
      at: Infinity,
      inFlight: false,
      retryMs: this.#times.retryMs[0],
      quietUntil: 0,
      calmBy: undefined,
    };
    this.#targets.set(peer, target);
    return target;
  }
}

/** ±25 %: nodes that lost the same peer must not redial it in step. */
export function jittered(random: Random, durationMs: number): number {
  return durationMs * (0.75 + (random.uint32() / 0x1_0000_0000) * 0.5);
}

/** M11: where many start at once they do not all come in the same moment. When to dial one of so many seeds, in milliseconds. */
export function firstDialMs(seeds: number, { jitterAbove }: MembershipTimes, random: Random): number {
  const spreadMs = seeds > jitterAbove ? (seeds / 100) * 1_000 : 0;
  return (random.uint32() / 0x1_0000_0000) * spreadMs;
}
