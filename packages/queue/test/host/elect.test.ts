import type { SharedEntry } from "@klatsch/mesh";
import { afterEach, expect, it, vi } from "vitest";

import { elect } from "../../src/host/elect.ts";
import type { ElectPort } from "../../src/host/elect.ts";
import type { Queue } from "../../src/types.ts";

type Shared = ElectPort["shared"];
type Watcher = Parameters<Shared["watch"]>[1];

afterEach(() => void vi.useRealTimers());

/** What elections use of what all members share. */
class Board {
  readonly shared: Shared;
  looks = 0;
  #watchers: Watcher[] = [];
  #entry: SharedEntry | undefined;

  constructor() {
    const shared: Pick<Shared, "get" | "entries" | "watch" | "set"> = {
      get: () => {
        this.looks += 1;
        return this.#entry?.value;
      },
      entries: () => (this.#entry === undefined ? [] : [this.#entry]),
      watch: (_filter, watcher) => {
        this.#watchers.push(watcher);
        return () => (this.#watchers = this.#watchers.filter((one) => one !== watcher));
      },
      set: (_key, value) => {
        const { writtenWallMs = 0 } = this.#entry ?? {};
        return Promise.resolve(this.say(value as string, Math.max(writtenWallMs, Date.now())));
      },
    };
    this.shared = shared as Shared;
  }

  /** Another member's, or this one's own. */
  say(value: string, writtenWallMs: number): void {
    this.#entry = { key: "", value, writer: "", writtenWallMs };
    for (const watcher of [...this.#watchers]) watcher(this.#entry);
  }
}

/** A queue whose one message is taken at once, each time in the next epoch. */
function queueWith(epochs: { next: number }): Queue {
  const take = (): Promise<unknown> => {
    epochs.next += 1;
    const { signal } = new AbortController();
    return Promise.resolve({ epoch: epochs.next, signal, release: () => Promise.resolve() });
  };
  const queue = { take, enqueue: () => Promise.resolve() };
  return queue as unknown as Queue;
}

it("begins a term only once as many have gathered as keep it, and none if one is known by then", async () => {
  const gathered = Promise.withResolvers<void>();
  const declared: string[] = [];
  const board = new Board();
  const port: ElectPort = {
    shared: board.shared,
    gather: () => gathered.promise,
    declare: (name) => {
      declared.push(name);
      throw new Error("far enough");
    },
  };
  const elected = elect(port, "chief", 1_000, undefined);
  board.say("a".repeat(28), 1);
  gathered.resolve();
  await expect(elected).rejects.toThrow("far enough");
  expect(declared).toEqual([`~elect/chief/${"a".repeat(28)}`]);
});

it("waits for no more nodes once a term is known", async () => {
  const board = new Board();
  const port: ElectPort = {
    shared: board.shared,
    gather: async (isBegun) => {
      expect(isBegun()).toBe(false);
      board.say("a".repeat(28), 1);
      await Promise.resolve();
      expect(isBegun()).toBe(true);
    },
    declare: () => expect.fail("far enough"),
  };
  await expect(elect(port, "chief", 1_000, undefined)).rejects.toThrow("far enough");
});

it("begins none if nobody wants it any more", async () => {
  const never: ElectPort = {
    shared: new Board().shared,
    gather: () => Promise.reject(new Error("nobody wants it")),
    declare: () => expect.fail("a term has begun"),
  };
  await expect(elect(never, "chief", 1_000, undefined)).rejects.toThrow("nobody wants it");
});

it("gives greater tokens in the term that was written later, whatever its name and epochs, and begins another after one of the same instant", async () => {
  const board = new Board();
  const epochs = { next: 70 };
  const port: ElectPort = {
    shared: board.shared,
    gather: () => Promise.resolve(),
    declare: () => queueWith(epochs),
  };
  board.say("f".repeat(28), 1_000);
  const first = await elect(port, "chief", 1_000, undefined);
  epochs.next = 0;
  board.say("a".repeat(28), 1_001);
  expect(first.signal.aborted).toBe(true);
  const second = await elect(port, "chief", 1_000, undefined);
  expect(second.token > first.token).toBe(true);

  epochs.next = 0;
  board.say("b".repeat(28), 1_001);
  expect(second.signal.aborted).toBe(true);
  const third = await elect(port, "chief", 1_000, undefined);
  expect(board.shared.get("")).not.toBe("b".repeat(28));
  expect(third.token > second.token).toBe(true);
});

it("begins one term after two of the same instant, once the clock has passed that", async () => {
  vi.useFakeTimers({ now: 1_000, toFake: ["Date"] });
  const board = new Board();
  const begun: string[] = [];
  const port: ElectPort = {
    shared: board.shared,
    gather: () => Promise.resolve(),
    declare: (name) => ({
      ...queueWith({ next: 0 }),
      enqueue: async () => {
        begun.push(name);
        return { id: "", duplicate: false };
      },
    }),
  };
  board.say("a".repeat(28), 6_000);
  const first = await elect(port, "chief", 1_000, undefined);
  board.say("b".repeat(28), 6_000);
  const electing = elect(port, "chief", 1_000, undefined);
  await vi.waitUntil(() => board.looks > 4, 20_000);
  vi.setSystemTime(6_001);
  const { token } = await electing;
  expect([begun.length, token > first.token]).toEqual([1, true]);
});
