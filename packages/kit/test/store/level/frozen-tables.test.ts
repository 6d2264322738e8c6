import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MalformedError } from "../../../src/store/level/byte-reader.ts";
import { FrozenTables } from "../../../src/store/level/frozen-tables.ts";
import { TableCursor } from "../../../src/store/level/table-cursor.ts";
import { withDirectory } from "../../support/store-kit.ts";

type Database = ClassicLevel<string, Uint8Array>;
const RANGE = { first: "d/", end: "d0" };

async function open(location: string): Promise<Database> {
  // The smallest that LevelDB takes: many tables, and compactions.
  const options = { valueEncoding: "view", writeBufferSize: 64 * 1_024, maxFileSize: 1_024 * 1_024 } as const;
  const database: Database = new ClassicLevel(location, options);
  await database.open();
  return database;
}

async function readFrozen(location: string): Promise<[string, string][]> {
  const tables = await FrozenTables.open(location);
  const found: [string, string][] = [];
  await tables?.visit(RANGE, (key, keyLength, bytes, from, to) => {
    found.push([key.toString("latin1", 0, keyLength), bytes.toString("hex", from, to)]);
  });
  await tables?.close();
  return found;
}

async function readThrough(database: Database): Promise<[string, string][]> {
  const entries = await database.iterator({ gte: RANGE.first, lt: RANGE.end }).all();
  return entries.map(([key, value]) => [key, Buffer.from(value).toString("hex")]);
}

/** A life of the database: so many puts and deletes, with this seed. */
const life = fc.record({ seed: fc.integer(), count: fc.nat(3_000), packs: fc.boolean() });

describe("frozen tables", () => {
  it("always hold what LevelDB finds in a database that was just opened", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 4 }), (lives) =>
        withDirectory(async (location) => {
          for (const { seed, count, packs } of lives) {
            const database = await open(location);
            for (let at = 0; at < count; at += 500) {
              const operations = Array.from({ length: Math.min(500, count - at) }, (_, index) => {
                const mixed = Math.imul(seed ^ (at + index), 0x9e37_79b1) >>> 0;
                const key = `${"cde"[mixed % 3]}/${"x".repeat(mixed % 7)}${(mixed >>> 8) % 5_000}`;
                if (mixed % 5 === 0) return { type: "del", key } as const;
                const value = Buffer.alloc((mixed >>> 4) % 300, packs ? 1 : undefined);
                if (!packs)
                  for (let to = 0; to < value.length; to += 1) value[to] = Math.imul(mixed, to + 1) >>> 11;
                return { type: "put", key, value } as const;
              });
              await database.batch(operations);
            }
            await database.close();
          }
          const database = await open(location);
          expect(await readFrozen(location)).toEqual(await readThrough(database));
          await database.close();
        }),
      ),
      { numRuns: 15 },
    );
  });

  it("are the caller's however LevelDB compacts meanwhile", () =>
    withDirectory(async (location) => {
      let database = await open(location);
      for (let round = 0; round < 8; round += 1) {
        const put = (at: number) =>
          ({ type: "put", key: `d/${at}`, value: Buffer.alloc(200, round) }) as const;
        await database.batch(Array.from({ length: 1_000 }, (_, at) => put(at)));
      }
      await database.close();
      database = await open(location);
      const expected = await readThrough(database);
      const tables = await FrozenTables.open(location);
      await database.compactRange("", "~");
      let count = 0;
      await tables?.visit(RANGE, () => (count += 1));
      await tables?.close();
      await database.close();
      expect(count).toBe(expected.length);
    }));

  it("never end otherwise than with a MalformedError where a table holds something else", () =>
    withDirectory(async (location) => {
      const database = await open(location);
      const put = (at: number) =>
        ({ type: "put", key: `d/${at}`, value: Buffer.alloc(at % 90, at) }) as const;
      await database.batch(Array.from({ length: 2_000 }, (_, at) => put(at)));
      await database.close();
      await (await open(location)).close();
      const [name = ""] = (await readdir(location)).filter((file) => file.endsWith(".ldb"));
      const sound = await readFile(join(location, name));
      await writeFile(join(location, "kept"), sound);
      const flip = fc.record({ at: fc.nat(sound.length - 1), bits: fc.integer({ min: 1, max: 255 }) });
      fc.assert(
        fc.property(fc.array(flip, { minLength: 1, maxLength: 4 }), (flips) => {
          const file = Buffer.from(sound);
          for (const { at, bits } of flips) file[at] = (file[at] ?? 0) ^ bits;
          try {
            const cursor = new TableCursor(file, file.length);
            while (cursor.next()) expect(cursor.to).toBeLessThanOrEqual(cursor.block.length);
          } catch (error) {
            expect(error).toBeInstanceOf(MalformedError);
          }
        }),
        { numRuns: 500 },
      );
    }));
});
