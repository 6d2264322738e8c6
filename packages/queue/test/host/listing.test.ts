import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { Page } from "../../src/core/listed-page.ts";
import type { ManageResult } from "../../src/core/manage.ts";
import { comparePlaces } from "../../src/core/message-id.ts";
import { enqueued } from "../../src/core/register.ts";
import type { Place, Value } from "../../src/core/types.ts";
import { nextOf, placeOf } from "../../src/host/listing.ts";

const QUEUE = "a".repeat(64);
const LANES = ["1", "2", "3", "4"].map((digit) => digit.repeat(64));
const PEERS = ["a", "b", "c"];
const VALUE: Value = enqueued(
  { body: new Uint8Array(), bodyHash: "", notBeforeWallMs: 0, enqueuedWallMs: 1, attributes: undefined },
  1_000,
);

type Item = ManageResult["items"][number];

/** What the writers answer; `writes`: of which lanes, by peer. Each tells of so many at most. */
function answers(
  places: readonly Place[],
  writes: readonly (readonly string[])[],
  { limit, after }: Page["wanted"],
  rooms: readonly number[],
): ManageResult {
  const items: Item[] = [];
  const more = new Map<string, Place | undefined>();
  const lanes: ManageResult["lanes"][number][] = [];
  for (const [no, peer] of PEERS.entries()) {
    const served = writes[no] ?? [];
    const own = places
      .filter(
        (place) => served.includes(place.lane) && (after === undefined || comparePlaces(place, after) > 0),
      )
      .toSorted(comparePlaces);
    const told = own.slice(0, Math.min(limit, rooms[no] ?? 1));
    for (const place of told) items.push({ ...place, value: VALUE, peer });
    const last = told.length < own.length ? told.at(-1) : undefined;
    if (last !== undefined) more.set(peer, last);
    const kept = LANES.filter((lane) => places.some((place) => place.lane === lane)).map(
      (lane) => [lane, 1] as const,
    );
    const isHere = (lane: string): boolean => lane >= (after?.lane ?? "") && lane <= (last?.lane ?? lane);
    lanes.push({ served: served.filter(isHere), kept: kept.filter(([lane]) => isHere(lane)) });
  }
  return { ...NOTHING, items, lanes, more };
}

const NOTHING: ManageResult = {
  items: [],
  count: 0,
  counts: {
    ...{ ready: 0, delayed: 0, leased: 0, dead: 0, unserved: 0 },
    ...{ lanes: 0, weakLanes: 0, movingLanes: 0, oldestWallMs: 0 },
  },
  consumers: [],
  groups: [],
  shards: [],
  lanes: [],
  more: new Map(),
  missing: [],
};

const place = fc.record({ lane: fc.constantFrom(...LANES), seq: fc.nat(30) });
const keyOf = ({ lane, seq }: Place): string => `${lane}-${seq}`;
const round = fc.record({
  /** Who writes each lane; nobody, if it is out of reach of all. */
  writers: fc.array(fc.nat(PEERS.length - 1), { minLength: LANES.length, maxLength: LANES.length }),
  rooms: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: PEERS.length, maxLength: PEERS.length }),
  come: fc.array(place, { maxLength: 4 }),
});

describe("the pages of a queue", () => {
  it("always have what is there all the while, once, whoever writes its lane and whatever comes and goes", () => {
    const options = fc.record({
      there: fc.uniqueArray(place, { selector: keyOf, maxLength: 40 }),
      limit: fc.integer({ min: 1, max: 10 }),
      rounds: fc.array(round, { minLength: 1, maxLength: 20 }),
    });
    fc.assert(
      fc.property(options, ({ there, limit, rounds }) => {
        const seen: string[] = [];
        let after: Place | undefined;
        for (let no = 0; ;) {
          const page = new Page(limit, after);
          while (!page.isFull) {
            const { writers = [], rooms = [], come = [] } = rounds[no++ % rounds.length] ?? {};
            const places = [...new Map([...there, ...come].map((one) => [keyOf(one), one])).values()];
            const writes = PEERS.map((_, peer) => LANES.filter((_, lane) => writers[lane] === peer));
            page.add(answers(places, writes, page.wanted, rooms));
          }
          expect(page.items.length).toBeLessThanOrEqual(limit);
          expect(page.unserved).toBe(0);
          seen.push(...page.items.map(keyOf));
          if (page.next === undefined) break;
          after = placeOf(QUEUE, nextOf(QUEUE, page.next));
        }
        expect(new Set(seen).size).toBe(seen.length);
        expect(seen).toEqual(expect.arrayContaining(there.map(keyOf)));
      }),
    );
  });

  it("say how many messages are in lanes that nobody told of, on the page where they belong", () => {
    const places = LANES.flatMap((lane) => [
      { lane, seq: 0 },
      { lane, seq: 1 },
    ]);
    const [first, second, third, fourth] = LANES as [string, string, string, string];
    const unserved: number[] = [];
    for (let page = new Page(2, undefined); ; page = new Page(2, page.next)) {
      page.add(answers(places, [[first], [second, fourth]], page.wanted, [9, 9, 9]));
      unserved.push(page.unserved);
      if (page.next === undefined) break;
    }
    expect(third).toBe(LANES[2]);
    expect(unserved).toEqual([0, 0, 1]);
  });

  it("judge no lane where somebody of an earlier version may have told of it", () => {
    const page = new Page(2, undefined);
    page.add({
      ...answers([{ lane: LANES[0] ?? "", seq: 0 }], [], page.wanted, [1, 1, 1]),
      lanes: [undefined],
    });
    expect(page.unserved).toBe(0);
  });

  it("go on behind a peer that says it stopped before where it was to begin", () => {
    const at = { lane: LANES[1] ?? "", seq: 5 };
    const page = new Page(2, at);
    page.add({ ...NOTHING, more: new Map([["a", { lane: LANES[0] ?? "", seq: 9 }]]) });
    expect([page.isFull, page.next]).toEqual([true, undefined]);
  });

  it.each(["", "x", `${"b".repeat(16)}.${LANES[0]}-1`, `${"a".repeat(16)}.${LANES[0]}-9999999999`])(
    "refuse to begin at %j",
    (next) => {
      expect(() => placeOf(QUEUE, next)).toThrow(/^options\.after: is /);
    },
  );
});
