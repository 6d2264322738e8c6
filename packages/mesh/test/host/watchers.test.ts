import { silentLogger } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { Watchers } from "../../src/host/state-api.ts";

describe("Watchers", () => {
  it("tell nothing to who was taken off by one before it", () => {
    const watchers = new Watchers<number>(silentLogger, () => true);
    const heard: string[] = [];
    watchers.add({}, () => {
      heard.push("first");
      takeOff();
    });
    const takeOff = watchers.add({}, () => heard.push("second"));
    watchers.tell(() => 1);
    expect(heard).toEqual(["first"]);
  });
});
