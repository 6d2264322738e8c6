import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Buckets } from "../../../src/core/state/buckets.ts";
import type { OwnDelta } from "../../../src/core/state/messages.ts";
import { headOf, OWN_LIMITS, OwnEntries } from "../../../src/core/state/own-entries.ts";
import type { OwnChange } from "../../../src/core/state/own-entries.ts";
import { OwnWriter } from "../../../src/core/state/own-writer.ts";

const BUDGET = { burst: 5, refillMs: 10_000 };

/** What one node holds, with its hashes and what it told of. */
class Holder {
  readonly buckets = new Buckets();
  readonly changes: OwnChange[] = [];
  readonly entries: OwnEntries;

  constructor(self: string) {
    this.entries = new OwnEntries(self, this.buckets, (change) => this.changes.push(change));
  }

  learn(delta: OwnDelta, whole: boolean): string {
    return this.entries.learn(delta, whole, 0);
  }

  /** Live keys and values of a member. */
  content(peer: string): Record<string, string> {
    const entries = [...(this.entries.get(peer)?.entries.values() ?? [])].sort((a, b) =>
      a.key < b.key ? -1 : 1,
    );
    return Object.fromEntries(
      entries.flatMap(({ key, value }) => (value === undefined ? [] : [[key, String(value)]])),
    );
  }
}

function owner(): {
  readonly holder: Holder;
  readonly write: (key: string, value: number | undefined) => void;
} {
  const holder = new Holder("a");
  const space = holder.entries.join("a", 1, 0);
  return {
    holder,
    write: (key, value) =>
      holder.entries.write(space, key, value === undefined ? undefined : Uint8Array.of(value), 0),
  };
}

function reader(): Holder {
  const holder = new Holder("b");
  holder.entries.join("a", 1, 0);
  return holder;
}

/** What the owner would send to somebody who knows its state up to `version`. */
function since(holder: Holder, version: number): { readonly delta: OwnDelta; readonly whole: boolean } {
  const space = holder.entries.get("a");
  if (space === undefined) throw new Error("no owner");
  return holder.entries.since(space, version);
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(fc.constantFrom("x", "y", "z"), fc.option(fc.nat(255), { nil: undefined })),
  },
  { weight: 1, arbitrary: fc.constant("forget" as const) },
);

describe("own entries", () => {
  it("are the same in the end, whatever order, loss and repetition there was", () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 40, size: "max" }),
        fc.array(fc.tuple(fc.nat(), fc.nat(), fc.boolean()), { maxLength: 80, size: "max" }),
        (steps, deliveries) => {
          const { holder, write } = owner();
          const space = holder.entries.get("a");
          if (space === undefined) throw new Error("no owner");
          const sent: { readonly delta: OwnDelta; readonly whole: boolean }[] = [];
          for (const each of steps) {
            const before = space.version;
            if (each === "forget") holder.entries.raiseFloor(space, before);
            else write(...each);
            // To somebody up to date, to a newcomer, and to somebody in between.
            sent.push(...[before, 0, Math.floor(before / 2)].map((version) => since(holder, version)));
          }
          const far = reader();
          for (const [which, , doubled] of deliveries) {
            const before = far.entries.get("a");
            const [boot, version] = [before?.boot ?? 0, before?.version ?? 0];
            const message = sent[which % sent.length];
            if (message === undefined) continue;
            if (message.delta.to > message.delta.from) far.learn(message.delta, message.whole);
            if (doubled) expect(far.learn(message.delta, message.whole)).not.toBe("news");
            const after = far.entries.get("a");
            expect([after?.boot, (after?.version ?? 0) >= version]).toEqual([boot, true]);
          }
          const known = far.entries.get("a")?.version ?? 0;
          if (known < space.version) {
            const last = since(holder, known);
            expect(far.learn(last.delta, last.whole)).toBe("news");
          }
          expect(far.content("a")).toEqual(holder.content("a"));
          expect(far.buckets.hashes).toEqual(holder.buckets.hashes);
        },
      ),
    );
  });

  it("are not taken over past a gap", () => {
    const { holder, write } = owner();
    write("x", 1);
    write("x", 2);
    write("y", 3);
    const far = reader();
    const { delta } = since(holder, 2);
    expect(far.learn({ ...delta, floor: 0 }, false)).toBe("gap");
    expect(far.content("a")).toEqual({});
  });

  it("are replaced by a whole above what is known, never by one below", () => {
    const { holder, write } = owner();
    write("x", 1);
    const early = since(holder, 0);
    write("x", undefined);
    const far = reader();
    const late = since(holder, 0);
    expect(far.learn(late.delta, late.whole)).toBe("news");
    expect(far.learn(early.delta, early.whole)).toBe("old");
    expect(far.content("a")).toEqual({});
  });

  it("of an earlier process are void once a later one is there", () => {
    const { holder, write } = owner();
    write("x", 1);
    const { delta, whole } = since(holder, 0);
    const far = reader();
    far.learn(delta, whole);
    far.entries.join("a", 2, 0);
    expect(far.content("a")).toEqual({});
    expect(far.changes.at(-1)).toEqual({ peer: "a", boot: 2, key: "x", value: undefined });
    expect(far.learn({ ...delta, to: 9 }, whole)).toBe("old");
  });

  it("of strangers are not kept, nor lies about ourselves", () => {
    const { holder, write } = owner();
    write("x", 1);
    const { delta, whole } = since(holder, 0);
    expect(new Holder("b").learn(delta, whole)).toBe("unknown");
    expect(reader().learn({ ...delta, boot: 2 }, whole)).toBe("unknown"); // Membership knows of no such process.
    expect(holder.learn({ ...delta, to: 5 }, whole)).toBe("impostor");
    expect(holder.learn({ ...delta, boot: 2 }, whole)).toBe("old");
    expect(holder.learn(delta, whole)).toBe("old");
  });

  it("beyond the limits change nothing", () => {
    const far = reader();
    const value = new Uint8Array(OWN_LIMITS.valueBytesMax);
    const entries = Array.from({ length: 5 }, (_, at) => ({ key: `k${at}`, version: at + 1, value }));
    const delta: OwnDelta = { peer: "a", boot: 1, floor: 0, from: 0, to: 5, entries };
    expect(far.learn(delta, true)).toBe("tooLarge");
    expect(far.content("a")).toEqual({});
    expect(headOf(far.entries.join("a", 1, 0)).version).toBe(0);
  });

  it("of the dead are neither hashed nor listed, and of the returned again", () => {
    const { holder, write } = owner();
    write("x", 1);
    const { delta, whole } = since(holder, 0);
    const far = reader();
    far.learn(delta, whole);
    const hash = far.buckets.total;
    far.entries.end("a", 0);
    expect(far.buckets.total).toEqual({ high: 0, low: 0 });
    expect(far.entries.heads(far.entries.get("a")?.bucket ?? 0)).toEqual([]);
    expect(far.content("a")).toEqual({ x: "1" });
    far.entries.join("a", 1, 0);
    expect(far.buckets.total).toEqual(hash);
    far.entries.forget("a", 0);
    expect(far.buckets.total).toEqual({ high: 0, low: 0 });
  });
});

describe("what a node says of itself", () => {
  function writer(): { readonly holder: Holder; readonly writer: OwnWriter; readonly version: () => number } {
    const holder = new Holder("a");
    const space = holder.entries.join("a", 1, 0);
    return { holder, writer: new OwnWriter(holder.entries, space, BUDGET, 0), version: () => space.version };
  }
  const value = (number: number): Uint8Array => Uint8Array.of(number);

  it("leaves at once after quiet, five times in a row, then once in ten seconds with all that gathered", () => {
    const { writer: own, version } = writer();
    const published: number[] = [];
    for (let atMs = 0; atMs < 40_000; atMs += 100) {
      own.write("x", value((atMs / 100) % 256));
      if (own.publish(atMs)) published.push(atMs);
    }
    expect(published).toEqual([0, 100, 200, 300, 400, 10_000, 20_000, 30_000]);
    expect(version()).toBe(8);
  });

  it("is read here before it is published, and leaves no trace if it was taken back by then", () => {
    const { writer: own, version } = writer();
    own.write("x", value(1));
    expect(own.get("x")).toEqual(value(1));
    own.write("x", undefined);
    expect([...own.current()]).toEqual([]);
    own.publish(0);
    expect(version()).toBe(0);
    expect(own.write("x", undefined)).toBe("unchanged");
  });

  it("has a budget for the mesh's keys and one for the application's", () => {
    const { writer: own, version } = writer();
    for (let count = 1; count < 9; count += 1) {
      own.write("x", value(count));
      own.publish(0);
    }
    expect(version()).toBe(5);
    own.write("klatsch/links", value(1));
    expect(own.publish(0)).toBe(true);
  });

  it("forgets deletions after ten minutes, and at once where they take the room of what is there", () => {
    const { holder, writer: own } = writer();
    own.write("x", value(1));
    own.publish(0);
    own.write("x", undefined);
    own.publish(1);
    expect(holder.entries.get("a")).toMatchObject({ version: 2, floor: 0, entries: { size: 1 } });
    expect(own.nextDeadline(2)).toBe(600_001);
    own.publish(600_001);
    expect(holder.entries.get("a")).toMatchObject({ version: 2, floor: 2, entries: { size: 0 }, bytes: 0 });

    for (let round = 0; round < 300; round += 1) {
      own.write(`k${round}`, value(1));
      own.publish(10_000_000 + round * 20_000);
      own.write(`k${round}`, undefined);
      own.publish(10_000_000 + round * 20_000 + 10_000);
    }
    expect(holder.entries.get("a")?.entries.size).toBeLessThanOrEqual(OWN_LIMITS.keysMax);
  });
});
