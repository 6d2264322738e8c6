import { systemClock } from "./clock.ts";
import type { Clock } from "./core/clock.ts";
import { EffectRunner } from "./core/effect-runner.ts";
import type { EffectRunnerPorts } from "./core/effect-runner.ts";

/** Node fires a timer with a longer delay at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** {@link EffectRunnerPorts} without what Node provides. */
export interface RunnerInit<Input, Effect> extends Omit<
  EffectRunnerPorts<Input, Effect>,
  "soon" | "at" | "clock"
> {
  /** Default `systemClock`. Must count like `setTimeout`. */
  readonly clock?: Clock | undefined;
}

/**
 * Runs a core in this process: inputs of one turn of the event loop are one run (`setImmediate`),
 * and a single `setTimeout` stands for the core's next deadline.
 */
export function createRunner<Input, Effect>(init: RunnerInit<Input, Effect>): EffectRunner<Input, Effect> {
  const clock = init.clock ?? systemClock;
  return new EffectRunner<Input, Effect>({
    core: init.core,
    clock,
    tick: init.tick,
    phase: (effect) => init.phase(effect),
    perform: (effect, batchNo) => init.perform(effect, batchNo),
    commit: (records, done) => init.commit(records, done),
    weight: (record) => init.weight?.(record) ?? 1,
    ...(init.batchWeightMax === undefined ? {} : { batchWeightMax: init.batchWeightMax }),
    onFailed: (error) => init.onFailed(error),
    soon: (task) => void setImmediate(task),
    at: (monoMs, task) => atInstant(clock, monoMs, task),
  });
}

/** Runs `task` once `clock` has reached `monoMs`, however far away that is; the result cancels. */
function atInstant(clock: Clock, monoMs: number, task: () => void): () => void {
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    // Rounded up: a timer that fires early would tick a core whose deadline has not come.
    const delayMs = Math.ceil(monoMs - clock.now().monoMs);
    timer = setTimeout(
      () => (delayMs > TIMEOUT_MS_MAX ? arm() : task()),
      Math.min(Math.max(delayMs, 0), TIMEOUT_MS_MAX),
    );
  };
  arm();
  return () => clearTimeout(timer);
}
