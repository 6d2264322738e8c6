import type { Core, Hash64, Instant } from "@klatsch/kit/core";
import { Buckets } from "./buckets.ts";
import { Comparing } from "./comparing.ts";
import type { OwnHead, SharedEntry, StateMessage } from "./messages.ts";
import { headOf, OwnEntries } from "./own-entries.ts";
import type { Namespace } from "./own-entries.ts";
import { OwnExchange } from "./own-exchange.ts";
import { OwnWriter } from "./own-writer.ts";
import type { OwnLimit } from "./own-writer.ts";
import { StateContext } from "./state-context.ts";
import type { StateLink } from "./state-context.ts";
import { equal64 } from "./sum64.ts";
import { Absence } from "./absence.ts";
import { SKEW_MS_MAX } from "./hybrid-clock.ts";
import { SharedEntries } from "./shared-entries.ts";
import { SharedExchange } from "./shared-exchange.ts";
import { TokenBucket } from "./token-bucket.ts";
import type { ShareOutcome, StateEffect, StateInit, StateInput } from "./state-types.ts";

/** What a peer says so that something is said in return. */
const QUESTIONS: ReadonlySet<StateMessage["type"]> = new Set([
  "buckets",
  "ownHeads",
  "ownPull",
  "sharedHeads",
  "sharedPull",
  "sharedAsk",
]);

/** What all members hold in common, as one node sees it: gossip state, reconciled over links. Pure. */
export class StateCore implements Core<StateInput, StateEffect> {
  readonly #context: StateContext;
  readonly #buckets: Buckets;
  readonly #own: OwnEntries;
  readonly #space: Namespace;
  readonly #writer: OwnWriter;
  readonly #exchange: OwnExchange;
  readonly #comparing: Comparing;
  readonly #shared: SharedEntries;
  readonly #sharing: SharedExchange;
  readonly #absence: Absence;
  #collectAt: number;

  constructor(init: StateInit, now: Instant) {
    const { self, times } = init;
    const context = new StateContext(self, times, now);
    const buckets = new Buckets();
    const own = new OwnEntries(self, buckets, (change) => context.effect({ type: "ownChanged", change }));
    context.reachesAll = () => own.liveCount <= context.links.size + 1;
    this.#context = context;
    this.#own = own;
    this.#space = own.join(self, init.boot, now.monoMs);
    this.#writer = new OwnWriter(own, this.#space, times.ownBudget, now.monoMs);
    this.#exchange = new OwnExchange(context, own);
    this.#comparing = new Comparing(context, buckets, init.random, (bucket, to) => {
      this.#exchange.sendHeads(bucket, to);
      this.#sharing.sendHeads(bucket, to);
    });
    const { ports, entries, agreedAtMs } = init.shared;
    this.#shared = new SharedEntries({
      buckets,
      ports,
      onChange: (entry, changed) => {
        context.effect({ type: "persist", key: entry.key, entry });
        if (changed) context.effect({ type: "sharedChanged", entry });
      },
      onRemove: (entry) => {
        context.effect({ type: "persist", key: entry.key, entry: undefined });
        if (entry.value !== undefined) {
          context.effect({ type: "sharedChanged", entry: { ...entry, value: undefined } });
        }
      },
    });
    this.#shared.restore(entries, context.meshMs, now.monoMs);
    this.#sharing = new SharedExchange(context, this.#shared, init.random);
    this.#absence = new Absence(context, this.#shared, this.#sharing, agreedAtMs);
    this.#collectAt = now.monoMs;
    this.#buckets = buckets;
  }

  /** Gives a key of this node's own a value, or none; a `tick` has to follow. */
  write(key: string, value: Uint8Array | undefined): "written" | "unchanged" | OwnLimit {
    const outcome = this.#writer.write(key, value);
    if (outcome === "written") {
      const { peer, boot } = this.#space;
      this.#context.effect({ type: "ownChanged", change: { peer, boot, key, value } });
    }
    return outcome;
  }

  /** What a member says of itself, encoded, by key. */
  ownOf(
    peer: string,
  ): { readonly boot: number; readonly values: ReadonlyMap<string, Uint8Array> } | undefined {
    const space = this.#own.get(peer);
    if (space === undefined) return undefined;
    if (space === this.#space) return { boot: space.boot, values: this.#writer.current() };
    return { boot: space.boot, values: this.published(peer) };
  }

  /** One value of a member's own state, encoded. */
  ownValue(peer: string, key: string): Uint8Array | undefined {
    if (peer === this.#context.self) return this.#writer.get(key);
    return this.#own.get(peer)?.entries.get(key)?.value;
  }

  /** What a member has published, as far as it is known here. */
  published(peer: string): ReadonlyMap<string, Uint8Array> {
    const values = new Map<string, Uint8Array>();
    for (const { key, value } of this.#own.get(peer)?.entries.values() ?? []) {
      if (value !== undefined) values.set(key, value);
    }
    return values;
  }

  /** How far a member's own state is known here. */
  ownHead(peer: string): OwnHead | undefined {
    const space = this.#own.get(peer);
    return space === undefined ? undefined : headOf(space);
  }

  /** Of everything this node holds; `undefined` while it offers nothing. */
  get hash(): Hash64 | undefined {
    return this.#absence.isAway ? undefined : this.#buckets.total;
  }

  /** How far the mesh's time is ahead of this machine's wall clock, in milliseconds. */
  get meshAheadMs(): number {
    return this.#context.meshAheadMs;
  }

  /** Members whose own state is known, this node included. */
  owners(): string[] {
    return Array.from(this.#own.all(), ({ peer }) => peer);
  }

  /** The shared entry of a key; it may be a deletion. */
  shared(key: string): SharedEntry | undefined {
    return this.#shared.get(key);
  }

  /** All shared entries that have a value. */
  sharedEntries(): Iterable<SharedEntry> {
    return this.#shared.live();
  }

  nextDeadline(): number | undefined {
    const { nowMs } = this.#context;
    const atMs = Math.min(
      this.#collectAt,
      this.#absence.nextDeadline(),
      this.#writer.nextDeadline(nowMs),
      this.#exchange.nextDeadline(),
      this.#comparing.nextDeadline(),
    );
    // Not at this very instant: sums of fractions round, and a deadline just missed would come again at once.
    return Math.max(atMs, nowMs + 1);
  }

  step(input: StateInput, now: Instant): readonly StateEffect[] {
    this.#context.advanceTo(now);
    switch (input.type) {
      case "linkUp":
        this.#linkUp(input.peer, input.aheadMs);
        break;
      case "linkDown":
        this.#context.removeLink(input.peer);
        this.#absence.linkDown(input.peer);
        break;
      case "message": {
        const link = this.#context.links.get(input.peer);
        if (link !== undefined) this.#message(link, input.message);
        break;
      }
      case "joined":
        this.#joined(input.peer, input.boot);
        break;
      case "ended":
        if (input.peer !== this.#context.self) this.#own.end(input.peer, this.#context.nowMs);
        break;
      case "forgotten":
        this.#own.forget(input.peer, this.#context.nowMs);
        this.#exchange.forget(input.peer);
        this.#setPace();
        break;
      case "booted":
        this.#booted(input.boot);
        break;
      case "share":
        this.#share(input);
        break;
      case "tick":
        break;
    }
    return this.#context.take();
  }

  flush(now: Instant): readonly StateEffect[] {
    this.#context.advanceTo(now);
    const { version } = this.#space;
    if (this.#writer.publish(this.#context.nowMs)) this.#exchange.published(version);
    this.#exchange.flood();
    this.#sharing.flood();
    this.#absence.work();
    if (!this.#absence.isAway) {
      this.#comparing.work();
      this.#collect();
    }
    return this.#context.take();
  }

  #linkUp(peer: string, aheadMs: number): void {
    const { nowMs, wallMs, times } = this.#context;
    this.#context.addLink({
      peer,
      upAtMs: nowMs,
      wallAtZeroMs: wallMs + aheadMs - nowMs,
      compareAt: undefined,
      comparedAt: -Infinity,
      fruitless: 0,
      checks: new TokenBucket(times.checkBudget, nowMs),
      answers: new TokenBucket(times.answerBudget, nowMs),
    });
    this.#exchange.greet(peer);
    this.#comparing.linkUp(peer);
  }

  #message(link: StateLink, message: StateMessage): void {
    if (QUESTIONS.has(message.type) && !this.#context.mayAsk(link)) return;
    switch (message.type) {
      case "hash":
        if (message.wallMs !== undefined) this.#context.heardClock(link, message.wallMs);
        this.#comparing.onHash(link, message.hash);
        if (equal64(message.hash, this.#buckets.total)) this.#absence.agreed();
        return;
      case "buckets":
        this.#comparing.onBuckets(link, message.hashes);
        return;
      case "ownHeads":
        this.#exchange.onHeads(link.peer, message, message.heads);
        return;
      case "ownPull":
        this.#exchange.onPull(link.peer, message.heads);
        return;
      case "delta":
      case "reset":
        this.#exchange.onDelta(link.peer, message);
        return;
      case "sharedHeads":
        this.#sharing.onHeads(link.peer, message, message.heads);
        this.#absence.onHeads(link.peer, message, message.heads);
        return;
      case "sharedPull":
        this.#sharing.onPull(link.peer, message.keys);
        return;
      case "shared":
        this.#sharing.onEntries(link.peer, message);
        return;
      case "sharedAsk":
        this.#absence.onAsk(link.peer, message.bucket);
        return;
      case "sharedAway":
        this.#absence.onAway(link.peer);
        return;
    }
  }

  #joined(peer: string, boot: number): void {
    if (peer === this.#context.self) return;
    this.#own.join(peer, boot, this.#context.nowMs);
    this.#exchange.joined(peer);
    this.#setPace();
  }

  #booted(boot: number): void {
    if (boot <= this.#space.boot) return;
    this.#own.rebase(this.#space, boot, this.#context.nowMs);
    this.#writer.rebased();
    this.#exchange.published(0);
  }

  #share({ request, key, value, override }: Extract<StateInput, { type: "share" }>): void {
    this.#context.effect({ type: "reply", request, outcome: this.#written(key, value, override) });
  }

  #written(key: string, value: Uint8Array | undefined, override: boolean): ShareOutcome {
    const { meshMs, meshAheadMs, nowMs } = this.#context;
    if (Math.abs(meshAheadMs) > SKEW_MS_MAX) return "skew";
    const entry = this.#shared.write({ key, value, override }, meshMs, nowMs);
    if (typeof entry === "string") return entry;
    this.#sharing.written(key);
    return "written";
  }

  #collect(): void {
    const { nowMs, meshMs, times } = this.#context;
    if (nowMs < this.#collectAt) return;
    this.#collectAt = nowMs + times.collectMs;
    this.#shared.collect(meshMs, nowMs);
  }

  #setPace(): void {
    const { ownBudget, ownRefillMsPerMember } = this.#context.times;
    const refillMs = Math.max(ownBudget.refillMs, ownRefillMsPerMember * this.owners().length);
    this.#writer.setRefill(refillMs, this.#context.nowMs);
  }
}
