import { silentLogger } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { describe, expect, it, vi } from "vitest";
import { isKeyMeant, Watchers } from "../../src/host/state-api.ts";

const threw = new Error("threw");
const rejected = new Error("rejected");

const ignore = (): void => {};

/** Two listeners at fault, and one that is not. */
function listeners(): { readonly all: readonly (() => unknown)[]; readonly heard: () => number } {
  const good = vi.fn<() => void>();
  const bad = (): never => {
    throw threw;
  };
  return { all: [bad, () => Promise.reject(rejected), good], heard: () => good.mock.calls.length };
}

function logger(): { readonly logger: Logger; readonly errors: unknown[] } {
  const errors: unknown[] = [];
  return { logger: { ...silentLogger, error: (_message, fields) => errors.push(fields?.["err"]) }, errors };
}

describe("Watchers", () => {
  const watchers = (log: Logger): Watchers<string> => new Watchers(log, isKeyMeant);

  it("log what listeners throw and reject with, and tell the others", async () => {
    const log = logger();
    const watching = watchers(log.logger);
    const { all, heard } = listeners();
    for (const listener of all) watching.add({ prefix: "a/" }, listener);
    watching.tell(() => "a/b");
    await new Promise(setImmediate);
    expect([log.errors, heard()]).toEqual([[threw, rejected], 1]);
  });

  it.each([
    ["filter", null, ignore],
    ["filter.prefix", { prefix: 5 }, ignore],
    ["filter.key", { key: {} }, ignore],
    ["filter.peerId", { peerId: null }, ignore],
    ["listener", {}, 5],
  ])("refuse a wrong %s", (field, filter, listener) => {
    const add = (): unknown => watchers(silentLogger).add(filter as never, listener as never);
    expect(add).toThrow(
      expect.objectContaining({ code: "INVALID_OPTIONS", message: expect.stringContaining(`${field}:`) }),
    );
  });
});
