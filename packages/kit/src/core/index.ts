export type { Clock, Instant } from "./clock.ts";
export { EffectRunner } from "./effect-runner.ts";
export type { Core, EffectPhase, EffectRunnerPorts } from "./effect-runner.ts";
export { assert, InvariantError, KlatschError } from "./errors.ts";
export type { KlatschErrorInit, Outcome } from "./errors.ts";
export { randomBelow, randomHex, SeededRandom } from "./random.ts";
export type { Random } from "./random.ts";
export { hash64, rendezvousOrder } from "./rendezvous.ts";
export type { Hash64 } from "./rendezvous.ts";
