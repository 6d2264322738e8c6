import { Buffer } from "node:buffer";
import { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { randomBelow } from "@klatsch/kit/core";
import type { Random } from "@klatsch/kit/core";

interface Write {
  readonly at: number;
  readonly bytes: Buffer;
}

/** Files, as the tests of the journal make them without what is told here. */
export interface RealFiles {
  open(path: string, flags?: string | number, mode?: number): Promise<FileHandle>;
  readdir(path: string): Promise<string[]>;
  unlink(path: string): Promise<void>;
  writeFile(path: string, data: Uint8Array): Promise<void>;
}

type Call = "create" | "write" | "writev" | "sync" | "datasync" | "sync directory";
/** What becomes of a call: the process ends in it, the disk refuses it, or some of it is written without an error. */
type Fate = "kill" | "EIO" | "short" | undefined;

const SECTOR_BYTES = 512;

/**
 * The journal's files twice over: as the operating system shows them, which is what a process finds that is started
 * again, and as the disk has them, which is what a power cut leaves. A synced write reaches the disk with its own
 * bytes and nothing around them; one that is cut short with any of its sectors.
 */
export class CrashFiles {
  /** Decides about each call; the default lets all through. */
  fate: (call: Call, path: string) => Fate = () => undefined;
  readonly calls: { readonly call: Call; readonly path: string }[] = [];
  #real: RealFiles | undefined;
  #random: Random | undefined;
  readonly #disk = new Map<string, Buffer>();
  #names = new Set<string>();
  /** What a power cut leaves any of, and any sectors of that. */
  readonly #unsynced = new Map<string, Write[]>();
  readonly #handles = new Set<FileHandle>();
  readonly #doing = new Set<Promise<unknown>>();
  /** Number of the process: whatever an earlier one still had to do never happens. */
  #process = 0;

  reset(random: Random): void {
    this.fate = () => undefined;
    this.calls.length = 0;
    this.#random = random;
    this.#disk.clear();
    this.#names.clear();
    this.#unsynced.clear();
  }

  get #files(): RealFiles {
    if (this.#real === undefined) throw new Error("no files");
    return this.#real;
  }

  /** The module of the real files with an `open` that is watched. */
  watch<Files extends RealFiles>(real: Files): Files {
    this.#real = real;
    return {
      ...real,
      open: (path: string, flags?: string | number, mode?: number) => this.#open(path, flags, mode),
      unlink: (path: string) => this.#done(real.unlink(path)),
    };
  }

  /** What is done to the real files: nobody changes them behind the next process's back. */
  async #done<Result>(doing: Promise<Result>): Promise<Result> {
    this.#doing.add(doing);
    const forget = (): unknown => this.#doing.delete(doing);
    doing.then(forget, forget);
    return await this.#living(doing);
  }

  async #living<Result>(doing: Promise<Result>, process: number = this.#process): Promise<Result> {
    try {
      const result = await doing;
      return process === this.#process ? result : await never();
    } catch (error) {
      if (process !== this.#process) return await never();
      throw error;
    }
  }

  /** Nothing that the ended process began goes on, and its files are closed. */
  async kill(): Promise<void> {
    this.#process += 1;
    await Promise.allSettled(this.#doing);
    for (const handle of this.#handles) await handle.close();
    this.#handles.clear();
  }

  /** Ends the machine: only what the disk has is left. */
  async cutPower(directory: string): Promise<void> {
    await this.kill();
    for (const [path, writes] of this.#unsynced) {
      for (const { at, bytes } of writes) if (this.#chance(2)) this.#reach(path, at, bytes, true);
    }
    this.#unsynced.clear();
    for (const name of await this.#files.readdir(directory)) await this.#files.unlink(join(directory, name));
    for (const path of this.#names) {
      const bytes = this.#disk.get(path) ?? Buffer.alloc(0);
      if (path.startsWith(directory)) await this.#files.writeFile(path, bytes);
    }
  }

  async #open(path: string, flags?: string | number, mode?: number): Promise<FileHandle> {
    const isJournal = path.endsWith(".journal");
    const isNew = isJournal && mode !== undefined;
    const fate = isNew ? this.#asked("create", path) : undefined;
    if (fate === "EIO") throw ioError();
    // What is on the disk is known here: nobody has to wait for a real one.
    const unsynced = isJournal && typeof flags === "number" ? flags & ~constants.O_DSYNC : flags;
    const opened = this.#files.open(path, unsynced, mode).then((handle) => {
      this.#handles.add(handle);
      return handle;
    });
    const handle = await this.#done(opened);
    if (fate === "kill") return await never();
    return this.#watched(handle, path, typeof flags === "number" && (flags & constants.O_DSYNC) !== 0);
  }

  #watched(handle: FileHandle, path: string, isSynced: boolean): FileHandle {
    const process = this.#process;
    const close = async (): Promise<void> => {
      this.#handles.delete(handle);
      await handle.close();
    };
    const changed: Record<string, unknown> = {
      close,
      write: (bytes: Buffer, _from: number, _length: number, at: number) =>
        this.#living(this.#write("write", handle, path, { at, bytes, isSynced }), process),
      writev: (parts: readonly Uint8Array[], at: number) =>
        this.#living(
          this.#write("writev", handle, path, { at, bytes: Buffer.concat(parts), isSynced }),
          process,
        ),
      sync: () =>
        this.#living(
          this.#sync(/\.(journal|json\.new)$/.test(path) ? "sync" : "sync directory", path),
          process,
        ),
      datasync: () => this.#living(this.#sync("datasync", path), process),
    };
    return new Proxy(handle, {
      get: (target, name) => {
        if (typeof name === "string" && Object.hasOwn(changed, name)) return changed[name];
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  async #write(
    call: "write" | "writev",
    handle: FileHandle,
    path: string,
    { at, bytes, isSynced }: { readonly at: number; readonly bytes: Buffer; readonly isSynced: boolean },
  ): Promise<{ readonly bytesWritten: number }> {
    const fate = this.#asked(call, path);
    const length = fate === undefined || this.#chance(2) ? bytes.length : this.#below(bytes.length);
    const written = fate === "short" ? Math.min(length, bytes.length - 1) : length;
    if (written > 0) await this.#done(handle.write(bytes, 0, written, at));
    this.#supersede(path, at, at + written);
    if (call === "write" || !isSynced) this.#unsyncedOf(path).push({ at, bytes: bytes.subarray(0, written) });
    else this.#reach(path, at, bytes.subarray(0, written), fate !== undefined);
    if (fate === "EIO") throw ioError();
    return fate === "kill" ? await never() : { bytesWritten: written };
  }

  /** What was there before cannot reach the disk later than what is written now. */
  #supersede(path: string, from: number, to: number): void {
    const before = this.#unsyncedOf(path);
    const isOver = ({ at, bytes }: Write): boolean => at < to && at + bytes.length > from;
    for (const { at, bytes } of before.filter(isOver)) this.#reach(path, at, bytes, true);
    const others = before.filter((write) => !isOver(write));
    before.splice(0, before.length, ...others);
  }

  async #sync(call: Call, path: string): Promise<void> {
    const fate = this.#asked(call, path);
    if (call === "sync directory") {
      if (fate === undefined) await this.#syncNames(path);
    } else {
      const writes = this.#unsyncedOf(path);
      for (const { at, bytes } of writes) this.#reach(path, at, bytes, fate !== undefined);
      // A process that is killed in it leaves them to the operating system; one that is told of an error has lost them.
      if (fate !== "kill") writes.length = 0;
    }
    if (fate === "EIO") throw ioError();
    if (fate === "kill") return await never();
  }

  async #syncNames(directory: string): Promise<void> {
    const names = await this.#done(this.#files.readdir(directory));
    const there = names.map((name) => join(directory, name));
    const elsewhere = [...this.#names].filter((path) => !path.startsWith(directory));
    this.#names = new Set([...elsewhere, ...there]);
  }

  /** Bytes arrive on the disk: all of them, or some sectors. */
  #reach(path: string, at: number, bytes: Buffer, isTorn: boolean): void {
    let disk = this.#disk.get(path) ?? Buffer.alloc(0);
    if (disk.length < at + bytes.length)
      disk = Buffer.concat([disk, Buffer.alloc(at + bytes.length - disk.length)]);
    this.#disk.set(path, disk);
    const density = isTorn ? this.#below(5) : 4;
    for (let from = 0; from < bytes.length;) {
      const to = Math.min(bytes.length, from + SECTOR_BYTES - ((at + from) % SECTOR_BYTES));
      if (this.#below(4) < density) disk.set(bytes.subarray(from, to), at + from);
      from = to;
    }
  }

  #asked(call: Call, path: string): Fate {
    this.calls.push({ call, path: basename(path) });
    const fate = this.fate(call, path);
    if (fate === "kill") this.#process += 1;
    return fate;
  }

  #unsyncedOf(path: string): Write[] {
    const writes = this.#unsynced.get(path) ?? [];
    this.#unsynced.set(path, writes);
    return writes;
  }

  #below(limit: number): number {
    return this.#random === undefined || limit === 0 ? 0 : randomBelow(this.#random, limit);
  }

  #chance(of: number): boolean {
    return this.#below(of) === 0;
  }
}

function never(): Promise<never> {
  return new Promise<never>(() => {});
}

function ioError(): Error {
  return Object.assign(new Error("EIO: i/o error"), { code: "EIO", syscall: "write" });
}
