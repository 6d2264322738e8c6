import { keyText, SeededRandom } from "@klatsch/kit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { laneIdOf } from "../../src/codec/hash.ts";
import { makePid } from "../../src/core/ballot.ts";
import { Definitions, DEFINITIONS_MAX } from "../../src/core/definitions.ts";
import type { QueueEffect, QueueInput } from "../../src/core/inputs.ts";
import type { Deleted, Message, Section } from "../../src/core/messages.ts";
import { QueueCore } from "../../src/core/queue-core.ts";
import type { StoredRecord } from "../../src/core/records.ts";
import { enqueued } from "../../src/core/register.ts";
import type { Definition, Descriptor, EndValue } from "../../src/core/types.ts";

const DAY_MS = 86_400_000;
const SELF = "1".repeat(32);
const OTHER = "2".repeat(32);
const id = (no: number): string => no.toString(16).padStart(64, "0");

/** Definitions of a node whose wall clock stands at day 100. */
function definitions(records: readonly (readonly [string, StoredRecord])[] = []): {
  known: Definitions;
  now: { monoMs: number; wallMs: number };
} {
  const now = { monoMs: 0, wallMs: 100 * DAY_MS };
  return { known: new Definitions({ now, persist: () => undefined }, records), now };
}

const JOBS: Definition = {
  queue: id(1),
  name: "jobs",
  replicas: 3,
  leaseMs: 1_000,
  maxDeliveries: 2,
  maxLength: 9,
};

describe("a queue that is altered", () => {
  it("is so once it is known, and told on as it was declared", () => {
    const { known } = definitions();
    known.alter(JOBS.queue, { leaseMs: 5_000, maxDeliveries: 3, maxBytes: 7 });
    expect(known.get(JOBS.queue)).toBe(undefined);
    expect(known.add(JOBS)).toBe(true);
    const now = { ...JOBS, leaseMs: 5_000, maxDeliveries: 3, maxLength: undefined, maxBytes: 7 };
    expect(known.get(JOBS.queue)).toEqual(now);
    expect([known.all(), known.declared(JOBS.queue)]).toEqual([[JOBS], JOBS]);
    known.alter(JOBS.queue, undefined);
    expect(known.get(JOBS.queue)).toEqual(JOBS);
  });

  it("is gone when it is deleted", () => {
    const { known } = definitions();
    known.add(JOBS);
    known.alter(JOBS.queue, { leaseMs: 5_000, maxDeliveries: 3 });
    known.delete([[JOBS.queue, 99 * DAY_MS]]);
    expect([known.get(JOBS.queue), known.all()]).toEqual([undefined, []]);
  });
});

describe("what is remembered of deleted queues", () => {
  it("is told on as it is believed: nobody deletes in the future", () => {
    const { known, now } = definitions();
    expect(known.delete([[id(1), 200 * DAY_MS]])).toEqual([[id(1), now.wallMs]]);
    expect(known.delete([[id(1), 200 * DAY_MS]])).toEqual([]);
  });

  it("ends after 30 days, for who remembers as for who is told", () => {
    const { known, now } = definitions();
    expect(known.delete([[id(1), now.wallMs - 31 * DAY_MS]])).toEqual([]);
    known.delete([[id(2), now.wallMs - 29 * DAY_MS]]);
    expect(known.isDeleted(id(2))).toBe(true);
    now.wallMs += 2 * DAY_MS;
    expect([known.isDeleted(id(2)), known.deleted()]).toEqual([false, []]);
  });

  it("is the same everywhere however it is told, and of too many the newest", () => {
    const all = Array.from({ length: DEFINITIONS_MAX + 20 }, (_, no): Deleted => [
      id(no),
      99 * DAY_MS + (no >> 2),
    ]);
    const newest = new Set(all.slice(20).map(([queue]) => queue));
    fc.assert(
      fc.property(fc.array(fc.nat(all.length), { maxLength: 3 }), fc.boolean(), (cuts, reversed) => {
        const { known } = definitions();
        const told = reversed ? all.toReversed() : all;
        let from = 0;
        for (const to of [...cuts.toSorted((a, b) => a - b), all.length]) {
          known.delete(told.slice(from, to));
          from = to;
        }
        expect(new Set(known.deleted().map(([queue]) => queue))).toEqual(newest);
      }),
      { numRuns: 8 },
    );
  });
});

/** One store with its disk, and a peer that writes a lane on it. */
class Store {
  readonly disk = new Map<string, StoredRecord>();
  readonly done: QueueEffect[] = [];
  core: QueueCore = this.#open();
  /** Batches that reach the disk before the process is gone. */
  batches: number = Number.POSITIVE_INFINITY;
  #no = 0;

  #open(): QueueCore {
    return new QueueCore({
      peer: "self",
      store: SELF,
      boot: 1,
      random: new SeededRandom(1),
      now: NOW,
      tuning: { dropRecords: 2 },
      records: this.disk,
      laneIdOf,
    });
  }

  reopen(): void {
    this.core = this.#open();
    this.run();
  }

  /** All in one run, and what follows from it. */
  run(...messages: readonly Message[]): void {
    let inputs: QueueInput[] = messages.map((message) => ({ type: "message", from: "other", message }));
    while (this.batches > 0) {
      const effects = inputs.flatMap((input) => this.core.step(input, NOW));
      effects.push(...this.core.flush(NOW));
      if (effects.length === 0) return;
      this.batches -= 1;
      inputs = [];
      for (const effect of effects) {
        this.done.push(effect);
        if (effect.type === "persist") this.#write(keyText(effect.key), effect.record);
        else if ("message" in effect && effect.to === "self") {
          inputs.push({ type: "message", from: "self", message: effect.message });
        }
      }
    }
  }

  #write(key: string, record: StoredRecord | undefined): void {
    if (record === undefined) this.disk.delete(key);
    else this.disk.set(key, record);
  }

  greet(): void {
    this.core.step({ type: "link", peer: "other", up: true }, NOW);
    const lists = { definitions: [DEFINITION], consumes: [], echoes: [], deleted: [] };
    this.run({ type: "hello", store: OTHER, boot: 1, floor: undefined, ...lists });
  }

  ops(section: Partial<Section>): Message {
    this.#no += 1;
    const plain = { lane: LANE, descriptor: DESCRIPTOR, round: 0, pid: PID };
    const nothing = { accepts: [], learned: [], end: undefined, closed: undefined };
    const sections = [{ ...plain, ...nothing, ...section }];
    return { type: "ops", session: 1, no: this.#no, echoes: [], sections };
  }

  /** Of lanes, by their letter. */
  get left(): readonly string[] {
    return [...this.disk.keys()].filter((key) => /^[lnrbgd]\//.test(key));
  }
}

const NOW = { monoMs: 0, wallMs: 100 * DAY_MS };
const QUEUE = "9".repeat(64);
const DEFINITION: Definition = {
  queue: QUEUE,
  name: "jobs",
  replicas: 2,
  leaseMs: 30_000,
  maxDeliveries: 20,
};
const PID = makePid(OTHER, 1, "0".repeat(16));
const DESCRIPTOR: Descriptor = {
  queue: QUEUE,
  originPid: PID,
  laneNo: 0,
  replicas: [
    { peer: "other", store: OTHER },
    { peer: "self", store: SELF },
  ],
  voters: 3,
  consumersSeen: 0,
  wanted: 2,
};
const LANE = laneIdOf(DESCRIPTOR);
const DELETED: Message = { type: "deleted", queues: [[QUEUE, NOW.wallMs]] };
const CLOSED: EndValue = { n: 8_192, voids: [], closed: true };

describe("a store that keeps a lane of a deleted queue", () => {
  const body = new Uint8Array(4);
  const plain = {
    body,
    bodyHash: "h".repeat(32),
    notBeforeWallMs: 0,
    enqueuedWallMs: 0,
    attributes: undefined,
  };
  const accepts = Array.from({ length: 9 }, (_, seq) => ({
    seq,
    step: 0,
    value: enqueued(plain, 1_000),
    body,
  }));

  it("drops it whole, whenever its process dies meanwhile and whatever it remembers then", () => {
    for (let batches = 0; batches < 8; batches += 1) {
      for (const remembers of [true, false]) {
        const store = new Store();
        store.greet();
        store.run(store.ops({ accepts }));
        expect(store.left.length).toBeGreaterThan(9);
        store.batches = batches;
        store.run(DELETED);
        store.batches = Number.POSITIVE_INFINITY;
        // A lane that is not touched yet is a lane like any other.
        const isBegun = batches > 0;
        if (!remembers) store.disk.delete(`x/${QUEUE}`);
        store.reopen();
        expect(store.left.length === 0, `${batches} ${remembers}`).toBe(isBegun);
      }
    }
  });

  // A chunk that its neighbours made superfluous in the same run had a record still.
  it.each([["deleted", DELETED] as const, ["closed and forgotten", undefined] as const])(
    "leaves no record behind when it is %s as it learns",
    (_, deleted) => {
      const store = new Store();
      store.greet();
      store.run(store.ops({ learned: [[0, 4_096]] }));
      store.run(store.ops({ learned: [[4_096, 8_000]] }));
      store.run(store.ops({ learned: [[8_000, 8_192]] }), deleted ?? store.ops({ closed: CLOSED }));
      if (deleted === undefined) store.run({ type: "floor", floor: { boot: 1, laneNo: 1 } });
      expect(store.left).toEqual([]);
      store.reopen();
    },
  );

  it("tells whoever declares that queue in the same moment that it is deleted", () => {
    const store = new Store();
    store.greet();
    store.run(DELETED);
    const declared = store.core.step({ type: "declare", definition: DEFINITION }, NOW);
    expect(declared).toEqual([{ type: "deleted", atWallMs: NOW.wallMs, definition: DEFINITION }]);
    expect(store.core.definitions.all()).toEqual([]);
  });
});
