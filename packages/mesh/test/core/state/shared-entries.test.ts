import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Buckets } from "../../../src/core/state/buckets.ts";
import { COUNTER_MAX, meshAheadMs, SKEW_MS_MAX } from "../../../src/core/state/hybrid-clock.ts";
import type { SharedEntry } from "../../../src/core/state/messages.ts";
import { SharedEntries, TOMBSTONE_MS } from "../../../src/core/state/shared-entries.ts";
import type { SharedPorts } from "../../../src/core/state/shared-entries.ts";

const NOW = 1_700_000_000_000;
const DAY_MS = 24 * 60 * 60 * 1_000;
const GENUINE = Uint8Array.of(1);

interface Node {
  readonly entries: SharedEntries;
  readonly buckets: Buckets;
  readonly told: string[];
  readonly removed: string[];
}

function node(self: string, mayWrite: SharedPorts["mayWrite"] = () => true): Node {
  const buckets = new Buckets();
  const told: string[] = [];
  const removed: string[] = [];
  const entries = new SharedEntries({
    buckets,
    ports: {
      seal: (draft) => ({
        ...draft,
        valueHash: String(draft.value ?? ""),
        writer: self,
        signature: GENUINE,
        credential: undefined,
      }),
      verify: ({ signature }) => signature === GENUINE,
      mayWrite,
    },
    onChange: ({ key, value }, changed) => void (changed && told.push(`${key}=${String(value)}`)),
    onRemove: ({ key }) => void removed.push(key),
  });
  return { entries, buckets, told, removed };
}

function write(
  at: Node,
  key: string,
  value: number | undefined,
  meshMs = NOW,
  override = false,
): SharedEntry | string {
  return at.entries.write(
    { key, value: value === undefined ? undefined : Uint8Array.of(value), override },
    meshMs,
    0,
  );
}

function written(...args: Parameters<typeof write>): SharedEntry {
  const entry = write(...args);
  if (typeof entry === "string") throw new Error(entry);
  return entry;
}

const writes = fc.array(
  fc.record({
    by: fc.nat(2),
    key: fc.constantFrom("x", "y"),
    value: fc.option(fc.nat(9), { nil: undefined }),
    atMs: fc.nat(3),
    override: fc.boolean(),
  }),
  { minLength: 1, maxLength: 30, size: "max" },
);

describe("shared entries", () => {
  it("are the same everywhere, in whatever order they come and however often", () => {
    fc.assert(
      fc.property(
        writes,
        fc.array(fc.nat(), { maxLength: 60, size: "max" }),
        fc.infiniteStream(fc.nat()),
        (all, early, order) => {
          const nodes = [node("a"), node("b"), node("c")];
          const made: SharedEntry[] = [];
          const [first] = nodes;
          for (const { by, key, value, atMs, override } of all) {
            const at = nodes[by] ?? first;
            if (at === undefined) continue;
            const entry = write(at, key, value, NOW + atMs, override);
            if (typeof entry !== "string") made.push(entry);
            // Some of it is heard of in between.
            const heard = made[(early[made.length] ?? 0) % Math.max(1, made.length)];
            if (heard !== undefined) nodes[(by + 1) % 3]?.entries.learn(heard, NOW, 0);
          }
          for (const { entries } of nodes) {
            const shuffled = [...made, ...made].map((entry) => ({
              entry,
              rank: order.next().value as number,
            }));
            for (const { entry } of shuffled.sort((a, b) => a.rank - b.rank)) entries.learn(entry, NOW, 0);
          }
          const views = nodes.map(({ entries, buckets }) => [
            entries.get("x"),
            entries.get("y"),
            buckets.hashes,
          ]);
          expect(views[1]).toEqual(views[0]);
          expect(views[2]).toEqual(views[0]);
        },
      ),
    );
  });

  it("written after another was heard of wins over it, however far behind the own clock is", () => {
    const [a, b] = [node("a"), node("b")];
    const ahead = written(a, "x", 1, NOW + 50_000);
    expect(b.entries.learn(ahead, NOW, 0)).toBe("news");
    const later = written(b, "x", 2, NOW);
    expect(later).toMatchObject({ l: ahead.l, c: ahead.c + 1 });
    expect(a.entries.learn(later, NOW + 50_000, 0)).toBe("news");
  });

  it("of a clock too far ahead decide nothing, not even what is written next", () => {
    const [a, b] = [node("a"), node("b")];
    const far = written(a, "x", 1, NOW + SKEW_MS_MAX + 1);
    expect(b.entries.learn(far, NOW, 0)).toBe("skew");
    expect(b.entries.get("x")).toBeUndefined();
    expect(written(b, "x", 2).l).toBe(NOW);
    expect(b.entries.learn(far, NOW + 1, 0)).toBe("news");
  });

  it("written after the mesh's time was set back are taken over by others, or refused where that cannot be", () => {
    const [a, b] = [node("a"), node("b")];
    const backMs = NOW - SKEW_MS_MAX - 1;
    written(a, "x", 1);
    expect(b.entries.learn(written(a, "y", 1, backMs), backMs, 0)).toBe("news");
    expect(b.entries.learn(written(a, "y", 2, backMs), backMs, 0)).toBe("news");
    expect([write(a, "x", 2, backMs), write(a, "x", undefined, backMs)]).toEqual(["ahead", "ahead"]);
    expect(b.entries.learn(written(a, "x", 2, backMs, true), backMs, 0)).toBe("news");
    expect(write(a, "z", 1, NOW)).toMatchObject({ l: NOW });
  });

  it("written after the last counter there is have one that can be read, and win", () => {
    const [a, b] = [node("a"), node("b")];
    const last = { ...written(node("z"), "k", 1), l: NOW + 1_000, c: COUNTER_MAX };
    expect(b.entries.learn(last, NOW, 0)).toBe("news");
    expect(a.entries.learn(last, NOW, 0)).toBe("news");
    const stamps = [written(b, "k", 2), written(b, "other", 3)].map(({ l, c }) => [l, c]);
    expect(stamps).toEqual([
      [NOW + 1_001, 0],
      [NOW + 1_001, 1],
    ]);
    expect(a.entries.learn(b.entries.get("k") as SharedEntry, NOW, 0)).toBe("news");
  });

  it("that are forged, forbidden or too large change nothing", () => {
    const [a, b] = [node("a"), node("b", ({ key }) => key.startsWith("free/"))];
    const forged = { ...written(a, "free/x", 1), signature: Uint8Array.of(2) };
    expect(b.entries.learn(forged, NOW, 0)).toBe("forged");
    expect(b.entries.learn(written(a, "x", 1), NOW, 0)).toBe("forbidden");
    expect(write(b, "x", 1)).toBe("forbidden");
    const large = { ...written(a, "free/y", 1), value: new Uint8Array(33_000) };
    expect(b.entries.learn(large, NOW, 0)).toBe("full");
    expect([b.told, b.buckets.total]).toEqual([[], { high: 0, low: 0 }]);
  });

  it("that were deleted stay so for whoever has the old value, until nobody can have it", () => {
    const [a, b] = [node("a"), node("b")];
    const value = written(a, "x", 1);
    const deleted = written(a, "x", undefined, NOW + 1);
    b.entries.learn(deleted, NOW, 0);
    expect(b.entries.learn(value, NOW, 0)).toBe("old");
    expect(write(b, "x", undefined, NOW + 2)).toBe("unchanged");
    expect(b.buckets.total).toEqual(a.buckets.total);

    b.entries.collect(NOW + TOMBSTONE_MS, 0);
    expect(b.entries.get("x")).toEqual(deleted);
    b.entries.collect(NOW + TOMBSTONE_MS + 2, 0);
    expect([b.entries.get("x"), b.removed, b.buckets.total]).toEqual([undefined, ["x"], { high: 0, low: 0 }]);
  });

  it("that were deleted long ago are not learnt anew, but still delete what is there", () => {
    const [a, knows, knowsNot] = [node("a"), node("b"), node("c")];
    knows.entries.learn(written(a, "x", 1), NOW, 0);
    const deleted = written(a, "x", undefined, NOW + 1);
    const later = NOW + 16 * DAY_MS;
    expect(knowsNot.entries.learn(deleted, later, 0)).toBe("old");
    expect(knows.entries.learn(deleted, later, 0)).toBe("news");
    expect(knows.entries.get("x")?.value).toBeUndefined();
    expect(knows.buckets.total).toEqual({ high: 0, low: 0 });
  });

  it("tell of a value once, not of the same value again", () => {
    const [a, b] = [node("a"), node("b")];
    b.entries.learn(written(a, "x", 1), NOW, 0);
    const again = { ...written(node("z"), "x", 1, NOW + 5) };
    expect(b.entries.learn(again, NOW, 0)).toBe("news");
    expect(b.told).toEqual(["x=1"]);
  });
});

describe("the mesh's time", () => {
  const ahead = (...offsets: readonly number[]): number => {
    return meshAheadMs(
      offsets.map((offset) => ({ wallAtZeroMs: NOW + offset })),
      0,
      NOW,
    );
  };

  it.each([
    [[], 0],
    [[100_000], 0],
    [[100_000, 5], 5],
    [[100_000, 100_001], 100_000],
    [[-7, 3, -300_000, 9], 0],
    [[-90_000, -80_000, -85_000], -80_000],
  ])("with neighbours ahead by %j is ours + %d", (offsets, expected) => {
    expect(ahead(...offsets)).toBe(expected);
  });

  it("follows the neighbours when our own clock is set", () => {
    const links = [{ wallAtZeroMs: NOW }, { wallAtZeroMs: NOW + 2 }];
    expect(meshAheadMs(links, 10_000, NOW + 10_000)).toBe(0);
    expect(meshAheadMs(links, 10_000, NOW + 310_000)).toBe(-299_998);
  });
});
