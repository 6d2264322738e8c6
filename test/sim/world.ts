import { SeededRandom } from "@klatsch/kit/core";
import { decodeFrame, encodeFrame } from "../../packages/queue/src/codec/frames.ts";
import { laneIdOf } from "../../packages/queue/src/codec/hash.ts";
import { decodeRecord, encodeRecord } from "../../packages/queue/src/codec/records.ts";
import type { CoreHooks } from "../../packages/queue/src/core/hooks.ts";
import { QueueCore } from "../../packages/queue/src/core/queue-core.ts";
import type { QueueEffect } from "../../packages/queue/src/core/inputs.ts";
import type { StoredRecord } from "../../packages/queue/src/core/records.ts";
import type { Delivery, Message } from "../../packages/queue/src/core/messages.ts";
import type {
  Definition,
  Descriptor,
  LaneId,
  PeerId,
  QueueId,
  Replica,
} from "../../packages/queue/src/core/types.ts";
import { Checker, NoChecker } from "./checkers.ts";
import { EventQueue } from "./events.ts";
import { FaultMaker } from "./faults.ts";
import { Network } from "./network.ts";
import { SimNode } from "./node.ts";
import type { HostFlaws, Scenario, ScenarioPatch } from "./scenario.ts";
import { Dice, drawScenario } from "./scenario.ts";
import { describeEffect, describeMessage } from "./trace.ts";
import { ALTERED_LEASES_MS, Workload } from "./workload.ts";

/** How long after the last fault everything may take, in virtual milliseconds. */
const DRAIN_MS = 120_000;
const FORGET_MS = 120_000;

export interface WorldInit {
  readonly seed: number;
  readonly patch?: ScenarioPatch | undefined;
  readonly flaws?: HostFlaws | undefined;
  /** The core under test; a mutant instead of the real one. */
  readonly coreClass?: typeof QueueCore | undefined;
  readonly traced?: boolean | undefined;
}

const HOOK_SEED = 1_000_000_007;
const BULK_SEED = 2_000_000_011;

/** A rule that did not hold. */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly rule: string;

  constructor(rule: string, text: string) {
    super(`${rule}: ${text}`);
    this.rule = rule;
  }
}

export interface RunResult {
  readonly seed: number;
  readonly steps: number;
  readonly violation: Violation | undefined;
  readonly trace: readonly string[];
  readonly stats: RunStats;
}

/** What a run contained, so that a scenario that tests nothing shows. */
export interface RunStats {
  enqueued: number;
  acknowledged: number;
  indeterminate: number;
  resolvedNever: number;
  delivered: number;
  done: number;
  stale: number;
  steals: number;
  crashes: number;
  lanes: number;
  /** Stores lost for good, and lanes whose messages went to an heir. */
  losses: number;
  quarantined: number;
  /** Machines that lost power with something unsynced. */
  cuts: number;
  /** Lists of the whole queue that came to their end. */
  walks: number;
  moved: number;
  bodiesFetched: number;
  needBody: number;
  gone: number;
  voids: number;
}

/** Some machines, their disks and wires, and everything that goes wrong with them, from one seed. */
export class World {
  readonly seed: number;
  readonly events = new EventQueue();
  readonly dice: Dice;
  readonly scenario: Scenario;
  readonly flaws: HostFlaws;
  readonly queue: QueueId = "9".repeat(64);
  readonly nodes: readonly SimNode[];
  readonly network: Network;
  readonly faults: FaultMaker;
  readonly workload: Workload;
  checker: Checker;
  /** From then on only what is left of the queue is looked at. */
  isDeleted = false;
  readonly stats: RunStats = {
    enqueued: 0,
    acknowledged: 0,
    indeterminate: 0,
    resolvedNever: 0,
    delivered: 0,
    done: 0,
    stale: 0,
    steals: 0,
    crashes: 0,
    lanes: 0,
    losses: 0,
    quarantined: 0,
    cuts: 0,
    walks: 0,
    moved: 0,
    bodiesFetched: 0,
    needBody: 0,
    gone: 0,
    voids: 0,
  };
  readonly #coreClass: typeof QueueCore;
  readonly #hookDice: Dice;
  readonly #laneIds = new WeakMap<Descriptor, LaneId>();
  readonly #lines: string[] | undefined;
  /** Where much happens, nothing is made for a trace that nobody wants. */
  readonly isTraced: boolean;
  /** What an ordered queue's definition names, whatever becomes of them. */
  readonly #firstStores: readonly Replica[];
  #violation: Violation | undefined;

  constructor(init: WorldInit) {
    this.seed = init.seed;
    this.dice = new Dice(init.seed);
    // With dice of their own: the runs without hooks stay what they were.
    this.#hookDice = new Dice(init.seed + HOOK_SEED);
    const veto = init.seed % 4 === 0 ? this.#hookDice.pick([0.05, 0.3, 0.8]) : 0;
    const alters = init.seed % 8 === 5;
    this.scenario = drawScenario(init.seed, this.dice, { veto, alters, ...init.patch });
    this.flaws = init.flaws ?? {};
    this.#coreClass = init.coreClass ?? QueueCore;
    this.isTraced = init.traced === true;
    this.#lines = this.isTraced ? [] : undefined;
    this.nodes = Array.from({ length: this.scenario.nodes }, (_, index) => new SimNode(this, index));
    this.#firstStores = this.nodes.map(({ peer, store }) => ({ peer, store }));
    const bulk = init.seed % 4 === 2 ? new Dice(init.seed + BULK_SEED) : undefined;
    this.network = new Network(this.events, this.dice, this.#networkHost(), this.scenario, bulk);
    this.faults = new FaultMaker(this);
    this.workload = new Workload(this);
    this.checker = this.scenario.powerCuts ? new NoChecker(this) : new Checker(this);
  }

  #networkHost(): ConstructorParameters<typeof Network>[2] {
    const nodes = new Map(this.nodes.map((node) => [node.peer, node]));
    const at = (peer: PeerId): SimNode => nodes.get(peer)!;
    return {
      canConnect: (peer) => at(peer).state !== "down" && at(peer).stalledUntil <= this.events.now,
      linkUp: (peer, other, session) => {
        this.trace(() => `${peer} has a link to ${other}`);
        at(peer).linkUp(other, session);
      },
      linkDown: (peer, other, session) => {
        if (at(peer).links.get(other) === session) this.trace(() => `${peer} lost its link to ${other}`);
        at(peer).linkDown(other, session);
      },
      receive: (peer, from, message) => {
        if (this.isTraced) this.trace(() => `${peer} ← ${from} ${describeMessage(message)}`);
        const node = at(peer);
        if (message.type === "hello" && !this.#greets(node, from, message)) return;
        node.enter({ type: "message", from, message });
      },
    };
  }

  /** `false`: the hello shows the host that its store lost its end. */
  #greets(node: SimNode, from: PeerId, hello: Message & { type: "hello" }): boolean {
    if (node.tail.missing(hello) !== undefined && this.faults.isCut(node) && this.flaws.deafToEcho !== true) {
      this.faults.quarantine(node);
      return false;
    }
    for (const [store, echo] of hello.echoes) {
      if (store !== node.store || echo <= node.batchNo || this.flaws.amnesia === true) continue;
      if (this.faults.isCut(node)) continue;
      this.violate("ECHO_IS_SYNCED", `${from} counted on ${echo} of ${node.peer}'s ${node.batchNo} batches`);
    }
    return true;
  }

  // For the parts.

  /** An operator does away with the queue. */
  deleteQueue(node: SimNode): void {
    this.trace(() => `${node.peer} deletes the queue`);
    this.isDeleted = true;
    this.checker = new NoChecker(this);
    this.workload.delete(node);
  }

  /** Nothing goes wrong in this run, and nothing takes long compared with a lease. */
  get isTranquil(): boolean {
    const { faults, delayMs, slowest, jitterMs, syncMs, alters, tuning } = this.scenario;
    const leaseMs = Math.min(this.scenario.leaseMs, ...(alters ? ALTERED_LEASES_MS : []));
    const wayMs = (delayMs * slowest + jitterMs) * this.network.slowdown;
    // A question that is asked anew before its answer can come is never answered.
    const hasty = (tuning.askTimeoutMs ?? 0) < 4 * wayMs + 4 * syncMs;
    // Meanwhile no lease is renewed; what is left of one then is two thirds, but for what it took to grant it.
    const moveMs = 2 * this.#moveTrips() * (wayMs + syncMs);
    const slow = hasty || 4 * wayMs + 16 * syncMs > leaseMs / 4 || moveMs > leaseMs / 2;
    return !slow && Object.values(faults).every((rate) => rate === 0);
  }

  /** Round trips until a lane is in its heir: two ENDs, what is under way, a prepare, its pages, and the messages. */
  #moveTrips(): number {
    const { messages, bodyBytes, tuning } = this.scenario;
    const { windowOps = 1, windowBytes = 0, pageRegisters = 1 } = tuning;
    const window = Math.max(1, Math.min(windowOps, windowBytes / (bodyBytes + 200)));
    return 4 + messages / window + messages / pageRegisters;
  }

  trace(line: () => string): void {
    this.#lines?.push(`${this.events.now.toFixed(2).padStart(9)} ${line()}`);
  }

  /** Ends the run. Thrown as well, so that nothing happens after it; the return type lets callers say `throw`. */
  violate(rule: string, text: string): never {
    const violation = new Violation(rule, text);
    this.broke(violation);
    throw violation;
  }

  /** A core threw, or a checker did inside it. */
  broke(error: unknown): void {
    if (this.#violation !== undefined) return;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#violation = error instanceof Violation ? error : new Violation("NEVER_THROWS", text);
    this.trace(() => `VIOLATION ${this.#violation?.message ?? ""}`);
  }

  makeCore(node: SimNode, seed: number): QueueCore {
    return new this.#coreClass({
      peer: node.peer,
      store: node.store,
      boot: node.boot,
      random: new SeededRandom(seed),
      now: node.now(),
      tuning: this.scenario.tuning,
      records: this.#records(node),
      laneIdOf: (descriptor) => this.#laneIdOf(descriptor),
      hooks: this.scenario.veto === 0 ? undefined : this.#hooks(),
    });
  }

  /** An application that prefers some consumers, and refuses leases for as long as faults last. */
  #hooks(): CoreHooks {
    const { veto } = this.scenario;
    return {
      nominate: (_queue, candidates) => this.#hookDice.pick([undefined, 0, candidates.length - 1, 99]),
      vote: () => this.network.calm || !this.#hookDice.chance(veto),
    };
  }

  #records(node: SimNode): Iterable<readonly [string, StoredRecord]> {
    // A store is read in the order of its keys.
    const sorted = [...node.disk.synced].toSorted(([a], [b]) => (a < b ? -1 : 1));
    if (!this.scenario.coded) return sorted;
    return sorted.map(([key, record]) => [key, decodeRecord(key, encodeRecord(record))]);
  }

  #laneIdOf(descriptor: Descriptor): LaneId {
    let lane = this.#laneIds.get(descriptor);
    if (lane === undefined) this.#laneIds.set(descriptor, (lane = laneIdOf(descriptor)));
    return lane;
  }

  /** What arrives of `message`: in some runs it really becomes bytes in between. */
  overWire(message: Message): Message {
    return this.scenario.coded ? decodeFrame(encodeFrame([message]))[0]! : message;
  }

  startNode(node: SimNode): void {
    node.start();
    this.trace(() => `${node.peer} starts, boot ${node.boot}`);
    node.enter({ type: "declare", definition: this.#definition() });
    this.faults.onStart(node);
    this.workload.onStart(node);
    for (const other of this.nodes) {
      if (other !== node && !other.hasLeft)
        this.network.connect(node.peer, other.peer, this.dice.real(1, 50));
    }
  }

  #definition(): Definition {
    const { replicas, leaseMs, maxDeliveries, shards, groups, keys, dedupMs } = this.scenario;
    const fixed = { queue: this.queue, name: "jobs", replicas, leaseMs, maxDeliveries };
    const plain = this.scenario.relaxed ? { ...fixed, relaxed: true } : fixed;
    const maxLength = this.scenario.maxLength || undefined;
    const deadTtlMs = this.scenario.deadTtlMs || undefined;
    const limited = { ...plain, maxLength, deadTtlMs };
    if (shards === 0) return limited;
    const stores = this.#firstStores;
    return {
      ...limited,
      ordered: { groups: groups > 0, dedupMs: keys > 0 ? dedupMs : 0, shards, stores },
    };
  }

  takeCommitFailure(node: SimNode): boolean {
    return this.faults.takeCommitFailure(node);
  }

  onStoreFailed(node: SimNode): void {
    this.trace(() => `${node.peer}'s store stops`);
    this.faults.onStoreFailed(node);
  }

  onSent(node: SimNode, to: PeerId, message: Message): void {
    if (this.isTraced) this.trace(() => `${node.peer} → ${to} ${describeMessage(message)}`);
    if (message.type === "getBody") this.stats.bodiesFetched += 1;
    if (message.type === "ok") {
      for (const { code } of message.exceptions) {
        if (code === "NEED_BODY") this.stats.needBody += 1;
        if (code === "GONE") this.stats.gone += 1;
      }
    }
    this.checker.onSent(message);
  }

  onEffect(node: SimNode, effect: QueueEffect): void {
    if (this.isTraced) this.trace(() => `${node.peer} ! ${describeEffect(effect)}`);
    if (effect.type === "fault") this.violate("NO_FAULTS", `${node.peer}: ${effect.what} ${effect.peer}`);
    if (effect.type === "deleted") this.events.in(0, () => this.#checkDeleted(node));
    if (effect.type === "moved") this.stats.moved += 1;
    if (effect.type === "stole") this.stats.steals += 1;
    if (effect.type === "enqueued" && effect.result.code === "OK") this.stats.acknowledged += 1;
    if (effect.type === "enqueued" && effect.result.code === "INDETERMINATE") this.stats.indeterminate += 1;
    if (effect.type === "resolved" && effect.resolution === "NEVER") this.stats.resolvedNever += 1;
    if (effect.type === "verdict" && effect.code === "STALE") this.stats.stale += 1;
    if (effect.type === "deliver") return this.#onDeliver(node, effect.item);
    this.workload.onEffect(node, effect);
  }

  #onDeliver(node: SimNode, item: Delivery): void {
    const body = item.attach === true ? node.body(item.lane, item.seq) : item.body;
    if (body === undefined) {
      // As the host does: what is finished has no body any more, and nobody is handed it.
      this.checker.onBodiless(node, item);
      this.workload.giveBack(node, item);
      return;
    }
    this.stats.delivered += 1;
    this.checker.onDeliver(node, { ...item, body });
    this.workload.handle(node, item);
  }

  /** Nobody waits for a lease or a deadline of a queue that is not there. */
  #checkDeleted({ peer, core }: SimNode): void {
    const { held = 0, waitingEnqueues = 0 } = core?.gauges() ?? {};
    if (held + waitingEnqueues === 0) return;
    this.violate("ENDS", `${peer} knows it deleted, holds ${held}, ${waitingEnqueues} enqueues wait`);
  }

  // The run.

  run(): RunResult {
    try {
      this.#run();
    } catch (error) {
      this.broke(error);
    }
    const { truth } = this.checker;
    this.stats.enqueued = this.workload.enqueued;
    this.stats.lanes = truth.lanes.size;
    for (const { done } of truth.messages()) if (done !== undefined) this.stats.done += 1;
    for (const { end } of truth.lanes.values()) {
      for (const [from, to] of end?.voids ?? []) this.stats.voids += to - from;
    }
    return {
      seed: this.seed,
      steps: this.events.count,
      violation: this.#violation,
      trace: this.#lines ?? [],
      stats: this.stats,
    };
  }

  #run(): void {
    this.trace(() => JSON.stringify(this.scenario));
    for (const node of this.nodes) {
      this.events.in(this.dice.chance(0.7) ? 0 : this.dice.real(0, 500), () => {
        if (node.state === "down" && !node.hasLeft) this.startNode(node);
      });
    }
    this.workload.begin();
    this.faults.begin();
    this.#until(this.scenario.chaosMs);
    this.trace(() => "— faults end —");
    this.faults.end();
    this.network.calm = true;
    this.#until(this.events.now + 4_000); // Cuts under way heal by then.
    this.faults.review();
    if (this.scenario.deletes) return this.#runDeleted();
    this.workload.calm();
    this.#await("DRAINS", DRAIN_MS, () => this.#undrained());
    if (this.scenario.powerCuts) return;
    this.checker.onDrained();
    this.#restartAll();
    this.#await("FORGETS", FORGET_MS, () => this.#unforgotten());
  }

  /** Who deleted it may have died before anybody knew: it is tried again. */
  #runDeleted(): void {
    const node = this.nodes.find((one) => one.state === "up");
    if (node === undefined) this.violate("RESTARTS", "no node is up after the faults");
    this.deleteQueue(node);
    this.workload.calm();
    this.#await("DELETES", DRAIN_MS, () => this.#undeleted());
    this.#restartAll();
    this.#await("DELETES", DRAIN_MS, () => this.#undeleted());
  }

  #undeleted(): string | undefined {
    const { requests, handling } = this.workload;
    for (const { kind, id } of requests.values()) return `${kind} ${id} waits for its answer`;
    if (handling > 0) return `${handling} messages are in hand`;
    for (const { peer, core, disk, hasLeft } of this.nodes) {
      if (hasLeft) continue;
      if (core === undefined) return `${peer} is down`;
      const { peers: _, ...gauges } = core.gauges();
      for (const [name, count] of Object.entries(gauges)) if (count !== 0) return `${peer}: ${count} ${name}`;
      if (core.definitions.all().length > 0) return `${peer} knows the queue`;
      for (const [key, { kind }] of disk.view) {
        if (!["member", "deleted", "echo", "floor"].includes(kind)) return `${peer} keeps ${key} (${kind})`;
      }
    }
    return undefined;
  }

  #until(untilMs: number): void {
    while (this.#violation === undefined && this.events.step(untilMs));
    if (this.#violation !== undefined) throw this.#violation;
  }

  /** Runs until `missing` has nothing to say. */
  #await(rule: string, withinMs: number, missing: () => string | undefined): void {
    const lastMs = this.events.now + withinMs;
    for (;;) {
      const text = missing();
      if (text === undefined) return;
      if (this.events.now >= lastMs) this.violate(rule, `after ${withinMs} ms without faults ${text}`);
      this.#until(this.events.now + 250);
    }
  }

  #undrained(): string | undefined {
    const { requests, handling } = this.workload;
    for (const { kind, id } of requests.values()) return `${kind} ${id} waits for its answer`;
    if (handling > 0) return `${handling} messages are in hand`;
    for (const { peer, core, hasLeft } of this.nodes) {
      if (hasLeft) continue;
      if (core === undefined) return `${peer} is down`;
      for (const known of this.scenario.powerCuts ? [] : core.acceptor.lanes()) {
        const { lane, registers } = known;
        const stays = registers.size > 0 || this.checker.isOrdered(lane);
        const unhealed = stays ? this.checker.unhealed(known) : undefined;
        if (unhealed !== undefined) return unhealed;
        for (const seq of registers.keys()) {
          if (!this.checker.mayKeep(known, seq)) return `${peer} keeps ${lane.slice(0, 6)}-${seq}`;
        }
      }
      const { held, waitingEnqueues, alive } = core.gauges();
      const hopeless = [...core.acceptor.lanes()].some(({ descriptor }) =>
        this.checker.isHopeless(descriptor),
      );
      if (alive !== 0 && !hopeless) return `${peer} counts ${alive} messages`;
      if (held + waitingEnqueues > 0) return `${peer} holds ${held}, ${waitingEnqueues} enqueues wait`;
    }
    return undefined;
  }

  /** Lanes of processes that are gone are taken over and closed: nothing stays open for appending. */
  #restartAll(): void {
    this.trace(() => "— every node restarts —");
    for (const node of this.nodes) {
      if (node.hasLeft) continue;
      this.faults.kill(node);
      // A crash before the end may have it started already.
      this.events.in(10, () => {
        if (node.state === "down") this.startNode(node);
      });
      this.#until(this.events.now + 500);
    }
  }

  #unforgotten(): string | undefined {
    for (const { peer, disk, hasLeft } of this.nodes) {
      if (hasLeft) continue;
      for (const [key, record] of disk.view) {
        if (["member", "definition", "echo", "floor"].includes(record.kind)) continue;
        const slot = Number.parseInt(key.split("/")[1] ?? "", 16);
        const lane = record.kind === "opened" ? record.lane : disk.lanes.get(slot);
        if (lane !== undefined && this.checker.isOrdered(lane) && staysOrdered(record)) continue;
        if (lane !== undefined && this.checker.mayStay(lane)) continue;
        return `${peer} keeps ${key} (${record.kind}) of lane ${lane?.slice(0, 6) ?? "?"}`;
      }
    }
    return undefined;
  }
}

/** An ordered lane stays, and so does what says which of its messages are over. */
function staysOrdered(record: StoredRecord): boolean {
  return (
    record.kind === "lane" || record.kind === "finished" || (record.kind === "digest" && record.count === 0)
  );
}

export function runSeed(init: WorldInit): RunResult {
  return new World(init).run();
}
