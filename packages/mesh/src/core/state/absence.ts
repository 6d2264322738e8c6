import type { HeadsRange, SharedHead } from "./messages.ts";
import { isWithin } from "./reply-budget.ts";
import { TOMBSTONE_MS } from "./shared-entries.ts";
import type { SharedEntries } from "./shared-entries.ts";
import type { SharedExchange } from "./shared-exchange.ts";
import type { StateContext } from "./state-context.ts";
import { BUCKETS_COUNT } from "./sum64.ts";

/** Who last agreed with others longer ago than this may hold what they have deleted and forgotten (S7). */
const AWAY_MS: number = TOMBSTONE_MS / 2;
/** An unanswered question is asked again after this, of somebody else perhaps; in milliseconds. */
const ASK_AGAIN_MS = 2_000;
/** Where all have been away, they go on with what they have together after this, in milliseconds. */
const ALL_AWAY_MS = 60_000;
/** How often the time of the last agreement is written down, in milliseconds. */
const NOTE_MS = 60 * 60 * 1_000;

/**
 * A node that was away for more than 15 days takes over what others hold, bucket by bucket, before it offers
 * anything: what it holds from before it went, and they do not, was deleted meanwhile.
 */
export class Absence {
  readonly #context: StateContext;
  readonly #entries: SharedEntries;
  readonly #exchange: SharedExchange;
  /** The mesh's time at which this node last held what somebody else held, or the last one written down. */
  #agreedAtMs: number | undefined;
  #notedAtMs: number | undefined;
  /** Set while it catches up. */
  #awaySinceMs: number | undefined;
  #source: string | undefined;
  #bucket = 0;
  /** The end of the ranges of `#bucket` that were read. */
  #readUpTo = "";
  #askedAtMs = -Infinity;
  readonly #alsoAway = new Set<string>();

  constructor(
    context: StateContext,
    entries: SharedEntries,
    exchange: SharedExchange,
    agreedAtMs: number | undefined,
  ) {
    this.#context = context;
    this.#entries = entries;
    this.#exchange = exchange;
    this.#agreedAtMs = agreedAtMs;
    this.#notedAtMs = agreedAtMs;
    this.#lookBack();
  }

  get isAway(): boolean {
    return this.#awaySinceMs !== undefined;
  }

  linkDown(peer: string): void {
    this.#alsoAway.delete(peer);
    if (this.#source === peer) this.#source = undefined;
  }

  /** A linked member holds just what we hold. */
  agreed(): void {
    if (this.isAway) return;
    this.#agreedAtMs = this.#context.meshMs;
    if (this.#agreedAtMs - (this.#notedAtMs ?? -Infinity) < NOTE_MS) return;
    this.#notedAtMs = this.#agreedAtMs;
    this.#context.effect({ type: "agreed", atMs: this.#agreedAtMs });
  }

  onAsk(from: string, bucket: number): void {
    if (this.isAway) this.#context.send(from, { type: "sharedAway" });
    else this.#exchange.sendAllHeads(bucket, from);
  }

  onAway(from: string): void {
    if (!this.isAway) return;
    this.#alsoAway.add(from);
    if (this.#source === from) this.#source = undefined;
  }

  /** The source lists what it has of a bucket, after what is missing of it was asked for. */
  onHeads(from: string, range: HeadsRange, heads: readonly SharedHead[]): void {
    if (!this.isAway || from !== this.#source || range.bucket !== this.#bucket) return;
    if (range.after !== this.#readUpTo) return; // A part was lost: the bucket is asked for again.
    const listed = new Set(heads.map(({ key }) => key));
    for (const { key, l } of this.#entries.heads(range.bucket)) {
      const isOld = l <= (this.#agreedAtMs ?? 0);
      if (isOld && isWithin(key, range) && !listed.has(key)) this.#entries.remove(key, this.#context.nowMs);
    }
    if (range.upTo !== undefined) {
      this.#readUpTo = range.upTo;
      return;
    }
    this.#bucket += 1;
    this.#askedAtMs = -Infinity;
    if (this.#bucket === BUCKETS_COUNT) this.#caughtUp();
  }

  work(): void {
    this.#lookBack();
    const { nowMs, links } = this.#context;
    if (this.#awaySinceMs === undefined || links.size === 0) return;
    const others = [...links.keys()].filter((peer) => !this.#alsoAway.has(peer));
    if (others.length === 0) {
      if (nowMs - this.#awaySinceMs >= ALL_AWAY_MS) this.#caughtUp();
      return;
    }
    if (nowMs - this.#askedAtMs < ASK_AGAIN_MS) return;
    if (this.#source === undefined) this.#bucket = 0;
    this.#source ??= others[0];
    this.#readUpTo = "";
    this.#askedAtMs = nowMs;
    if (this.#source !== undefined) {
      this.#context.send(this.#source, { type: "sharedAsk", bucket: this.#bucket });
    }
  }

  nextDeadline(): number {
    if (this.#awaySinceMs === undefined || this.#context.links.size === 0) return Infinity;
    const askAt = this.#askedAtMs + ASK_AGAIN_MS;
    const settleAt = this.#awaySinceMs + ALL_AWAY_MS;
    return this.#alsoAway.size < this.#context.links.size ? askAt : settleAt;
  }

  #lookBack(): void {
    if (this.isAway || this.#agreedAtMs === undefined) return;
    if (this.#context.meshMs - this.#agreedAtMs <= AWAY_MS) return;
    this.#awaySinceMs = this.#context.nowMs;
    this.#exchange.mayOffer = false;
    this.#source = undefined;
    this.#alsoAway.clear();
  }

  #caughtUp(): void {
    this.#awaySinceMs = undefined;
    this.#exchange.mayOffer = true;
    this.#source = undefined;
    this.agreed();
  }
}
