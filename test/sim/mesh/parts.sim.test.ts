import { randomBelow, SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";
import { RELAY_LIMITS, RelayBook } from "../../../packages/mesh/src/core/routing/relay-book.ts";
import { Revocations } from "../../../packages/mesh/src/core/trust/revocations.ts";
import { RENEWABLE_MS } from "../../../packages/mesh/src/core/trust/statements.ts";
import type { Endorsed, Revocation } from "../../../packages/mesh/src/core/trust/statements.ts";
import { loadMutated } from "../mutated.ts";

const NODES = 8;
const STEPS = 400;
const STEP_MS = 60 * 60 * 1_000;

/** What went wrong. */
type Run<Core> = (core: Core, seed: number) => readonly string[];

/**
 * Nodes tell each other of revocations while messages are lost, halves are cut off, and some start again with what was
 * on disk. Once known, a revocation stays; in the end all know all.
 */
const revoke: Run<typeof Revocations> = (RevocationsClass, seed) => {
  const random = new SeededRandom(seed);
  const wrong = new Set<string>();
  let sets = Array.from({ length: NODES }, () => new RevocationsClass());
  const known = sets.map(() => new Set<string>());
  const told: string[] = [];
  let [wallMs, cut] = [0, NODES];
  const take = (node: number, entries: readonly Endorsed<Revocation>[]): void => {
    for (const entry of entries) {
      sets[node]?.add(entry);
      known[node]?.add(entry.statement.body.subject);
    }
  };
  const exchange = (a: number, b: number): void => {
    if (sets[a]?.digest === sets[b]?.digest) return;
    const [ours, theirs] = [sets[a]?.list() ?? [], sets[b]?.list() ?? []];
    if (randomBelow(random, 3) > 0) take(b, ours);
    if (randomBelow(random, 3) > 0) take(a, theirs);
  };
  const check = (): void => {
    for (const [node, subjects] of known.entries())
      for (const subject of subjects)
        if (sets[node]?.has(subject) === false) wrong.add(`a revocation of ${subject} is undone`);
  };
  for (let step = 0; step < STEPS; step += 1) {
    wallMs += STEP_MS;
    if (randomBelow(random, 20) === 0) cut = 1 + randomBelow(random, NODES);
    if (randomBelow(random, 8) === 0) {
      const subject = `p${told.length}`;
      told.push(subject);
      const body = { mesh: "m", subject, atWallMs: wallMs };
      const id = (told.length * 7_919).toString(16).padStart(64, "0");
      const statement = { body, signer: "root", id, envelope: "" };
      take(randomBelow(random, NODES), [{ statement, delegation: undefined }]);
    }
    if (randomBelow(random, 10) === 0) {
      const node = randomBelow(random, NODES);
      const again = new RevocationsClass();
      for (const entry of sets[node]?.list() ?? []) again.add(entry);
      again.prune(wallMs);
      sets = sets.with(node, again);
    }
    const [a, b] = [randomBelow(random, NODES), randomBelow(random, NODES)];
    if (a < cut === b < cut) exchange(a, b);
    check();
  }
  for (let round = 0; round < 20 * NODES; round += 1) exchange(round % NODES, randomBelow(random, NODES));
  for (const set of sets) if (!told.every((subject) => set.has(subject))) wrong.add("not all know all");
  for (const set of sets) set.prune(wallMs + RENEWABLE_MS);
  if (sets.some(({ size }) => size > 0)) wrong.add("what forbids nothing any more is kept");
  return [...wrong];
};

/**
 * Tunnels are asked for along routes of any kind and end again, for any reason. Whatever a source asks for, nothing
 * passes a node twice, and nobody carries more than its bounds.
 */
const carry: Run<typeof RelayBook> = (RelayBookClass, seed) => {
  const random = new SeededRandom(seed);
  const wrong = new Set<string>();
  const names = Array.from({ length: NODES }, (_, index) => `n${index}`);
  const limits = { tunnelsMax: 12, tunnelsPerSourceMax: 5 };
  const books = new Map(
    names.map((peer) => {
      const node = { cloud: "c", gateway: false, reaches: undefined, links: "all" } as const;
      const self = () => ({ ...node, peer, router: true, overloaded: false });
      return [peer, new RelayBookClass(limits, { self, isLinked: () => true, cloudOf: () => "c" })];
    }),
  );
  const carried = new Map(names.map((name) => [name, [] as string[]]));
  const open: { readonly source: string; readonly relays: readonly string[] }[] = [];
  for (let step = 0; step < STEPS; step += 1) {
    const route = Array.from(
      { length: 2 + randomBelow(random, 6) },
      () => names[randomBelow(random, NODES)]!,
    );
    const relays: string[] = [];
    const source = route[0]!;
    for (let index = 1; index < route.length; index += 1) {
      const verdict = books.get(route[index]!)?.judge({ route, index }, route[index - 1]!);
      if (verdict?.type !== "carry") break;
      relays.push(route[index]!);
    }
    if (new Set([source, ...relays]).size <= relays.length) wrong.add("a tunnel passes a node twice");
    for (const relay of relays) carried.get(relay)?.push(source);
    open.push({ source, relays });
    if (randomBelow(random, 3) === 0) {
      const [ended] = open.splice(randomBelow(random, open.length), 1);
      for (const relay of ended?.relays ?? []) {
        books.get(relay)?.release(ended?.source ?? "");
        carried.get(relay)?.splice(carried.get(relay)?.indexOf(ended?.source ?? "") ?? 0, 1);
      }
    }
    for (const [name, sources] of carried) {
      if (books.get(name)?.count !== sources.length) wrong.add("a relay has miscounted");
      if (sources.length > limits.tunnelsMax) wrong.add("a relay carries more than it may");
      if (sources.filter((one) => one === source).length > limits.tunnelsPerSourceMax)
        wrong.add("a relay carries more of one source than it may");
    }
  }
  return [...wrong];
};

const SEEDS = [1, 2, 3, 4, 5];

describe("parts of a mesh among random faults", () => {
  it.each(SEEDS)("never undo a revocation, and spread it, seed %i", (seed) => {
    expect(revoke(Revocations, seed)).toEqual([]);
  });

  it.each(SEEDS)("never carry a tunnel in a circle, nor more than they may, seed %i", (seed) => {
    expect(carry(RelayBook, seed)).toEqual([]);
    expect(RELAY_LIMITS).toEqual({ tunnelsMax: 256, tunnelsPerSourceMax: 32 });
  });

  it.each([
    [
      "the last revocation wins",
      "this.#entries.set(id, entry);",
      "this.#entries.clear(); this.#subjects.clear(); this.#entries.set(id, entry);",
    ],
    ["a revocation is forgotten with time", "revocation.atWallMs + RENEWABLE_MS", "revocation.atWallMs + 1"],
    [
      "a revocation is kept for ever",
      "if (kept.length === this.#entries.size) return;",
      "if (kept.length >= 0) return;",
    ],
  ])("%s: is caught", async (what, find, replace) => {
    const file = "trust/revocations.ts";
    const edits = [{ file, find, replace }];
    const { Revocations: mutant } = await loadMutated({ of: "mesh", name: what, edits, module: file });
    expect(SEEDS.flatMap((seed) => revoke(mutant as typeof Revocations, seed))).not.toEqual([]);
  });

  it.each([
    ["a route may pass a node twice", " && new Set(route).size === route.length", ""],
    ["a relay has no bound", "this.#count >= this.#limits.tunnelsMax ||", ""],
    ["a source has no bound", " || ofSource >= this.#limits.tunnelsPerSourceMax", ""],
    ["a tunnel that ended still counts", "    this.#count -= 1;\n", ""],
  ])("%s: is caught", async (what, find, replace) => {
    const file = "routing/relay-book.ts";
    const edits = [{ file, find, replace }];
    const { RelayBook: mutant } = await loadMutated({ of: "mesh", name: what, edits, module: file });
    expect(SEEDS.flatMap((seed) => carry(mutant as typeof RelayBook, seed))).not.toEqual([]);
  });
});
