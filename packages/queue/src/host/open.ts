import { join } from "node:path";

import { InvariantError } from "@klatsch/kit";
import { rowOf } from "@klatsch/kit/core";
import type { Logger } from "@klatsch/kit";
import { openStore, quarantineStore, StoreError } from "@klatsch/kit/store";
import type { Store } from "@klatsch/kit/store";

import { CodecError } from "../codec/fields.ts";
import { decodeRecord } from "../codec/records.ts";
import { DEFAULT_TUNING } from "../core/context.ts";
import type { StoredRecord } from "../core/records.ts";
import { StoredRegisters } from "../core/stored-registers.ts";
import { QueueError } from "../errors.ts";

export type Records = readonly (readonly [key: string, record: StoredRecord])[];

/** An open store, all its records but the bodies, and what had to be put aside for it. */
export interface Opened {
  readonly directory: string;
  readonly store: Store;
  readonly quarantined: { readonly path: string; readonly reason: string } | undefined;
}

/**
 * Opens the queue's store and hands its records to `load`. A damaged one is put aside and replaced by an
 * empty one, which is another replica: it never votes for what the old one promised.
 */
export async function openRecords<T>(
  dataDir: string,
  logger: Logger,
  load: (store: Store, records: Records, registers: StoredRegisters) => T,
): Promise<Opened & { readonly loaded: T }> {
  const directory = join(dataDir, "queue");
  try {
    const store = await openOnce(directory);
    const loaded = await loadFrom(store, load);
    return { directory, store, loaded, quarantined: undefined };
  } catch (error) {
    const reason = damageOf(error);
    if (reason === undefined) throw error;
    const path = await quarantineStore(directory);
    logger.error("the queue's store is damaged: it was put aside", { path, reason });
    const store = await openOnce(directory);
    const loaded = await loadFrom(store, load);
    return { directory, store, loaded, quarantined: { path, reason } };
  }
}

async function openOnce(directory: string): Promise<Store> {
  try {
    return await openStore({ directory });
  } catch (error) {
    if (error instanceof StoreError && error.code === "STORE_LOCKED") {
      throw new QueueError("STORE_LOCKED", error.message, { cause: error });
    }
    throw error;
  }
}

async function loadFrom<T>(
  store: Store,
  load: (store: Store, records: Records, registers: StoredRegisters) => T,
): Promise<T> {
  try {
    return load(store, ...(await readRecords(store)));
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** All but the bodies, which stay on disk; registers are packed as they come. */
async function readRecords(store: Store): Promise<readonly [Records, StoredRegisters]> {
  const records: (readonly [string, StoredRecord])[] = [];
  const registers = new StoredRegisters(DEFAULT_TUNING.looseRegisters);
  for await (const [key, bytes] of store.scan("")) {
    const record = decodeRecord(key, bytes);
    if (record.kind === "message" || record.kind === "register") {
      const row = rowOf(key);
      if (row === undefined) throw new CodecError(`${key} names no register`);
      registers.add(row.slot, row.seq, record);
    } else records.push([key, record]);
  }
  return [records, registers];
}

/** Why the store cannot be believed; `undefined` if the error is of another kind. */
function damageOf(error: unknown): string | undefined {
  if (error instanceof StoreError) return error.code === "STORE_DAMAGED" ? error.message : undefined;
  return error instanceof InvariantError || error instanceof CodecError ? error.message : undefined;
}
