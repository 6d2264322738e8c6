import { describe, expect, it } from "vitest";
import { check } from "./check.ts";
import type { Rule } from "./check.ts";
import type { Entry, Fact } from "./history.ts";

type Line = Fact & { readonly node?: string; readonly atUs?: number };

/** One fact a second, by node `a` unless it says otherwise. */
function history(...lines: readonly Line[]): readonly Entry[] {
  return lines.map((line, at) => ({ node: "a", atUs: at * 1_000_000, ...line }));
}

function broken(entries: readonly Entry[], left?: Record<string, number>): readonly Rule[] {
  return check(entries, left).violations.map(({ rule }) => rule);
}

const tried = (key: string): Line => ({ what: "try", key });
const ok = (key: string, id: string): Line => ({ what: "ok", key, id });
const no = (key: string, outcome: string): Line => ({ what: "no", key, code: "X", outcome, id: undefined });
const got = (key: string, id: string, epoch: number, node = "b"): Line => {
  return { what: "got", key, id, epoch, flaw: undefined, node };
};
const ack = (id: string, epoch: number): Line => ({ what: "act", act: "ack", id, epoch });
const acked = (id: string, epoch: number): Line => ({ what: "done", act: "ack", id, epoch });
const GOOD = [tried("k"), ok("k", "1"), got("k", "1", 1), ack("1", 1), acked("1", 1)] as const;

describe("the checker of recorded histories", () => {
  it("accepts a life from enqueue to acknowledgement, and counts it", () => {
    const { violations, totals } = check(history(...GOOD));
    expect(violations).toEqual([]);
    expect(totals).toMatchObject({ tried: 1, acknowledged: 1, delivered: 1, confirmed: 1, redelivered: 0 });
  });

  it("accepts redelivery at a higher epoch, and an enqueue of unknown outcome that exists or not", () => {
    const again = history(tried("k"), no("k", "unknown"), got("k", "1", 1), got("k", "1", 2), ack("1", 2));
    expect(check(again)).toMatchObject({ violations: [], totals: { recovered: 1, redelivered: 1 } });
    expect(broken(history(tried("k"), no("k", "unknown")))).toEqual([]);
    expect(broken(history(tried("k")))).toEqual([]);
    expect(broken(history(tried("k"), no("k", "none")))).toEqual([]);
  });

  it.each<[Rule, readonly Line[]]>([
    ["lost", [tried("k"), ok("k", "1")]],
    [
      "vanished",
      [tried("k"), ok("k", "1"), got("k", "1", 1), { what: "act", act: "nack", id: "1", epoch: 1 }],
    ],
    ["unexpected", [...GOOD, got("other", "2", 1)]],
    ["damaged", [...GOOD, { what: "got", key: "", id: "2", epoch: 1, flaw: "another hash" }]],
    ["refusedYetDelivered", [tried("k"), no("k", "none"), got("k", "1", 1), ack("1", 1)]],
    ["twoIds", [...GOOD, got("k", "2", 1), ack("2", 1)]],
    ["twoHolders", [tried("k"), ok("k", "1"), got("k", "1", 1, "b"), got("k", "1", 1, "c"), ack("1", 1)]],
    ["afterAck", [...GOOD, got("k", "1", 2)]],
    ["twoAcks", [tried("k"), got("k", "1", 1), got("k", "1", 2), ack("1", 1), acked("1", 1), acked("1", 2)]],
    [
      "twoOfKey",
      [
        { what: "try", key: "k", dedupKey: "d" },
        { what: "try", key: "l", dedupKey: "d" },
        ...[got("k", "1", 1), ack("1", 1), got("l", "2", 1), ack("2", 1), ok("k", "1"), ok("l", "2")],
      ],
    ],
    ["sameYetDelivered", [tried("k"), { what: "same", key: "k", id: "9" }, got("k", "1", 1), ack("1", 1)]],
    [
      "outOfOrder",
      [
        { what: "try", key: "k", group: "g" },
        { what: "try", key: "l", group: "g" },
        ...[got("k", "x-1", 1), got("l", "x-2", 1), ack("x-1", 1), ack("x-2", 1)],
      ],
    ],
    [
      "reordered",
      [
        { what: "try", key: "a.0.1", group: "g" },
        { what: "try", key: "a.0.2", group: "g" },
        ...[got("a.0.2", "x-1", 1), ack("x-1", 1), got("a.0.1", "x-2", 1), ack("x-2", 1)],
        ...[ok("a.0.2", "x-1"), ok("a.0.1", "x-2")],
      ],
    ],
    [
      "twoLeaders",
      [
        { what: "leads", token: "5" },
        { what: "leads", token: "5", node: "b" },
      ],
    ],
  ])("finds what is %s", (rule, lines) => {
    expect(broken(history(...lines))).toEqual([rule]);
  });

  it("lets a group go on behind what was rejected, and a key name one message twice", () => {
    const lines: readonly Line[] = [
      { what: "try", key: "a.0.1", group: "g", dedupKey: "d" },
      { what: "try", key: "a.0.2", group: "g", dedupKey: "d" },
      { what: "try", key: "a.0.3", group: "g" },
      ok("a.0.1", "x-1"),
      { what: "same", key: "a.0.2", id: "x-1" },
      ok("a.0.3", "x-2"),
      got("a.0.1", "x-1", 1),
      { what: "act", act: "reject", id: "x-1", epoch: 1 },
      ...[got("a.0.3", "x-2", 1), ack("x-2", 1), got("a.0.1", "x-1", 2), ack("x-1", 2)],
    ];
    expect(check(history(...lines))).toMatchObject({ violations: [], totals: { duplicates: 1 } });
  });

  it("finds what is left in the queue", () => {
    expect(broken(history(...GOOD), { ready: 0, leased: 1 })).toEqual(["notDrained"]);
  });

  it("lets a process that stood still write down late what it was handed before, and nobody else", () => {
    const lines = [tried("k"), ok("k", "1"), got("k", "1", 2, "c"), ack("1", 2), acked("1", 2)] as const;
    const late = got("k", "1", 1, "b");
    const stopped = { what: "stopped", node: "b" } as const;
    const continued = { what: "continued", node: "b" } as const;
    expect(broken(history(stopped, ...lines, continued, late))).toEqual([]);
    expect(broken(history(...lines, late))).toEqual(["afterAck"]);
    expect(broken(history(stopped, ...lines, continued, got("k", "1", 3, "b")))).toEqual(["afterAck"]);
    const muchLater = { ...late, atUs: 60_000_000 };
    expect(broken(history(stopped, ...lines, continued, muchLater))).toEqual(["afterAck"]);
  });
});
