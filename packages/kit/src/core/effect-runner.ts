import type { Clock, Instant } from "./clock.ts";

/**
 * A protocol core: decides, and does nothing else. `step` and `flush` may not block, throw on
 * hostile input, or read a clock; the same inputs at the same instants give the same effects.
 */
export interface Core<Input, Effect> {
  step(input: Input, now: Instant): readonly Effect[];
  /** Called once after each run of inputs: what was gathered for others leaves as whole frames. */
  flush(now: Instant): readonly Effect[];
  /** Monotonic instant of the next `tick` this core needs, in milliseconds. */
  nextDeadline(): number | undefined;
}

/**
 * When an effect may happen. `now`: it reveals nothing unpersisted. `persist`: a record for the next
 * synced batch. `after`: only once everything persisted before it, and in its own step, is on disk.
 */
export type EffectPhase = "now" | "persist" | "after";

/** What a host lends a runner: a simulator passes virtual ones. */
export interface EffectRunnerPorts<Input, Effect> {
  readonly core: Core<Input, Effect>;
  readonly clock: Clock;
  /** The input that stands for "time has passed". */
  readonly tick: Input;
  phase(effect: Effect): EffectPhase;
  /** Performs a `now` or `after` effect. `batchNo` is the commit an `after` effect waited for, 0 if none yet. */
  perform(effect: Effect, batchNo: number): void;
  /** Writes and syncs one batch, then calls `done` exactly once, never before returning. */
  commit(records: readonly Effect[], done: (error: unknown, batchNo: number) => void): void;
  /** What a record costs of the next batch. Default 1 each. */
  weight?(record: Effect): number;
  /**
   * While a commit runs, inputs wait once the next batch weighs this much; one run may exceed it by
   * what its last input and its flush add. Default 65,536.
   */
  readonly batchWeightMax?: number;
  /** Runs `task` soon, after what is already waiting; several inputs then share one run. */
  soon(task: () => void): void;
  /** Runs `task` at a monotonic instant; the returned function cancels. */
  at(monoMs: number, task: () => void): () => void;
  /** The core threw or a commit failed: the runner has stopped and answers nothing any more. */
  onFailed(error: unknown): void;
}

const BATCH_WEIGHT_MAX = 65_536;
/** A run takes no further inputs after this long, in milliseconds: all else of the process would stand still meanwhile. */
const RUN_MS = 20;
/** Inputs between two looks at the clock. */
const LOOK_INPUTS = 16;
/** Inputs that may be left for later runs: with more of them, whoever sends them has to be slowed down. */
const LEFT_INPUTS_MAX = 65_536;

interface Batch<Effect> {
  weight: number;
  readonly records: Effect[];
  readonly after: Effect[];
}

/**
 * Drives a core: inputs are stepped in order of arrival against memory, records of all steps taken
 * while a commit runs form the next one, and nothing that depends on a record leaves before its sync.
 */
export class EffectRunner<Input, Effect> {
  readonly #ports: EffectRunnerPorts<Input, Effect>;
  #inbox: Input[] = [];
  #open: Batch<Effect> = { weight: 0, records: [], after: [] };
  #committing = false;
  #scheduled = false;
  #state: "running" | "stopped" = "running";
  #batchNo = 0;
  #armedAt: number | undefined;
  #disarm: (() => void) | undefined;
  #onIdle: (() => void)[] = [];

  constructor(ports: EffectRunnerPorts<Input, Effect>) {
    this.#ports = ports;
    this.#arm();
  }

  /** Hands over one input. Ignored after `stop` or a failure. */
  enter(input: Input): void {
    if (this.#state !== "running") return;
    this.#inbox.push(input);
    this.#schedule();
  }

  /** Calls `then` once no input waits and no commit runs (at once, if so now). */
  whenIdle(then: () => void): void {
    if (this.#state !== "running" || this.#isIdle()) then();
    else this.#onIdle.push(then);
  }

  /** Ends at once: what is not on disk yet is not answered. */
  stop(): void {
    this.#state = "stopped";
    this.#disarm?.();
    this.#inbox = [];
    for (const then of this.#onIdle.splice(0)) then();
  }

  #isIdle(): boolean {
    return this.#inbox.length === 0 && !this.#committing && this.#open.after.length === 0;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#ports.soon(() => {
      this.#scheduled = false;
      if (this.#state === "running") this.#guarded(() => this.#run());
    });
  }

  #run(): void {
    // The disk is behind: what its next batch cannot take waits for the commit that is under way.
    if (this.#isFull()) return;
    const { core, clock } = this.#ports;
    const now = clock.now();
    const inputs = this.#inbox;
    this.#inbox = [];
    let taken = 0;
    while (taken < inputs.length && !this.#isFull()) {
      const mayLeave = taken > 0 && taken % LOOK_INPUTS === 0 && inputs.length - taken <= LEFT_INPUTS_MAX;
      if (mayLeave && clock.now().monoMs - now.monoMs >= RUN_MS) break;
      this.#sort(core.step(inputs[taken] as Input, now));
      taken += 1;
    }
    if (taken < inputs.length) this.#inbox = [...inputs.slice(taken), ...this.#inbox];
    this.#sort(core.flush(now));
    this.#commit();
    this.#arm();
    if (this.#inbox.length > 0) this.#schedule();
    this.#settle();
  }

  #isFull(): boolean {
    return this.#committing && this.#open.weight >= (this.#ports.batchWeightMax ?? BATCH_WEIGHT_MAX);
  }

  #sort(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (this.#state === "stopped") return; // Performing the one before may have called `stop`.
      const phase = this.#ports.phase(effect);
      if (phase === "now") this.#ports.perform(effect, this.#batchNo);
      else if (phase === "persist") {
        this.#open.records.push(effect);
        this.#open.weight += this.#ports.weight?.(effect) ?? 1;
      } else this.#open.after.push(effect);
    }
  }

  #commit(): void {
    if (this.#committing || this.#state === "stopped") return;
    const batch = this.#open;
    if (batch.records.length === 0) {
      this.#release(batch.after.splice(0));
      return;
    }
    this.#open = { weight: 0, records: [], after: [] };
    this.#committing = true;
    this.#ports.commit(batch.records, (error, batchNo) => {
      if (this.#state !== "running") return;
      if (error !== undefined) {
        this.#fail(error);
        return;
      }
      this.#committing = false;
      this.#batchNo = batchNo;
      this.#guarded(() => {
        this.#release(batch.after);
        this.#commit();
        if (this.#inbox.length > 0) this.#schedule();
        this.#settle();
      });
    });
  }

  #release(after: readonly Effect[]): void {
    for (const effect of after) {
      if (this.#state === "stopped") return;
      this.#ports.perform(effect, this.#batchNo);
    }
  }

  #arm(): void {
    if (this.#state === "stopped") return;
    const deadline = this.#ports.core.nextDeadline();
    if (deadline === this.#armedAt) return;
    this.#disarm?.();
    this.#armedAt = deadline;
    this.#disarm = undefined;
    if (deadline === undefined) return;
    this.#disarm = this.#ports.at(deadline, () => {
      this.#armedAt = undefined;
      this.enter(this.#ports.tick);
    });
  }

  #settle(): void {
    if (this.#onIdle.length > 0 && this.#isIdle()) for (const then of this.#onIdle.splice(0)) then();
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.stop();
    this.#ports.onFailed(error);
  }
}
