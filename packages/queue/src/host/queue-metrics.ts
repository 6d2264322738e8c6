import { counter, gauge, Histogram, histogram } from "@klatsch/kit";
import type { MetricFamily } from "@klatsch/kit";

import { deadViewOf } from "../core/dead-queue.ts";
import type { Census } from "../core/manage.ts";
import type { QueueId } from "../core/types.ts";
import type { Message, QueuesStats } from "../types.ts";
import { isElection } from "./elect.ts";
import type { HookCounts } from "./hook-runner.ts";

/** The label of all elections together: each term is a queue of its own. */
const ELECTIONS = "~elections";
const UNKNOWN = "?";
/** Queues whose times are counted one by one; more share one label, for each takes some forty lines. */
const TIMED_QUEUES_MAX = 256;
const OTHERS = "~others";
/** Upper bounds of buckets, in seconds: of what messages wait for, and of what disks take. */
const BOUNDS: readonly number[] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 5, 30, 300];
const SYNC_BOUNDS: readonly number[] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/** How long it took, in seconds, of one queue or of several. */
class Times {
  readonly label: string;
  readonly enqueue: Histogram = new Histogram(BOUNDS);
  readonly wait: Histogram = new Histogram(BOUNDS);
  readonly handler: Histogram = new Histogram(BOUNDS);

  constructor(label: string) {
    this.label = label;
  }
}

/** What happened to messages of one queue at this node since its start. */
interface QueueCounters {
  readonly label: string;
  readonly times: Times;
  enqueued: number;
  /** In milliseconds, of those that were acknowledged. */
  enqueueMs: number;
  delivered: number;
  redelivered: number;
  handled: number;
  threw: number;
  handlerMs: number;
  steals: number;
  moves: number;
  readonly failures: Map<string, number>;
  readonly outcomes: Map<string, number>;
  /** Leases granted here, by the peer that got them. */
  readonly elections: Map<string, number>;
}

/** What is looked at when somebody asks. */
interface QueueMetricsView {
  readonly census: Census;
  readonly wallMs: number;
  readonly stats: QueuesStats;
  readonly consumers: ReadonlyMap<QueueId, number>;
  readonly hooks: ReadonlyMap<string, HookCounts>;
}

type Samples = MetricFamily["samples"];

const STATES = ["ready", "delayed", "leased", "dead", "unserved"] as const;

/** Counts what happens, by queue, and puts it into families when asked. */
export class QueueMetrics {
  readonly #nameOf: (queue: QueueId) => string | undefined;
  readonly #queues = new Map<QueueId, QueueCounters>();
  readonly #byLabel = new Map<string, QueueCounters>();
  readonly #others = new Times(OTHERS);
  /** Queues with times of their own. */
  #timed = 0;
  readonly #syncs = new Histogram(SYNC_BOUNDS);
  #syncMsMax = 0;

  constructor(nameOf: (queue: QueueId) => string | undefined) {
    this.#nameOf = nameOf;
  }

  of(queue: QueueId): QueueCounters {
    const known = this.#queues.get(queue);
    if (known !== undefined) return known;
    const label = this.#labelOf(queue);
    let counters = this.#byLabel.get(label);
    if (counters === undefined) {
      const isTimed = this.#timed < TIMED_QUEUES_MAX;
      if (isTimed) this.#timed += 1;
      counters = newCounters(label, isTimed ? new Times(label) : this.#others);
      this.#byLabel.set(label, counters);
    }
    // Who is unknown now may have a name later.
    if (label !== UNKNOWN) this.#queues.set(queue, counters);
    return counters;
  }

  /** The queue was deleted: one that is declared later counts anew. */
  forget(queue: QueueId): void {
    for (const view of [queue, deadViewOf(queue)]) {
      const label = this.#queues.get(view)?.label;
      this.#queues.delete(view);
      const isShared = [...this.#queues.values()].some((other) => other.label === label);
      if (label === undefined || isShared) continue;
      const times = this.#byLabel.get(label)?.times;
      if (this.#byLabel.delete(label) && times !== this.#others) this.#timed -= 1;
    }
  }

  #labelOf(queue: QueueId): string {
    const name = this.#nameOf(queue);
    if (name === undefined) return UNKNOWN;
    return isElection(name) ? ELECTIONS : name;
  }

  /** A batch was written and synced. */
  synced(tookMs: number): void {
    this.#syncs.observe(tookMs / 1e3);
    this.#syncMsMax = Math.max(this.#syncMsMax, tookMs);
  }

  /** A majority has it. */
  enqueued(queue: QueueId, tookMs: number): void {
    const counters = this.of(queue);
    counters.enqueued += 1;
    counters.enqueueMs += tookMs;
    counters.times.enqueue.observe(tookMs / 1e3);
  }

  delivered(queue: QueueId, { attempt, ageMs }: Pick<Message, "attempt" | "ageMs">): void {
    const counters = this.of(queue);
    counters.delivered += 1;
    if (attempt > 1) counters.redelivered += 1;
    // What failed had its time in a handler, too, and waited as the retry policy says.
    else counters.times.wait.observe(ageMs / 1e3);
  }

  handled(queue: QueueId, tookMs: number, threw: boolean): void {
    const counters = this.of(queue);
    counters.handlerMs += tookMs;
    counters[threw ? "threw" : "handled"] += 1;
    counters.times.handler.observe(tookMs / 1e3);
  }

  families(view: QueueMetricsView): MetricFamily[] {
    return [
      ...this.#stockFamilies(view),
      ...this.#flowFamilies(),
      ...this.#timeFamilies(),
      ...this.#protocolFamilies(view),
      ...hookFamilies(view),
    ];
  }

  /** What is there. */
  #stockFamilies({ census, wallMs, stats, consumers }: QueueMetricsView): MetricFamily[] {
    const known = [...census.queues].filter(([queue]) => this.#labelOf(queue) !== ELECTIONS);
    const labelled = known.map(([queue, counts]) => ({ labels: { queue: this.#labelOf(queue) }, counts }));
    const consuming = [...consumers].filter(([queue]) => this.#labelOf(queue) !== ELECTIONS);
    return [
      gauge(
        "klatsch_queue_messages",
        "Messages of the lanes this node writes, by state; unserved: of lanes it keeps and nobody writes just now.",
        labelled.flatMap(({ labels, counts }) =>
          STATES.map((state) => ({ labels: { ...labels, state }, value: counts[state] })),
        ),
      ),
      gauge(
        "klatsch_queue_oldest_age_seconds",
        "Age of the oldest of these that is not dead, by the wall clock.",
        labelled
          .filter(({ counts }) => counts.oldestWallMs > 0)
          .map(({ labels, counts }) => ({ labels, value: Math.max(0, wallMs - counts.oldestWallMs) / 1e3 })),
      ),
      gauge(
        "klatsch_queue_consumers",
        "Consumers on this node.",
        consuming.map(([queue, value]) => ({ labels: { queue: this.#labelOf(queue) }, value })),
      ),
      gauge("klatsch_queue_held", "Messages in the hands of this node's consumers.", stats.held),
      gauge("klatsch_queue_enqueues_waiting", "Enqueues here that wait for a quorum.", stats.waitingEnqueues),
      gauge("klatsch_queue_peers", "Other nodes whose queues can be reached now.", stats.peers),
    ];
  }

  /** What came and went. */
  #flowFamilies(): MetricFamily[] {
    const all = [...this.#byLabel.values()];
    const each = (valueOf: (counters: QueueCounters) => number): Samples =>
      all.map((counters) => ({ labels: { queue: counters.label }, value: valueOf(counters) }));
    const by = (label: string, valuesOf: (counters: QueueCounters) => ReadonlyMap<string, number>): Samples =>
      all.flatMap((counters) =>
        [...valuesOf(counters)].map(([name, value]) => ({
          labels: { queue: counters.label, [label]: name },
          value,
        })),
      );
    const handled = all.flatMap(({ label, handled: returned, threw }) => [
      { labels: { queue: label, outcome: "returned" }, value: returned },
      { labels: { queue: label, outcome: "threw" }, value: threw },
    ]);
    return [
      counter(
        "klatsch_queue_enqueued_total",
        "Messages entered here that a quorum has.",
        each((q) => q.enqueued),
      ),
      counter(
        "klatsch_queue_enqueue_seconds_total",
        "Time these took, in all.",
        each((q) => q.enqueueMs / 1e3),
      ),
      counter(
        "klatsch_queue_enqueue_failures_total",
        "Enqueues that failed, by code.",
        by("code", (q) => q.failures),
      ),
      counter(
        "klatsch_queue_delivered_total",
        "Messages handed to consumers here.",
        each((q) => q.delivered),
      ),
      counter(
        "klatsch_queue_redelivered_total",
        "Of these, how many had failed before.",
        each((q) => q.redelivered),
      ),
      counter(
        "klatsch_queue_outcomes_total",
        "How deliveries here ended: ack, nack, release, reject, redrive; else why that was not confirmed.",
        by("outcome", (q) => q.outcomes),
      ),
      counter("klatsch_queue_handlers_total", "Handlers that ended.", handled),
      counter(
        "klatsch_queue_handler_seconds_total",
        "Time spent in handlers.",
        each((q) => q.handlerMs / 1e3),
      ),
      counter(
        "klatsch_queue_elections_total",
        "Leases granted here, by who got them.",
        by("peer", (q) => q.elections),
      ),
      counter(
        "klatsch_queue_steals_total",
        "Lanes taken over by this node.",
        each((q) => q.steals),
      ),
      counter(
        "klatsch_queue_moves_total",
        "Lanes of this node that an heir took the place of.",
        each((q) => q.moves),
      ),
    ];
  }

  /** How long it took, by queue. */
  #timeFamilies(): MetricFamily[] {
    const all = new Set([...this.#byLabel.values()].map(({ times }) => times));
    const each = (of: "enqueue" | "wait" | "handler"): Samples =>
      [...all].flatMap((times) => (times[of].count === 0 ? [] : times[of].samples({ queue: times.label })));
    return [
      histogram(
        "klatsch_queue_enqueue_duration_seconds",
        "From the call of enqueue until a majority had it, of messages entered here.",
        each("enqueue"),
      ),
      histogram(
        "klatsch_queue_wait_duration_seconds",
        "From enqueue to delivery, delays included, by both nodes' clocks, of messages handed to consumers here that had not failed before.",
        each("wait"),
      ),
      histogram(
        "klatsch_queue_handler_duration_seconds",
        "Of handlers that ended here, whether they returned or threw.",
        each("handler"),
      ),
    ];
  }

  #protocolFamilies({ census, stats }: QueueMetricsView): MetricFamily[] {
    const longestMs = this.#syncMsMax;
    this.#syncMsMax = 0;
    return [
      gauge(
        "klatsch_queue_lanes",
        "Lanes that this node keeps, by state, and whether it writes them.",
        census.lanes.map(({ role, state, count }) => ({ labels: { role, state }, value: count })),
      ),
      counter("klatsch_queue_syncs_total", "Batches written and synced.", this.#syncs.count),
      counter("klatsch_queue_sync_seconds_total", "Time these took, in all.", this.#syncs.sum),
      histogram(
        "klatsch_queue_sync_duration_seconds",
        "Of batches written and synced.",
        this.#syncs.samples({}),
      ),
      gauge(
        "klatsch_queue_sync_longest_seconds",
        "The longest since it was last asked for.",
        longestMs / 1e3,
      ),
      counter("klatsch_queue_protocol_faults_total", "Breaches of the protocol.", stats.faults),
      counter("klatsch_queue_bad_frames_total", "Frames that were malformed.", stats.badFrames),
    ];
  }
}

function hookFamilies({ hooks }: QueueMetricsView): MetricFamily[] {
  const all = [...hooks];
  return [
    counter(
      "klatsch_queue_hook_calls_total",
      "Calls of the application's hooks.",
      all.map(([hook, { calls }]) => ({ labels: { hook }, value: calls })),
    ),
    counter(
      "klatsch_queue_hook_seconds_total",
      "Time these took, in all.",
      all.map(([hook, { tookMs }]) => ({ labels: { hook }, value: tookMs / 1e3 })),
    ),
    counter(
      "klatsch_queue_hook_faults_total",
      "Hooks that threw, took too long (late), returned nonsense (invalid), or were too many at a time (dropped).",
      all.flatMap(([hook, { faults }]) =>
        Object.entries(faults).map(([fault, value]) => ({ labels: { hook, fault }, value })),
      ),
    ),
  ];
}

function newCounters(label: string, times: Times): QueueCounters {
  return {
    label,
    times,
    ...{
      enqueued: 0,
      enqueueMs: 0,
      delivered: 0,
      redelivered: 0,
      handled: 0,
      threw: 0,
      handlerMs: 0,
      steals: 0,
      moves: 0,
    },
    failures: new Map(),
    outcomes: new Map(),
    elections: new Map(),
  };
}

/** One more under a name. */
export function countOne(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
