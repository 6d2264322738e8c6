import type { HeadsRange, OwnHead, StateMessage } from "./messages.ts";
import { headOf } from "./own-entries.ts";
import type { Namespace, OwnEntries } from "./own-entries.ts";
import { inRanges, isWithin, ReplyBudget } from "./reply-budget.ts";
import type { StateContext } from "./state-context.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Members heard of before membership knew them; more are found by comparing. */
const STRANGERS_MAX = 256;

/** Heads of one message: some 40 KiB. */
const HEADS_MAX = 512;
const HEAD_BYTES = 80;

type DeltaMessage = Extract<StateMessage, { type: "delta" | "reset" }>;

interface Flood {
  /** The version that others are taken to know. */
  from: number;
  /** Who told us, and need not hear it again. */
  readonly heardFrom: Set<string>;
}

/** How the own state of members travels: floods, pulls and comparisons. */
export class OwnExchange {
  readonly #context: StateContext;
  readonly #entries: OwnEntries;
  readonly #floods = new Map<string, Flood>();
  readonly #relays = new Map<string, TokenBucket>();
  readonly #pulledAt = new Map<string, number>();
  /** Whom membership does not know yet, and who told of them. */
  readonly #strangers = new Map<string, string>();

  constructor(context: StateContext, entries: OwnEntries) {
    this.#context = context;
    this.#entries = entries;
  }

  /** This node's own state has risen from version `from`. */
  published(from: number): void {
    this.#changed(this.#context.self, from, undefined);
  }

  /** A new neighbour learns first of all what this node says of itself. */
  greet(peer: string): void {
    const own = this.#entries.get(this.#context.self);
    if (own !== undefined && own.version > 0) this.#reply(peer, own, 0);
  }

  /** A member is there: somebody may have told of it already. */
  joined(peer: string): void {
    const teller = this.#strangers.get(peer);
    this.#strangers.delete(peer);
    const space = this.#entries.get(peer);
    this.#pulledAt.delete(peer);
    if (teller !== undefined && space !== undefined) this.#pull(teller, [space]);
  }

  forget(peer: string): void {
    this.#floods.delete(peer);
    this.#relays.delete(peer);
    this.#pulledAt.delete(peer);
  }

  onDelta(from: string, { type, delta, toAll }: DeltaMessage): void {
    const before = this.#entries.get(delta.peer);
    const known = before?.boot === delta.boot ? before.version : 0;
    switch (this.#entries.learn(delta, type === "reset", this.#context.nowMs)) {
      case "news":
        this.#pulledAt.delete(delta.peer);
        this.#context.learnt(from);
        if (!toAll) this.#changed(delta.peer, known, from);
        return;
      case "gap":
        if (before !== undefined) this.#pull(from, [before]);
        return;
      case "unknown":
        this.#noteStranger(delta.peer, from);
        return;
      case "impostor":
        this.#refute(delta.boot);
        return;
      case "tooLarge":
        this.#context.effect({ type: "refused", peer: from, reason: "STATE_TOO_LARGE", key: undefined });
        return;
      case "old":
        return;
    }
  }

  /** Lists what we have of a bucket. */
  sendHeads(bucket: number, to: string): void {
    for (const part of inRanges(bucket, this.#entries.heads(bucket), HEADS_MAX, ({ peer }) => peer)) {
      this.#context.send(to, { type: "ownHeads", ...part });
      this.#context.answered(to, part.heads.length * HEAD_BYTES);
    }
  }

  /** Somebody lists what it has of a bucket: sends what it lacks, asks for what we lack. */
  onHeads(from: string, range: HeadsRange, heads: readonly OwnHead[]): void {
    const budget = new ReplyBudget(this.#context.times.replyBytesMax);
    const wanted: Namespace[] = [];
    const listed = new Set<string>();
    for (const head of heads) {
      listed.add(head.peer);
      const space = this.#entries.get(head.peer);
      if (space === undefined) {
        this.#noteStranger(head.peer, from);
        continue;
      }
      const order = head.boot - space.boot || head.version - space.version;
      if (order < 0 && space.version > 0) this.#replyWithin(budget, from, space, knownOf(head, space));
      else if (order > 0 && head.boot > space.boot) this.#noteStranger(head.peer, from);
      else if (order > 0 && head.peer !== this.#context.self) wanted.push(space);
      else if (order > 0) this.#refute(head.boot);
    }
    for (const { peer } of this.#entries.heads(range.bucket)) {
      const space = this.#entries.get(peer);
      if (space === undefined || listed.has(peer) || !isWithin(peer, range)) continue;
      this.#replyWithin(budget, from, space, 0);
    }
    this.#context.answered(from, budget.spent);
    if (budget.isSpent) this.#context.compareBy(from, this.#context.nowMs + this.#context.times.continueMs);
    this.#pull(from, wanted);
  }

  onPull(from: string, heads: readonly OwnHead[]): void {
    const budget = new ReplyBudget(this.#context.times.replyBytesMax);
    for (const head of heads) {
      const space = this.#entries.get(head.peer);
      if (space === undefined || space.version === 0) continue;
      const order = head.boot - space.boot || head.version - space.version;
      if (order < 0) this.#replyWithin(budget, from, space, knownOf(head, space));
    }
    this.#context.answered(from, budget.spent);
  }

  /** Passes on what changed to all who did not tell us themselves. */
  flood(): void {
    if (this.#floods.size === 0) return;
    const { links, nowMs, self } = this.#context;
    const toAll = this.#context.reachesAll();
    for (const [peer, { from, heardFrom }] of this.#floods) {
      const space = this.#entries.get(peer);
      if (space !== undefined && peer !== self && !this.#relayOf(peer).take(nowMs)) continue;
      this.#floods.delete(peer);
      if (space === undefined || space.version <= from) continue;
      const { delta, whole } = this.#entries.since(space, from);
      for (const link of links.keys()) {
        if (link !== peer && !heardFrom.has(link)) {
          this.#context.send(link, { type: whole ? "reset" : "delta", delta, toAll });
        }
      }
    }
  }

  nextDeadline(): number {
    let atMs = Infinity;
    for (const peer of this.#floods.keys()) {
      atMs = Math.min(atMs, this.#relayOf(peer).nextAt(this.#context.nowMs));
    }
    return atMs;
  }

  /** Others hold what this process never said, an earlier one did: only a higher boot is believed by them. */
  #refute(boot: number): void {
    this.#context.effect({ type: "raiseBoot", above: boot });
  }

  #changed(peer: string, from: number, teller: string | undefined): void {
    const flood = this.#floods.get(peer) ?? { from, heardFrom: new Set() };
    flood.from = Math.min(flood.from, from);
    if (teller !== undefined) flood.heardFrom.add(teller);
    this.#floods.set(peer, flood);
  }

  #relayOf(peer: string): TokenBucket {
    const known = this.#relays.get(peer);
    if (known !== undefined) return known;
    const relay = new TokenBucket(this.#context.times.relayBudget, this.#context.nowMs);
    this.#relays.set(peer, relay);
    return relay;
  }

  #pull(from: string, spaces: readonly Namespace[]): void {
    const { nowMs, times } = this.#context;
    const due = spaces.filter(({ peer }) => {
      return nowMs - (this.#pulledAt.get(peer) ?? -Infinity) >= times.pullAgainMs;
    });
    if (due.length === 0) return;
    for (const { peer } of due) this.#pulledAt.set(peer, nowMs);
    this.#context.send(from, { type: "ownPull", heads: due.map(headOf) });
  }

  #reply(to: string, space: Namespace, version: number): void {
    const { delta, whole } = this.#entries.since(space, version);
    this.#context.send(to, { type: whole ? "reset" : "delta", delta, toAll: false });
  }

  #replyWithin(budget: ReplyBudget, to: string, space: Namespace, version: number): void {
    if (budget.spend(space.bytes)) this.#reply(to, space, version);
  }

  #noteStranger(peer: string, teller: string): void {
    if (this.#strangers.size >= STRANGERS_MAX) this.#strangers.clear();
    this.#strangers.set(peer, teller);
  }
}

/** The version of our process's state that somebody with this head knows. */
function knownOf(head: OwnHead, space: Namespace): number {
  return head.boot === space.boot ? head.version : 0;
}
