import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig, socketPath } from "../src/config.ts";
import { LineReader, parseRequest } from "../src/protocol.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "klatsch-config-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function fileWith(text: string): Promise<string> {
  const file = join(directory, "node.json");
  await writeFile(file, text);
  return file;
}

describe("readConfig", () => {
  it.each([
    [{ data: "x" }, "name: is required"],
    [{ name: "a" }, "data: is required"],
    [{ name: "a", data: "x", admission: "closed" }, 'admission: must be "open" or "certificate"'],
    [{ name: "a", data: "x", certificate: "/nowhere" }, "certificate: cannot read /nowhere"],
    [{ name: "a", data: "x".repeat(200) }, "socket: "],
    [{ name: "a", data: "x", config: "/nowhere.json" }, "config: cannot read /nowhere.json"],
  ])("names the field that is wrong in %j", async (flags, message) => {
    await expect(readConfig(flags)).rejects.toThrow(message);
  });

  it.each([
    ["{", "is not JSON"],
    ["[]", "must be an object"],
    ['{ "nam": "a" }', "nam: is not known"],
    ['{ "name": "a", "data": "x", "listen": "y" }', "listen: must be a list of texts"],
    ['{ "name": "a", "data": "x", "tags": { "k": 1 } }', "tags: must be an object of texts"],
    ['{ "name": 7, "data": "x" }', "name: must be text"],
    ['{ "name": "a", "data": "" }', "data: is required"],
  ])("names the field that is wrong in the file %s", async (text, message) => {
    await expect(readConfig({ config: await fileWith(text) })).rejects.toThrow(message);
  });

  it("reads a file that an editor began with a byte order mark", async () => {
    const config = await fileWith('\uFEFF{ "name": "a", "data": "d" }');
    expect((await readConfig({ config })).mesh.name).toBe("a");
  });

  it("lets flags win over the file, whose paths start where it is", async () => {
    const config = await fileWith('{ "name": "a", "data": "d", "cloud": "north", "tags": { "k": "v" } }');
    const { mesh, socket } = await readConfig({ config, name: "b" });
    expect(mesh).toMatchObject({
      name: "b",
      cloud: "north",
      tags: { k: "v" },
      dataDir: join(directory, "d"),
    });
    expect(socket).toBe(join(directory, "d", "klatsch.sock"));
    expect(socketPath({ data: join(directory, "d") })).toBe(socket);
  });
});

describe("LineReader", () => {
  it("gives the same lines however the bytes are cut", () => {
    const bytes = Buffer.from("one\n\nzwölf\nrest");
    for (let size = 1; size <= bytes.length; size += 1) {
      const reader = new LineReader();
      const lines: string[] = [];
      for (let from = 0; from < bytes.length; from += size) {
        lines.push(...reader.push(bytes.subarray(from, from + size)));
      }
      expect(lines).toEqual(["one", "", "zwölf"]);
    }
  });
});

describe("parseRequest", () => {
  it("reads no field that the writer did not write", () => {
    const { args } = parseRequest('{"id":1,"op":"x","args":{"__proto__":{"queue":"y"}}}');
    expect(() => args.requiredText("queue")).toThrow("queue: is required");
    expect(() => args.requiredText("constructor")).toThrow("constructor: is required");
  });
});
