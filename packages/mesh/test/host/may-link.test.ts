import { silentLogger } from "@klatsch/kit";
import { expect, it } from "vitest";
import { resolveOptions } from "../../src/options.ts";

it("a mayLink that throws, promises or says nothing wants no link, harms nobody, and is told of once", async () => {
  const peer = { peerId: "p", name: "n", cloud: "c" };
  const answers: (() => unknown)[] = [
    () => {
      throw new Error("threw");
    },
    () => Promise.reject(new Error("rejected")),
    () => undefined,
  ];
  for (const answer of answers) {
    const told: unknown[] = [];
    const logger = { ...silentLogger, error: (message: string) => void told.push(message) };
    const { mayLink } = resolveOptions({
      name: "a",
      dataDir: "unused",
      logger,
      mayLink: answer as () => boolean,
    });
    expect([mayLink(peer), mayLink(peer)]).toEqual([false, false]);
    await new Promise(setImmediate);
    expect(told).toHaveLength(1);
  }
  const { mayLink } = resolveOptions({ name: "a", dataDir: "unused", mayLink: ({ name }) => name === "n" });
  expect([mayLink(peer), mayLink({ ...peer, name: "m" })]).toEqual([true, false]);
});
