import { randomBelow, SeededRandom } from "@klatsch/kit/core";
import type { SharedEntry, StateMessage } from "../../../packages/mesh/src/core/state/messages.ts";
import type { StateCore } from "../../../packages/mesh/src/core/state/state-core.ts";
import { SimNode } from "./node.ts";

export interface WorldInit {
  readonly seed: number;
  readonly size?: number;
  readonly coreClass?: typeof StateCore | undefined;
}

export interface Violation {
  readonly rule: "BACK" | "CLOCK" | "FORGED" | "CONTENT" | "CONVERGES" | "UNDEAD" | "FORGETS";
  readonly what: string;
}

interface Flight {
  readonly atMs: number;
  readonly from: string;
  readonly to: string;
  readonly link: number;
  readonly message: StateMessage;
}

export const MINUTE_MS = 60_000;
export const DAY_MS: number = 24 * 60 * MINUTE_MS;
const START_WALL_MS = 1_700_000_000_000;
const PROBE_MS = 1_250;
const KEYS = ["a", "b", "c", "d"] as const;

/**
 * Gossip state of several nodes over a network that is not full, in virtual time. Frames of a link stay in order;
 * they may be late or lost, and links come and go. One seed, one run. Rules are checked at each step of a node.
 */
export class World {
  readonly random: SeededRandom;
  readonly coreClass: typeof StateCore | undefined;
  readonly nodes: SimNode[];
  readonly sharedKeys: readonly string[] = KEYS.map((key) => `shared/${key}`);
  nowMs = 0;
  lossShare = 0;
  delayMsMax = 20;
  violation: Violation | undefined;
  sent = 0;
  #flights: Flight[] = [];
  /** Open links, both directions under one number. */
  readonly #links = new Map<string, number>();
  readonly #arrivals = new Map<string, number>();
  #lastLink = 0;
  #count = 0;

  constructor({ seed, size = 5, coreClass }: WorldInit) {
    this.random = new SeededRandom(seed);
    this.coreClass = coreClass;
    this.nodes = Array.from({ length: size }, (_, index) => new SimNode(this, `n${index}`));
    for (const node of this.nodes) node.start();
    for (const node of this.nodes) this.#introduce(node);
    for (let index = 0; index < size; index += 1) this.connect(index, (index + 1) % size);
  }

  get wallMs(): number {
    return START_WALL_MS + this.nowMs;
  }

  node(index: number): SimNode {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }

  below(bound: number): number {
    return randomBelow(this.random, bound);
  }

  violate(rule: Violation["rule"], what: string): void {
    this.violation ??= { rule, what: `at ${this.nowMs} ms: ${what}` };
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────

  run(durationMs: number): void {
    const until = this.nowMs + durationMs;
    while (this.nowMs < until && this.violation === undefined) {
      const probeAtMs = (Math.floor(this.nowMs / PROBE_MS) + 1) * PROBE_MS;
      const arrivals = this.#flights.map(({ atMs }) => atMs);
      const deadlines = this.nodes.map(({ deadline }) => deadline);
      const nextMs = Math.min(until, probeAtMs, ...arrivals, ...deadlines);
      this.nowMs = Math.max(this.nowMs + 1, nextMs);
      this.#deliver();
      for (const node of this.nodes) node.tick();
      if (this.nowMs === probeAtMs) this.#probe();
    }
  }

  /** Lets much time pass: nothing may be on its way. */
  leap(durationMs: number): void {
    this.nowMs += durationMs;
    for (const node of this.nodes) node.tick();
    this.run(1_000);
  }

  connect(a: number, b: number): void {
    const [from, to] = [this.node(a), this.node(b)];
    if (a === b || !from.running || !to.running || this.#linkOf(from.name, to.name) !== undefined) return;
    this.#lastLink += 1;
    this.#links.set(keyOf(from.name, to.name), this.#lastLink);
    from.enter({ type: "linkUp", peer: to.name, aheadMs: to.aheadMs - from.aheadMs });
    to.enter({ type: "linkUp", peer: from.name, aheadMs: from.aheadMs - to.aheadMs });
  }

  cut(a: number, b: number): void {
    const [from, to] = [this.node(a), this.node(b)];
    if (!this.#links.delete(keyOf(from.name, to.name))) return;
    from.enter({ type: "linkDown", peer: to.name });
    to.enter({ type: "linkDown", peer: from.name });
  }

  kill(index: number): void {
    const node = this.node(index);
    for (let other = 0; other < this.nodes.length; other += 1) this.cut(index, other);
    node.end();
    for (const other of this.nodes) other.enter({ type: "ended", peer: node.name });
  }

  restart(index: number): void {
    const node = this.node(index);
    if (node.running) this.kill(index);
    node.start();
    this.#introduce(node);
  }

  /** A node has another boot: membership tells. */
  booted(node: SimNode): void {
    for (const other of this.nodes) {
      if (other !== node) other.enter({ type: "joined", peer: node.name, boot: node.disk.boot });
    }
  }

  writeOwn(node: SimNode, isDeletion: boolean): void {
    const key = KEYS[this.below(KEYS.length)] ?? "a";
    node.core?.write(key, isDeletion ? undefined : this.#value());
    node.enter({ type: "tick" });
  }

  writeShared(
    node: SimNode,
    isDeletion: boolean,
    key = this.sharedKeys[this.below(KEYS.length)] ?? "",
  ): void {
    const value = isDeletion ? undefined : this.#value();
    node.enter({ type: "share", request: 0, key, value, override: false });
  }

  /** A member says that another one wrote this. */
  forge(by: SimNode, to: SimNode): void {
    const genuine = this.sharedKeys.flatMap((key) => by.core?.shared(key) ?? [])[0];
    if (genuine === undefined) return;
    const entry: SharedEntry = { ...genuine, value: this.#value(), valueHash: "x", l: genuine.l + 1_000 };
    this.send(by, to.name, { type: "shared", entries: [entry], toAll: false });
  }

  send(from: SimNode, to: string, message: StateMessage): void {
    this.sent += 1;
    const link = this.#linkOf(from.name, to);
    if (link === undefined || this.random.uint32() / 2 ** 32 < this.lossShare) return;
    const path = `${from.name}>${to}`;
    const atMs = Math.max(this.nowMs + 1 + this.below(this.delayMsMax), this.#arrivals.get(path) ?? 0);
    this.#arrivals.set(path, atMs);
    this.#flights.push({ atMs, from: from.name, to, link, message });
  }

  // ── what has to hold ───────────────────────────────────────────────────────────────────────────

  /** Equal heads mean equal content: whoever stands where the owner stands holds what the owner holds. */
  checkContent(): void {
    for (const owner of this.nodes) {
      const head = owner.core?.ownHead(owner.name);
      if (owner.core === undefined || head === undefined) continue;
      const content = publishedOf(owner.core, owner.name);
      for (const { name, core } of this.nodes) {
        const theirs = core?.ownHead(owner.name);
        if (core === undefined || theirs?.boot !== head.boot || theirs.version !== head.version) continue;
        if (publishedOf(core, owner.name) !== content) {
          this.violate("CONTENT", `${name} holds other than ${owner.name} at ${head.boot}/${head.version}`);
        }
      }
    }
  }

  /** All running nodes hold the same. */
  checkConverged(): void {
    const views = this.nodes.flatMap((node) => {
      const { core } = node;
      if (core === undefined) return [];
      const own = this.nodes.filter(({ running }) => running).map(({ name }) => publishedOf(core, name));
      const shared = this.sharedKeys.map((key) => {
        const entry = core.shared(key);
        return entry?.value === undefined
          ? ""
          : `${entry.writer} ${entry.l}/${entry.c} ${String(entry.value)}`;
      });
      return [{ name: node.name, view: JSON.stringify([own, shared]) }];
    });
    const [first] = views;
    const other = views.find(({ view }) => view !== first?.view);
    if (other !== undefined)
      this.violate("CONVERGES", `${other.name}: ${other.view}, ${first?.name}: ${first?.view}`);
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────

  #introduce(node: SimNode): void {
    for (const other of this.nodes) {
      if (other === node || !other.running) continue;
      other.enter({ type: "joined", peer: node.name, boot: node.disk.boot });
      node.enter({ type: "joined", peer: other.name, boot: other.disk.boot });
    }
  }

  #deliver(): void {
    const due = this.#flights.filter(({ atMs }) => atMs <= this.nowMs).sort((a, b) => a.atMs - b.atMs);
    if (due.length === 0) return;
    this.#flights = this.#flights.filter(({ atMs }) => atMs > this.nowMs);
    for (const { from, to, link, message } of due) {
      if (this.#linkOf(from, to) !== link) continue;
      this.nodes.find(({ name }) => name === to)?.receive(from, message);
      if (message.type === "delta" || message.type === "reset") this.checkContent();
    }
  }

  #probe(): void {
    for (const key of this.#links.keys()) {
      const [a = "", b = ""] = key.split("-");
      for (const node of this.nodes) {
        const hash = node.core?.hash;
        if (hash === undefined || (node.name !== a && node.name !== b)) continue;
        this.send(node, node.name === a ? b : a, { type: "hash", hash, wallMs: node.now().wallMs });
      }
    }
  }

  #linkOf(a: string, b: string): number | undefined {
    return this.#links.get(keyOf(a, b));
  }

  #value(): Uint8Array {
    this.#count += 1;
    return Uint8Array.of(this.#count >>> 8, this.#count & 0xff);
  }
}

function keyOf(a: string, b: string): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`;
}

/** What a member has published, as a node holds it. */
function publishedOf(core: StateCore, peer: string): string {
  return JSON.stringify([...core.published(peer)].sort().map(([key, value]) => `${key}=${String(value)}`));
}
