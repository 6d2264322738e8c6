import type * as Files from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LOOK_MS, LOOKS_MAX, withDescriptor } from "../../src/store/descriptors.ts";
import { openJournalStore } from "../../src/store/open.ts";
import { contentOf, put, withDirectory } from "../support/store-kit.ts";

/** Files for which there is no descriptor now, and how many of them were asked for. */
const lacking = vi.hoisted(() => ({ paths: /^$/, asked: 0 }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof Files>();
  return {
    ...real,
    open: (...given: Parameters<typeof real.open>) => {
      if (!lacking.paths.test(String(given[0]))) return real.open(...given);
      lacking.asked += 1;
      return Promise.reject(emfile());
    },
  };
});

const VALUE = "x".repeat(1_000_000);

function emfile(): Error {
  return Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE" });
}

describe("a store with no descriptor left", () => {
  it.each([
    ["the next file of its journal", /\.journal$/],
    ["what it syncs before it writes to its table", /\.log$/],
    ["what it syncs behind that", /level$/],
  ])("waits for one for %s, and goes on", (_, paths) =>
    withDirectory(async (directory) => {
      await using store = await openJournalStore(directory);
      Object.assign(lacking, { paths, asked: 0 });
      const commits = Array.from({ length: 16 }, (_none, no) => store.commit([put(`k${no}`, VALUE)]));
      await vi.waitFor(() => expect(lacking.asked).toBeGreaterThan(1), 10_000);
      lacking.paths = /^$/;
      await Promise.all(commits);
      expect(await contentOf(store)).toHaveLength(commits.length);
    }),
  );
});

describe("withDescriptor", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("gives up after a while, and at once where something else is wrong", async () => {
    const attempt = vi.fn(() => Promise.reject(emfile()));
    const ended = expect(withDescriptor(attempt)).rejects.toThrow("EMFILE");
    await vi.advanceTimersByTimeAsync(LOOK_MS * (LOOKS_MAX - 1));
    await ended;
    expect(attempt).toHaveBeenCalledTimes(LOOKS_MAX);
    await expect(withDescriptor(() => Promise.reject(new Error("EIO")))).rejects.toThrow("EIO");
  });
});
