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

  it("fails whose reducer gives a promise, and ends no process where that or a listener rejects", async () => {
    await using nodes = await Nodes.start();
    await serving(nodes);
    const late = (): Promise<never> => Promise.reject(new Error("mine"));
    const same = (value: unknown): unknown => value;
    for (const { rpc } of nodes.all()) {
      rpc.reducer("map", { map: late, merge: same, done: same });
      rpc.reducer("merge", { map: same, merge: late, done: same });
      rpc.reducer("done", { map: same, merge: same, done: late });
    }
    const { rpc } = nodes.get("n0");
    const gather = async (name: string): Promise<readonly string[]> => {
      const options = { reduce: { by: "own", name }, onProgress: late } as const;
      const { failed } = await rpc.gather("all", api, "load", 1, options);
      return failed.map(({ code }) => code);
    };
    expect(await gather("map")).toEqual(["INVALID_OUTPUT", "INVALID_OUTPUT", "INVALID_OUTPUT"]);
    expect(await gather("merge")).toEqual(["INVALID_OUTPUT", "INVALID_OUTPUT"]);
    await expect(gather("done")).rejects.toMatchObject({ code: "INVALID_OUTPUT" });
  });
});
