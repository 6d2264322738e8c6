import { describe, expect, it, vi } from "vitest";
import { Emitter } from "../src/emitter.ts";
import { silentLogger } from "../src/logger.ts";
import type { Logger } from "../src/logger.ts";

const threw = new Error("threw");
const rejected = new Error("rejected");

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

function newsOf(log: Logger): Emitter<{ news: number }> {
  const refuse = (field: string, why: string): never => {
    throw new TypeError(`${field}: ${why}`);
  };
  return new Emitter<{ news: number }>({ names: { news: true }, logger: log, refuse });
}

describe("Emitter", () => {
  it("logs what listeners throw and reject with, and tells the others", async () => {
    const log = logger();
    const emitter = newsOf(log.logger);
    const { all, heard } = listeners();
    for (const listener of all) emitter.on("news", listener);
    emitter.emit("news", 1);
    await new Promise(setImmediate);
    expect([log.errors, heard()]).toEqual([[threw, rejected], 1]);
  });

  it("tells nothing to who was removed by one before it", () => {
    const emitter = newsOf(silentLogger);
    const heard: string[] = [];
    emitter.on("news", () => {
      heard.push("first");
      removeSecond();
    });
    const removeSecond = emitter.on("news", () => heard.push("second"));
    emitter.emit("news", 1);
    expect(heard).toEqual(["first"]);
  });

  it("refuses what cannot be called", () => {
    const emitter = newsOf(silentLogger);
    expect(() => emitter.on("news", undefined as never)).toThrow("listener: must be a function");
    expect(() => emitter.on("old" as never, () => {})).toThrow("event: must be one of news");
  });
});
