import { contract, method } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes } from "./support/nodes.ts";

const api = contract({
  name: "api",
  methods: { load: method({ input: z.number(), output: z.number(), access: "members" }) },
});

async function serving(nodes: Nodes): Promise<void> {
  for (const name of ["n0", "n1", "n2"]) {
    const { rpc } = await nodes.add(name, {});
    rpc.serve(api, { load: (value) => value });
  }
}

describe("a gather", () => {
  it("goes on whatever its listener throws", async () => {
    await using nodes = await Nodes.start();
    await serving(nodes);
    let told = 0;
    const { value, answered, missing } = await nodes.get("n0").rpc.gather("all", api, "load", 1, {
      reduce: { by: "sum" },
      onProgress: () => {
        told += 1;
        throw new Error("mine");
      },
    });
    expect([value, answered.length, missing.length, told > 0]).toEqual([3, 3, 0, true]);
  });

  it("counts who answers with what cannot be reduced as failed", async () => {
    await using nodes = await Nodes.start();
    await serving(nodes);
    const number = (state: unknown): number => z.number().parse(state);
    for (const name of ["n0", "n1", "n2"]) {
      nodes.get(name).rpc.reducer("total", {
        map: (value) => (name === "n1" ? "bad" : value),
        merge: (a, b) => number(a) + number(b),
        done: number,
      });
    }
    const { value, answered, failed, missing } = await nodes
      .get("n0")
      .rpc.gather("all", api, "load", 1, { reduce: { by: "own", name: "total" } });
    expect([value, answered.length, missing.length]).toEqual([2, 2, 0]);
    expect(failed).toMatchObject([{ name: "n1", code: "INVALID_OUTPUT" }]);
  });
});
