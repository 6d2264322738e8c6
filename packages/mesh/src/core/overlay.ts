import type { Entry, Roster } from "./roster.ts";
import { hash32, mix32 } from "./views.ts";

export interface OverlayOptions {
  /** Up to this many members everybody links to everybody. */
  readonly fullMeshUpTo: number;
  /** Links each member keeps beyond that; `undefined`: twice the logarithm of their number, 8 at least. */
  readonly degree: number | undefined;
}

export const OVERLAY_OPTIONS: OverlayOptions = { fullMeshUpTo: 16, degree: undefined };

/** Why a link is wanted, and which end dials it first. */
export interface Want {
  readonly why: "ring" | "full" | "gateway";
  readonly isDialer: boolean;
}

/** A full mesh grows this much beyond its size before it thins out, lest it do so with every second member. */
const FULL_SLACK = 4;
const DEGREE_MIN = 8;
const GATEWAY_LINKS = 2;

/**
 * Whom to link with (R1). Few members: everybody. Many: a place on each of several rings by hash, and a link to the
 * next member on each, within one's cloud; whoever has the same list thereby agrees on a connected whole. Clouds
 * are joined by two links between gateways. Pure: the same list, the same links.
 */
export class Overlay {
  readonly #options: OverlayOptions;
  readonly #roster: Roster;
  readonly #self: Entry;
  #isFull = true;
  #rings = 0;
  /** Distance on each ring to the next member and from the one before. */
  #after: number[] = [];
  #before: number[] = [];

  constructor(options: OverlayOptions, roster: Roster, self: Entry) {
    this.#options = options;
    this.#roster = roster;
    this.#self = self;
  }

  /** Everybody links to everybody. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Links that each member keeps, and of which it takes up to twice as many. */
  get degree(): number {
    const { fullMeshUpTo, degree } = this.#options;
    if (this.#isFull) return Math.max(fullMeshUpTo, DEGREE_MIN);
    return degree ?? Math.max(DEGREE_MIN, Math.ceil(2 * Math.log2(this.#roster.liveCount)));
  }

  /** The links to have, by the list as it is now. Members to avoid could not be reached of late. */
  plan(now: number): ReadonlyMap<Entry, Want> {
    const { fullMeshUpTo } = this.#options;
    const count = this.#roster.liveCount;
    this.#isFull = this.#isFull ? count <= fullMeshUpTo + FULL_SLACK : count <= fullMeshUpTo;
    const wants = new Map<Entry, Want>();
    const mates: Entry[] = [];
    const strangers: Entry[] = [];
    for (const entry of this.#roster.entries.values()) {
      if (entry === this.#self || this.#roster.ended.has(entry)) continue;
      if (this.#isFull) wants.set(entry, { why: "full", isDialer: this.#isFirst(entry) });
      else if (entry.record.cloud === this.#self.record.cloud) mates.push(entry);
      else strangers.push(entry);
    }
    this.#rings = this.#isFull ? 0 : Math.ceil(this.degree / 2);
    this.#after = [];
    this.#before = [];
    if (mates.length <= this.degree) {
      for (const mate of mates) wants.set(mate, { why: "ring", isDialer: this.#isFirst(mate) });
    } else for (let ring = 0; ring < this.#rings; ring += 1) this.#planRing(ring, mates, wants, now);
    this.#planGateways(strangers, mates, wants, now);
    return wants;
  }

  /** Whether a newcomer would be linked with if it were on the list. */
  wouldWant(peer: string, cloud: string): boolean {
    if (this.#isFull) return false; // Whoever comes beyond that many makes it none.
    if (cloud !== this.#self.record.cloud || this.#after.length === 0)
      return this.#roster.meshLinks < this.degree;
    const hash = hash32(peer);
    for (let ring = 0; ring < this.#rings; ring += 1) {
      const place = mix32(hash, ring);
      const mine = mix32(this.#self.hash, ring);
      if ((place - mine) >>> 0 < (this.#after[ring] ?? 0)) return true;
      if ((mine - place) >>> 0 < (this.#before[ring] ?? 0)) return true;
    }
    return false;
  }

  /** Of each pair one end or the other dials first, so that everybody dials about half of the others. */
  #isFirst(entry: Entry): boolean {
    if (entry.record.dialOnly === true) return false;
    if (this.#self.record.dialOnly === true) return true;
    const isEven = ((this.#self.hash ^ entry.hash) & 1) === 0;
    return isEven === this.#self.record.peer < entry.record.peer;
  }

  #planRing(ring: number, mates: readonly Entry[], wants: Map<Entry, Want>, now: number): void {
    const mine = mix32(this.#self.hash, ring);
    let [next, before]: [Entry | undefined, Entry | undefined] = [undefined, undefined];
    let [nextAt, beforeAt] = [Infinity, Infinity];
    for (const mate of mates) {
      const place = mix32(mate.hash, ring);
      const forward = (place - mine) >>> 0;
      if (forward < nextAt && (mate.linked || (mate.avoidUntil <= now && mate.record.dialOnly !== true)))
        [next, nextAt] = [mate, forward];
      const backward = (mine - place) >>> 0;
      if (backward < beforeAt) [before, beforeAt] = [mate, backward];
    }
    this.#after.push(nextAt);
    this.#before.push(beforeAt);
    // It is the one before that dials, unless it is known that it cannot be dialled itself.
    if (before !== undefined && !wants.has(before)) wants.set(before, { why: "ring", isDialer: false });
    if (next !== undefined) wants.set(next, { why: "ring", isDialer: true });
  }

  /** Two links between each pair of clouds that may talk, by gateways on which both sides agree. */
  #planGateways(
    strangers: readonly Entry[],
    mates: readonly Entry[],
    wants: Map<Entry, Want>,
    now: number,
  ): void {
    if (strangers.length === 0) return;
    const clouds = Map.groupBy(strangers, (entry) => entry.record.cloud);
    const cloud = this.#self.record.cloud;
    for (const [other, members] of clouds) {
      const pair = hash32(cloud < other ? `${cloud}/${other}` : `${other}/${cloud}`);
      const ours = gatewaysOf([this.#self, ...mates], other, pair, now);
      const theirs = gatewaysOf(members, cloud, pair, now);
      const count = Math.min(GATEWAY_LINKS, ours.length * theirs.length);
      for (let link = 0; link < count; link += 1) {
        if (ours[link % ours.length] !== this.#self) continue;
        const gateway = theirs[link % theirs.length];
        if (gateway === undefined) continue;
        const isDialer =
          this.#self.record.dialOnly === true || (cloud < other && gateway.record.dialOnly !== true);
        wants.set(gateway, { why: "gateway", isDialer });
      }
    }
  }
}

/** Who carries a cloud's traffic with another: its gateways, or anybody where none is named. The same on both sides. */
function gatewaysOf(members: readonly Entry[], other: string, pair: number, now: number): readonly Entry[] {
  const allowed = members.filter(({ record, avoidUntil, linked }) => {
    return (record.reach === undefined || record.reach.includes(other)) && (linked || avoidUntil <= now);
  });
  const named = allowed.filter(({ record }) => record.gateway === true);
  const gateways = named.length > 0 ? named : allowed;
  const chosen: Entry[] = [];
  for (let count = 0; count < GATEWAY_LINKS && count < gateways.length; count += 1) {
    let lowest: Entry | undefined;
    for (const gateway of gateways) {
      if (chosen.includes(gateway)) continue;
      if (lowest === undefined || mix32(pair, gateway.hash) < mix32(pair, lowest.hash)) lowest = gateway;
    }
    if (lowest !== undefined) chosen.push(lowest);
  }
  return chosen;
}
