import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteReader, MalformedError } from "../../../src/store/level/byte-reader.ts";
import { crc32c } from "../../../src/store/level/crc32c.ts";
import { liveTables } from "../../../src/store/level/manifest.ts";
import { unsnappy } from "../../../src/store/level/snappy.ts";
import { checkTable } from "../../../src/store/level/table-file.ts";
import { withDirectory } from "../../support/store-kit.ts";

describe("crc32c", () => {
  // The first from the catalogue of CRC algorithms, the others from RFC 3720, B.4.
  it.each([
    [Buffer.from("123456789"), 0xe3069283],
    [Buffer.alloc(32), 0x8a9136aa],
    [Buffer.alloc(32, 0xff), 0x62a8ab43],
    [Buffer.from(Array.from({ length: 32 }, (_, index) => index)), 0x46dd794e],
    [Buffer.alloc(0), 0],
  ])("of %j is %d", (bytes, expected) => {
    expect(crc32c(bytes, 0, bytes.length)).toBe(expected);
  });

  it("covers the range it is given and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), fc.nat(70), fc.nat(70), (bytes, a, b) => {
        const [start, end] = [Math.min(a, b, bytes.length), Math.min(Math.max(a, b), bytes.length)];
        expect(crc32c(bytes, start, end)).toBe(crc32c(bytes.slice(start, end), 0, end - start));
      }),
    );
  });
});

describe("unsnappy", () => {
  it.each([
    ["a literal", [3, 0x08, 97, 98, 99], "abc"],
    [
      "a literal with its length in a byte",
      [62, 0xf0, 61, ...Array.from({ length: 62 }, () => 120)],
      "x".repeat(62),
    ],
    ["a copy that reaches into itself", [9, 0x00, 97, 0x01 | (4 << 2), 1], "a".repeat(9)],
    ["a copy with a distance of two bytes", [8, 0x0c, 97, 98, 99, 100, 0x02 | (3 << 2), 4, 0], "abcdabcd"],
    [
      "a copy with a distance of four bytes",
      [8, 0x0c, 97, 98, 99, 100, 0x03 | (3 << 2), 4, 0, 0, 0],
      "abcdabcd",
    ],
    ["nothing", [0], ""],
  ])("unpacks %s", (_, packed, expected) => {
    expect(unsnappy(Buffer.from(packed)).toString()).toBe(expected);
  });

  it.each([
    ["a distance before the beginning", [8, 0x00, 97, 0x01 | (3 << 2), 2]],
    ["a distance of zero", [8, 0x00, 97, 0x01 | (3 << 2), 0]],
    ["less than it says", [9, 0x00, 97]],
    ["more than it says", [1, 0x04, 97, 98]],
    ["an end inside a literal", [9, 0x10, 97]],
    ["a size nobody has", [0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    ["no size", []],
  ])("refuses %s", (_, packed) => {
    expect(() => unsnappy(Buffer.from(packed))).toThrow();
  });

  it("never does anything but unpack or refuse", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          unsnappy(Buffer.from(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedError);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

/** The files of a database that has been compacted, by extension. */
async function makeFiles(
  keyOf: (index: number) => string,
): Promise<{ manifest: Buffer; tables: Map<string, Buffer> }> {
  return await withDirectory(async (directory) => {
    const database = new ClassicLevel(directory);
    for (let index = 0; index < 400; index += 1)
      await database.put(keyOf(index), `value ${index * 7919}`.repeat(3));
    await database.compactRange("\0", "~~");
    await database.close();
    const tables = new Map<string, Buffer>();
    let manifest = Buffer.alloc(0);
    for (const name of await readdir(directory)) {
      const bytes = await readFile(join(directory, name));
      if (name.startsWith("MANIFEST")) manifest = bytes;
      if (name.endsWith(".ldb")) tables.set(name, bytes);
    }
    return { manifest, tables };
  });
}

/** How the index block of a table is stored: 0 as it is, 1 packed. */
function indexCompression(file: Buffer): number | undefined {
  const footer = new ByteReader(file, file.length - 48);
  const [, , offset, size] = [footer.varint(), footer.varint(), footer.varint(), footer.varint()];
  return file[offset + size];
}

describe("tables and manifest of a real database", () => {
  it.each([
    [
      "a packed index",
      1,
      (index: number) => `a long prefix that repeats itself/${String(index).padStart(9, "0")}`,
    ],
    [
      "an index as it is",
      0,
      (index: number) =>
        Math.sin(index + 1)
          .toString(36)
          .slice(3),
    ],
  ])("with %s are accepted whole and refused with any byte changed", async (_, compression, keyOf) => {
    const { manifest, tables } = await makeFiles(keyOf);
    const live = liveTables(manifest);
    expect(live.size).toBeGreaterThan(0);
    for (const [number, { size }] of live) {
      const file = tables.get(`${String(number).padStart(6, "0")}.ldb`) ?? Buffer.alloc(0);
      expect([file.length, indexCompression(file)]).toEqual([size, compression]);
      checkTable(file);
      // The footer's handles are followed by padding that nobody reads.
      const padding = file.subarray(-48, -8).findLastIndex((byte) => byte !== 0) + 1;
      for (let at = 0; at < file.length; at += 1) {
        if (at >= file.length - 48 + padding && at < file.length - 8) continue;
        const damaged = Buffer.from(file);
        damaged[at]! ^= 1 << (at % 8);
        expect(() => checkTable(damaged), `byte ${at}`).toThrow(MalformedError);
      }
    }
  });

  it("have a manifest of which every prefix is read, as after a crash", async () => {
    const { manifest } = await makeFiles((index) => `key ${index}`);
    const whole = [...liveTables(manifest)];
    for (let length = 0; length < manifest.length; length += 1) liveTables(manifest.subarray(0, length));
    expect(whole.length).toBeGreaterThan(0);
  });

  it("have a manifest that is refused when the content of a record is changed", async () => {
    const { manifest } = await makeFiles((index) => `key ${index}`);
    for (let at = 7; at < 7 + manifest.readUInt16LE(4); at += 1) {
      const damaged = Buffer.from(manifest);
      damaged[at]! ^= 1 << (at % 8);
      expect(() => liveTables(damaged), `byte ${at}`).toThrow(MalformedError);
    }
  });
});
