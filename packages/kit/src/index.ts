export * from "./core/index.ts";
export { countBuffersAsHeap } from "./buffers.ts";
export { systemClock } from "./clock.ts";
export { silentLogger } from "./logger.ts";
export type { LogFields, Logger } from "./logger.ts";
export { systemRandom } from "./random.ts";
export { createRunner } from "./runner.ts";
export type { RunnerInit } from "./runner.ts";
