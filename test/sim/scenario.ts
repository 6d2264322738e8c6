import type { Random } from "@klatsch/kit/core";
import { randomBelow, SeededRandom } from "@klatsch/kit/core";
import type { Tuning } from "../../packages/queue/src/core/context.ts";

/** Chance, with the shapes a scenario needs. */
export class Dice {
  readonly random: Random;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.random.uint32() < probability * 0x1_0000_0000;
  }

  /** A whole number, `from` ≤ n ≤ `to`. */
  whole(from: number, to: number): number {
    return from + randomBelow(this.random, to - from + 1);
  }

  real(from: number, to: number): number {
    return from + ((to - from) * this.random.uint32()) / 0x1_0000_0000;
  }

  pick<T>(list: readonly T[]): T {
    return list[randomBelow(this.random, list.length)]!;
  }

  /** Mean `mean`, memoryless. */
  wait(mean: number): number {
    return -Math.log(1 - this.random.uint32() / 0x1_0000_0001) * mean;
  }
}

/** How often each fault comes, as mean intervals in milliseconds; 0 is never. */
interface Faults {
  readonly crash: number;
  readonly commitFailure: number;
  readonly reset: number;
  readonly partition: number;
  readonly oneWay: number;
  readonly stall: number;
  readonly falseSuspect: number;
  readonly falseDeath: number;
  /** A store is gone for good. */
  readonly loss: number;
  /** A disk loses its end, although that was synced. */
  readonly tail: number;
}

/** Departures from what a host owes its core: the host's own mutants. */
export interface HostFlaws {
  /** M1: a crash may empty the disk, and the store keeps its id. */
  readonly amnesia?: boolean;
  /** D1: nobody minds that others counted on more than the disk has. */
  readonly deafToEcho?: boolean;
  /** M6: a restart neither counts a boot nor makes a new proposer id. */
  readonly samePid?: boolean;
  /** M15: the answer to PREPARE leaves before its sync. */
  readonly earlyPages?: boolean;
}

/** Everything about one run that is drawn before it begins. */
export interface Scenario {
  readonly nodes: number;
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
  readonly messages: number;
  readonly bodyBytes: number;
  readonly chaosMs: number;
  /** Mean pause between two enqueues. */
  readonly enqueueMs: number;
  readonly enqueueDeadlineMs: number;
  readonly verdictDeadlineMs: number;
  readonly consumersMax: number;
  readonly prefetchMax: number;
  /** Mean pause between comings and goings of consumers; 0 is none. */
  readonly rosterMs: number;
  readonly handleMs: number;
  /** Probabilities of what a handler does; the rest acknowledges. */
  readonly nack: number;
  readonly release: number;
  readonly reject: number;
  readonly hang: number;
  readonly delayMs: number;
  readonly jitterMs: number;
  /** Each direction of each pair is slower than `delayMs` by its own factor, up to this. */
  readonly slowest: number;
  readonly syncMs: number;
  /** Largest departure of a monotonic clock from real time, as a fraction. */
  readonly drift: number;
  readonly wallSkewMs: number;
  /** How wrong the wall clock of one machine is; 0 is right. */
  readonly wrongClockMs: number;
  /** Lanes of an ordered queue; 0 is a standard one. With how many groups and keys, none at 0, and how long a key counts. */
  readonly shards: number;
  readonly groups: number;
  readonly keys: number;
  readonly dedupMs: number;
  /** Limit of the queue; 0 is none. */
  readonly maxLength: number;
  /** How long the queue keeps dead messages; 0 is for ever. */
  readonly deadTtlMs: number;
  /** Probability that a consumer wants dead messages, and mean pause between acts of operators; 0 is none. */
  readonly undertaking: number;
  readonly operateMs: number;
  /** Probability that a message has attributes, is delayed or expires. */
  readonly attributed: number;
  readonly detectMs: number;
  /** Probability that a replica's hook does not vote for a lease; with it, another nominates whom it likes. 0 is no hooks. */
  readonly veto: number;
  /** Messages pass through the wire's codec. */
  readonly coded: boolean;
  /** Nodes are told of other leases and limits, each at another time. */
  readonly alters: boolean;
  /** Somebody deletes the queue amid all of it. */
  readonly deletes: boolean;
  /** The queue is relaxed, and no disk loses its end: processes die, machines do not. */
  readonly relaxed: boolean;
  /**
   * Machines lose power as well, and of a relaxed queue what was not synced. What applications were told may be taken back then, and is
   * not checked; all the same no core may throw, each call is answered, and the queue drains.
   */
  readonly powerCuts: boolean;
  /** Mean pause between lists of the queue, page by page; 0 is none. */
  readonly walkMs: number;
  readonly faults: Faults;
  readonly tuning: Partial<Tuning>;
}

export type ScenarioPatch = Partial<Omit<Scenario, "faults" | "tuning">> & {
  readonly faults?: Partial<Faults>;
  readonly tuning?: Partial<Tuning>;
};

/** Swarm testing: each seed draws which faults it has and how often, so that rare mixes come up too. */
export function drawScenario(seed: number, dice: Dice, patch: ScenarioPatch = {}): Scenario {
  const nodes = dice.pick([1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 5]);
  const leaseMs = dice.pick([400, 1_000, 1_000, 3_000]);
  const calm = dice.chance(0.1);
  const sometimes = (probability: number, from: number, to: number): number =>
    !calm && dice.chance(probability) ? dice.whole(from, to) : 0;
  const order = drawOrder(new Dice(seed ^ ORDER_SALT));
  const drawn: Scenario = {
    nodes,
    replicas: nodes === 5 && dice.chance(0.5) ? 5 : dice.pick([3, 3, 3, 3, 1]),
    leaseMs,
    maxDeliveries: dice.pick([3, 20, 20, 20]),
    messages: dice.whole(8, 40),
    bodyBytes: dice.pick([0, 16, 16, 300]),
    chaosMs: dice.whole(2_000, 12_000),
    enqueueMs: dice.pick([2, 20, 100, 200]),
    enqueueDeadlineMs: dice.pick([300, 1_000, 5_000]),
    verdictDeadlineMs: dice.pick([500, 2_000, 8_000]),
    consumersMax: dice.pick([1, 2, 3, 6]),
    prefetchMax: dice.pick([1, 2, 5, 20]),
    rosterMs: sometimes(0.5, 300, 3_000),
    handleMs: dice.pick([0, 1, 20, 200, 1_000]),
    nack: dice.pick([0, 0.1, 0.4]),
    release: dice.pick([0, 0.1, 0.3]),
    reject: dice.pick([0, 0, 0, 0.1]),
    hang: dice.pick([0, 0.1, 0.3]),
    delayMs: dice.pick([0.2, 1, 10]),
    jitterMs: dice.pick([0, 1, 20, 100]),
    slowest: dice.pick([1, 1, 10, 100]),
    syncMs: dice.pick([0.1, 2, 20, 80]),
    drift: dice.pick([0, 0.0002, 0.001]),
    wallSkewMs: dice.pick([0, 50, 3_000]),
    detectMs: dice.pick([50, 300, 1_000]),
    coded: dice.chance(0.1),
    veto: 0,
    deletes: false,
    alters: false,
    powerCuts: false,
    walkMs: 0,
    relaxed: patch.faults?.tail === undefined && new Dice(seed ^ RELAXED_SALT).chance(0.12),
    faults: {
      crash: sometimes(0.5, 400, 5_000),
      commitFailure: sometimes(0.15, 1_000, 5_000),
      reset: sometimes(0.5, 100, 3_000),
      partition: sometimes(0.4, 500, 5_000),
      oneWay: sometimes(0.3, 300, 3_000),
      stall: sometimes(0.3, 500, 4_000),
      falseSuspect: sometimes(0.3, 300, 3_000),
      falseDeath: sometimes(0.3, 300, 4_000),
      loss: sometimes(0.3, 500, 6_000),
      tail: sometimes(0.15, 500, 4_000),
    },
    tuning: { ...drawTuning(dice), ...order.tuning },
    attributed: dice.pick([0, 0, 0.3, 1]),
    wrongClockMs: dice.pick([0, 0, 0, -20_000, 20_000]),
    undertaking: dice.pick([0, 0, 0.3]),
    operateMs: dice.pick([0, 0, 300, 2_000]),
    maxLength: dice.pick([0, 0, 0, 4]),
    deadTtlMs: new Dice(seed ^ RETIRED_SALT).pick([0, 0, 0, 1_000, 5_000]),
    ...order.scenario,
  };
  const { powerCuts, relaxed } = { ...drawn, ...patch };
  const { crash } = drawn.faults;
  const cuts = powerCuts ? { tail: 0, crash: crash || CUTS_MS } : relaxed ? { tail: 0 } : {};
  const faults = { ...drawn.faults, ...cuts, ...patch.faults };
  const tuning = { ...drawn.tuning, ...patch.tuning };
  return { ...drawn, ...patch, relaxed: relaxed || powerCuts, faults, tuning };
}

/** Drawn apart, so that what standard queues do under a seed stays as it is. */
const ORDER_SALT = 0x5bd1e995;
const RELAXED_SALT = 0x27d4eb2f;
const RETIRED_SALT = 0x165667b1;
/** Mean time between crashes of runs that are about them, where none was drawn. */
const CUTS_MS = 1_500;

function drawOrder(dice: Dice): {
  scenario: Pick<Scenario, "shards" | "groups" | "keys" | "dedupMs">;
  tuning: Partial<Tuning>;
} {
  const scenario = {
    shards: dice.pick([0, 0, 0, 1, 2]),
    groups: dice.pick([0, 1, 2, 5]),
    keys: dice.pick([0, 3, 10, 40]),
    dedupMs: dice.pick([1_000, 5_000, 60_000]),
  };
  const tuning = {
    tokenKeepMs: dice.pick([10_000, 30_000]),
    appendWindow: dice.pick([1, 2, 10]),
    importKeys: dice.pick([1, 3, 2_048]),
  };
  return { scenario, tuning };
}

function drawTuning(dice: Dice): Partial<Tuning> {
  const tuning = {
    stealDelayMs: dice.pick([10, 50, 250]),
    prepareRetryMs: dice.pick([20, 100, 250]),
    prepareRetryMaxMs: dice.pick([500, 2_000]),
    silentMs: dice.pick([500, 2_000, 10_000]),
    silentMaxMs: 20_000,
    askTimeoutMs: dice.pick([100, 1_000]),
    learnDelayMs: dice.pick([0, 20, 200]),
    learnSeqs: dice.pick([1, 4, 256]),
    snapshotMs: dice.pick([200, 30_000]),
    verdictRetryMs: dice.pick([20, 100]),
    verdictRetryMaxMs: dice.pick([200, 2_000]),
    graceMinMs: dice.pick([100, 500, 2_000]),
    resolveMs: dice.pick([500, 3_000]),
    floorGossipMs: dice.pick([100, 1_000]),
    sealHysteresisMs: dice.pick([200, 5_000]),
    offerMs: dice.pick([10, 100]),
    creditIdleMs: dice.pick([50, 1_000]),
    laneMessages: dice.pick([1, 3, 8, 30, 65_536]),
    windowOps: dice.pick([1, 4, 4_096]),
    windowBytes: dice.pick([200, 4_096, 8 * 1_024 * 1_024]),
    frameBytes: dice.pick([200, 1_024, 256 * 1_024]),
    pageRegisters: dice.pick([1, 3, 1_024]),
    pendingEnqueues: dice.pick([4, 65_536]),
    readyBytes: dice.pick([0, 0, 1_000, 64 * 1_024 * 1_024]),
    looseRegisters: dice.pick([0, 0, 3, 256]),
    heirDeadMs: dice.pick([300, 2_000, 600_000]),
    heirSteadyMs: dice.pick([100, 2_000, 600_000]),
    heirLookMs: dice.pick([20, 200, 1_000]),
    heirsMax: dice.pick([1, 4]),
    heldFloorMs: dice.pick([500, 3_000, 3_600_000]),
    heldFloorLanes: dice.pick([0, 1, 256]),
  };
  // Few messages wait in a lane here: only pages of one or two are full now and then.
  const packedBits = tuning.looseRegisters === 256 ? 9 : Math.min(1, tuning.looseRegisters);
  return { ...tuning, packedBits };
}
