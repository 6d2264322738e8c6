import { randomBelow } from "@klatsch/kit/core";
import type { Random } from "@klatsch/kit/core";
import type { HeadsRange, SharedEntry, SharedHead, StateMessage } from "./messages.ts";
import { inRanges, isWithin, ReplyBudget } from "./reply-budget.ts";
import { compareStamps } from "./shared-entries.ts";
import type { SharedEntries, SharedVerdict } from "./shared-entries.ts";
import type { StateContext } from "./state-context.ts";
import type { StateRefusal } from "./state-types.ts";

/** Heads of one message: at most some 80 KiB. */
const HEADS_MAX = 400;
const HEAD_BYTES = 200;
/** Ranges of one bucket that one comparison lists. */
const RANGES_MAX = 8;
/** Keys asked for in one message. */
const KEYS_MAX = 1_024;
/** Keys asked for and not answered that are remembered. */
const PULLED_MAX = 32_768;
/** What was refused is not asked for again within this, in milliseconds; so many are remembered. */
const REFUSED_MS = 60_000;
const REFUSED_MAX = 1_024;

type SharedRange = HeadsRange & { readonly heads: readonly SharedHead[] };

/** How shared entries travel: floods, pulls and comparisons. */
export class SharedExchange {
  readonly #context: StateContext;
  readonly #entries: SharedEntries;
  readonly #random: Random;
  /** Keys to flood, and who told us and need not hear it again. */
  #fresh = new Map<string, Set<string>>();
  readonly #pulledAt = new Map<string, number>();
  readonly #refused = new Map<string, number>();
  /** A node that was away for long offers nothing of its own. */
  mayOffer = true;

  constructor(context: StateContext, entries: SharedEntries, random: Random) {
    this.#context = context;
    this.#entries = entries;
    this.#random = random;
  }

  /** This node has written `key`. */
  written(key: string): void {
    this.#fresh.set(key, new Set());
  }

  onEntries(from: string, { entries, toAll }: Extract<StateMessage, { type: "shared" }>): void {
    const link = this.#context.links.get(from);
    if (link === undefined) return;
    const { nowMs, times } = this.#context;
    for (const entry of entries) {
      const verdict = this.#entries.weigh(entry, this.#context.meshMs);
      if (verdict === "old") {
        this.#heardAgain(from, entry);
        continue;
      }
      // Checking a signature costs more than making us check it.
      if (verdict === "news" && !link.checks.take(nowMs)) {
        this.#context.compareBy(from, nowMs + times.continueMs);
        return;
      }
      const settled = verdict === "news" ? this.#learn(entry) : verdict;
      // Who told us an earlier one still has to hear this one.
      if (settled === "news" && !toAll) this.#fresh.set(entry.key, new Set([from]));
      this.#settle(from, entry, settled);
    }
  }

  /** Lists what we have of a bucket; of a long one as much as fits, beginning anywhere. */
  sendHeads(bucket: number, to: string): void {
    if (!this.mayOffer) return;
    const ranges = this.#rangesOf(bucket);
    const first = ranges.length > RANGES_MAX ? randomBelow(this.#random, ranges.length) : 0;
    this.#list(to, ranges.slice(first, first + RANGES_MAX));
  }

  /** Lists all we have of a bucket. */
  sendAllHeads(bucket: number, to: string): void {
    this.#list(to, this.#rangesOf(bucket));
  }

  /** Somebody lists what it has of a bucket: sends what it lacks, asks for what we lack. */
  onHeads(from: string, range: HeadsRange, heads: readonly SharedHead[]): void {
    const ours: SharedEntry[] = [];
    const wanted: string[] = [];
    const listed = new Set<string>();
    for (const head of heads) {
      listed.add(head.key);
      const order = this.#entries.compare(head);
      if (order === "same") continue;
      const entry = this.#entries.get(head.key);
      if (order >= 0 && entry !== undefined) ours.push(entry);
      if (order <= 0) wanted.push(head.key);
    }
    for (const { key } of this.#entries.heads(range.bucket)) {
      const entry = this.#entries.get(key);
      if (entry !== undefined && !listed.has(key) && isWithin(key, range)) ours.push(entry);
    }
    if (this.mayOffer) this.#reply(from, ours);
    this.#pull(from, wanted);
  }

  onPull(from: string, keys: readonly string[]): void {
    if (this.mayOffer)
      this.#reply(
        from,
        keys.flatMap((key) => this.#entries.get(key) ?? []),
      );
  }

  /** Passes on what is fresh to all who did not tell us themselves. */
  flood(): void {
    if (this.#fresh.size === 0) return;
    const fresh = this.#fresh;
    this.#fresh = new Map();
    const toAll = this.#context.reachesAll();
    for (const link of this.#context.links.keys()) {
      const entries: SharedEntry[] = [];
      for (const [key, heardFrom] of fresh) {
        const entry = this.#entries.get(key);
        if (entry !== undefined && !heardFrom.has(link)) entries.push(entry);
      }
      if (entries.length > 0) this.#context.send(link, { type: "shared", entries, toAll });
    }
  }

  #learn(entry: SharedEntry): SharedVerdict {
    return this.#entries.learn(entry, this.#context.meshMs, this.#context.nowMs);
  }

  #settle(from: string, entry: SharedEntry, verdict: SharedVerdict): void {
    this.#pulledAt.delete(entry.key);
    if (verdict === "old") return;
    if (verdict === "news") {
      this.#context.learnt(from);
      return;
    }
    if (this.#refused.size >= REFUSED_MAX) this.#refused.clear();
    this.#refused.set(entry.key, this.#context.nowMs);
    this.#context.effect({ type: "refused", peer: from, reason: REFUSALS[verdict], key: entry.key });
  }

  #heardAgain(from: string, entry: SharedEntry): void {
    const ours = this.#entries.get(entry.key);
    if (ours !== undefined && compareStamps(entry, ours) === 0) this.#fresh.get(entry.key)?.add(from);
  }

  #rangesOf(bucket: number): SharedRange[] {
    return inRanges(bucket, this.#entries.heads(bucket), HEADS_MAX, ({ key }) => key);
  }

  #list(to: string, ranges: readonly SharedRange[]): void {
    for (const range of ranges) {
      this.#context.send(to, { type: "sharedHeads", ...range });
      this.#context.answered(to, range.heads.length * HEAD_BYTES);
    }
  }

  #reply(to: string, entries: readonly SharedEntry[]): void {
    const budget = new ReplyBudget(this.#context.times.replyBytesMax);
    const sent = entries.filter(({ key, value }) => budget.spend(256 + key.length + (value?.length ?? 0)));
    if (sent.length > 0) this.#context.send(to, { type: "shared", entries: sent, toAll: false });
    this.#context.answered(to, budget.spent);
    if (budget.isSpent) this.#context.compareBy(to, this.#context.nowMs + this.#context.times.continueMs);
  }

  #pull(from: string, keys: readonly string[]): void {
    const { nowMs, times } = this.#context;
    const due = keys.filter((key) => {
      const askedMs = nowMs - (this.#pulledAt.get(key) ?? -Infinity);
      return askedMs >= times.pullAgainMs && nowMs - (this.#refused.get(key) ?? -Infinity) >= REFUSED_MS;
    });
    if (this.#pulledAt.size > PULLED_MAX) this.#pulledAt.clear();
    for (let at = 0; at < due.length; at += KEYS_MAX) {
      const part = due.slice(at, at + KEYS_MAX);
      for (const key of part) this.#pulledAt.set(key, nowMs);
      this.#context.send(from, { type: "sharedPull", keys: part });
    }
  }
}

const REFUSALS: Readonly<Record<Exclude<SharedVerdict, "news" | "old">, StateRefusal>> = {
  skew: "CLOCK_SKEW",
  forbidden: "FORBIDDEN",
  forged: "FORGED",
  full: "STATE_TOO_LARGE",
};
