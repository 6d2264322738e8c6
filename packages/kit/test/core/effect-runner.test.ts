import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EffectRunner } from "@klatsch/kit/core";
import type { Core, Instant } from "@klatsch/kit/core";

type Effect = "now" | "persist" | "after";
interface Numbered {
  readonly phase: Effect;
  readonly no: number;
}

/** A core that gives back the effects it is asked for and remembers what it saw. */
class ScriptedCore implements Core<readonly Numbered[] | "tick" | "throw", Numbered> {
  readonly seen: (readonly [input: unknown, atMs: number])[] = [];
  flushEffects: Numbered[] = [];
  deadline: number | undefined;

  step(input: readonly Numbered[] | "tick" | "throw", now: Instant): readonly Numbered[] {
    this.seen.push([input, now.monoMs]);
    if (input === "throw") throw new Error("core broke an invariant");
    if (input === "tick") this.deadline = undefined;
    return input === "tick" ? [] : input;
  }

  flush(): readonly Numbered[] {
    return this.flushEffects.splice(0);
  }

  nextDeadline(): number | undefined {
    return this.deadline;
  }
}

/** A runner whose turns, syncs and timers happen when the test says so. */
class Bench {
  readonly core = new ScriptedCore();
  readonly log: string[] = [];
  readonly failures: unknown[] = [];
  readonly turns: (() => void)[] = [];
  readonly syncs: ((error?: unknown) => void)[] = [];
  readonly timers = new Map<() => void, number>();
  onPerform: (effect: Numbered) => void = () => {};
  nowMs = 0;
  #batchNo = 0;
  readonly runner: EffectRunner<readonly Numbered[] | "tick" | "throw", Numbered>;

  constructor(deadline?: number, batchWeightMax = 100) {
    this.core.deadline = deadline;
    this.runner = new EffectRunner({
      core: this.core,
      clock: { now: () => ({ monoMs: this.nowMs, wallMs: 0 }) },
      tick: "tick",
      phase: (effect) => effect.phase,
      perform: (effect, batchNo) => {
        this.log.push(`${effect.phase} ${effect.no} @${batchNo}`);
        this.onPerform(effect);
      },
      commit: (records, done) => {
        this.log.push(`commit ${records.map(({ no }) => no).join()}`);
        this.syncs.push((error) => {
          if (error === undefined) this.#batchNo += 1;
          this.log.push("synced");
          done(error, this.#batchNo);
        });
      },
      batchWeightMax,
      soon: (task) => this.turns.push(task),
      at: (monoMs, task) => {
        this.timers.set(task, monoMs);
        return () => this.timers.delete(task);
      },
      onFailed: (error) => this.failures.push(error),
    });
  }

  enter(...effects: readonly Numbered[]): this {
    this.runner.enter(effects);
    return this;
  }

  turn(): this {
    for (const task of this.turns.splice(0)) task();
    return this;
  }

  sync(error?: unknown): this {
    this.syncs.shift()?.(error);
    return this;
  }

  takeLog(): string[] {
    return this.log.splice(0);
  }
}

const now = (no: number): Numbered => ({ phase: "now", no });
const persist = (no: number): Numbered => ({ phase: "persist", no });
const after = (no: number): Numbered => ({ phase: "after", no });

describe("EffectRunner", () => {
  it("lets nothing marked `after` leave before its records are synced", () => {
    const bench = new Bench().enter(after(1), persist(2), now(3)).turn();
    expect(bench.takeLog()).toEqual(["now 3 @0", "commit 2"]);
    bench.sync();
    expect(bench.takeLog()).toEqual(["synced", "after 1 @1"]);
  });

  it("leaves what takes too long for one turn to the next ones, in order", () => {
    const bench = new Bench(undefined, Number.POSITIVE_INFINITY);
    bench.onPerform = () => (bench.nowMs += 1);
    for (let no = 0; no < 60; no += 1) bench.enter(now(no));
    bench.turn();
    expect(bench.core.seen.length).toBe(32);
    bench.enter(now(60)).turn();
    expect(bench.core.seen.length).toBe(61);
    expect(bench.takeLog()).toEqual(Array.from({ length: 61 }, (_, no) => `now ${no} @0`));
    expect(bench.turns).toEqual([]);
  });

  it("leaves no more than 65,536 inputs to later turns", () => {
    const bench = new Bench(undefined, Number.POSITIVE_INFINITY);
    bench.onPerform = () => (bench.nowMs += 1);
    for (let no = 0; no < 65_536 + 160; no += 1) bench.enter(now(no));
    bench.turn();
    expect(bench.core.seen.length).toBe(160);
  });

  it("steps all inputs of a turn, flushes once and commits once", () => {
    const bench = new Bench().enter(persist(1)).enter(persist(2));
    bench.core.flushEffects = [persist(3), now(4)];
    bench.turn();
    expect(bench.takeLog()).toEqual(["now 4 @0", "commit 1,2,3"]);
    expect(bench.turns).toHaveLength(0);
  });

  it("steps inputs that arrive during a commit at once and commits them next", () => {
    const bench = new Bench().enter(persist(1), after(2)).turn();
    bench.enter(persist(3), now(4), after(5)).turn().enter(persist(6), after(7)).turn();
    expect(bench.takeLog()).toEqual(["commit 1", "now 4 @0"]);
    bench.sync();
    expect(bench.takeLog()).toEqual(["synced", "after 2 @1", "commit 3,6"]);
    bench.sync();
    expect(bench.takeLog()).toEqual(["synced", "after 5 @2", "after 7 @2"]);
  });

  it("holds back an `after` without a record of its own while an earlier commit runs", () => {
    const bench = new Bench().enter(persist(1)).turn().enter(after(2)).turn();
    expect(bench.takeLog()).toEqual(["commit 1"]);
    expect(bench.sync().takeLog()).toEqual(["synced", "after 2 @1"]);
  });

  it("performs an `after` at once when nothing was ever persisted", () => {
    expect(new Bench().enter(after(1)).turn().takeLog()).toEqual(["after 1 @0"]);
  });

  it("always keeps the order of entering, and never reveals what is not synced", () => {
    const effects = fc.array(fc.constantFrom<Effect>("now", "persist", "after"), { maxLength: 4 });
    const script = fc.array(fc.oneof(effects, fc.constantFrom("turn" as const, "sync" as const)), {
      maxLength: 60,
    });
    fc.assert(
      fc.property(script, (steps) => {
        const bench = new Bench();
        const synced = new Set<number>();
        const due = new Map<number, readonly number[]>(); // `after` → records it may not leave before
        const persisted: number[] = [];
        let no = 0;
        bench.onPerform = (effect) => {
          if (effect.phase === "after")
            for (const record of due.get(effect.no) ?? []) expect(synced).toContain(record);
        };
        const turnThenSync = (): void => {
          const commit = bench.log.findLast((line) => line.startsWith("commit"));
          if (bench.syncs.length > 0)
            for (const record of commit?.slice(7).split(",") ?? []) synced.add(Number(record));
          bench.sync();
        };
        for (const step of steps) {
          if (step === "turn") bench.turn();
          else if (step === "sync") turnThenSync();
          else {
            const numbered = step.map((phase) => ({ phase, no: (no += 1) }));
            persisted.push(...numbered.filter(({ phase }) => phase === "persist").map((effect) => effect.no));
            for (const effect of numbered) if (effect.phase === "after") due.set(effect.no, [...persisted]);
            bench.enter(...numbered);
          }
        }
        bench.turn();
        while (bench.syncs.length > 0) turnThenSync();
        const left = bench.log
          .filter((line) => line.startsWith("after"))
          .map((line) => Number(line.split(" ")[1]));
        expect(left).toEqual([...due.keys()]);
        expect([...synced]).toEqual(persisted);
      }),
    );
  });

  it("stops when a commit fails: nothing is answered, nothing taken any more", () => {
    const bench = new Bench().enter(persist(1), after(2)).turn().enter(persist(3), after(4)).turn();
    bench.sync(new Error("disk on fire"));
    bench.enter(now(5)).turn();
    expect(bench.takeLog()).toEqual(["commit 1", "synced"]);
    expect(bench.failures).toMatchObject([{ message: "disk on fire" }]);
  });

  it("stops when the core throws, before anything of that turn is committed", () => {
    const bench = new Bench().enter(persist(1));
    bench.runner.enter("throw");
    bench.turn();
    expect(bench.takeLog()).toEqual([]);
    expect(bench.failures).toMatchObject([{ message: "core broke an invariant" }]);
  });

  it("performs nothing after `stop`, even from within an effect", () => {
    const bench = new Bench().enter(persist(1), after(2), after(3)).turn();
    bench.onPerform = () => bench.runner.stop();
    bench.sync();
    expect(bench.takeLog()).toEqual(["commit 1", "synced", "after 2 @1"]);
    const other = new Bench().enter(now(1), now(2), persist(3));
    other.onPerform = () => other.runner.stop();
    expect(other.turn().takeLog()).toEqual(["now 1 @0"]);
    expect(other.timers.size).toBe(0);
  });

  it("keeps one timer for the next deadline and turns it into a tick", () => {
    const bench = new Bench(100);
    expect([...bench.timers.values()]).toEqual([100]);
    bench.core.deadline = 50;
    bench.enter().turn();
    expect([...bench.timers.values()]).toEqual([50]);
    const [[fire] = [() => {}]] = [...bench.timers.keys()].map((task) => [task]);
    bench.nowMs = 51;
    fire();
    bench.turn();
    expect(bench.core.seen.at(-1)).toEqual(["tick", 51]);
  });

  it("says when it is idle, at once or after the last sync", () => {
    const bench = new Bench();
    const idle: string[] = [];
    bench.runner.whenIdle(() => idle.push("first"));
    expect(idle).toEqual(["first"]);
    bench.enter(persist(1), after(2));
    bench.runner.whenIdle(() => idle.push(bench.takeLog().join()));
    bench.turn().sync();
    expect(idle).toEqual(["first", "commit 1,synced,after 2 @1"]);
  });

  it("lets inputs wait while the next batch is full and the disk is busy", () => {
    const bench = new Bench(undefined, 2);
    const persist = (no: number): Numbered => ({ phase: "persist", no });
    bench.enter(persist(1)).turn();
    for (const no of [2, 3, 4, 5]) bench.enter(persist(no));
    bench.turn();
    expect(bench.core.seen.length).toBe(3);
    bench.syncs.shift()?.();
    bench.turn();
    bench.syncs.shift()?.();
    bench.turn();
    expect(bench.log.filter((line) => line.startsWith("commit"))).toEqual([
      "commit 1",
      "commit 2,3",
      "commit 4,5",
    ]);
  });
});
