import { assert } from "@klatsch/kit/core";

import type { Ballot } from "./ballot.ts";
import type { Tuning } from "./context.ts";
import type { PlainRegister } from "./register-table.ts";
import { RegisterTable } from "./register-table.ts";
import type { StoredRecord } from "./records.ts";

/** Mixes one live (seq, ballot) into a lane's digest: XOR in, XOR out. */
export function entryDigest(seq: number, ballot: Ballot): number {
  let mixed = Math.imul(seq + 1, 0x9e3779b1) ^ Math.imul(ballot.round + 1, 0x85ebca6b);
  mixed ^= Math.imul(ballot.step + 1, 0xc2b2ae35);
  for (let at = ballot.pid.length - 8; at < ballot.pid.length; at += 1) {
    mixed = Math.imul(mixed ^ ballot.pid.charCodeAt(at), 0x01000193);
  }
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** One lane's registers as they are read from disk. */
interface StoredLane {
  readonly registers: RegisterTable;
  digest: number;
}

/** The registers of a store while it is opened, packed one by one: a backlog is never in memory as records. */
export class StoredRegisters {
  readonly #lanes = new Map<number, StoredLane>();
  readonly #make: () => RegisterTable;

  constructor({ looseRegisters, packedBits }: Pick<Tuning, "looseRegisters" | "packedBits">) {
    this.#make = () => new RegisterTable(looseRegisters, packedBits);
  }

  /**
   * Takes a record; one of its own outranks the one of its message, which comes before it. Throws
   * `InvariantError` where a body is missing: damage.
   */
  add(slot: number, seq: number, record: StoredRecord & { readonly kind: "message" | "register" }): void {
    let lane = this.#lanes.get(slot);
    if (lane === undefined) {
      this.#lanes.set(slot, (lane = { registers: this.#make(), digest: 0 }));
    }
    const { ballot, value } = record;
    const rewritten = record.kind === "register";
    const hasBody = rewritten ? record.hasBody : true;
    const old = lane.registers.get(seq);
    assert(!rewritten || hasBody === (old !== undefined), `slot ${slot} lost the body of seq ${seq} on disk`);
    if (old !== undefined) lane.digest ^= entryDigest(seq, old.ballot);
    lane.digest ^= entryDigest(seq, ballot);
    lane.registers.set(seq, { ballot, value, hasBody, rewritten });
  }

  /** Takes the record of a message as it came, if that is the only one so far and its lane packs; `false`: {@link add} has to. */
  addPlain(slot: number, seq: number, register: PlainRegister): boolean {
    const lane = this.#lanes.get(slot);
    if (lane?.registers.setPlain(seq, register) !== true) return false;
    lane.digest ^= entryDigest(seq, register);
    return true;
  }

  /** Hands out a lane's registers. */
  take(slot: number): StoredLane | undefined {
    const lane = this.#lanes.get(slot);
    this.#lanes.delete(slot);
    return lane;
  }

  /** Slots that nobody took. */
  get left(): readonly number[] {
    return [...this.#lanes.keys()];
  }
}
