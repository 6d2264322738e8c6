import fc from "fast-check";
import { describe, expect, it } from "vitest";

import type { Binding, ExchangeKind } from "../../src/core/exchange.ts";
import { RoutingTable } from "../../src/core/exchange.ts";

const bind = (queue: string, more: Partial<Binding> = {}): Binding => {
  return { queue, key: "", headers: {}, match: "all", ...more };
};
const to = (kind: ExchangeKind, bindings: readonly Binding[], key: string, headers = {}): readonly string[] =>
  new RoutingTable(kind, bindings).route({ key, headers });

/** The same question to a regular expression. */
function asRegExp(pattern: string): RegExp {
  if (pattern === "") return /^$/;
  const parts = pattern
    .split(".")
    .map((part) => (part === "*" ? "\\.[^.]*" : part === "#" ? "(\\.[^.]*)*" : `\\.${part}`));
  return new RegExp(`^${parts.join("")}$`);
}

describe("a topic pattern", () => {
  it("always matches as a regular expression of the same meaning does", () => {
    const words = fc
      .array(fc.constantFrom("a", "b", "c", "*", "#"), { maxLength: 6 })
      .map((list) => list.join("."));
    const parts = fc.constantFrom("a", "b", "*", "#");
    const patterns = fc.array(parts, { maxLength: 6 }).map((list) => list.join("."));
    fc.assert(
      fc.property(fc.array(patterns, { maxLength: 8 }), words, (several, key) => {
        const expected = several.filter((pattern) => asRegExp(pattern).test(key === "" ? "" : `.${key}`));
        const bindings = several.map((pattern) => bind(`of ${pattern}`, { key: pattern }));
        const wanted = new Set(expected.map((pattern) => `of ${pattern}`));
        expect(new Set(to("topic", bindings, key))).toEqual(wanted);
      }),
      { numRuns: 5_000 },
    );
  });

  it("takes time that is bounded by both lengths, whatever they are", () => {
    expect(to("topic", [bind("q", { key: `${"#.".repeat(120)}z` })], "a.".repeat(120))).toEqual([]);
  });
});

describe("an exchange", () => {
  it("routes by key, pattern, to all, or by headers, each queue once", () => {
    const bindings = [bind("q1", { key: "a.b" }), bind("q2", { key: "a.*" }), bind("q1", { key: "#" })];
    expect(to("direct", bindings, "a.b")).toEqual(["q1"]);
    expect(to("topic", bindings, "a.b")).toEqual(["q1", "q2"]);
    expect(to("topic", bindings, "x")).toEqual(["q1"]);
    expect(to("fanout", bindings, "x")).toEqual(["q1", "q2"]);
    const typed = [
      bind("all", { headers: { a: "1", b: "2" } }),
      bind("any", { headers: { a: "1", b: "2" }, match: "any" }),
    ];
    expect(to("headers", typed, "", { a: "1" })).toEqual(["any"]);
    expect(to("headers", typed, "", { a: "1", b: "2", c: "3" })).toEqual(["all", "any"]);
    expect(to("headers", [bind("q", { headers: { constructor: "x" } })], "")).toEqual([]);
  });

  it("sends a key to one queue, and moves only the keys of a queue that goes", () => {
    const names = ["q1", "q2", "q3", "q4"];
    const before = names.map((name) => bind(name));
    const after = before.slice(0, 3);
    const keys = Array.from({ length: 400 }, (_, at) => `key ${at}`);
    const moved = keys.filter((key) => to("hash", before, key)[0] !== to("hash", after, key)[0]);
    expect(moved.every((key) => to("hash", before, key)[0] === "q4")).toBe(true);
    for (const name of names)
      expect(keys.filter((key) => to("hash", before, key)[0] === name).length).toBeGreaterThan(50);
    expect(to("hash", [], "x")).toEqual([]);
  });

  it("routes as if it were new, whatever was bound and unbound before", () => {
    const kinds = fc.constantFrom<ExchangeKind>("direct", "topic", "fanout", "headers", "hash");
    const keys = fc.array(fc.constantFrom("a", "b", "*", "#"), { maxLength: 3 }).map((all) => all.join("."));
    const headers = fc.constantFrom({}, { a: "1" }, { a: "1", b: "2" });
    const step = fc.record({ queue: fc.constantFrom("q1", "q2", "q3"), key: keys, headers, drop: fc.nat(3) });
    fc.assert(
      fc.property(kinds, fc.array(step, { maxLength: 30 }), keys, headers, (kind, steps, key, has) => {
        const table = new RoutingTable(kind, []);
        let bound: Binding[] = [];
        for (const { queue, key: pattern, headers: wanted, drop } of steps) {
          const [gone] = bound.slice(drop);
          if (gone !== undefined) {
            table.delete(gone);
            bound = bound.filter((one) => one !== gone);
          }
          const binding = bind(queue, { key: pattern, headers: wanted });
          table.add(binding);
          bound.push(binding);
          expect(table.route({ key, headers: has })).toEqual(to(kind, bound, key, has));
        }
      }),
      { numRuns: 500 },
    );
  });
});
