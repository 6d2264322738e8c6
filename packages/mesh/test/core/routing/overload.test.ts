import { describe, expect, it } from "vitest";
import { Overload } from "../../../src/core/routing/overload.ts";

describe("Overload", () => {
  it("is told of a node that is busy for long, and taken back when it is free for long", () => {
    const overload = new Overload();
    const looks = [0.95, 0.95, 0.1, 0.95, 0.95, 0.95, 0.7, 0.5, 0.5, 0.7, 0.5, 0.5, 0.5, 0.95];
    expect(looks.map((busy) => overload.look(busy))).toEqual([
      ...[false, false, false, false, false, true],
      ...[true, true, true, true, true, true, false, false],
    ]);
  });
});
