import type { ManageResult } from "./manage.ts";
import { comparePlaces } from "./message-id.ts";
import type { LaneId, Place } from "./types.ts";

type Item = ManageResult["items"][number];

/**
 * A page of a queue's messages, gathered from what the writers of its lanes answer. All are asked for what lies behind one place,
 * in an order that belongs to the messages: so a lane may go from one writer to another between two pages.
 */
export class Page {
  readonly #limit: number;
  readonly #items: Item[] = [];
  readonly #missing = new Set<string>();
  readonly #unserved = new Map<LaneId, number>();
  #after: Place | undefined;
  #isWhole = false;

  constructor(limit: number, after: Place | undefined) {
    this.#limit = limit;
    this.#after = after;
  }

  get items(): readonly Item[] {
    return this.#items;
  }

  get missing(): readonly string[] {
    return [...this.#missing];
  }

  /** Messages in lanes of this page that nobody told of. */
  get unserved(): number {
    return [...this.#unserved.values()].reduce((sum, count) => sum + count, 0);
  }

  /** What to ask the writers for. */
  get wanted(): { readonly limit: number; readonly after: Place | undefined } {
    return { limit: this.#limit - this.#items.length, after: this.#after };
  }

  /** Where the next page begins; `undefined` behind the last one. */
  get next(): Place | undefined {
    return this.#isWhole ? undefined : this.#after;
  }

  get isFull(): boolean {
    return this.#isWhole || this.#items.length >= this.#limit;
  }

  add({ items, lanes, more, missing }: ManageResult): void {
    for (const peer of missing) this.#missing.add(peer);
    const after = this.#after;
    const isBehind = (place: Place): boolean => after === undefined || comparePlaces(place, after) > 0;
    // Behind where one of them stopped, it may have messages that belong before those of others.
    const stops = [...more.values()].filter((place) => place !== undefined).filter(isBehind);
    const [stop] = stops.toSorted(comparePlaces);
    const isHere = (place: Place): boolean =>
      isBehind(place) && (stop === undefined || comparePlaces(place, stop) <= 0);
    const found = onceEach(items.filter(isHere));
    const { limit } = this.wanted;
    const taken = found.slice(0, limit);
    this.#items.push(...taken);
    const last = found.length > limit ? taken.at(-1) : stop;
    this.#isWhole = last === undefined;
    if (last !== undefined) this.#after = { lane: last.lane, seq: last.seq };
    for (const [lane, count] of unservedIn(lanes)) {
      if (last === undefined || lane <= last.lane) this.#unserved.set(lane, count);
    }
  }
}

/** By place. Of two who write a lane, or believe so, the one that knows more is right. */
export function onceEach(items: readonly Item[]): readonly Item[] {
  const sorted = items.toSorted((a, b) => comparePlaces(a, b) || b.value.epoch - a.value.epoch);
  return sorted.filter((item, at) => {
    const before = sorted[at - 1];
    return before === undefined || comparePlaces(before, item) !== 0;
  });
}

/** Lanes that stores have messages of and no writer told of. Somebody of an earlier version may have told of them. */
function unservedIn(lanes: ManageResult["lanes"]): ReadonlyMap<LaneId, number> {
  const known = lanes.filter((one) => one !== undefined);
  const unserved = new Map<LaneId, number>();
  if (known.length < lanes.length) return unserved;
  const served = new Set(known.flatMap((one) => one.served));
  for (const [lane, count] of known.flatMap(({ kept }) => kept)) {
    if (!served.has(lane)) unserved.set(lane, Math.max(count, unserved.get(lane) ?? 0));
  }
  return unserved;
}
