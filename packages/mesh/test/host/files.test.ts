import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createDurably, writeDurably } from "../../src/host/files.ts";

const PARENT: string = mkdtempSync(join(tmpdir(), "klatsch-files-"));
afterAll(() => rmSync(PARENT, { recursive: true }));

describe("a file that is written whole", () => {
  it("leaves nothing beside it, whether it could be written or not", async () => {
    await writeDurably(PARENT, "a", Buffer.from("1"));
    await writeDurably(PARENT, "a", Buffer.from("2"));
    mkdirSync(join(PARENT, "b")); // Nothing can be renamed to it.
    await expect(writeDurably(PARENT, "b", Buffer.from("1"))).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect([readdirSync(PARENT).sort(), readFileSync(join(PARENT, "a"), "utf8")]).toEqual([["a", "b"], "2"]);
  });

  it("takes nobody's place where it is to be made", async () => {
    const directory = join(PARENT, "b");
    writeFileSync(join(directory, "there"), "1");
    expect(await createDurably(directory, "there", Buffer.from("2"))).toBe(false);
    expect(await createDurably(directory, "new", Buffer.from("2"))).toBe(true);
    expect([readdirSync(directory).sort(), readFileSync(join(directory, "there"), "utf8")]).toEqual([
      ["new", "there"],
      "1",
    ]);
  });
});
