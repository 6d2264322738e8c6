import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { outFile } from "../src/out-file.ts";

let directory = "";
let path = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "klatsch-out-"));
  path = join(directory, "body");
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("outFile", () => {
  it("leaves the file as it is until there is something to write", async () => {
    await writeFile(path, "precious");
    await chmod(path, 0o640);
    const write = await outFile(path);
    expect(await readFile(path, "utf8")).toBe("precious");
    await write(Buffer.from("new"));
    expect(await readFile(path, "utf8")).toBe("new");
    expect((await stat(path)).mode & 0o777).toBe(0o640);
    expect(await readdir(directory)).toEqual(["body"]);
  });

  it("makes no file until there is something to write", async () => {
    const write = await outFile(path);
    expect(await readdir(directory)).toEqual([]);
    await write(Buffer.from("new"));
    expect(await readFile(path, "utf8")).toBe("new");
  });

  it("keeps what was there, and nothing else, when it cannot be written after all", async () => {
    const write = await outFile(path);
    await mkdir(path); // Whatever came in between: it cannot be replaced by a file.
    await writeFile(join(path, "precious"), "old");
    await expect(write(Buffer.from("new"))).rejects.toThrow();
    expect(await readdir(directory)).toEqual(["body"]);
    expect(await readFile(join(path, "precious"), "utf8")).toBe("old");
  });

  it("writes what a link leads to, and into what is no file", async () => {
    const link = join(directory, "link");
    await writeFile(path, "old");
    await symlink("body", link);
    await (
      await outFile(link)
    )(Buffer.from("new"));
    expect([await readlink(link), await readFile(path, "utf8")]).toEqual(["body", "new"]);
    await (
      await outFile("/dev/null")
    )(Buffer.from("new"));
    expect((await stat("/dev/null")).isFile()).toBe(false);
  });

  it("refuses at once what cannot be written", async () => {
    for (const wrong of [directory, join(directory, "no", "such"), "", "\0"]) {
      await expect(outFile(wrong)).rejects.toMatchObject({ code: "USAGE" });
    }
  });
});
