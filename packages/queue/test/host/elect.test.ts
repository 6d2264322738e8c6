import type { Mesh } from "@klatsch/mesh";
import { expect, it } from "vitest";

import { elect } from "../../src/host/elect.ts";
import type { ElectPort } from "../../src/host/elect.ts";

/** What elections use of what all members share; `known`: the term there is. */
function sharedWith(known: () => string | undefined): Mesh["state"]["shared"] {
  const shared: Pick<Mesh["state"]["shared"], "get" | "watch"> = {
    get: () => known(),
    watch: () => () => undefined,
  };
  return shared as Mesh["state"]["shared"];
}

it("begins a term only once as many have gathered as keep it, and none if one is known by then", async () => {
  const gathered = Promise.withResolvers<void>();
  const declared: string[] = [];
  const known: { term?: string } = {};
  const port: ElectPort = {
    shared: sharedWith(() => known.term),
    gather: () => gathered.promise,
    declare: (name) => {
      declared.push(name);
      throw new Error("far enough");
    },
  };
  const elected = elect(port, "chief", 1_000, undefined);
  known.term = "a".repeat(28);
  gathered.resolve();
  await expect(elected).rejects.toThrow("far enough");
  expect(declared).toEqual([`~elect/chief/${known.term}`]);
});

it("waits for no more nodes once a term is known", async () => {
  const known: { term?: string } = {};
  const port: ElectPort = {
    shared: sharedWith(() => known.term),
    gather: async (isBegun) => {
      expect(isBegun()).toBe(false);
      known.term = "a".repeat(28);
      await Promise.resolve();
      expect(isBegun()).toBe(true);
    },
    declare: () => expect.fail("far enough"),
  };
  await expect(elect(port, "chief", 1_000, undefined)).rejects.toThrow("far enough");
});

it("begins none if nobody wants it any more", async () => {
  const never: ElectPort = {
    shared: sharedWith(() => undefined),
    gather: () => Promise.reject(new Error("nobody wants it")),
    declare: () => expect.fail("a term has begun"),
  };
  await expect(elect(never, "chief", 1_000, undefined)).rejects.toThrow("nobody wants it");
});
