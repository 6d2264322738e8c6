import { contract, method } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { CASTS_MAX } from "../src/core/limits.ts";
import { Nodes, until } from "./support/nodes.ts";

const note = method({ input: z.boolean(), output: z.void(), access: "members" });
const notes = contract({ name: "notes", methods: { note } });

describe("casts that come all at once", () => {
  it("run without a limit where nothing is async, and up to one where handlers do not end", async () => {
    await using nodes = await Nodes.start("a");
    const { rpc } = nodes.get("a");
    let [quick, slow] = [0, 0];
    rpc.serve(notes, {
      note: (isSlow) => {
        if (isSlow) slow += 1;
        else quick += 1;
        return isSlow ? new Promise<void>(() => undefined) : undefined;
      },
    });
    const all = CASTS_MAX + 10;
    const burst = (isSlow: boolean): Promise<unknown> =>
      Promise.all(Array.from({ length: all }, () => rpc.cast("all", notes, "note", isSlow)));
    await burst(false);
    await until("all have run", () => quick === all);
    await burst(true);
    await until("all were looked at", () => slow + rpc.stats().castsDropped === all);
    expect([slow, rpc.stats().castsDropped]).toEqual([CASTS_MAX, 10]);
  });
});
