import { rename } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SeededRandom, randomBelow } from "@klatsch/kit/core";
import type { JournalStore } from "../../src/store/journal-store.ts";
import { openJournalStore } from "../../src/store/open.ts";
import type { StoreOperation } from "../../src/store.ts";
import { MemoryLevel } from "../support/memory-level.ts";
import { applied, contentOf, keyText, sorted, TINY_LIMITS, withDirectory } from "../support/store-kit.ts";

type Content = ReadonlyMap<string, string>;
type Step =
  | {
      readonly type: "commits";
      readonly commits: readonly (readonly StoreOperation[])[];
      readonly relaxed: boolean;
    }
  | { readonly type: "settle" | "read" | "reopen" }
  | { readonly type: "turns"; readonly count: number }
  | { readonly type: "crash"; readonly keep: number };

const keys = fc.oneof(
  fc.constantFrom("a", "a/1", "a/2", "b"),
  fc.nat(19).map((no) => `c/${no}`),
  fc.nat(5).map((no) => `d/0000000a/0000000${no}`), // The same rows as below, named by their text.
  fc.nat(5).map((seq) => ({ family: 0x64, slot: 10, seq })),
);
const operation: fc.Arbitrary<StoreOperation> = fc.record({
  key: keys,
  value: fc.option(
    fc.string({ maxLength: 30 }).map((text) => Buffer.from(text)),
    { nil: undefined },
  ),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      type: fc.constant("commits" as const),
      relaxed: fc.boolean(),
      commits: fc.array(fc.array(operation, { maxLength: 3 }), { minLength: 1, maxLength: 8 }),
    }),
  },
  { weight: 8, arbitrary: fc.record({ type: fc.constant("turns" as const), count: fc.nat(12) }) },
  { weight: 2, arbitrary: fc.constant({ type: "settle" as const }) },
  { weight: 1, arbitrary: fc.constant({ type: "read" as const }) },
  { weight: 1, arbitrary: fc.constant({ type: "reopen" as const }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("crash" as const), keep: fc.nat(6) }) },
);

/** A store next to the list of contents it went through, one for each commit. */
class Modelled {
  readonly #level = new MemoryLevel();
  #directory: string;
  #store: JournalStore | undefined;
  #opens = 0;
  /** Content after 0, 1, 2, … commits since the last open. */
  #history: Content[] = [new Map()];
  #acknowledged = 0;
  /** How many of them a power cut leaves. */
  #synced = 0;
  /** Every key a commit ever named: the others are fresh. */
  readonly #written = new Set<string>();
  #pending: Promise<void>[] = [];

  constructor(directory: string, seed: number) {
    this.#directory = directory;
    const random = new SeededRandom(seed);
    // Syncs take longer than plain writes, as on a disk, so that slices end while commits wait.
    this.#level.beforeWrite = async (_operations, sync) => {
      for (let turns = randomBelow(random, sync ? 20 : 5); turns > 0; turns -= 1) await Promise.resolve();
    };
  }

  get store(): JournalStore {
    if (this.#store === undefined) throw new Error("not open");
    return this.#store;
  }

  get current(): Content {
    return this.#history.at(-1) ?? new Map();
  }

  async open(): Promise<void> {
    this.#store = await openJournalStore(this.#directory, {
      limits: TINY_LIMITS,
      openDisk: this.#level.open,
    });
    this.#opens += 1;
    expect(this.#store.boot).toBe(this.#opens);
  }

  commit(asked: readonly StoreOperation[], relaxed: boolean): void {
    const operations = asked.map((each) => ({ ...each, fresh: !this.#written.has(keyText(each)) }));
    for (const each of operations) this.#written.add(keyText(each));
    this.#history.push(applied(this.current, operations));
    const count = this.#history.length - 1;
    const pending = new Promise<void>((resolve, reject) => {
      const done = (error: Error | undefined, batchNo: number): void => {
        if (error !== undefined) return reject(error);
        expect(this.#acknowledged).toBe(count - 1);
        expect(batchNo).toBe(this.store.batchNo);
        this.#acknowledged = count;
        if (!relaxed) this.#synced = count;
        resolve();
      };
      this.store.commitWith(operations, done, relaxed);
    });
    this.#pending.push(pending);
  }

  async settle(): Promise<void> {
    await Promise.all(this.#pending.splice(0));
  }

  async read(): Promise<void> {
    const { store, current } = this;
    expect(await contentOf(store)).toEqual(sorted(current));
    expect(await contentOf(store, "a/")).toEqual(sorted(current).filter(([key]) => key.startsWith("a/")));
    for (const key of ["a", "a/1", "b", "c"]) {
      const value = await store.get(key);
      expect(value && Buffer.from(value).toString()).toBe(current.get(key));
      const recent = store.peek(key);
      if (recent !== undefined) expect(Buffer.from(recent).toString()).toBe(current.get(key));
    }
  }

  async reopen(): Promise<void> {
    await this.store.close();
    this.#pending = [];
    this.#restart(this.current);
    await this.open();
    await this.read();
  }

  /** Whatever was acknowledged must be there, nothing but a prefix of the commits may be. */
  async crash(keep: number): Promise<void> {
    this.#level.crash(keep);
    this.#pending = [];
    const possible = this.#history.slice(this.#synced);
    // To this process the lost store still has the directory, so the next one finds it elsewhere.
    await rename(this.#directory, `${this.#directory}+`);
    this.#directory += "+";
    await this.open();
    const found = new Map(await contentOf(this.store));
    const match = possible.find((content) => sameContent(content, found));
    expect(match, `found ${JSON.stringify([...found])}`).toBeDefined();
    this.#restart(match ?? found);
    await this.read();
  }

  #restart(content: Content): void {
    this.#history = [content];
    this.#acknowledged = 0;
    this.#synced = 0;
  }
}

function sameContent(a: Content, b: Content): boolean {
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

async function perform(model: Modelled, next: Step): Promise<void> {
  switch (next.type) {
    case "commits":
      for (const operations of next.commits) model.commit(operations, next.relaxed);
      return;
    case "turns":
      // Lets the disk get on, but not to the end.
      for (let turn = 0; turn < next.count; turn += 1) await Promise.resolve();
      return;
    case "settle":
      return await model.settle();
    case "read":
      return await model.read();
    case "reopen":
      return await model.reopen();
    case "crash":
      return await model.crash(next.keep);
  }
}

describe("a store", () => {
  it("always holds what a plain map holds, across reopens and power cuts", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), fc.nat(), (steps, seed) =>
        withDirectory(async (directory) => {
          const model = new Modelled(directory, seed);
          await model.open();
          for (const next of steps) await perform(model, next);
          await model.settle();
          await model.read();
          await model.store.close();
        }),
      ),
      { numRuns: 600, interruptAfterTimeLimit: 20_000 },
    );
  });
});
