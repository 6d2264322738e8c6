import type { PeerStatus } from "../../packages/queue/src/core/members.ts";
import type { StoredRecord } from "../../packages/queue/src/core/records.ts";
import type { Descriptor } from "../../packages/queue/src/core/types.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Breaks machines and wires, and tells nodes what a mesh would tell them of each other. */
export class FaultMaker {
  readonly #world: World;
  /** What each node was told last of each other node. */
  readonly #told = new Map<string, PeerStatus>();
  /** Of them, those that lost their end and do not know it yet. */
  readonly #cutStores = new Map<string, number>();
  /** Stores that are gone for good. */
  readonly #lost = new Set<string>();
  #failNext: SimNode | undefined;
  #over = false;
  /** Leases may overlap: somebody paused, or was taken for dead while it lived. */
  overlapExcused = false;

  constructor(world: World) {
    this.#world = world;
  }

  begin(): void {
    const { faults } = this.#world.scenario;
    this.#repeat(faults.crash, () => this.#crash());
    this.#repeat(faults.commitFailure, () => {
      this.#failNext = this.#anyNode();
    });
    this.#repeat(faults.reset, () => this.#reset());
    this.#repeat(faults.partition, () => this.#partition());
    this.#repeat(faults.oneWay, () => this.#oneWay());
    this.#repeat(faults.stall, () => this.#stall());
    this.#repeat(faults.falseSuspect, () => this.#accuse("suspect"));
    this.#repeat(faults.falseDeath, () => this.#accuse("dead"));
    this.#repeat(faults.loss, () => this.#lose());
    this.#repeat(faults.tail, () => this.#cutTail());
  }

  #repeat(meanMs: number, fault: () => void): void {
    if (meanMs <= 0) return;
    const next = (): void => {
      this.#world.events.in(this.#world.dice.wait(meanMs), () => {
        if (this.#over) return;
        fault();
        next();
      });
    };
    next();
  }

  /** No fault any more; what is broken is mended. */
  end(): void {
    const { nodes } = this.#world;
    this.#over = true;
    this.#failNext = undefined;
    for (const node of nodes) node.stalledUntil = Math.min(node.stalledUntil, this.#world.events.now);
    for (const node of nodes) {
      if (node.state === "failed") this.kill(node);
      if (node.state === "down" && !node.hasLeft) this.#restart(node, 0);
    }
  }

  #anyNode(): SimNode {
    return this.#world.dice.pick(this.#world.nodes);
  }

  /** Whether the commit that begins now is to fail. */
  takeCommitFailure(node: SimNode): boolean {
    if (this.#failNext !== node) return false;
    this.#failNext = undefined;
    return true;
  }

  // Machines.

  #crash(): void {
    const node = this.#anyNode();
    if (node.state !== "up") return;
    this.kill(node);
    const { dice, scenario } = this.#world;
    this.#restart(node, dice.chance(0.3) ? dice.real(0, 50) : dice.wait(scenario.detectMs * 4));
  }

  kill(node: SimNode): void {
    const { network, workload, dice } = this.#world;
    this.#world.trace(() => `${node.peer} is killed`);
    this.#world.stats.crashes += 1;
    node.kill();
    workload.onKilled(node);
    network.drop(node.peer, dice.chance(0.5) ? 5 : 500);
    for (const other of this.#world.nodes) if (other !== node) this.#detect(other, node);
    // Numbers that were lost are in use again: opened once more, it cannot be told from one that lost nothing. PROTOCOL.md says so.
    if (node.batchNo >= (this.#cutStores.get(node.store) ?? Infinity)) node.replaceDisk();
  }

  #restart(node: SimNode, delayMs: number): void {
    this.#world.events.in(delayMs, () => {
      if (node.state === "down" && !node.hasLeft) this.#world.startNode(node);
    });
  }

  onStoreFailed(node: SimNode): void {
    const { events, dice } = this.#world;
    this.#world.workload.onKilled(node);
    events.in(dice.real(10, 2_000), () => {
      if (node.state !== "failed") return;
      this.kill(node);
      this.#restart(node, dice.real(0, 200));
    });
  }

  /** Its disk is gone, or it leaves for good; only as many stores of a lane as it may lose. */
  #lose(): void {
    const { dice, stats, nodes } = this.#world;
    const node = this.#anyNode();
    if (node.hasLeft || !this.#mayLose(node.store)) return;
    const leaves = nodes.filter((one) => !one.hasLeft).length > 2 && dice.chance(0.3);
    this.#world.trace(() => `${node.peer} ${leaves ? "leaves for good" : "loses its disk"}`);
    stats.losses += 1;
    if (node.state !== "down") this.kill(node);
    this.#lost.add(node.store);
    node.hasLeft = leaves;
    if (leaves) for (const other of nodes) if (other !== node) this.#detect(other, node);
    if (leaves) return;
    node.replaceDisk();
    this.#restart(node, dice.real(10, 1_000));
  }

  /**
   * Its disk loses batches that were synced and answered. What all replicas of its lanes were told of it begins there:
   * the end that only some of them heard of is what the protocol cannot notice.
   */
  #cutTail(): void {
    const { nodes, stats } = this.#world;
    const node = this.#anyNode();
    if (node.state !== "up" || this.isLost(node.store) || !this.#mayLose(node.store)) return;
    let from = Infinity;
    for (const other of nodes) {
      if (other === node || other.hasLeft) continue;
      const echo = other.disk.synced.get(`e/${node.store}`);
      const told = echo?.kind === "echo" ? Math.max(echo.said.batchNo, echo.heard.batchNo) : 0;
      from = Math.min(from, told);
    }
    const content = from === 0 || from > node.batchNo ? undefined : node.disk.before(from);
    // Lanes that were closed or forgotten may be open again.
    if (content === undefined || [...content.values()].some((record) => this.#isScarce(record))) return;
    this.kill(node);
    this.#world.trace(() => `${node.peer} loses its batches from ${from} to ${node.batchNo}`);
    stats.losses += 1;
    node.disk.cut(content);
    node.batchNo = from - 1;
    this.#lost.add(node.store);
    this.#cutStores.set(node.store, from);
    this.#restart(node, this.#world.dice.real(0, 500));
  }

  /** A lane that can do without no further replica. */
  #isScarce(record: StoredRecord): boolean {
    if (record.kind !== "lane") return false;
    const { length } = record.descriptor.replicas;
    return this.lostOf(record.descriptor) + 1 > length - Math.floor(length / 2) - 1;
  }

  isCut({ store }: SimNode): boolean {
    return this.#cutStores.has(store);
  }

  /** The host puts a store aside whose end is missing, and opens another. */
  quarantine(node: SimNode): void {
    this.#world.trace(() => `${node.peer}'s store is put aside`);
    this.#world.stats.quarantined += 1;
    this.kill(node);
    node.replaceDisk();
    this.#restart(node, this.#world.dice.real(10, 500));
  }

  /** No lane that some store still keeps open loses more than f of its replicas. */
  #mayLose(lost: string): boolean {
    const open = new Set<string>();
    for (const { disk } of this.#world.nodes) {
      for (const record of disk.view.values())
        if (record.kind === "lane" && !record.closed) open.add(record.lane);
    }
    // An heir of an ordered lane is on no disk until END names it.
    const planned = this.#world.nodes.flatMap(({ core }) => core?.heirs() ?? []);
    if (planned.some((heir) => this.#isAtLimit(heir, lost))) return false;
    const { truth } = this.#world.checker;
    for (const known of truth.lanes.values()) {
      const { lane, descriptor, ends } = known;
      // One whose heir has everything may lose as many as there are.
      if (!open.has(lane) || truth.heirOf(known)?.end !== undefined) continue;
      const heirs = ends.flatMap(({ value: { heir } }) => heir ?? []);
      if ([descriptor, ...heirs].some((one) => this.#isAtLimit(one, lost))) return false;
    }
    return true;
  }

  #isAtLimit({ replicas }: Descriptor, lost: string): boolean {
    const quorum = Math.floor(replicas.length / 2) + 1;
    const isOn = replicas.some(({ store }) => store === lost);
    return isOn && this.lostOf({ replicas }) + 1 > replicas.length - quorum;
  }

  isLost(store: string): boolean {
    return this.#lost.has(store);
  }

  lostOf({ replicas }: Pick<Descriptor, "replicas">): number {
    return replicas.filter(({ store }) => this.#lost.has(store)).length;
  }

  /** Stopped by its scheduler: nothing runs, connections stay. */
  #stall(): void {
    const node = this.#anyNode();
    const { events, dice, scenario } = this.#world;
    const forMs = dice.real(10, 2.5 * scenario.leaseMs);
    node.stalledUntil = events.now + forMs;
    this.overlapExcused = true;
    this.#world.trace(() => `${node.peer} stands still for ${forMs.toFixed(0)} ms`);
    for (const other of this.#world.nodes) {
      if (other === node) continue;
      this.#detect(other, node);
      this.#detect(node, other);
    }
    if (!dice.chance(0.3)) return;
    events.in(dice.real(0, forMs), () => this.#world.network.drop(node.peer, 50));
  }

  // Wires.

  #reset(): void {
    const { network, dice, nodes } = this.#world;
    if (nodes.length < 2) return;
    const [a, b] = this.#two();
    network.reset(a.peer, b.peer, dice.pick([1, 20, 300]));
  }

  #two(): [SimNode, SimNode] {
    const a = this.#anyNode();
    for (;;) {
      const b = this.#anyNode();
      if (b !== a) return [a, b];
    }
  }

  #partition(): void {
    const { nodes, dice } = this.#world;
    const side = nodes.filter(() => dice.chance(0.4));
    const others = nodes.filter((node) => !side.includes(node));
    for (const a of side) for (const b of others) this.#cut(a, b, false, dice.real(50, 4_000));
  }

  #oneWay(): void {
    const { dice, nodes, scenario } = this.#world;
    if (nodes.length < 2) return;
    const [a, b] = this.#two();
    this.#cut(a, b, true, dice.real(20, 3 * scenario.leaseMs));
  }

  #cut(a: SimNode, b: SimNode, oneWay: boolean, forMs: number): void {
    const { network, events, dice, scenario } = this.#world;
    this.#world.trace(() => `${a.peer} ${oneWay ? "→" : "⇹"} ${b.peer} is cut for ${forMs.toFixed(0)} ms`);
    this.overlapExcused = true;
    network.block(a.peer, b.peer, oneWay);
    const noticeMs = dice.real(0.5, 3) * scenario.detectMs;
    if (noticeMs < forMs) {
      events.in(noticeMs, () => {
        if (!network.isOpen(a.peer, b.peer)) network.reset(a.peer, b.peer, 100);
      });
      this.#detect(a, b);
      this.#detect(b, a);
    }
    events.in(forMs, () => {
      network.unblock(a.peer, b.peer);
      this.#detect(a, b);
      this.#detect(b, a);
    });
  }

  // Verdicts of the mesh.

  #isWell(observer: SimNode, subject: SimNode): boolean {
    const { events, network } = this.#world;
    if (subject.state === "down" || subject.stalledUntil > events.now) return false;
    return network.isOpen(observer.peer, subject.peer);
  }

  /** Some time later `observer` judges `subject` by what is true then: suspect first, dead a while after. */
  #detect(observer: SimNode, subject: SimNode): void {
    const { events, dice, scenario } = this.#world;
    events.in(dice.real(0.2, 2) * scenario.detectMs, () => this.#judge(observer, subject));
  }

  #judge(observer: SimNode, subject: SimNode): void {
    if (observer.state === "down") return;
    const told = this.#toldOf(observer, subject);
    if (subject.hasLeft) return this.tell(observer, subject, "left");
    if (this.#isWell(observer, subject)) return this.tell(observer, subject, "alive");
    if (told === "dead" || told === "stopped") return;
    const stopped = subject.state === "down" && this.#world.dice.chance(0.2);
    this.tell(observer, subject, stopped ? "stopped" : told === "suspect" ? "dead" : "suspect");
    this.#detect(observer, subject);
  }

  #toldOf(observer: SimNode, subject: SimNode): PeerStatus | undefined {
    return this.#told.get(`${observer.peer} ${subject.peer}`);
  }

  tell(observer: SimNode, subject: SimNode, status: PeerStatus): void {
    if (this.#toldOf(observer, subject) === status) return;
    this.#told.set(`${observer.peer} ${subject.peer}`, status);
    if (status === "dead" && subject.state !== "down") {
      this.overlapExcused = true;
      // The accused hears of it sooner or later, and refutes.
      this.#world.events.in(this.#world.dice.real(1, 300), () => subject.enter({ type: "declaredDead" }));
    }
    observer.enter({ type: "peer", peer: subject.peer, status });
  }

  /** A new process knows nothing of the others until its mesh tells. */
  onStart(node: SimNode): void {
    const { nodes } = this.#world;
    for (const other of nodes) {
      if (other === node) continue;
      this.#told.delete(`${node.peer} ${other.peer}`);
      this.#detect(node, other);
      this.#detect(other, node);
    }
  }

  /** Keeps verdicts true after the last fault. */
  review(): void {
    const { nodes } = this.#world;
    for (const a of nodes) for (const b of nodes) if (a !== b) this.#detect(a, b);
  }

  #accuse(status: "suspect" | "dead"): void {
    const { nodes, dice, events } = this.#world;
    if (nodes.length < 2) return;
    const subject = this.#anyNode();
    const believers = nodes.filter((node) => node !== subject && node.state !== "down" && dice.chance(0.7));
    for (const observer of believers) {
      this.tell(observer, subject, "suspect");
      if (status === "dead") events.in(dice.real(1, 200), () => this.tell(observer, subject, "dead"));
      this.#detectLater(observer, subject);
    }
  }

  #detectLater(observer: SimNode, subject: SimNode): void {
    this.#world.events.in(this.#world.dice.real(100, 1_500), () => this.#judge(observer, subject));
  }
}
