import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MemberRecord } from "../../src/core/messages.ts";
import { Overlay, OVERLAY_OPTIONS } from "../../src/core/overlay.ts";
import type { OverlayOptions, Want } from "../../src/core/overlay.ts";
import { Roster } from "../../src/core/roster.ts";
import { hash32 } from "../../src/core/views.ts";

function recordOf(peer: string, more: Partial<MemberRecord> = {}): MemberRecord {
  return { peer, boot: 1, inc: 0, name: peer, cloud: "one", tags: {}, addresses: [], ...more };
}

/** One member's overlay, which knows all of these. */
function overlayOf(self: string, records: readonly MemberRecord[], options = OVERLAY_OPTIONS): Overlay {
  const roster = new Roster({ membersMax: 4_096, forgetMs: 1_000 });
  const entries = records.map((record) => roster.add(record, "alive", "direct", 0, 0));
  const own = entries.find(({ record }) => record.peer === self);
  if (own === undefined) throw new Error(`${self} is not among them`);
  return new Overlay(options, roster, own);
}

/** What each member wants of whom, all having the same list. */
function plans(
  records: readonly MemberRecord[],
  options?: OverlayOptions,
): ReadonlyMap<string, ReadonlyMap<string, Want>> {
  return new Map(
    records.map(({ peer }) => {
      const wants = overlayOf(peer, records, options).plan(0);
      return [peer, new Map([...wants].map(([entry, want]) => [entry.record.peer, want]))];
    }),
  );
}

/** Whether the wanted links connect all of them. */
function isConnected(
  planned: ReadonlyMap<string, ReadonlyMap<string, Want>>,
  among: readonly string[],
): boolean {
  const [start] = among;
  const left = new Set(among);
  const waiting = start === undefined ? [] : [start];
  for (let peer = waiting.pop(); peer !== undefined; peer = waiting.pop()) {
    if (!left.delete(peer)) continue;
    for (const other of planned.get(peer)?.keys() ?? []) if (left.has(other)) waiting.push(other);
  }
  return left.size === 0;
}

const peers = fc.uniqueArray(fc.string({ minLength: 4, maxLength: 8 }), {
  minLength: 2,
  maxLength: 80,
});

describe("Overlay", () => {
  it("always connects whoever has the same list, and both ends want the same links", () => {
    fc.assert(
      fc.property(peers, (names) => {
        const planned = plans(names.map((peer) => recordOf(peer)));
        expect(isConnected(planned, names)).toBe(true);
        for (const [peer, wants] of planned) {
          for (const other of wants.keys()) expect(planned.get(other)?.has(peer)).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  it("always has one end at least that dials", () => {
    fc.assert(
      fc.property(peers, (names) => {
        const planned = plans(names.map((peer) => recordOf(peer)));
        for (const [peer, wants] of planned) {
          for (const [other, want] of wants) {
            expect(want.isDialer || planned.get(other)?.get(peer)?.isDialer).toBe(true);
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  it("never wants many more links than the degree", () => {
    const names = Array.from({ length: 300 }, (_, index) => `m${index}`);
    const records = names.map((peer) => recordOf(peer));
    for (const peer of names.slice(0, 20)) {
      const overlay = overlayOf(peer, records);
      const wants = overlay.plan(0);
      expect(overlay.degree).toBe(17);
      expect(wants.size).toBeGreaterThanOrEqual(9);
      expect(wants.size).toBeLessThanOrEqual(18);
    }
  });

  it("thins out well above the size of a full mesh only, and is full again at that size", () => {
    const names = Array.from({ length: 30 }, (_, index) => `m${index}`);
    const roster = new Roster({ membersMax: 64, forgetMs: 1_000 });
    const [self, ...others] = names.map((peer) => recordOf(peer));
    if (self === undefined) throw new Error("nobody");
    const overlay = new Overlay(OVERLAY_OPTIONS, roster, roster.add(self, "alive", "self", 0, 0));
    const sizes: boolean[] = [];
    for (const record of others) {
      roster.add(record, "alive", "direct", 0, 0);
      overlay.plan(0);
      sizes.push(overlay.isFull);
    }
    expect(sizes.lastIndexOf(true) + 2).toBe(20);
    const shrinking: number[] = [];
    for (const entry of [...roster.entries.values()].slice(1)) {
      roster.remove(entry);
      overlay.plan(0);
      if (overlay.isFull) shrinking.push(roster.liveCount);
    }
    expect(shrinking[0]).toBe(16);
  });

  it("joins two clouds by two links between their gateways, on which both sides agree", () => {
    const records = Array.from({ length: 60 }, (_, index) =>
      recordOf(`m${index}`, { cloud: index < 30 ? "one" : "two", gateway: index % 10 === 0 }),
    );
    const planned = plans(records);
    const across = [...planned].flatMap(([peer, wants]) =>
      [...wants].filter(([, { why }]) => why === "gateway").map(([other]) => [peer, other].toSorted().join()),
    );
    expect(across.length).toBe(4); // Two links, each wanted by both ends.
    expect(new Set(across).size).toBe(2);
    expect(
      isConnected(
        planned,
        records.map(({ peer }) => peer),
      ),
    ).toBe(true);
  });

  it("never joins clouds of which one may not reach the other", () => {
    const records = Array.from({ length: 60 }, (_, index) =>
      recordOf(`m${index}`, index < 30 ? { cloud: "one" } : { cloud: "two", reach: ["three"] }),
    );
    const whys = [...plans(records).values()].flatMap((wants) => [...wants.values()].map(({ why }) => why));
    expect(whys).not.toContain("gateway");
  });

  it("goes round a member that cannot be dialled", () => {
    const records = Array.from({ length: 60 }, (_, index) => recordOf(`m${index}`));
    const roster = new Roster({ membersMax: 64, forgetMs: 1_000 });
    const entries = records.map((record) => roster.add(record, "alive", "direct", 0, 0));
    const [self] = entries;
    if (self === undefined) throw new Error("nobody");
    const overlay = new Overlay(OVERLAY_OPTIONS, roster, self);
    const dialled = [...overlay.plan(0)].filter(([, want]) => want.isDialer).map(([entry]) => entry);
    const [avoided] = dialled;
    if (avoided === undefined) throw new Error("nobody is dialled");
    avoided.avoidUntil = 1_000;
    const again = [...overlay.plan(0)].filter(([, want]) => want.isDialer).map(([entry]) => entry);
    expect(again).not.toContain(avoided);
    expect(again.length).toBeGreaterThanOrEqual(dialled.length - 1);
    expect(overlay.plan(1_000).get(avoided)?.isDialer).toBe(true);
  });

  it("knows beforehand whom it would want", () => {
    const records = Array.from({ length: 60 }, (_, index) => recordOf(`m${index}`));
    const wanted = new Set<string>();
    for (let late = 0; late < 200; late += 1) {
      const peer = `late${late}`;
      const before = overlayOf("m0", records);
      before.plan(0);
      const after = overlayOf("m0", [...records, recordOf(peer)]);
      const isWanted = [...after.plan(0).keys()].some(({ hash }) => hash === hash32(peer));
      expect(before.wouldWant(peer, "one")).toBe(isWanted);
      if (isWanted) wanted.add(peer);
    }
    expect(wanted.size).toBeGreaterThan(0);
  });
});
