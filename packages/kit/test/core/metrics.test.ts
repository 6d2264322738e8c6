import { Histogram, histogram, renderMetrics } from "@klatsch/kit";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

describe("renderMetrics", () => {
  it("writes each family with its help and type, and a line for each sample", () => {
    const text = renderMetrics([
      {
        name: "klatsch_links",
        help: "Links.",
        type: "gauge",
        samples: [
          { labels: { conduit: "tcp" }, value: 3 },
          { labels: {}, value: Infinity },
        ],
      },
      { name: "klatsch_dials_total", help: "Dials\nthat \\ failed.", type: "counter", samples: [] },
    ]);
    expect(text.split("\n")).toEqual([
      "# HELP klatsch_links Links.",
      "# TYPE klatsch_links gauge",
      'klatsch_links{conduit="tcp"} 3',
      "klatsch_links +Inf",
      "# HELP klatsch_dials_total Dials\\nthat \\\\ failed.",
      "# TYPE klatsch_dials_total counter",
      "",
    ]);
  });

  it("writes nothing about nothing", () => {
    expect(renderMetrics([])).toBe("");
  });

  it("always keeps a sample in one line from which its label can be read back", () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        const samples = [{ labels: { label: value }, value: 1 }];
        const lines = renderMetrics([{ name: "n", help: "h", type: "gauge", samples }]).split("\n");
        expect(lines.length).toBe(4);
        const written = /^n\{label="((?:[^"\\]|\\["\\n])*)"\} 1$/su.exec(lines[2] ?? "")?.[1] ?? "none";
        const read = written.replaceAll(/\\(["\\n])/gu, (_all, sign: string) => (sign === "n" ? "\n" : sign));
        expect(read).toBe(value);
      }),
    );
  });
});

describe("a histogram", () => {
  it("is written as Prometheus reads it: cumulated, up to +Inf, with sum and count", () => {
    const times = new Histogram([0.001, 0.25, 1]);
    for (const value of [0, 0.001, 0.25, 0.5, 2, 64]) times.observe(value);
    const family = histogram("klatsch_x_seconds", "X.", times.samples({ queue: 'a"b' }));
    expect(renderMetrics([family]).split("\n")).toEqual([
      "# HELP klatsch_x_seconds X.",
      "# TYPE klatsch_x_seconds histogram",
      'klatsch_x_seconds_bucket{queue="a\\"b",le="0.001"} 2',
      'klatsch_x_seconds_bucket{queue="a\\"b",le="0.25"} 3',
      'klatsch_x_seconds_bucket{queue="a\\"b",le="1"} 4',
      'klatsch_x_seconds_bucket{queue="a\\"b",le="+Inf"} 6',
      'klatsch_x_seconds_sum{queue="a\\"b"} 66.751',
      'klatsch_x_seconds_count{queue="a\\"b"} 6',
      "",
    ]);
    expect([times.count, times.sum]).toEqual([6, 66.751]);
  });

  it("always counts each number once, below each bound that it does not exceed", () => {
    const bounds = fc.uniqueArray(fc.double({ noNaN: true, noDefaultInfinity: true }), { maxLength: 8 });
    fc.assert(
      fc.property(bounds, fc.array(fc.double()), (unsorted, values) => {
        const sorted = unsorted.map((bound) => bound + 0).toSorted((a, b) => a - b);
        fc.pre(new Set(sorted).size === sorted.length);
        const times = new Histogram(sorted);
        for (const value of values) times.observe(value);
        const finite = values.filter((value) => Number.isFinite(value));
        const below = [...sorted, Infinity].map((bound) => finite.filter((value) => value <= bound).length);
        const samples = times.samples({});
        expect(samples.slice(0, -2).map(({ value }) => value)).toEqual(below);
        expect(samples.at(-1)?.value).toBe(finite.length);
      }),
    );
  });

  it.each([[[1, 1]], [[2, 1]], [[1, Infinity]], [[Number.NaN]]])("refuses the bounds %j", (bounds) => {
    expect(() => new Histogram(bounds)).toThrow(RangeError);
  });
});
