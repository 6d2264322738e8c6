import { renderMetrics } from "@klatsch/kit";
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
