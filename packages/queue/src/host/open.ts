import { Buffer } from "node:buffer";
import { join } from "node:path";

import { InvariantError } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { keyText } from "@klatsch/kit/core";
import { openStore, quarantineStore, StoreError } from "@klatsch/kit/store";
import type { Store, StoreVisitor } from "@klatsch/kit/store";

import { CodecError } from "../codec/fields.ts";
import { decodeRecord, decodeRegister, PlainReader } from "../codec/records.ts";
import { DEFAULT_TUNING } from "../core/context.ts";
import type { StoredRecord } from "../core/records.ts";
import { keyOf } from "../core/records.ts";
import { StoredRegisters } from "../core/stored-registers.ts";
import { QueueError } from "../errors.ts";

type Records = readonly (readonly [key: string, record: StoredRecord])[];

/** An open store, all its records but the bodies, and what had to be put aside for it. */
export interface Opened {
  readonly directory: string;
  readonly store: Store;
  readonly quarantined: { readonly path: string; readonly reason: string } | undefined;
}

const MESSAGE_FAMILY: number = keyOf.message(0, 0).family;
const REGISTER_FAMILY: number = keyOf.register(0, 0).family;

interface Read {
  readonly store: Store;
  readonly records: Records;
  readonly registers: StoredRegisters;
}

type Load<T> = (store: Store, records: Records, registers: StoredRegisters) => T;

/**
 * Opens the queue's store and hands its records to `load`. A damaged one is put aside and replaced by an
 * empty one, which is another replica: it never votes for what the old one promised.
 */
export async function openRecords<T>(
  dataDir: string,
  logger: Logger,
  load: Load<T>,
): Promise<Opened & { readonly loaded: T }> {
  const directory = join(dataDir, "queue");
  try {
    const read = await openOnce(directory);
    const loaded = await loadFrom(read, load);
    return { directory, store: read.store, loaded, quarantined: undefined };
  } catch (error) {
    const reason = damageOf(error);
    if (reason === undefined) throw error;
    const path = await quarantineStore(directory);
    logger.error("the queue's store is damaged: it was put aside", { path, reason });
    const read = await openOnce(directory);
    const loaded = await loadFrom(read, load);
    return { directory, store: read.store, loaded, quarantined: { path, reason } };
  }
}

/** All but the bodies, which stay on disk; registers are packed as they come. */
async function openOnce(directory: string): Promise<Read> {
  const records: (readonly [string, StoredRecord])[] = [];
  const registers = new StoredRegisters(DEFAULT_TUNING);
  const plain = new PlainReader();
  // A record may keep what it was read from, and these bytes are only lent.
  const add = (key: string, bytes: Uint8Array): void =>
    void records.push([key, decodeRecord(key, Buffer.from(bytes))]);
  const visitor: StoreVisitor = {
    row: (family, slot, seq, bytes, from, to) => {
      if (family !== MESSAGE_FAMILY && family !== REGISTER_FAMILY)
        return add(keyText({ family, slot, seq }), bytes.subarray(from, to));
      const isPlain = family === MESSAGE_FAMILY && plain.read(bytes, from, to);
      if (!isPlain || !registers.addPlain(slot, seq, plain))
        registers.add(slot, seq, decodeRegister(family, bytes.subarray(from, to)));
    },
    text: (key, value) => add(key, value),
  };
  try {
    return { store: await openStore({ directory, visitor }), records, registers };
  } catch (error) {
    if (error instanceof StoreError && error.code === "STORE_LOCKED") {
      throw new QueueError("STORE_LOCKED", error.message, { cause: error });
    }
    throw error;
  }
}

async function loadFrom<T>({ store, records, registers }: Read, load: Load<T>): Promise<T> {
  try {
    return load(store, records, registers);
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Why the store cannot be believed; `undefined` if the error is of another kind. */
function damageOf(error: unknown): string | undefined {
  if (error instanceof StoreError) return error.code === "STORE_DAMAGED" ? error.message : undefined;
  return error instanceof InvariantError || error instanceof CodecError ? error.message : undefined;
}
