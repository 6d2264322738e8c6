import type { Context } from "./context.ts";
import type { FinishedSet } from "./finished.ts";
import { keyOf } from "./records.ts";
import type { RegisterTable } from "./register-table.ts";
import type { LaneId } from "./types.ts";

/** What a store has of a lane, as far as it is to go. */
interface DroppedLane {
  readonly slot: number;
  readonly lane: LaneId;
  readonly registers: RegisterTable;
  readonly keys: Map<number, unknown>;
  readonly finished: FinishedSet;
}

interface DroppingHost<Lane> {
  /** Deletes what is left of a lane but for its own record. */
  empty(lane: Lane): void;
  /** Its own record is to say that it is not whole, whoever remembers why. */
  close(lane: Lane): void;
}

/** Lanes that nobody knows any more: their records go in parts, each on disk before the next. */
export class Dropping<Lane extends DroppedLane> {
  readonly #context: Context;
  readonly #host: DroppingHost<Lane>;
  readonly #lanes = new Set<Lane>();
  /** The one whose last part is on its way to disk. */
  #next: LaneId | undefined;

  constructor(context: Context, host: DroppingHost<Lane>) {
    this.#context = context;
    this.#host = host;
  }

  add(lanes: readonly Lane[]): void {
    for (const lane of lanes) this.#lanes.add(lane);
    if (this.#next === undefined) this.#drop();
  }

  /** Perhaps of a lane that is here: another part of it is on disk. */
  onSynced(lane: LaneId): void {
    if (lane === this.#next) this.#drop();
  }

  #drop(): void {
    let left = this.#context.tuning.dropRecords;
    for (const lane of this.#lanes) {
      if (left <= 0) break;
      left -= this.#dropSome(lane, left);
      if (left > 0) {
        left -= 1 + lane.finished.chunkIndexes().length;
        this.#host.empty(lane);
        this.#context.persist(keyOf.lane(lane.slot), undefined);
        this.#lanes.delete(lane);
      } else this.#host.close(lane);
    }
    const [next] = this.#lanes;
    this.#next = next?.lane;
    if (next === undefined) return;
    this.#context.sendAfter(this.#context.peer, { type: "synced", lane: next.lane });
  }

  /** How many records it took. */
  #dropSome({ slot, registers, keys }: Lane, limit: number): number {
    let count = 0;
    for (const seq of take(registers.keys(), limit)) {
      const stored = registers.get(seq);
      registers.delete(seq);
      if (stored?.rewritten === true) this.#context.persist(keyOf.register(slot, seq), undefined);
      if (stored?.hasBody === true) this.#context.persist(keyOf.message(slot, seq), undefined);
      count += 1;
    }
    for (const seq of take(keys.keys(), limit - count)) {
      keys.delete(seq);
      this.#context.persist(keyOf.keys(slot, seq), undefined);
      count += 1;
    }
    return count;
  }
}

/** The first of them, apart: whoever asked may change what they come from. */
function take(seqs: Iterable<number>, limit: number): readonly number[] {
  const taken: number[] = [];
  if (limit <= 0) return taken;
  for (const seq of seqs) if (taken.push(seq) >= limit) break;
  return taken;
}
