import { Buffer } from "node:buffer";
import { ByteReader, MalformedError } from "./byte-reader.ts";
import { crc32c, unmask } from "./crc32c.ts";

/*
 * The manifest is a log (leveldb/doc/log_format.md) of version edits: 32 KiB blocks of records with a
 * masked CRC-32C, a length and a type. Tags of an edit are those of leveldb/db/version_edit.cc.
 */
const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;

/** A table file that is part of the database. */
export interface LiveTable {
  /** In bytes. */
  readonly size: number;
  /** Its first key. */
  readonly first: Buffer;
}

/** Those that are, by their number. */
export type LiveTables = ReadonlyMap<number, LiveTable>;

/** Bytes behind each key: its kind and sequence number. */
const TAG_BYTES = 8;

/** Reads which tables count; the others are left over from compactions. Throws {@link MalformedError}. */
export function liveTables(manifest: Buffer): LiveTables {
  const live = new Map<number, LiveTable>();
  for (const edit of logRecords(manifest)) applyEdit(live, new ByteReader(edit));
  return live;
}

/** Whole records. A torn one at the end is a crash, not damage: LevelDB ignores it too. */
function* logRecords(log: Buffer): Generator<Buffer> {
  let parts: Buffer[] = [];
  let at = 0;
  while (at + HEADER_BYTES <= log.length) {
    const left = BLOCK_BYTES - (at % BLOCK_BYTES);
    if (left < HEADER_BYTES) {
      at += left;
      continue;
    }
    const length = log.readUInt16LE(at + 4);
    const type = log[at + 6];
    const end = at + HEADER_BYTES + length;
    if (end > log.length || type === 0) return;
    if (crc32c(log, at + 6, end) !== unmask(log.readUInt32LE(at)))
      throw new MalformedError(`wrong CRC at ${at}`);
    if (type === FULL || type === FIRST) parts = [];
    parts.push(log.subarray(at + HEADER_BYTES, end));
    if (type === FULL || type === LAST) yield Buffer.concat(parts);
    at = end;
  }
}

function applyEdit(live: Map<number, LiveTable>, edit: ByteReader): void {
  while (!edit.isAtEnd) {
    const tag = edit.varint();
    switch (tag) {
      case 1: // Name of the comparator.
        edit.chunk();
        break;
      case 2: // Number of the log, of the next file, of the last sequence, of the log before.
      case 3:
      case 4:
      case 9:
        edit.varint();
        break;
      case 5: // Where the next compaction of a level begins.
        edit.varint();
        edit.chunk();
        break;
      case 6: // A table goes: level, number.
        edit.varint();
        live.delete(edit.varint());
        break;
      case 7: // A table comes: level, number, size, first and last key.
        addTable(live, edit);
        break;
      default:
        throw new MalformedError(`unknown tag ${tag}`);
    }
  }
}

function addTable(live: Map<number, LiveTable>, edit: ByteReader): void {
  edit.varint();
  const number = edit.varint();
  const size = edit.varint();
  const first = edit.chunk();
  edit.chunk();
  live.set(number, { size, first: first.subarray(0, Math.max(0, first.length - TAG_BYTES)) });
}
