import { cp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { JournalFiles } from "../../src/store/journal-files.ts";
import { withDirectory } from "../support/store-kit.ts";

const FILE_BYTES = 4_096;
const seal = Buffer.alloc(16, 7);

function open(directory: string, doneNo = 0): Promise<JournalFiles> {
  return JournalFiles.open({ directory, fileBytes: FILE_BYTES, doneNo, seal });
}

/** A record as the journal knows them: its CRC, then whatever it says. */
function record(no: number, bytes = 300): Buffer {
  const made = Buffer.alloc(bytes, no);
  made.writeUInt32LE(crc32(made.subarray(4)), 0);
  return made;
}

async function numbersIn(directory: string, doneNo = 0): Promise<number[]> {
  const journal = await open(directory, doneNo);
  const numbers = journal.records.map(({ no }) => no);
  for (const { no, bytes } of journal.records) expect(Buffer.from(bytes)).toEqual(record(no, bytes.length));
  await journal.close();
  return numbers;
}

/** A copy is in the place of what a process has open. */
async function replace(directory: string): Promise<void> {
  await rename(directory, `${directory}.old`);
  await cp(`${directory}.old`, directory, { recursive: true });
}

function upTo(count: number, from = 1): number[] {
  return Array.from({ length: count - from + 1 }, (_, index) => from + index);
}

afterEach(() => void vi.restoreAllMocks());

describe("journal files", () => {
  it("give back what was appended, in order, records longer than a file among it", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(40)) await journal.append(no, record(no, no % 7 === 0 ? 3 * FILE_BYTES : 300));
      await journal.close();
      expect(await numbersIn(directory)).toEqual(upTo(40));
      expect(await numbersIn(directory, 25)).toEqual(upTo(40, 26));
    }));

  it.each([
    ["removed", (directory: string) => rm(directory, { recursive: true })],
    ["moved", (directory: string) => rename(directory, `${directory}.old`)],
    ["replaced", replace],
  ])("take no record once their directory was %s", (_what, happen) =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      await journal.append(1, record(1));
      await happen(directory);
      const later = performance.now() + 1_000;
      vi.spyOn(performance, "now").mockReturnValue(later);
      await expect(journal.append(2, record(2))).rejects.toMatchObject({
        code: "STORE_IO",
        message: expect.stringContaining("was removed"),
      });
      await journal.close();
    }),
  );

  it("take relaxed records although no descriptor can be had for them", () =>
    withDirectory(async (directory) => {
      vi.spyOn(performance, "now").mockReturnValue(0);
      const journal = await open(directory);
      await journal.append(1, record(1));
      const path = join(directory, "0.journal");
      await rename(path, `${path}.away`); // Nobody can open it.
      await journal.append(2, record(2), false);
      await rename(`${path}.away`, path);
      await journal.append(3, record(3), false);
      await journal.close();
      expect(await numbersIn(directory)).toEqual([1, 2, 3]);
    }));

  it("are written again once what they hold is done, and never before", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(600)) {
        await journal.append(no, record(no));
        if (no > 60) journal.done(no - 60);
      }
      await journal.close();
      expect(await numbersIn(directory, 540)).toEqual(upTo(600, 541));
      expect((await readdir(directory)).length).toBeLessThan(12);
    }));

  it("are no more and no longer than what counts, however long records become", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(60)) {
        await journal.append(no, record(no, FILE_BYTES + no * 100));
        journal.done(no - 2);
      }
      // Four long ones at most, and one that was made before it is needed.
      expect((await readdir(directory)).length).toBeLessThan(6);
      for (const no of upTo(120, 61)) {
        await journal.append(no, record(no, no % 2 === 0 ? FILE_BYTES * 2 : 300));
        journal.done(no - 2);
      }
      expect((await readdir(directory)).length).toBeLessThan(8);
      await journal.close();
      expect(await numbersIn(directory, 118)).toEqual([119, 120]);
    }));

  it("are found under any number, and what is no file of theirs is left alone", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(3)) await journal.append(no, record(no));
      await journal.close();
      await rename(join(directory, "0.journal"), join(directory, "12345678.journal"));
      await writeFile(join(directory, "notes.txt"), "mine");
      expect(await numbersIn(directory)).toEqual(upTo(3));
      expect(await readdir(directory)).toContain("notes.txt");
    }));

  it("go on behind the last record when they are opened again", () =>
    withDirectory(async (directory) => {
      for (const no of upTo(30)) {
        const journal = await open(directory);
        expect(journal.records.map((each) => each.no)).toEqual(upTo(no - 1));
        await journal.append(no, record(no));
        await journal.close();
      }
      // Three, and one that was made before it is needed.
      expect(await readdir(directory)).toHaveLength(4);
    }));

  it("write over nothing that counts again because the base was lost", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(36)) {
        await journal.append(no, record(no));
        journal.done(no - 20);
      }
      await journal.close();
      const before = await numbersIn(directory);
      const first = before[0] ?? 0;
      // The front of a file is of this use, its end of the one before.
      expect(first).toBeLessThan(16);
      expect(before).toEqual(upTo(36, first));
      const again = await open(directory, first - 1);
      for (const no of upTo(50, 37)) await again.append(no, record(no));
      await again.close();
      expect(await numbersIn(directory, first - 1)).toEqual(upTo(50, first));
    }));

  it("pass over a torn record, and write the next in its place", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(3)) await journal.append(no, record(no));
      await journal.close();
      const file = join(directory, "0.journal");
      const bytes = await readFile(file);
      bytes.fill(0, 2 * 384 + 100, 3 * 384);
      await writeFile(file, bytes);
      expect(await numbersIn(directory)).toEqual([1, 2]);
      const again = await open(directory);
      await again.append(3, record(3, 200));
      await again.close();
      expect(await numbersIn(directory)).toEqual(upTo(3));
    }));

  it("take no value for a record, however much it looks like one", () =>
    withDirectory(async (directory) => {
      const inner = record(9, 40);
      const forged = Buffer.alloc(64 - 24 + 64);
      forged.set([0x4b, 0x4a, 0xd1, 0x9e], 40);
      forged.writeUInt32LE(inner.length, 44);
      forged.writeBigUInt64LE(9n, 48);
      forged.set(inner, 64);
      const carrier = Buffer.concat([forged, Buffer.alloc(200)]);
      carrier.writeUInt32LE(crc32(carrier.subarray(4)), 0);
      const journal = await open(directory);
      await journal.append(1, carrier);
      await journal.close();
      const file = join(directory, "0.journal");
      const bytes = await readFile(file);
      bytes[0] = 0; // The carrier is no record any more, so that its inside is looked at.
      await writeFile(file, bytes);
      expect(await numbersIn(directory)).toEqual([]);
    }));

  it("begin anew for a chain that begins", () =>
    withDirectory(async (directory) => {
      const journal = await open(directory);
      for (const no of upTo(20)) await journal.append(no, record(no));
      await journal.clear();
      await journal.append(1, record(1));
      await journal.close();
      expect(await numbersIn(directory)).toEqual([1]);
    }));
});
