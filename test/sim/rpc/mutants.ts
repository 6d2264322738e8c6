import type { Gather } from "../../../packages/rpc/src/core/gather.ts";
import { loadMutated } from "../mutated.ts";

/** One rule removed from the source: a check that does not notice is worth nothing. */
export interface Mutant {
  readonly what: string;
  readonly find: string;
  readonly replace: string;
  /** Seeds within which it has to be caught. */
  readonly seeds: number;
}

export const MUTANTS: readonly Mutant[] = [
  {
    what: "what a child owes is forgotten when it breaks",
    find: "return [...this.#assign([...owed], now), ...this.#report(now)];",
    replace: "return this.#report(now);",
    seeds: 20,
  },
  {
    what: "whom a child has told of is asked again",
    find: "for (const peer of named) owed.delete(peer);",
    replace: "",
    seeds: 40,
  },
  {
    what: "a child that broke is asked again, and failed",
    find: "if (owed.delete(child)) this.#failed.push",
    replace: "if (owed.has(child)) this.#failed.push",
    seeds: 20,
  },
  {
    what: "an answer that cannot be counted any more is kept in the state",
    find: "this.#answered.push(...answered);",
    replace: "this.#answered.push(...answered.slice(1));",
    seeds: 20,
  },
  {
    what: "what is told of is told again",
    find: "    this.#answered = [];\n",
    replace: "",
    seeds: 20,
  },
  {
    what: "a node ends while children owe it",
    find: "if (!this.#ownOpen && this.#open.size === 0) return this.#finish();",
    replace: "if (!this.#ownOpen) return this.#finish();",
    seeds: 20,
  },
];

/** A core with the change. Throws if it does not fit the source exactly once. */
export async function loadMutant({ what, find, replace }: Mutant): Promise<typeof Gather> {
  const edits = [{ file: "gather.ts", find, replace }];
  const loaded = await loadMutated({ of: "rpc", name: what, edits, module: "gather.ts" });
  return loaded["Gather"] as typeof Gather;
}
