import { silentLogger } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { method } from "../../src/contract.ts";
import type { Guard } from "../../src/host/access.ts";
import { Registry } from "../../src/host/registry.ts";

describe("a registry", () => {
  it("looks for the name that was meant a few times in a turn of the event loop: thousands may be asked for", async () => {
    const registry = new Registry({} as Guard, silentLogger);
    const served = method({ input: z.string(), output: z.string(), access: "members" });
    registry.add([{ name: "cups.wash", method: served, handler: () => "" }]);
    const isHinted = (): boolean => {
      const verdict = registry.judge("cups.wish", ["peer"]);
      return !verdict.ok && verdict.fault.message.includes("did you mean cups.wash?");
    };
    const hinted = Array.from({ length: 1_000 }, isHinted);
    expect([hinted[0], hinted.filter(Boolean).length < 100]).toEqual([true, true]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(isHinted()).toBe(true);
    expect(registry.refused.notFound).toBe(1_001);
  });
});
