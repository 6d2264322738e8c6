import { headed, PLAIN as NO_ATTRIBUTES } from "../../packages/queue/src/core/register.ts";
import { bodyHash } from "../../packages/queue/src/codec/hash.ts";
import type { QueueEffect } from "../../packages/queue/src/core/inputs.ts";
import { deadViewOf } from "../../packages/queue/src/core/dead-queue.ts";
import type { Attributes, LaneId, Verdict } from "../../packages/queue/src/core/types.ts";
import type { Delivery } from "../../packages/queue/src/core/messages.ts";
import type { SimNode } from "./node.ts";
import { Walks } from "./walks.ts";
import { Dice } from "./scenario.ts";
import type { World } from "./world.ts";

/** How far a wall clock is set back or forth at most, in runs that have wrong clocks. */
export const CLOCK_STEP_MS = 3_000;

/** Mean time between two nodes' being told of other options. */
const ALTER_MS = 300;
/** Leases that they are told of, in milliseconds. */
export const ALTERED_LEASES_MS: readonly number[] = [400, 1_000, 3_000];
const ALTER_SEED = 3_000_000_019;

/** One thing an application asked of its node, until it is answered or the process ends. */
export interface Request {
  readonly id: number;
  readonly node: SimNode;
  readonly boot: number;
  readonly kind: "enqueue" | "verdict" | "resolve" | "manage";
  readonly askedAt: number;
  readonly deadlineAt: number;
  readonly lane?: LaneId;
  readonly seq?: number;
  readonly epoch?: number;
  readonly verdict?: Verdict;
}

/** A message in an application's hands. */
interface Handling {
  readonly item: Delivery;
  readonly node: SimNode;
  asked: boolean;
}

/** The applications: producers, consumers and what their handlers do. */
export class Workload {
  readonly requests = new Map<number, Request>();
  /** Enqueues whose message is known to exist, and where. */
  readonly acknowledged = new Map<string, number>();
  enqueued = 0;
  readonly #world: World;
  readonly #handling = new Map<string, Handling>();
  /** Consumers by node: they live as long as its process. */
  readonly #sessions = new Map<SimNode, string[]>();
  /** Consumers of dead messages. */
  readonly #undertakers = new Set<string>();
  readonly #walks: Walks;
  #nextId = 1;
  #nextSession = 1;
  #calm = false;
  /** Of its own: what else is drawn under a seed stays as it is. */
  readonly #alterDice: Dice | undefined;

  constructor(world: World) {
    this.#world = world;
    if (world.scenario.alters) this.#alterDice = new Dice(world.seed + ALTER_SEED);
    this.#walks = new Walks(world, (node, waitMs) => this.#ask({ node, kind: "manage" }, waitMs));
  }

  begin(): void {
    const { scenario, events, dice } = this.#world;
    events.in(dice.pick([0, 20, 500]), () => this.#produce());
    if (scenario.rosterMs > 0) events.in(dice.wait(scenario.rosterMs), () => this.#changeRoster());
    if (scenario.operateMs > 0) events.in(dice.wait(scenario.operateMs), () => this.#operate());
    if (scenario.walkMs > 0) events.in(dice.wait(scenario.walkMs), () => this.#walk());
    if (this.#alterDice !== undefined) events.in(this.#alterDice.wait(ALTER_MS), () => this.#alter());
    if (scenario.deletes) events.in(dice.real(0.1, 0.9) * scenario.chaosMs, () => this.#deleteSoon());
  }

  /** From now on every message is acknowledged at once. */
  calm(): void {
    this.#calm = true;
    this.#pause(false);
    const { nodes, dice, queue } = this.#world;
    const policy = undefined;
    for (const node of nodes) if (node.state === "up") node.enter({ type: "alter", queue, policy });
    const left = nodes.filter(
      (node) =>
        node.state === "up" && this.#sessions.get(node)?.some((session) => !this.#undertakers.has(session)),
    );
    // Fresh consumers bring fresh credit: often those that saw the faults have to do.
    if (left.length === 0 || dice.chance(0.3)) {
      for (const node of nodes) if (node.state === "up") this.#consume(node, 8);
    }
    for (const handling of this.#handling.values()) {
      this.#world.events.in(this.#world.dice.real(0, 50), () => this.#judge(handling, { kind: "ack" }));
    }
  }

  onStart(node: SimNode): void {
    const { dice, scenario } = this.#world;
    const count = this.#calm ? 1 : dice.whole(0, Math.ceil((scenario.consumersMax * 2) / scenario.nodes));
    this.#sessions.set(node, []);
    for (let i = 0; i < Math.min(count, 4); i += 1) this.#consume(node, dice.whole(1, scenario.prefetchMax));
  }

  onKilled(node: SimNode): void {
    this.#sessions.set(node, []);
    for (const [key, handling] of this.#handling) if (handling.node === node) this.#handling.delete(key);
    for (const request of this.requests.values()) {
      if (request.node !== node) continue;
      this.requests.delete(request.id);
      this.#world.checker.onUnknown(request);
    }
  }

  // Producers.

  #produce(): void {
    const { scenario, events, dice, nodes } = this.#world;
    if (this.enqueued >= scenario.messages || this.#calm) return;
    const burst = dice.chance(0.2) ? dice.whole(2, 8) : 1;
    const node = dice.pick(nodes);
    for (let i = 0; i < burst; i += 1) this.#enqueue(node);
    events.in(dice.wait(scenario.enqueueMs), () => this.#produce());
  }

  #enqueue(node: SimNode): void {
    const { scenario, dice, queue, checker } = this.#world;
    if (node.state !== "up") return;
    this.enqueued += 1;
    const waitMs = dice.real(0.2, 1) * scenario.enqueueDeadlineMs;
    const id = this.#ask({ node, kind: "enqueue" }, waitMs);
    const body = new Uint8Array(4 + dice.whole(0, scenario.bodyBytes));
    new DataView(body.buffer).setUint32(0, id);
    const hash = bodyHash(body);
    const attributes = this.#attributes(node);
    checker.onEnqueue(this.requests.get(id)!, body, hash, attributes.attributes);
    node.enter({
      type: "enqueue",
      requestId: id,
      queue,
      body,
      bodyHash: hash,
      ...attributes,
      deadlineMs: node.now().monoMs + waitMs,
    });
  }

  /** Now and then a message is more than its body: its attributes must outlive every step of it. */
  #attributes(node: SimNode): { notBeforeWallMs: number; attributes: Attributes | undefined } {
    const { scenario, dice } = this.#world;
    const order = this.#order();
    if (!dice.chance(scenario.attributed)) {
      const isPlain = order.group === undefined && order.dedupKey === undefined;
      const headerBytes = scenario.attributed > 0 ? this.requests.size % 3 : 0;
      if (isPlain) return { notBeforeWallMs: 0, attributes: headed(headerBytes) };
      return { notBeforeWallMs: 0, attributes: { ...NO_ATTRIBUTES, ...order } };
    }
    const { wallMs } = node.now();
    const dueMs = dice.pick([0, 0, 50, 3_000]);
    const liveMs = dice.pick([0, 0, 500, 5_000]);
    return {
      notBeforeWallMs: dueMs === 0 ? 0 : Math.ceil(wallMs + dueMs),
      attributes: {
        ...NO_ATTRIBUTES,
        priority: dice.whole(0, 9),
        headerBytes: dice.whole(0, 4),
        expiresAtWallMs: liveMs === 0 ? 0 : Math.ceil(wallMs + liveMs),
        ...order,
      },
    };
  }

  #order(): { group: string | undefined; dedupKey: string | undefined } {
    const { scenario, dice } = this.#world;
    const { shards, groups, keys } = scenario;
    const group = shards > 0 && groups > 0 && dice.chance(0.8) ? `g${dice.whole(1, groups)}` : undefined;
    const dedupKey = shards > 0 && keys > 0 && dice.chance(0.7) ? `k${dice.whole(1, keys)}` : undefined;
    return { group, dedupKey };
  }

  #ask(what: Omit<Request, "id" | "boot" | "askedAt" | "deadlineAt">, waitMs: number): number {
    const id = this.#nextId;
    this.#nextId += 1;
    const { now } = this.#world.events;
    this.requests.set(id, { ...what, id, boot: what.node.boot, askedAt: now, deadlineAt: now + waitMs });
    return id;
  }

  // Consumers.

  #consume(node: SimNode, prefetch: number): void {
    const session = this.#nextSession.toString(16).padStart(16, "0");
    this.#nextSession += 1;
    this.#sessions.get(node)?.push(session);
    const { queue, scenario, dice } = this.#world;
    const wanted = !this.#calm && dice.chance(scenario.undertaking) ? deadViewOf(queue) : queue;
    if (wanted !== queue) this.#undertakers.add(session);
    node.enter({ type: "consume", session, queue: wanted, prefetch });
  }

  #changeRoster(): void {
    if (this.#calm) return;
    const { scenario, events, dice, nodes } = this.#world;
    const node = dice.pick(nodes);
    const sessions = this.#sessions.get(node) ?? [];
    if (node.state === "up") {
      if (sessions.length > 0 && dice.chance(0.5)) {
        const session = sessions.splice(dice.whole(0, sessions.length - 1), 1)[0]!;
        node.enter({ type: "endConsumer", session });
      } else if (sessions.length < 4) this.#consume(node, dice.whole(1, scenario.prefetchMax));
    }
    events.in(dice.wait(scenario.rosterMs), () => this.#changeRoster());
  }

  // Operators.

  /** Each node hears at its own time, and one that starts does so with the options that were declared: they never have to agree. */
  #alter(): void {
    const { scenario, events, nodes, queue } = this.#world;
    const dice = this.#alterDice;
    if (this.#calm || dice === undefined) return;
    events.in(dice.wait(ALTER_MS), () => this.#alter());
    const node = dice.pick(nodes);
    if (node.state !== "up") return;
    const limits = { maxDeliveries: scenario.maxDeliveries, maxLength: dice.pick([undefined, 3, 20]) };
    const deadTtlMs = dice.pick([undefined, 1_000, 20_000]);
    const policy = { ...limits, deadTtlMs, leaseMs: dice.pick(ALTERED_LEASES_MS) };
    node.enter({ type: "alter", queue, policy: dice.chance(0.2) ? undefined : policy });
  }

  #operate(): void {
    const { scenario, events, dice, nodes, queue } = this.#world;
    if (this.#calm) return;
    events.in(dice.wait(scenario.operateMs), () => this.#operate());
    if (scenario.wrongClockMs !== 0) dice.pick(nodes).stepClock(dice.real(-CLOCK_STEP_MS, CLOCK_STEP_MS));
    if (dice.chance(0.2)) this.#pause(true);
    else if (dice.chance(0.5)) this.#pause(false);
    const node = dice.pick(nodes);
    if (node.state !== "up") return;
    const waitMs = dice.real(20, 2_000);
    const deadlineMs = node.now().monoMs + waitMs;
    const requestId = this.#ask({ node, kind: "manage" }, waitMs);
    const act = dice.pick(["list", "count", "redrive", "redrive", "discard"] as const);
    // Away with few of them, or little is left to be tried.
    const scope =
      act === "discard" ? dice.pick(["ready", "dead"] as const) : dice.pick(["any", "dead"] as const);
    const limit = act === "discard" ? nodes.length : 100;
    const request = { requestId, queue, act, scope, limit, deadlineMs };
    node.enter({ type: "manage", ...request, only: undefined, from: undefined });
  }

  #walk(): void {
    const { scenario, events, dice, nodes } = this.#world;
    if (this.#calm) return;
    this.#walks.begin(dice.pick(nodes));
    events.in(dice.wait(scenario.walkMs), () => this.#walk());
  }

  /** From a node that is up. */
  #deleteSoon(): void {
    const { dice, nodes, events } = this.#world;
    const node = dice.pick(nodes);
    if (node.state === "up") this.#world.deleteQueue(node);
    else if (!this.#calm) events.in(20, () => this.#deleteSoon());
  }

  delete(node: SimNode): void {
    const waitMs = this.#world.dice.real(20, 2_000);
    const request = { requestId: this.#ask({ node, kind: "manage" }, waitMs), queue: this.#world.queue };
    const rest = { only: undefined, from: undefined, limit: 1, deadlineMs: node.now().monoMs + waitMs };
    node.enter({ type: "manage", act: "delete", scope: "any", ...request, ...rest });
  }

  #pause(paused: boolean): void {
    const { nodes, queue } = this.#world;
    for (const node of nodes) if (node.state === "up") node.enter({ type: "pause", queue, paused });
  }

  // What comes back.

  onEffect(node: SimNode, effect: QueueEffect): void {
    switch (effect.type) {
      case "leaseLost":
        return this.#onLeaseLost(node, keyOf(node, effect));
      case "enqueued": {
        const request = this.#answered(effect.requestId);
        const { result } = effect;
        if (request === undefined) return;
        this.#world.checker.onEnqueued(request, result);
        if (result.code === "INDETERMINATE" && result.lane !== undefined) {
          this.#resolveLater(result.lane, result.seq);
        }
        return;
      }
      case "verdict": {
        const request = this.#answered(effect.requestId);
        if (request === undefined) return;
        const { lane, seq, epoch } = request;
        if (lane !== undefined && seq !== undefined && epoch !== undefined) {
          this.#handling.delete(keyOf(request.node, { lane, seq, epoch }));
        }
        return this.#world.checker.onVerdict(request, effect.code);
      }
      case "managed":
        this.#answered(effect.requestId);
        return this.#walks.onManaged(effect.requestId, effect.result);
      case "resolved": {
        const request = this.#answered(effect.requestId);
        if (request === undefined) return;
        return this.#world.checker.onResolved(request, effect.resolution);
      }
      default:
        return;
    }
  }

  #answered(id: number): Request | undefined {
    const request = this.requests.get(id);
    if (request === undefined) return this.#world.violate("ANSWERED_ONCE", `request ${id} is answered again`);
    this.requests.delete(id);
    const lateMs = this.#world.events.now - request.deadlineAt;
    // Clocks differ, timers fire in steps of 10 ms, and what stood still answers late.
    if (lateMs > 100 && this.#world.scenario.faults.stall === 0) {
      this.#world.violate(
        "ANSWERED_IN_TIME",
        `${request.kind} ${id} is answered ${lateMs.toFixed(0)} ms late`,
      );
    }
    return request;
  }

  #resolveLater(lane: LaneId, seq: number): void {
    const { events, dice, nodes } = this.#world;
    if (dice.chance(0.3)) return;
    events.in(dice.real(0, 2_000), () => {
      const node = dice.pick(nodes);
      if (node.state !== "up") return;
      const waitMs = dice.real(100, 5_000);
      const id = this.#ask({ node, kind: "resolve", lane, seq }, waitMs);
      node.enter({ type: "resolve", requestId: id, lane, seq, deadlineMs: node.now().monoMs + waitMs });
    });
  }

  // Handlers.

  giveBack(node: SimNode, item: Delivery): void {
    const handling: Handling = { item, node, asked: false };
    this.#handling.set(keyOf(node, item), handling);
    this.#judge(handling, { kind: "release" });
  }

  handle(node: SimNode, item: Delivery): void {
    const { scenario, events, dice } = this.#world;
    const handling: Handling = { item, node, asked: false };
    this.#handling.set(keyOf(node, item), handling);
    const isDead = item.reason !== undefined;
    const verdict = this.#calm ? ({ kind: "ack" } as const) : isDead ? this.#drawDead() : this.#draw();
    if (verdict === undefined) {
      // Hangs: perhaps for several renewals, perhaps until well after it lost the lease.
      const afterMs = dice.real(0.5, 4) * scenario.leaseMs;
      events.in(afterMs, () => this.#judge(handling, { kind: "ack" }));
    } else {
      const forMs = dice.wait(this.#calm ? Math.min(20, scenario.handleMs) : scenario.handleMs);
      events.in(forMs, () => this.#judge(handling, verdict));
    }
  }

  #draw(): Verdict | undefined {
    const { scenario, dice } = this.#world;
    if (dice.chance(scenario.hang)) return undefined;
    if (dice.chance(scenario.nack)) return { kind: "nack", delayMs: dice.pick([0, 0, 50, 800, undefined]) };
    if (dice.chance(scenario.release)) return { kind: "release" };
    if (dice.chance(scenario.reject)) return { kind: "reject", reason: "unwanted" };
    return { kind: "ack" };
  }

  #drawDead(): Verdict | undefined {
    const { dice } = this.#world;
    return dice.chance(0.4) ? { kind: "redrive" } : this.#draw();
  }

  #onLeaseLost(node: SimNode, key: string): void {
    const { events, dice } = this.#world;
    const handling = this.#handling.get(key);
    if (handling?.node !== node) return;
    if (this.#world.isTranquil && !this.#world.isDeleted)
      this.#world.violate("LEASE_KEPT", `${node.peer} lost ${key} for no reason`);
    // Some handlers stop at the signal, some do not care.
    const verdict: Verdict = dice.chance(0.5) ? { kind: "release" } : { kind: "ack" };
    if (dice.chance(0.7)) events.in(dice.real(0, 100), () => this.#judge(handling, verdict));
  }

  #judge(handling: Handling, verdict: Verdict): void {
    const { item, node } = handling;
    if (handling.asked || this.#handling.get(keyOf(node, item)) !== handling) return;
    handling.asked = true;
    const { lane, seq, epoch } = item;
    const waitMs = this.#world.dice.real(0.5, 1) * this.#world.scenario.verdictDeadlineMs;
    const id = this.#ask({ node, kind: "verdict", lane, seq, epoch, verdict }, waitMs);
    const deadlineMs = node.now().monoMs + waitMs;
    node.enter({ type: "verdict", requestId: id, lane, seq, epoch, verdict, deadlineMs });
  }

  /** Messages in handlers' hands. */
  get handling(): number {
    return this.#handling.size;
  }
}

/** Where machines lose power, two may have one epoch. */
function keyOf({ peer }: SimNode, { lane, seq, epoch }: Pick<Delivery, "lane" | "seq" | "epoch">): string {
  return `${lane}-${seq}-${epoch} ${peer}`;
}
