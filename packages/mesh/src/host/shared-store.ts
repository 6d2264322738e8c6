import { join } from "node:path";
import type { Logger } from "@klatsch/kit";
import { openStore, quarantineStore, StoreError } from "@klatsch/kit/store";
import type { Store, StoreOperation } from "@klatsch/kit/store";
import { decodeSharedEntry, encodeSharedEntry } from "../codec/state-codec.ts";
import type { SharedEntry } from "../core/state/messages.ts";
import type { StateEffect } from "../core/state/state-types.ts";
import { MeshError } from "../errors.ts";

/** Below the data directory. */
const STORE_DIRECTORY = "mesh";
const ENTRY_PREFIX = "e/";
const MESH_KEY = "mesh";
const AGREED_KEY = "agreed";

/** What is to be written: an entry, its removal, or a time. */
export type StateRecord = Extract<StateEffect, { type: "persist" | "agreed" }>;

/** A damaged store that was put aside; its entries come back from the others. */
export interface Quarantined {
  readonly path: string;
  readonly reason: string;
}

/** The shared entries of one mesh on this node's disk. */
export class SharedStore {
  readonly #store: Store;
  readonly entries: readonly SharedEntry[];
  readonly agreedAtMs: number | undefined;
  readonly quarantined: Quarantined | undefined;

  private constructor(store: Store, held: Held, quarantined: Quarantined | undefined) {
    this.#store = store;
    this.entries = held.entries;
    this.agreedAtMs = held.agreedAtMs;
    this.quarantined = quarantined;
  }

  /**
   * Opens the store below `dataDir`. A damaged one is put aside and replaced by an empty one.
   * @throws MeshError `STORE_LOCKED` if another process has it, `STORE_FAILED` if it cannot be opened.
   */
  static async open(dataDir: string, mesh: string, logger: Logger): Promise<SharedStore> {
    const directory = join(dataDir, STORE_DIRECTORY);
    try {
      const { store, held } = await openOnce(directory, mesh, logger);
      return new SharedStore(store, held, undefined);
    } catch (error) {
      if (!isDamage(error)) throw asMeshError(error);
      const { message: reason } = error;
      const path = await quarantineStore(directory);
      logger.error("the store of shared state is damaged: it was put aside", { path, reason });
      const { store, held } = await openOnce(directory, mesh, logger);
      return new SharedStore(store, held, { path, reason });
    }
  }

  commit(records: readonly StateRecord[], done: (error: unknown) => void): void {
    this.#store.commitWith(records.map(operationOf), (error) => done(error));
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}

/**
 * Keeps nodes out of `dataDir`, as a running one does, until the returned function is called.
 * @throws MeshError `STORE_LOCKED`, `STORE_FAILED`.
 */
export async function lockDataDir(dataDir: string): Promise<() => Promise<void>> {
  try {
    const store = await openStore({ directory: join(dataDir, STORE_DIRECTORY) });
    return () => store.close();
  } catch (error) {
    throw asMeshError(error);
  }
}

interface Held {
  readonly entries: readonly SharedEntry[];
  readonly agreedAtMs: number | undefined;
}

async function openOnce(
  directory: string,
  mesh: string,
  logger: Logger,
): Promise<{ readonly store: Store; readonly held: Held }> {
  const store = await openStore({ directory });
  try {
    return { store, held: await read(store, mesh, logger) };
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function read(store: Store, mesh: string, logger: Logger): Promise<Held> {
  const ofMesh = textOf(await store.get(MESH_KEY));
  if (ofMesh !== mesh) {
    // Signed for another mesh: worth nothing here.
    const old: StoreOperation[] = [];
    for await (const [key] of store.scan("")) old.push({ key, value: undefined });
    if (old.length > 0) logger.warn("shared state of another mesh is dropped", { mesh: ofMesh });
    await store.commit([...old, { key: MESH_KEY, value: Buffer.from(mesh) }]);
  }
  const entries: SharedEntry[] = [];
  for await (const [key, value] of store.scan(ENTRY_PREFIX)) {
    const entry = decodeSharedEntry(value);
    if (entry === undefined || ENTRY_PREFIX + entry.key !== key) {
      throw new StoreError("STORE_DAMAGED", `${key} is no shared entry`, { storeId: store.storeId });
    }
    entries.push(entry);
  }
  const agreed = Number(textOf(await store.get(AGREED_KEY)) ?? Number.NaN);
  return { entries, agreedAtMs: Number.isFinite(agreed) ? agreed : undefined };
}

function operationOf(record: StateRecord): StoreOperation {
  if (record.type === "agreed") return { key: AGREED_KEY, value: Buffer.from(String(record.atMs)) };
  const value = record.entry === undefined ? undefined : encodeSharedEntry(record.entry);
  return { key: ENTRY_PREFIX + record.key, value };
}

function textOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes).toString();
}

function isDamage(error: unknown): error is StoreError {
  return error instanceof StoreError && error.code === "STORE_DAMAGED";
}

/** A fault of a store as this package tells it. */
export function asMeshError(error: unknown): unknown {
  if (!(error instanceof StoreError)) return error;
  const code = error.code === "STORE_LOCKED" ? "STORE_LOCKED" : "STORE_FAILED";
  return new MeshError(code, error.message, { cause: error, retryable: error.retryable });
}
