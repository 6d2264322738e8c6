import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createDurably, makeDirectory, writeDurably } from "../../src/host/files.ts";

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

describe("a directory", () => {
  it("is made with those it is in, for this user alone, however many make it at once", async () => {
    const directory = join(PARENT, "c", "d", "e");
    await Promise.all([1, 2, 3].map(() => makeDirectory(directory)));
    await makeDirectory(directory);
    for (const made of [directory, dirname(directory)]) expect(statSync(made).mode & 0o777).toBe(0o700);
  });

  it("that cannot be made is refused, where the system has no such place, too", async () => {
    writeFileSync(join(PARENT, "file"), "");
    const places = [join(PARENT, "file"), join(PARENT, "file", "x", "y"), "/proc/klatsch/x"];
    for (const place of process.platform === "linux" ? places : places.slice(0, 2))
      await expect(makeDirectory(place)).rejects.toMatchObject({ code: "STORE_FAILED" });
  });
});
