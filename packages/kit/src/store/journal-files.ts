import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, readdir, readFile, stat, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { withDescriptor } from "./descriptors.ts";
import { syncDirectory } from "./directory.ts";
import { StoreError } from "./errors.ts";
import { JournalBatch, readUint64, writeUint64 } from "./record.ts";

/*
 * A record in a file of the journal, at a multiple of 64 bytes: magic u32, length of the record u32, its number u64, eight
 * bytes of SHA-256 over the store's seal and these, and the record, which begins with its CRC-32. Between records there
 * are zeros, or what an earlier use of the file left; the seal, which nobody is told, keeps a value that looks like a
 * record from being taken for one.
 */
const MAGIC = Buffer.from([0x4b, 0x4a, 0xd1, 0x9e]);
const HEADER_BYTES = 24;
const LENGTH_AT = 4;
const NO_AT = 8;
const PROOF_AT = 16;
const CRC_BYTES = 4;
const ALIGNMENT = 64;
const FILE_NAME = /^(\d{1,15})\.journal$/;
/** How often a file is looked at, whether it has a name still, in milliseconds; while records are written. */
const NAMED_MS = 1_000;
/** On Linux a write returns once it is on the disk; elsewhere a sync follows it. */
const IS_WRITE_SYNCED: boolean = process.platform === "linux";
const SYNCED_FLAGS: number = IS_WRITE_SYNCED ? constants.O_RDWR | constants.O_DSYNC : constants.O_RDWR;

interface JournalFilesInit {
  readonly directory: string;
  /** Size of a file. */
  readonly fileBytes: number;
  /** Records up to it do not count. */
  readonly doneNo: number;
  /** The store's own. */
  readonly seal: Uint8Array;
}

interface JournalFile {
  readonly path: string;
  readonly handle: FileHandle;
  /** For records that nobody waits for; opened with the first of them. */
  relaxed: FileHandle | undefined;
  /** It has records that may not be on the disk yet. */
  isDirty: boolean;
  /** Bytes that a write need not append to: those are there already. */
  readonly size: number;
  /** Highest record in it, 0 if there is none that counts. */
  lastNo: number;
}

interface FoundRecord {
  readonly no: number;
  readonly file: JournalFile;
  readonly at: number;
  /** Behind it, aligned. */
  readonly end: number;
  readonly bytes: Uint8Array;
}

/**
 * The journal's records in files that are written again and again: a sync of them is one of data alone, and no
 * database copies, checks and compacts what is forgotten seconds later.
 */
export class JournalFiles {
  readonly #directory: string;
  readonly #fileBytes: number;
  readonly #files: JournalFile[] = [];
  #current: JournalFile | undefined;
  #at = 0;
  /** Records up to this number are not needed any more, durably. */
  #doneNo = 0;
  #spare: Promise<unknown> | undefined;
  #nextNumber = 0;
  #namedAtMs = -Infinity;
  /** The last records found at open, until they are known to be on the disk. */
  #recovered: readonly FoundRecord[] = [];
  #appending: Promise<void> | undefined;
  readonly #seal: Uint8Array;
  #records: { readonly no: number; readonly bytes: Uint8Array }[] | undefined = [];

  private constructor({ directory, fileBytes, doneNo, seal }: JournalFilesInit) {
    this.#directory = directory;
    this.#fileBytes = aligned(fileBytes);
    this.#doneNo = doneNo;
    this.#seal = seal;
  }

  /** Opens what there is, and reads it. */
  static async open(init: JournalFilesInit): Promise<JournalFiles> {
    const journal = new JournalFiles(init);
    const created = await mkdir(init.directory, { recursive: true, mode: 0o700 });
    if (created !== undefined) await syncDirectory(dirname(init.directory));
    try {
      await journal.#load();
    } catch (error) {
      await journal.close();
      throw error;
    }
    return journal;
  }

  async #load(): Promise<void> {
    const names = (await readdir(this.#directory)).filter((name) => FILE_NAME.test(name));
    // Whoever made a file may have been killed before its name was safe.
    await syncDirectory(this.#directory);
    for (const name of names) {
      const path = join(this.#directory, name);
      const { size } = await stat(path);
      this.#files.push(fileOf(path, await open(path, SYNCED_FLAGS), size));
      this.#nextNumber = Math.max(this.#nextNumber, Number.parseInt(name, 10) + 1);
    }
    await this.#read(new Set());
  }

  /** Finds the records that count, does away with those in `gone`, and appends behind the last from now on. */
  async #read(gone: ReadonlySet<number>): Promise<void> {
    const records: FoundRecord[] = [];
    for (const file of this.#files) {
      file.lastNo = 0;
      for (const record of recordsIn(await readFile(file.path), file, this.#seal)) {
        const { no, at } = record;
        if (no <= this.#doneNo) continue;
        if (gone.has(no)) {
          await writeSynced(file, [Buffer.alloc(HEADER_BYTES)], at);
          continue;
        }
        file.lastNo = Math.max(file.lastNo, no);
        records.push(record);
      }
    }
    this.#records = records.sort((a, b) => a.no - b.no);
    const syncedAt = records.findLastIndex(({ bytes }) => !JournalBatch.saysRelaxed(bytes));
    this.#recovered = records.slice(Math.max(syncedAt, 0));
    this.#current = undefined;
    const last = records.at(-1);
    if (last === undefined) return;
    // What an earlier use left behind it counts still where the base was lost: that must not be written over.
    if (records.some(({ file, at }) => file === last.file && at > last.at)) return;
    this.#current = last.file;
    this.#at = last.end;
  }

  /** What was found at open, in order of number, and appended since; nothing after `release`. */
  get records(): readonly { readonly no: number; readonly bytes: Uint8Array }[] {
    return this.#records ?? [];
  }

  /** The records were read: memory forgets them. */
  release(): void {
    this.#records = undefined;
  }

  /** Does away with records found at open; the same numbers may be appended then. */
  async remove(numbers: readonly number[]): Promise<void> {
    await this.#read(new Set(numbers));
    this.release();
  }

  /** Empties the journal for a chain that begins. */
  async clear(): Promise<void> {
    await this.close();
    this.#files.length = 0;
    this.#current = undefined;
    this.#recovered = [];
    this.#doneNo = 0;
    this.#records = [];
    for (const name of await readdir(this.#directory)) await unlink(join(this.#directory, name));
    await syncDirectory(this.#directory);
  }

  /**
   * Writes one record after the last; it is on the disk when this resolves, and all before it were when it was begun.
   * Without `sync` it is with the operating system. One at a time. The write does not begin at once: frames of the same turn that wait for nothing
   * leave first, which takes a twentieth less of the processor than the other order.
   */
  async append(no: number, record: Uint8Array, sync = true): Promise<void> {
    this.#appending = this.#append(no, record, sync);
    await this.#appending;
  }

  async #append(no: number, record: Uint8Array, sync: boolean): Promise<void> {
    await this.#secureRecovered();
    const bytes = HEADER_BYTES + record.length;
    if (this.#current === undefined || this.#at + bytes > this.#current.size) {
      this.#current = await this.#next(bytes);
      this.#at = 0;
    }
    const file = this.#current;
    const at = this.#at;
    file.lastNo = no;
    const content = [headerOf(no, record.length, this.#seal), record];
    if (sync) {
      await this.#syncRelaxed();
      await writeSynced(file, content, at);
    } else await writeRelaxed(file, content, at);
    await this.#assertNamed(file);
    this.#at = aligned(at + bytes);
    this.#records?.push({ no, bytes: record });
    // Once in each use of a file: a disk that is full would be asked with every record otherwise.
    if (at * 2 <= file.size && this.#at * 2 > file.size && this.#idle(0) === undefined) this.#prepare();
  }

  /**
   * Whoever removes or moves the directory of a process that runs leaves it files that nobody will ever open again. The next ones
   * would be made in the directory that took its place, which may be another process's.
   */
  async #assertNamed({ path, handle }: JournalFile): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#namedAtMs < NAMED_MS) return;
    this.#namedAtMs = nowMs;
    const [held, named] = await Promise.all([handle.stat(), stat(path).catch(() => undefined)]);
    if (held.ino === named?.ino) return;
    throw new StoreError("STORE_IO", `${path} was removed or replaced while it was written to`);
  }

  /**
   * Writes the last synced record found at open once more, and what nobody waited for behind it. They may have been read
   * from memory of the operating system alone: their writer was killed before the disk had them, or was told that
   * the disk failed. Any earlier one was on the disk before that one was begun.
   */
  async #secureRecovered(): Promise<void> {
    if (this.#recovered.length === 0) return;
    for (const { file, at, no, bytes } of this.#recovered) {
      await writeRelaxed(file, [headerOf(no, bytes.length, this.#seal), bytes], at);
    }
    await this.#syncRelaxed();
    this.#recovered = [];
  }

  async #syncRelaxed(): Promise<void> {
    for (const file of this.#files) {
      if (!file.isDirty) continue;
      await file.handle.datasync();
      file.isDirty = false;
    }
  }

  /** Records up to `no` are not needed any more: what holds nothing else is written again. */
  done(no: number): void {
    this.#doneNo = Math.max(this.#doneNo, no);
  }

  /** A file with room for so many bytes and nothing in it that counts. */
  async #next(bytes: number): Promise<JournalFile> {
    await this.#spare;
    return await withDescriptor(
      async () => this.#idle(bytes) ?? (await this.#create(Math.max(bytes, this.#fileBytes))),
    );
  }

  /** Makes the next file before it is needed; a failure shows when that is made again. */
  #prepare(): void {
    this.#spare ??= this.#create(this.#fileBytes).then(
      () => (this.#spare = undefined),
      () => (this.#spare = undefined),
    );
  }

  /** The shortest file of at least `bytes` with nothing in it that counts. */
  #idle(bytes: number): JournalFile | undefined {
    return this.#allIdle()
      .filter(({ size }) => size >= bytes)
      .sort((a, b) => a.size - b.size)[0];
  }

  #allIdle(): JournalFile[] {
    return this.#files.filter((file) => file !== this.#current && file.lastNo <= this.#doneNo);
  }

  /** A new file, filled: a write into it changes nothing but data. */
  async #create(bytes: number): Promise<JournalFile> {
    await this.#removeOdd();
    const size = aligned(bytes);
    const path = join(this.#directory, `${this.#nextNumber}.journal`);
    this.#nextNumber += 1;
    const handle = await open(path, SYNCED_FLAGS | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      const written = await handle.write(Buffer.alloc(size), 0, size, 0);
      assertWhole(written.bytesWritten, size);
      await handle.sync();
      await syncDirectory(this.#directory);
    } catch (error) {
      // What is left of it would take from a full disk what little there is.
      await handle.close();
      await unlink(path).catch(() => undefined);
      throw error;
    }
    const file = fileOf(path, handle, size);
    this.#files.push(file);
    return file;
  }

  /** Removes what was made for long records, or not to the end, and is of no use now: else there were ever more of them. */
  async #removeOdd(): Promise<void> {
    for (const file of this.#allIdle()) {
      if (file.size === this.#fileBytes) continue;
      this.#files.splice(this.#files.indexOf(file), 1);
      await closeFile(file);
      await unlink(file.path);
    }
  }

  /** Ends after the record that is being written, if there is one: later the directory may be another's. */
  async close(): Promise<void> {
    await this.#appending?.catch(() => undefined);
    await this.#spare;
    for (const file of this.#files) await closeFile(file);
  }
}

function fileOf(path: string, handle: FileHandle, size: number): JournalFile {
  return { path, handle, relaxed: undefined, isDirty: false, size, lastNo: 0 };
}

async function closeFile({ handle, relaxed }: JournalFile): Promise<void> {
  await handle.close();
  await relaxed?.close();
}

async function writeSynced(
  { handle }: JournalFile,
  content: readonly Uint8Array[],
  at: number,
): Promise<void> {
  await writeWhole(handle, content, at);
  if (!IS_WRITE_SYNCED) await handle.datasync();
}

async function writeRelaxed(file: JournalFile, content: readonly Uint8Array[], at: number): Promise<void> {
  // Where no descriptor is left for it, what nobody waits for is synced: slower, and no less.
  file.relaxed ??= await open(file.path, constants.O_RDWR).catch(() => undefined);
  if (file.relaxed === undefined) return await writeSynced(file, content, at);
  file.isDirty = true;
  await writeWhole(file.relaxed, content, at);
}

async function writeWhole(handle: FileHandle, content: readonly Uint8Array[], at: number): Promise<void> {
  const { bytesWritten } = await handle.writev(content, at);
  assertWhole(
    bytesWritten,
    content.reduce((sum, { length }) => sum + length, 0),
  );
}

function assertWhole(written: number, bytes: number): void {
  if (written === bytes) return;
  throw new StoreError("STORE_IO", `${written} of ${bytes} bytes were written: is the disk full?`);
}

/**
 * Every whole record, wherever it lies. One that was torn or altered is passed over: whether the numbers run without a
 * gap is for the chain to say.
 */
function recordsIn(bytes: Buffer, file: JournalFile, seal: Uint8Array): FoundRecord[] {
  const found: FoundRecord[] = [];
  let at = 0;
  for (;;) {
    at = bytes.indexOf(MAGIC, at);
    if (at < 0) return found;
    const record = at % ALIGNMENT === 0 ? recordAt(bytes, at, file, seal) : undefined;
    if (record !== undefined) found.push(record);
    at = record?.end ?? at + 1;
  }
}

function recordAt(bytes: Buffer, at: number, file: JournalFile, seal: Uint8Array): FoundRecord | undefined {
  const from = at + HEADER_BYTES;
  if (from + CRC_BYTES > bytes.length) return undefined;
  const length = bytes.readUInt32LE(at + LENGTH_AT);
  if (length < CRC_BYTES || from + length > bytes.length) return undefined;
  const no = readUint64(bytes, at + NO_AT);
  if (no > Number.MAX_SAFE_INTEGER) return undefined;
  if (!headerOf(no, length, seal).equals(bytes.subarray(at, from))) return undefined;
  const record = bytes.subarray(from, from + length);
  if (crc32(record.subarray(CRC_BYTES)) !== record.readUInt32LE(0)) return undefined;
  return { no, file, at, end: aligned(from + length), bytes: record };
}

function headerOf(no: number, length: number, seal: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.set(MAGIC);
  header.writeUInt32LE(length, LENGTH_AT);
  writeUint64(header, NO_AT, no);
  const proof = hash("sha256", Buffer.concat([seal, header.subarray(0, PROOF_AT)]), "buffer");
  header.set(proof.subarray(0, HEADER_BYTES - PROOF_AT), PROOF_AT);
  return header;
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
