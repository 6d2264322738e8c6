import type { RowKey } from "@klatsch/kit/core";
import { hex8 } from "@klatsch/kit/core";

import type { Ballot, Right } from "./ballot.ts";
import type { Floor, Told } from "./messages.ts";
import type { Definition, Descriptor, EndValue, Keys, LaneId, PeerId, StoreId, Value } from "./types.ts";

/** What a store keeps, by kind of key. See PROTOCOL.md, "Keys". */
export type StoredRecord =
  | {
      readonly kind: "lane";
      readonly lane: LaneId;
      readonly descriptor: Descriptor;
      readonly promise: Right;
      readonly end: { readonly ballot: Ballot; readonly value: EndValue } | undefined;
      readonly closed: boolean;
    }
  /** Count and XOR digest of a lane's live registers: what a scan at open must find again. */
  | { readonly kind: "digest"; readonly count: number; readonly digest: number }
  /** A message as it came: its body, and its register until that is written anew. */
  | {
      readonly kind: "message";
      readonly ballot: Ballot;
      readonly value: Value;
      readonly body: Uint8Array;
    }
  /** A later state of a register. */
  | {
      readonly kind: "register";
      readonly ballot: Ballot;
      readonly value: Value;
      readonly hasBody: boolean;
    }
  | { readonly kind: "finished"; readonly bits: Uint8Array }
  /** Of a finished message of an ordered lane. */
  | { readonly kind: "keys"; readonly keys: Keys }
  | { readonly kind: "opened"; readonly lane: LaneId }
  | { readonly kind: "floor"; readonly floor: Floor }
  | {
      readonly kind: "member";
      readonly peer: PeerId;
      readonly boot: number;
      readonly retired: boolean;
    }
  | ({ readonly kind: "echo" } & Told)
  | { readonly kind: "definition"; readonly definition: Definition }
  | { readonly kind: "deleted"; readonly atWallMs: number };

/** What a record lies under; most lie under two numbers. */
export type RecordKey = string | RowKey;

/** An effect: a record is written, or deleted. */
export interface Persist {
  readonly type: "persist";
  readonly key: RecordKey;
  readonly record: StoredRecord | undefined;
  /** Nothing was ever written under this key. */
  readonly fresh: boolean;
  /** Nobody waits for its sync. */
  readonly relaxed: boolean;
}

const CODE_B = 0x62;
const CODE_R = 0x72;
const hex12 = (value: number): string => value.toString(16).padStart(12, "0");

/** Keys sort by slot, then seq: lanes are numbered by a local 32-bit slot. */
export const keyOf = {
  lane: (slot: number): string => `l/${hex8(slot)}`,
  digest: (slot: number): string => `n/${hex8(slot)}`,
  register: (slot: number, seq: number): RowKey => ({ family: CODE_R, slot, seq }),
  message: (slot: number, seq: number): RowKey => ({ family: CODE_B, slot, seq }),
  keys: (slot: number, seq: number): string => `d/${hex8(slot)}/${hex8(seq)}`,
  finished: (slot: number, chunk: number): string => `g/${hex8(slot)}/${hex8(chunk)}`,
  opened: (boot: number, laneNo: number): string => `o/${hex12(boot)}/${hex8(laneNo)}`,
  floor: (store: StoreId): string => `f/${store}`,
  member: (store: StoreId): string => `m/${store}`,
  echo: (store: StoreId): string => `e/${store}`,
  definition: (queue: string): string => `q/${queue}`,
  deleted: (queue: string): string => `x/${queue}`,
} as const;

/**
 * Whether a batch needs no sync before what rests on it leaves: something in it is relaxed, and the rest is echoes, which
 * go with whatever is written next.
 */
export function isRelaxed(batch: readonly Persist[]): boolean {
  return (
    batch.some(({ relaxed }) => relaxed) &&
    batch.every(({ record, relaxed }) => relaxed || record?.kind === "echo")
  );
}

/** The hexadecimal fields of a key after its letter; `undefined` for a key that is not ours. */
export function keyFields(key: string): { letter: string; fields: readonly string[] } | undefined {
  const [letter, ...fields] = key.split("/");
  return letter?.length === 1 && fields.length > 0 ? { letter, fields } : undefined;
}
