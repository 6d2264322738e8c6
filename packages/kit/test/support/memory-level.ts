import type { DiskOperation, DiskPage, DiskRange, OpenDisk, SealedDisk } from "../../src/store/disk.ts";
import { StoreError } from "../../src/store/errors.ts";

const SEAL = new Uint8Array(16).fill(7);

interface LoggedWrite {
  readonly operations: readonly DiskOperation[];
  synced: boolean;
}

/**
 * LevelDB as the store may rely on it, and no better: a log of atomic batches, of which a crash
 * keeps everything up to the last finished sync and any part of the rest that is a prefix.
 */
export class MemoryLevel {
  #log: LoggedWrite[] = [];
  #generation = 0;
  #isOpen = false;
  /** Writes made since the beginning, for assertions. */
  readonly writes: { readonly keys: readonly string[]; readonly sync: boolean }[] = [];
  /** Writes made before each time it was asked to give disk space back. */
  readonly reclaims: number[] = [];
  /** Asked before each write; what it returns is awaited before the write is done. */
  beforeWrite: (operations: readonly DiskOperation[], sync: boolean) => Promise<void> | undefined = () =>
    undefined;

  readonly open: OpenDisk = async (location) => {
    if (this.#isOpen) throw new StoreError("STORE_LOCKED", `${location} is in use`);
    this.#isOpen = true;
    return this.#disk(this.#generation);
  };

  /** Ends the open disk as a power cut does. `keep`: how many unsynced writes at most survive. */
  crash(keep = 0): void {
    this.#generation += 1;
    this.#isOpen = false;
    const synced = this.#log.findLastIndex((write) => write.synced) + 1;
    this.#log = this.#log.slice(0, synced + keep);
    for (const write of this.#log) write.synced = true;
  }

  /** The content as raw keys and values. */
  content(): Map<string, Uint8Array> {
    const content = new Map<string, Uint8Array>();
    for (const { operations } of this.#log) {
      for (const operation of operations) {
        if (operation.type === "put") content.set(operation.key, operation.value);
        else content.delete(operation.key);
      }
    }
    return content;
  }

  /** Changes the content behind the store's back, as a damaged disk would. */
  tamper(operations: readonly DiskOperation[]): void {
    this.#log.push({ operations, synced: true });
  }

  #disk(generation: number): SealedDisk {
    const never = new Promise<never>(() => {});
    const alive = (): boolean => generation === this.#generation;
    return {
      seal: SEAL,
      write: async (operations, sync) => {
        if (!alive()) return await never;
        const copy = operations.map(copyOperation);
        const written = { operations: copy, synced: false };
        this.writes.push({ keys: copy.map(({ key }) => key), sync });
        this.#log.push(written);
        const { length } = this.#log;
        try {
          await this.beforeWrite(copy, sync);
        } catch (error) {
          if (alive()) this.#log = this.#log.filter((write) => write !== written);
          throw error;
        }
        if (!alive()) return await never;
        if (sync) for (const write of this.#log.slice(0, length)) write.synced = true;
      },
      get: async (key) => this.content().get(key),
      getMany: async (keys) => {
        const content = this.content();
        return keys.map((key) => content.get(key));
      },
      pages: (range) => pages(this.content(), range),
      reclaim: async () => {
        this.reclaims.push(this.writes.length);
      },
      close: async () => {
        if (alive()) this.#isOpen = false;
      },
    };
  }
}

function copyOperation(operation: DiskOperation): DiskOperation {
  return operation.type === "put" ? { ...operation, value: new Uint8Array(operation.value) } : operation;
}

async function* pages(content: Map<string, Uint8Array>, range: DiskRange): AsyncGenerator<DiskPage> {
  const entries = [...content].filter(([key]) => key >= range.first && key < range.end);
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  // Pages of two, so that small tests cross their borders.
  for (let at = 0; at < entries.length; at += 2) yield entries.slice(at, at + 2);
}
