import type * as fs from "node:fs/promises";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { makeKey, readKey } from "../../src/host/key-file.ts";

// As on a disk that is mounted to be read only: not even root may.
vi.mock("node:fs/promises", async (importOriginal) => ({
  ...(await importOriginal<typeof fs>()),
  chmod: async () => {
    throw Object.assign(new Error("EROFS: read-only file system, chmod"), { code: "EROFS" });
  },
}));

const DIRECTORY: string = mkdtempSync(join(tmpdir(), "klatsch-key-"));
afterAll(() => rmSync(DIRECTORY, { recursive: true }));

describe("a key on a disk that cannot be written", () => {
  it("is read", async () => {
    const made = await makeKey(DIRECTORY, "private.key", "");
    expect((await readKey(DIRECTORY, "private.key", ""))?.equals(made)).toBe(true);
  });

  it("is never called damaged because others can read it", async () => {
    await makeKey(DIRECTORY, "open.key", "");
    chmodSync(join(DIRECTORY, "open.key"), 0o644);
    const reading = readKey(DIRECTORY, "open.key", "remove it");
    await expect(reading).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringMatching(/^cannot keep others from reading .*open\.key: EROFS/) as unknown,
    });
  });
});
