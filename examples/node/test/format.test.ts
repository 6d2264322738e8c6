import { describe, expect, it } from "vitest";
import { printable, table } from "../src/format.ts";

describe("a table", () => {
  it("has its columns one below the other, whatever script they are written in", () => {
    const rows = [
      ["plain", "|"],
      ["値段", "|"],
      ["Zu\u0308rich", "|"],
      ["👩‍👩‍👧 x", "|"],
    ];
    expect(table(["KEY", "VALUE"], rows).split("\n")).toEqual([
      "KEY     VALUE",
      "plain   |",
      "値段    |", // Two columns each.
      "Zu\u0308rich  |",
      "👩‍👩‍👧 x    |",
    ]);
  });

  it("shows nothing of what a terminal would take for an order, or read backwards", () => {
    expect(printable("a\u001b[31m\u202eb\u2066c\u2028d")).toBe("a?[31m?b?c?d");
  });
});
