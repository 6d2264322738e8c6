import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { Arena } from "./arena.ts";
import type { DiskOperation, SealedDisk } from "./disk.ts";
import { prefixRange } from "./disk.ts";
import { diskError, StoreError } from "./errors.ts";
import { checkArgument, checkText } from "./given.ts";
import type { StoreLimits } from "./limits.ts";
import { BASE_RECORDS_KEPT } from "./limits.ts";
import type { StoreVisitor } from "./load.ts";
import { visitAll } from "./load.ts";
import { Overlay } from "./overlay.ts";
import type { CommitDone, StoreOperation } from "./record.ts";
import { encodedBytes, JournalBatch, writeUint64 } from "./record.ts";
import type { RecoveredChain } from "./recovery.ts";
import type { Base } from "./table.ts";
import { baseKey, baseOperation, DATA_PREFIX, guarded, journalKey, Scratch, tableValue } from "./table.ts";

/** What a store is made from once its directory has been read and found intact. */
export interface JournalStoreInit {
  readonly disk: SealedDisk;
  readonly storeId: string;
  readonly chain: RecoveredChain;
  readonly limits: StoreLimits;
  /** Called once the disk is closed. */
  readonly onClosed: () => void;
}

/** What the seal is hashed with for a proof, and for nothing else. */
const PROOF_LABEL = "proof of a batch";
const NUMBER_BYTES = 8;

/** Room a new batch starts with, in bytes. */
const BATCH_BYTES_MIN = 1_024;

/** A journal with fewer operations than this is left as it is while nothing is written. */
const IDLE_OPERATIONS_MIN = 256;

/**
 * The store at work: commits become journal records one after the other, and the oldest records
 * are folded into the table behind them.
 */
export class JournalStore {
  readonly storeId: string;
  readonly boot: number;
  readonly #disk: SealedDisk;
  /** What is hashed for a proof: the seal, the label, and the number that is written over. */
  readonly #proven: Buffer;
  readonly #limits: StoreLimits;
  readonly #onClosed: () => void;
  readonly #overlay = new Overlay();
  readonly #arena: Arena;
  /** Values of the slice that is being written. */
  readonly #scratch: Scratch;
  /** Batches that wait for the disk; only the last may still grow. */
  readonly #waiting: JournalBatch[] = [];
  /** Synced batches that are not in the table yet, oldest first. */
  #journal: JournalBatch[];
  #journalBytes = 0;
  #waitingBytes = 0;
  #writing: JournalBatch | undefined;
  #slice: Promise<void> | undefined;
  #last: JournalBatch;
  /** Number of the last batch that was synced, and all before it with it. */
  #syncedNo: number;
  #relaxedTimer: NodeJS.Timeout | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  /** Monotonic milliseconds of the last write. */
  #wroteAt = 0;
  /** Nothing was written for a while: the journal is folded as far as may be. */
  #isIdle = false;
  #base: Base;
  #state: "open" | "closing" | "closed" | "failed" = "open";
  #failure: StoreError | undefined;
  #closing: Promise<void> | undefined;
  #onDrained: (() => void) | undefined;

  constructor(init: JournalStoreInit) {
    const { chain } = init;
    const last = chain.batches.at(-1);
    if (last === undefined) throw new StoreError("STORE_DAMAGED", "a chain has no batch", init);
    this.storeId = init.storeId;
    this.boot = last.boot + 1;
    this.#disk = init.disk;
    this.#proven = Buffer.concat([init.disk.seal, Buffer.from(PROOF_LABEL), Buffer.alloc(NUMBER_BYTES)]);
    this.#limits = init.limits;
    this.#arena = new Arena(init.limits.slabBytes);
    this.#scratch = new Scratch(2 * init.limits.sliceBytes);
    this.#onClosed = init.onClosed;
    this.#base = chain.base;
    this.#last = last;
    // What was found may be with the operating system alone until the first batch is written.
    this.#syncedNo = chain.base.no;
    this.#journal = [...chain.batches];
    for (const batch of chain.batches) {
      this.#overlay.replay(batch);
      this.#journalBytes += batch.memoryBytes;
    }
  }

  /** Shows everything it holds, before the first commit: until then no slice moves anything. */
  async load(visitor: StoreVisitor): Promise<void> {
    await visitAll(this.#disk, this.#overlay, this.storeId, visitor);
  }

  get batchNo(): number {
    return this.#syncedNo;
  }

  proofOf(batchNo: number): number {
    writeUint64(this.#proven, this.#proven.length - NUMBER_BYTES, batchNo);
    return hash("sha256", this.#proven, "buffer").readUIntBE(0, 6);
  }

  commit(operations: readonly StoreOperation[]): Promise<number> {
    return new Promise((resolve, reject) => {
      this.commitWith(operations, (error, batchNo) => (error ? reject(error) : resolve(batchNo)));
    });
  }

  commitWith(operations: readonly StoreOperation[], done: CommitDone, relaxed = false): void {
    checkArgument(typeof done === "function", "done", "a function");
    const byteCount = encodedBytes(operations);
    const refusal = this.#refusal(byteCount);
    if (refusal !== undefined) {
      queueMicrotask(() => done(refusal, 0));
      return;
    }
    const joined = this.#joinable(byteCount);
    const batch = joined ?? this.#newBatch(byteCount);
    const start = this.#append(batch, joined === undefined, operations, byteCount);
    if (joined === undefined) this.#waiting.push(batch);
    batch.isRelaxed = relaxed && (joined === undefined || joined.isRelaxed);
    this.#overlay.apply(batch, operations, start);
    this.#waitingBytes += byteCount;
    batch.waiters.push(done);
    this.#pump();
  }

  /** Throws for a bad key or value: nothing has changed then, and the memory of a new batch serves the next. */
  #append(
    batch: JournalBatch,
    isNew: boolean,
    operations: readonly StoreOperation[],
    byteCount: number,
  ): number {
    try {
      return batch.append(operations, byteCount);
    } catch (error) {
      if (isNew) batch.release();
      if (error instanceof StoreError) throw error;
      // A value without memory has length 0; only copying it tells, which costs nothing where all is well.
      const message = "a value cannot be copied: its buffer was detached or shrunk";
      throw new StoreError("STORE_VALUE", message, { storeId: this.storeId, cause: error });
    }
  }

  peek(key: string): Uint8Array | undefined {
    checkText("key", key);
    this.#assertReadable();
    return this.#overlay.recent(key)?.value;
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    checkText("key", key);
    this.#assertReadable();
    const recent = this.#overlay.recent(key);
    if (recent !== undefined) return recent.value;
    const diskKey = DATA_PREFIX + key;
    const stored = await this.#reading(this.#disk.get(diskKey));
    return stored && tableValue(diskKey, stored, this.storeId);
  }

  async getMany(keys: readonly string[]): Promise<readonly (Uint8Array | undefined)[]> {
    checkArgument(Array.isArray(keys), "keys", "an array");
    for (const key of keys) checkText("keys", key);
    this.#assertReadable();
    const values = keys.map((key) => this.#overlay.recent(key));
    const wanted = keys.filter((_, at) => values[at] === undefined).map((key) => DATA_PREFIX + key);
    const stored = wanted.length === 0 ? [] : await this.#reading(this.#disk.getMany(wanted));
    const found = stored.map((one, at) => one && tableValue(wanted[at] ?? "", one, this.storeId));
    let at = -1;
    return values.map((recent) => (recent === undefined ? found[(at += 1)] : recent.value));
  }

  async *scan(prefix: string): AsyncGenerator<readonly [key: string, value: Uint8Array]> {
    checkText("prefix", prefix);
    this.#assertReadable();
    // Both in the same turn: together they are the state at this moment, whatever a slice moves.
    const recent = this.#overlay.snapshot(prefix);
    const pages = this.#disk.pages(prefixRange(DATA_PREFIX + prefix))[Symbol.asyncIterator]();
    let at = 0;
    try {
      for (;;) {
        const page = await this.#reading(pages.next());
        if (page.done === true) break;
        for (const [diskKey, stored] of page.value) {
          const key = diskKey.slice(DATA_PREFIX.length);
          for (let next = recent[at]; next !== undefined && next[0] < key; next = recent[(at += 1)]) {
            yield* live(next);
          }
          const newer = recent[at];
          if (newer?.[0] !== key) {
            yield [key, tableValue(diskKey, stored, this.storeId)];
            continue;
          }
          at += 1;
          yield* live(newer);
        }
      }
      for (let next = recent[at]; next !== undefined; next = recent[(at += 1)]) yield* live(next);
    } finally {
      await pages.return?.();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    if (this.#state === "open" && this.#isUnsynced()) this.#sync();
    if (this.#state === "open") this.#state = "closing";
    if (this.#writing !== undefined || this.#waiting.length > 0) {
      await new Promise<void>((resolve) => (this.#onDrained = resolve));
    }
    clearTimeout(this.#relaxedTimer);
    clearTimeout(this.#idleTimer);
    while (this.#slice !== undefined) await this.#slice;
    if (this.#state === "closing") this.#state = "closed";
    this.#overlay.clear();
    this.#journal = [];
    await this.#disk.close();
    this.#onClosed();
  }

  /** Why a commit of `byteCount` bytes cannot be taken now. */
  #refusal(byteCount: number): StoreError | undefined {
    if (this.#state !== "open") return this.#unusable();
    if (this.#waitingBytes === 0 || this.#waitingBytes + byteCount <= this.#limits.pendingBytesMax)
      return undefined;
    return new StoreError(
      "STORE_BUSY",
      `${this.#waitingBytes} bytes wait for the disk already; wait for their commits`,
    );
  }

  /** The last batch that waits, if `byteCount` more bytes may join it. */
  #joinable(byteCount: number): JournalBatch | undefined {
    const tail = this.#waiting.at(-1);
    return tail !== undefined && tail.length + byteCount <= this.#limits.groupBytesMax ? tail : undefined;
  }

  #newBatch(byteCount: number): JournalBatch {
    const before = this.#waiting.at(-1) ?? this.#writing ?? this.#last;
    return JournalBatch.create(before.no + 1, Math.max(byteCount, BATCH_BYTES_MIN), this.#arena);
  }

  /** Starts the next write unless one runs, nothing waits, or the table is too far behind. */
  #pump(): void {
    if (this.#writing !== undefined || this.#state === "failed") return;
    const isFull = this.#isJournalFull();
    if (this.#waiting.length > 0 && isFull && (this.#slice !== undefined || this.#sliceLength() > 0)) {
      this.#materialise();
      return;
    }
    const batch = this.#waiting.shift();
    if (batch === undefined) {
      this.#onDrained?.();
      return;
    }
    this.#writing = batch;
    this.#waitingBytes -= batch.operationBytes;
    if (isFull || this.#isUnsyncedLong()) batch.isRelaxed = false;
    const value = batch.seal(this.#last.hash, this.boot);
    this.#disk.write([{ type: "put", key: journalKey(batch.no), value }], !batch.isRelaxed).then(
      () => this.#written(batch),
      (error: unknown) => this.#fail(error),
    );
  }

  #written(batch: JournalBatch): void {
    if (this.#state === "failed") return;
    this.#last = batch;
    this.#journal.push(batch);
    this.#journalBytes += batch.memoryBytes;
    this.#writing = undefined;
    this.#isIdle = false;
    this.#wroteAt = performance.now();
    if (this.#idleTimer === undefined) this.#armIdle(this.#limits.idleMs);
    if (!batch.isRelaxed) this.#syncedNo = batch.no;
    const syncedNo = this.#syncedNo;
    this.#pump();
    settle(batch, undefined, syncedNo);
    this.#materialise();
    if (batch.isRelaxed) {
      this.#relaxedTimer ??= setTimeout(() => this.#onRelaxed(), this.#limits.relaxedMs).unref();
    }
  }

  #onRelaxed(): void {
    this.#relaxedTimer = undefined;
    if (this.#state === "open" && this.#isUnsynced()) this.#sync();
  }

  #armIdle(delayMs: number): void {
    if (this.#state === "open") this.#idleTimer = setTimeout(() => this.#onIdle(), delayMs).unref();
  }

  /**
   * Deletes that wait in the journal keep what they delete on the disk: of a queue that was drained and then rests, all of it. What
   * the table holds for nothing comes after them.
   */
  #onIdle(): void {
    this.#idleTimer = undefined;
    const leftMs = this.#wroteAt + this.#limits.idleMs - performance.now();
    if (leftMs > 0) return this.#armIdle(leftMs);
    const operations = this.#journal.reduce((sum, { operationCount }) => sum + operationCount, 0);
    this.#isIdle = operations >= IDLE_OPERATIONS_MIN;
    if (this.#isIdle) this.#materialise();
    else this.#reclaim();
  }

  #isUnsynced(): boolean {
    return (this.#waiting.at(-1) ?? this.#writing ?? this.#last).isRelaxed;
  }

  /** An empty batch that takes along what nobody waited for; what it ends with is the store's own affair. */
  #sync(): void {
    this.commitWith([], () => {});
  }

  /** Only what is synced is folded: before a relaxed journal is full it must be. */
  #isUnsyncedLong(): boolean {
    const half = this.#journal[this.#journal.length >> 1];
    return this.#isSliceDue() && half !== undefined && half.no > this.#syncedNo;
  }

  #isJournalFull(): boolean {
    const { journalBatchesMax, journalBytesMax } = this.#limits;
    // The newest batch cannot be folded away, so one large batch alone must not stop the next.
    if (this.#journal.length < 2) return false;
    return this.#journal.length >= journalBatchesMax || this.#journalBytes >= journalBytesMax;
  }

  /** Slices begin at half of the limits, so that commits seldom meet the whole ones. */
  #isSliceDue(): boolean {
    const { journalBatchesMax, journalBytesMax } = this.#limits;
    if (this.#isIdle) return true;
    return this.#journal.length * 2 >= journalBatchesMax || this.#journalBytes * 2 >= journalBytesMax;
  }

  #materialise(): void {
    if (this.#slice !== undefined || (this.#state !== "open" && this.#state !== "closing")) return;
    if (!this.#isSliceDue()) return;
    if (this.#state === "closing" && this.#waiting.length === 0) return; // The next open can do it.
    const count = this.#sliceLength();
    if (count === 0) {
      if (this.#isIdle) this.#reclaim();
      return;
    }
    this.#slice = this.#materialiseSlice(count).then(
      () => {
        this.#slice = undefined;
        this.#pump();
        this.#materialise();
      },
      (error: unknown) => {
        this.#slice = undefined;
        this.#fail(error);
      },
    );
  }

  #reclaim(): void {
    if (this.#state === "open") void this.#disk.reclaim?.();
  }

  /**
   * Folds the oldest batches into the table: one atomic, unsynced write that puts their net effect,
   * deletes their records and moves the base. If it is lost, the records are still there.
   */
  async #materialiseSlice(count: number): Promise<void> {
    const batches = this.#journal.slice(0, count);
    const last = batches[count - 1];
    if (last === undefined) return;
    const base: Base = { sliceNo: this.#base.sliceNo + 1, no: last.no, hash: last.hash, boot: last.boot };
    const operations: DiskOperation[] = [];
    this.#scratch.reset();
    this.#overlay.fold(batches, this.#syncedNo, (key, value) => {
      operations.push(tableOperation(key, value, this.#scratch));
    });
    for (const batch of batches) operations.push({ type: "del", key: journalKey(batch.no) });
    operations.push(baseOperation(base));
    const expired = base.sliceNo - BASE_RECORDS_KEPT;
    if (expired >= 0) operations.push({ type: "del", key: baseKey(expired) });
    await this.#disk.write(operations, false);
    this.#base = base;
    this.#overlay.forget(batches, last.no);
    for (const batch of batches) this.#journalBytes -= batch.memoryBytes;
    this.#journal.splice(0, count);
  }

  /**
   * How many of the oldest batches make a slice: synced ones. The newest of these always stays: what follows it may be
   * gone with the power, and a journal with nothing in it is damaged.
   */
  #sliceLength(): number {
    const { sliceOperations, sliceBytes } = this.#limits;
    let operations = 0;
    let bytes = 0;
    let count = 0;
    while (count < this.#journal.length - 1 && operations < sliceOperations && bytes < sliceBytes) {
      const batch = this.#journal[count];
      if ((batch?.no ?? 0) >= this.#syncedNo) break;
      operations += batch?.operationCount ?? 0;
      bytes += batch?.length ?? 0;
      count += 1;
    }
    return count;
  }

  #fail(cause: unknown): void {
    if (this.#state === "failed") return;
    this.#state = "failed";
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `store ${this.storeId} failed and must be opened again: ${reason}`;
    const init = { storeId: this.storeId, cause };
    this.#failure = new StoreError("STORE_FAILED", message, init);
    this.#overlay.clear();
    const started = this.#writing;
    this.#writing = undefined;
    clearTimeout(this.#relaxedTimer);
    clearTimeout(this.#idleTimer);
    if (started) settle(started, new StoreError("STORE_FAILED", message, { ...init, outcome: "unknown" }), 0);
    for (const batch of this.#waiting.splice(0)) settle(batch, this.#failure, 0);
    this.#onDrained?.();
  }

  #assertReadable(): void {
    if (this.#state !== "open" && this.#state !== "closing") throw this.#unusable();
  }

  #unusable(): StoreError {
    if (this.#failure !== undefined) return this.#failure;
    return new StoreError("STORE_CLOSED", `store ${this.storeId} is closed`, { storeId: this.storeId });
  }

  async #reading<Value>(read: Promise<Value>): Promise<Value> {
    try {
      const value = await read;
      this.#assertReadable();
      return value;
    } catch (cause) {
      this.#assertReadable();
      throw diskError(`cannot read store ${this.storeId}`, cause, this.storeId);
    }
  }
}

function tableOperation(key: string, value: Uint8Array | undefined, scratch: Scratch): DiskOperation {
  const diskKey = DATA_PREFIX + key;
  // A delete reaches LevelDB unless the key is known to be fresh: that no older version lies in the table cannot
  // be known without reading, and a delete too few brings a message back.
  if (value === undefined) return { type: "del", key: diskKey };
  return { type: "put", key: diskKey, value: guarded(diskKey, value, scratch) };
}

function* live([key, value]: readonly [string, Uint8Array | undefined]): Generator<
  readonly [string, Uint8Array]
> {
  if (value !== undefined) yield [key, value];
}

function settle(batch: JournalBatch, error: StoreError | undefined, batchNo: number): void {
  for (const done of batch.waiters.splice(0)) {
    try {
      done(error, batchNo);
    } catch (thrown) {
      // The caller's mistake must neither stop the other callers nor go unseen.
      queueMicrotask(() => {
        throw thrown;
      });
    }
  }
}
