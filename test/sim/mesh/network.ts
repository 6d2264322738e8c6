import { randomBelow } from "@klatsch/kit/core";
import { encodeMemberMessage } from "../../../packages/mesh/src/codec/link-codec.ts";
import type { MemberMessage, MemberRecord } from "../../../packages/mesh/src/core/messages.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

const DIAL_TIMEOUT_MS = 3_000;
/** A node takes this many new connections in a second; the rest is turned away, as by libp2p. */
const INBOUND_PER_SECOND = 200;
/** A frame's header; a batch's Noise tag and yamux header; its IP and TCP headers and the packet that acknowledges it. */
const FRAME_BYTES = 6;
const BATCH_BYTES = 16 + 12 + 52 + 52;

/** What a broken host does. */
export interface NetworkFlaws {
  /** The end of a connection that was one too many is told as the end of the link. */
  readonly duplicateCloses?: boolean;
  /** A peer that accepts a connection and says nothing is told as one that refuses. */
  readonly silenceRefuses?: boolean;
}

/** One end of a link. Both ends have the same number while it works. */
interface End {
  readonly link: number;
  /** When the last batch sent this way arrives: a connection keeps its order. */
  arrivalMs: number;
}

interface Split {
  readonly groupOf: ReadonlyMap<string, number>;
  readonly fromMs: number;
  untilMs: number;
}

/**
 * Connections between processes. Frames of a pair stay in order; they may be late or lost. A killed process
 * closes its connections and refuses, a paused one does neither, a partition swallows everything.
 */
export class Network {
  lossShare = 0;
  /** A fault planted on purpose: what a sender says instead. */
  corrupt: ((message: MemberMessage) => MemberMessage) | undefined;
  latencyMs: readonly [number, number] = [1, 5];
  /** Counts what is sent. Off by default: encoding everything costs as much as everything else. */
  isCounting = false;
  sentBytes = 0;
  sentFrames = 0;
  /** Bytes by type of message. */
  readonly sentByType: Map<string, number> = new Map();
  readonly #world: World;
  readonly #ends = new Map<string, Map<string, End>>();
  readonly #outboxes = new Map<SimNode, Map<string, MemberMessage[]>>();
  readonly #splits: Split[] = [];
  /** `from>to`: nothing gets through this way. */
  readonly #oneWay = new Set<string>();
  /** `from>to`: a firewall that answers. */
  readonly #refusing = new Set<string>();
  /** `a b` in order: since when firewalls alone keep the two apart, and until when. */
  readonly #cutOff = new Map<string, { readonly fromMs: number; untilMs: number }>();
  /** `a b` in order: when a firewall between the two was last taken away. */
  readonly #mendedMs = new Map<string, number>();
  /** When somebody could last be heard that could not be reached. */
  #heardOneWayMs = -Infinity;
  #lastLink = 0;

  readonly #flaws: NetworkFlaws;

  constructor(world: World, flaws: NetworkFlaws) {
    this.#flaws = flaws;
    this.#world = world;
  }

  /** Splits the network; whoever is in no group shares one. */
  split(groups: readonly (readonly string[])[]): void {
    this.heal();
    const groupOf = new Map(
      groups.flatMap((group, number) => group.map((name) => [name, number + 1] as const)),
    );
    this.#splits.push({ groupOf, fromMs: this.#world.nowMs, untilMs: Infinity });
    this.changed();
  }

  heal(): void {
    const split = this.#splits.at(-1);
    if (split?.untilMs === Infinity) split.untilMs = this.#world.nowMs;
    this.changed();
  }

  /** Since when packets find a way between the two, over others if need be; −∞ if ever, ∞ if not now. */
  joinedSinceMs(a: string, b: string): number {
    const cutMs = this.#cutOff.get(pairOf(a, b))?.untilMs ?? -Infinity;
    const directMs = this.#openSinceMs(a, b);
    // Over one other, though it went when there was a direct way; beyond that nobody is blamed.
    let sinceMs = directMs;
    for (const { name, wellSinceMs, endedMs, departedMs } of this.#world.nodes.values()) {
      if (name === a || name === b || Math.min(endedMs, departedMs) < directMs) continue;
      const overMs = Math.max(wellSinceMs, this.#openSinceMs(a, name));
      if (overMs < sinceMs) sinceMs = Math.min(sinceMs, Math.max(overMs, this.#openSinceMs(name, b)));
    }
    return Math.max(cutMs, sinceMs);
  }

  /** Since when nothing stands between the two themselves. */
  #openSinceMs(a: string, b: string): number {
    if (!this.#isOpen(a, b) || !this.#isOpen(b, a)) return Infinity;
    for (let index = this.#splits.length - 1; index >= 0; index -= 1) {
      const split = this.#splits[index]!;
      if ((split.groupOf.get(a) ?? 0) !== (split.groupOf.get(b) ?? 0)) return split.untilMs;
    }
    if (this.#mendedMs.size === 0) return -Infinity;
    return this.#mendedMs.get(pairOf(a, b)) ?? -Infinity;
  }

  /** Since when they do not; ∞ if they do now. */
  partedSinceMs(a: string, b: string): number {
    const cut = this.#cutOff.get(pairOf(a, b));
    const oneWayMs = this.#oneWay.size > 0 ? this.#world.nowMs : this.#heardOneWayMs;
    const cutMs = cut?.untilMs === Infinity ? Math.max(cut.fromMs, oneWayMs) : Infinity;
    return Math.min(this.#splitSinceMs(a, b), cutMs);
  }

  /** Firewalls, or who is there behind them, have changed. */
  changed(): void {
    if (this.#refusing.size + this.#oneWay.size + this.#cutOff.size === 0) return;
    const names = [...this.#world.nodes.values()]
      .filter(({ state }) => state !== "ended")
      .map(({ name }) => name);
    const partOf = this.#parts(names);
    for (const a of names) {
      for (const b of names) {
        if (a >= b) continue;
        const known = this.#cutOff.get(pairOf(a, b));
        if (partOf.get(a) === partOf.get(b)) {
          if (known?.untilMs === Infinity) known.untilMs = this.#world.nowMs;
        } else if (known?.untilMs !== Infinity)
          this.#cutOff.set(pairOf(a, b), { fromMs: this.#world.nowMs, untilMs: Infinity });
      }
    }
  }

  /** Two nodes lose their connection and are refused when they redial: a firewall between them alone. */
  cut(a: string, b: string): void {
    this.#refusing.add(`${a}>${b}`).add(`${b}>${a}`);
    this.disconnect(a, b, "cut");
    this.changed();
  }

  mend(a: string, b: string): void {
    for (const way of [`${a}>${b}`, `${b}>${a}`]) {
      this.#refusing.delete(way);
      if (this.#oneWay.delete(way)) this.#heardOneWayMs = this.#world.nowMs;
    }
    this.#mendedMs.set(pairOf(a, b), this.#world.nowMs);
    this.changed();
  }

  /** Packets of one to the other vanish from now on, but not those of the other way. */
  silence(from: string, to: string): void {
    this.#oneWay.add(`${from}>${to}`);
    this.changed();
  }

  isLinked(a: string, b: string): boolean {
    const link = this.#end(a, b)?.link;
    return link !== undefined && link === this.#end(b, a)?.link;
  }

  /** Peers to whom this process has a connection, as it believes. */
  linksOf(name: string): readonly string[] {
    return [...(this.#ends.get(name)?.keys() ?? [])];
  }

  send(from: SimNode, to: string, said: MemberMessage): void {
    const message = this.corrupt?.(said) ?? said;
    let outbox = this.#outboxes.get(from);
    if (outbox === undefined) {
      outbox = new Map();
      this.#outboxes.set(from, outbox);
      this.#world.soon(() => this.#flush(from));
    }
    const waiting = outbox.get(to);
    if (waiting === undefined) outbox.set(to, [message]);
    else waiting.push(message);
  }

  dial(from: SimNode, peer: string): void {
    const target = this.#world.nodes.get(peer);
    const done = (delayMs: number, outcome: "connected" | "refused" | "failed"): void => {
      this.#world.in(delayMs, () => from.enter({ type: "dialed", peer, outcome }));
    };
    if (!this.#passes(from.name, peer) || !this.#passes(peer, from.name)) done(DIAL_TIMEOUT_MS, "failed");
    else if (this.#refusing.has(`${from.name}>${peer}`)) done(1, "refused");
    else if (target === undefined || target.state === "ended") done(1, "refused");
    else if (target.state === "paused" && this.#flaws.silenceRefuses === true) done(10, "refused");
    else if (target.state === "paused") done(DIAL_TIMEOUT_MS, "failed");
    else if (!target.takesConnection(INBOUND_PER_SECOND)) done(2, "failed");
    else {
      done(4, "connected");
      this.#world.in(5, () => this.#connect(from, target));
    }
  }

  /** One end closes; the other learns of it unless nothing gets through. */
  disconnect(from: string, to: string, reason: string): void {
    const link = this.#end(from, to)?.link;
    if (link === undefined) return;
    this.#lose(from, to, link, reason);
    if (this.#passes(from, to))
      this.#world.in(1, () => this.#lose(to, from, link, "closed by the other end"));
  }

  /** The process is gone: the kernel closes what it had open. */
  closeAll(name: string): void {
    for (const to of this.linksOf(name)) this.disconnect(name, to, "process ended");
  }

  #flush(from: SimNode): void {
    const outbox = this.#outboxes.get(from);
    this.#outboxes.delete(from);
    if (outbox === undefined) return;
    for (const [to, messages] of outbox) {
      const end = this.#end(from.name, to);
      if (end === undefined) continue;
      if (this.isCounting) this.#count(messages);
      if (!this.#passes(from.name, to)) continue;
      const arriving = this.lossShare === 0 ? messages : messages.filter(() => !this.#isLost());
      if (arriving.length > 0) this.#transmit(from.name, to, end, arriving);
    }
  }

  #transmit(from: string, to: string, end: End, messages: readonly MemberMessage[]): void {
    const { nowMs, random } = this.#world;
    const [min, max] = this.latencyMs;
    const delayMs = min + randomBelow(random, (max - min) * 1_000 + 1) / 1_000;
    end.arrivalMs = Math.max(nowMs + delayMs, end.arrivalMs);
    this.#world.at(end.arrivalMs, () => {
      if (!this.#passes(from, to)) return;
      // A frame on a connection that the other end has given up is answered with a reset.
      if (this.#end(to, from)?.link !== end.link) this.#lose(from, to, end.link, "reset");
      else
        for (const message of messages)
          this.#world.nodes.get(to)?.enter({ type: "message", peer: from, message });
    });
  }

  #connect(from: SimNode, to: SimNode): void {
    if (from.state === "ended" || to.state === "ended") return;
    if (!this.#passes(from.name, to.name) || !this.#passes(to.name, from.name)) return;
    const [ours, theirs] = [this.#end(from.name, to.name)?.link, this.#end(to.name, from.name)?.link];
    if (ours !== undefined && ours === theirs) {
      // A duplicate: the first is kept.
      if (this.#flaws.duplicateCloses === true)
        from.enter({ type: "linkDown", peer: to.name, reason: "duplicate" });
      return;
    }
    if (ours !== undefined) this.#lose(from.name, to.name, ours, "replaced");
    if (theirs !== undefined) this.#lose(to.name, from.name, theirs, "replaced");
    if (!from.membership.hasRoomFor(to.name) || !to.membership.hasRoomFor(from.name)) return;
    if (!from.membership.admits(to.name, to.membership.self.cloud)) return;
    if (!to.membership.admits(from.name, from.membership.self.cloud)) {
      from.enter({ type: "busy", peer: to.name, records: to.membership.referrals() });
      return;
    }
    this.#lastLink += 1;
    const link = this.#lastLink;
    this.#put(from.name, to.name, link);
    this.#put(to.name, from.name, link);
    // Both greet before either has heard the other.
    const [ourHello, theirHello] = [helloOf(from), helloOf(to)];
    from.enter({ type: "linkUp", link, ...theirHello });
    to.enter({ type: "linkUp", link, ...ourHello });
  }

  #lose(from: string, to: string, link: number, reason: string): void {
    if (this.#end(from, to)?.link !== link) return;
    this.#ends.get(from)?.delete(to);
    this.#world.nodes.get(from)?.enter({ type: "linkDown", peer: to, reason });
  }

  #end(from: string, to: string): End | undefined {
    return this.#ends.get(from)?.get(to);
  }

  #put(from: string, to: string, link: number): void {
    const ends = this.#ends.get(from) ?? new Map<string, End>();
    ends.set(to, { link, arrivalMs: 0 });
    this.#ends.set(from, ends);
  }

  #passes(from: string, to: string): boolean {
    if (this.#oneWay.size > 0 && this.#oneWay.has(`${from}>${to}`)) return false;
    return this.#splitSinceMs(from, to) === Infinity;
  }

  #splitSinceMs(a: string, b: string): number {
    const split = this.#splits.at(-1);
    if (split === undefined || split.untilMs !== Infinity) return Infinity;
    return (split.groupOf.get(a) ?? 0) === (split.groupOf.get(b) ?? 0) ? Infinity : split.fromMs;
  }

  /** Numbers the parts of the network between which nothing travels. */
  #parts(names: readonly string[]): ReadonlyMap<string, number> {
    const partOf = new Map<string, number>();
    const isAwake = (name: string): boolean => {
      const node = this.#world.nodes.get(name);
      return node?.state === "running" && node.departedAs === undefined;
    };
    for (const [number, start] of names.filter(isAwake).entries()) {
      const waiting = partOf.has(start) ? [] : [start];
      for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
        if (partOf.has(name)) continue;
        partOf.set(name, number);
        // Who sleeps, or takes its leave, passes nothing on.
        if (!isAwake(name)) continue;
        for (const other of names) if (!partOf.has(other) && this.#isOpen(name, other)) waiting.push(other);
      }
    }
    return partOf;
  }

  /** Whether the one can dial the other. */
  #isOpen(from: string, to: string): boolean {
    if (!this.#passes(from, to) || !this.#passes(to, from)) return false;
    return this.#refusing.size === 0 || !this.#refusing.has(`${from}>${to}`);
  }

  #isLost(): boolean {
    return this.#world.random.uint32() / 2 ** 32 < this.lossShare;
  }

  #count(messages: readonly MemberMessage[]): void {
    this.sentBytes += BATCH_BYTES;
    for (const message of messages) {
      for (const payload of encodeMemberMessage(message)) {
        this.sentBytes += FRAME_BYTES + payload.length;
        this.sentByType.set(message.type, (this.sentByType.get(message.type) ?? 0) + payload.length);
        this.sentFrames += 1;
      }
    }
  }
}

function helloOf({ membership: { self, digest } }: SimNode): {
  readonly peer: string;
  readonly record: MemberRecord;
  readonly digest: number;
} {
  return { peer: self.peer, record: self, digest };
}

function pairOf(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
