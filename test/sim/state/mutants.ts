import type { StateCore } from "../../../packages/mesh/src/core/state/state-core.ts";
import { loadMutated } from "../mutated.ts";
import { chaos, longAway, lowBoot, restartsForWeeks } from "./scenarios.ts";
import type { Scenario } from "./scenarios.ts";
import type { Violation } from "./world.ts";

/** One rule removed from the source: a check that does not notice is worth nothing. */
interface Mutant {
  readonly id: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly scenario: Scenario;
  readonly rule: Violation["rule"];
  readonly seeds: number;
}

export const MUTANTS: readonly Mutant[] = [
  {
    id: "a push ignores from",
    file: "own-entries.ts",
    find: 'if (!whole && delta.from > version) return "gap";',
    replace: "",
    scenario: chaos,
    rule: "CONTENT",
    seeds: 40,
  },
  {
    id: "RESET to a lower version",
    file: "own-entries.ts",
    find: 'if (order <= 0) return "old";',
    replace: 'if (order <= 0 && !whole) return "old";',
    scenario: chaos,
    rule: "BACK",
    seeds: 40,
  },
  {
    id: "forgotten deletions are left out of a delta",
    file: "own-entries.ts",
    find: "const whole = version === 0 || version < floor;",
    replace: "const whole = version === 0;",
    scenario: chaos,
    rule: "CONTENT",
    seeds: 40,
  },
  {
    id: "RESET without marks of deletion",
    file: "own-entries.ts",
    find: "const entries = whole ? all : all.filter",
    replace: "const entries = whole ? all.filter(isLive) : all.filter",
    scenario: chaos,
    rule: "CONTENT",
    seeds: 40,
  },
  {
    id: "what others say of us is never refuted",
    file: "own-exchange.ts",
    find: 'this.#context.effect({ type: "raiseBoot", above: boot });',
    replace: "if (boot < 0) this.forget(this.#context.self);",
    scenario: lowBoot,
    rule: "CONVERGES",
    seeds: 10,
  },
  {
    id: "a clock without bound",
    file: "shared-entries.ts",
    find: 'if (entry.l > meshMs + SKEW_MS_MAX) return "skew";',
    replace: "",
    scenario: chaos,
    rule: "CLOCK",
    seeds: 40,
  },
  {
    id: "the last to arrive wins",
    file: "shared-entries.ts",
    find: "compareStamps(entry, before) <= 0",
    replace: "compareStamps(entry, before) === 0",
    scenario: chaos,
    rule: "BACK",
    seeds: 40,
  },
  {
    id: "signatures are not checked",
    file: "shared-entries.ts",
    find: 'if (!this.#init.ports.verify(entry)) return "forged";',
    replace: "",
    scenario: chaos,
    rule: "FORGED",
    seeds: 40,
  },
  {
    id: "age kept local",
    file: "shared-entries.ts",
    find: "if (meshMs - entry.l > TOMBSTONE_MS) this.remove(entry.key, nowMs);",
    replace: "if (nowMs - (held.since ??= nowMs) > TOMBSTONE_MS) this.remove(entry.key, nowMs);",
    scenario: restartsForWeeks,
    rule: "FORGETS",
    seeds: 5,
  },
  {
    id: "who was away for long offers what it holds",
    file: "absence.ts",
    find: "if (this.#context.meshMs - this.#agreedAtMs <= AWAY_MS) return;",
    replace: "if (this.#context.meshMs > 0) return;",
    scenario: longAway,
    rule: "UNDEAD",
    seeds: 10,
  },
];

export async function loadMutant({ id, file, find, replace }: Mutant): Promise<typeof StateCore> {
  const edits = [{ file: `state/${file}`, find, replace }];
  const loaded = await loadMutated({ of: "mesh", name: id, edits, module: "state/state-core.ts" });
  return loaded["StateCore"] as typeof StateCore;
}
