import type { Instant } from "@klatsch/kit/core";

import { plant, subtreesOf } from "./tree.ts";
import type { Forest, Neighbours, Peer } from "./tree.ts";

/** What a node tells its parent: each member at most once, in one part or another. `state`: what they answered, reduced. */
export interface Part {
  readonly answered: readonly Peer[];
  readonly failed: readonly (readonly [peer: Peer, code: string])[];
  readonly state: unknown;
}

export type GatherInput =
  | { readonly type: "start" }
  | { readonly type: "own"; readonly result: { readonly state: unknown } | { readonly code: string } }
  | { readonly type: "part"; readonly child: Peer; readonly part: Part }
  /** `code`: why it broke; `undefined` if it told everything it will ever know. */
  | { readonly type: "ended"; readonly child: Peer; readonly code: string | undefined }
  /** No more answers are wanted. */
  | { readonly type: "stop" }
  | { readonly type: "tick" };

export type GatherEffect =
  | { readonly type: "runOwn" }
  | {
      readonly type: "ask";
      readonly child: Peer;
      /** Whom the child is to ask, and how. */
      readonly below: Forest;
      readonly deadlineMs: number;
    }
  | { readonly type: "cancel"; readonly child: Peer }
  | { readonly type: "report"; readonly part: Part; readonly last: boolean };

export interface GatherInit {
  readonly self: Peer;
  /** Whether this node is asked too. */
  readonly asked: boolean;
  /** All others below this node, each once, and how they are to be asked; without sizes this node decides. */
  readonly below: Forest;
  readonly fanout: number;
  /** Monotonic instant in milliseconds. */
  readonly deadlineAt: number;
  /** See `GATHER_HOLD_MS`; `undefined` at the root, which reports at once. */
  readonly holdMs: number | undefined;
  /** Links, along which members are asked. */
  readonly neighbours: Neighbours;
  merge(a: unknown, b: unknown): unknown;
}

/** Each level keeps this part of what is left, and at least so many milliseconds, to report upwards. */
const MARGIN = 0.1;
const MARGIN_MS = 10;

const NOTHING: readonly GatherEffect[] = [];

/**
 * One node's part in a gather. Pure. Every member below is assigned to exactly one child at a time, and what
 * a child says is counted only about members assigned to it and still open: so nobody is counted twice, also
 * when a child breaks and the rest of its members is asked again through others.
 */
export class Gather {
  readonly #init: GatherInit;
  /** Children and the members, themselves included, that they still owe. */
  readonly #open = new Map<Peer, Set<Peer>>();
  #ownOpen: boolean;
  #answered: Peer[] = [];
  #failed: (readonly [Peer, string])[] = [];
  #state: unknown;
  #holdAt: number | undefined;
  #held = false;
  #ended = false;

  constructor(init: GatherInit) {
    this.#init = init;
    this.#ownOpen = init.asked;
  }

  nextDeadline(): number | undefined {
    return this.#ended ? undefined : Math.min(this.#init.deadlineAt, this.#holdAt ?? Infinity);
  }

  step(input: GatherInput, now: Instant): readonly GatherEffect[] {
    if (this.#ended) return NOTHING;
    switch (input.type) {
      case "start": {
        const own: readonly GatherEffect[] = this.#ownOpen ? [{ type: "runOwn" }] : NOTHING;
        return [...own, ...this.#ask(this.#init.below, now), ...this.#report(now)];
      }
      case "own":
        return this.#own(input.result, now);
      case "part":
        return this.#part(input.child, input.part, now);
      case "ended":
        return this.#broken(input.child, input.code, now);
      case "stop":
        return this.#finish();
      case "tick":
        return now.monoMs >= this.#init.deadlineAt ? this.#finish() : this.#report(now);
    }
  }

  /** Members whose child broke are asked through others. */
  #assign(members: readonly Peer[], now: Instant): readonly GatherEffect[] {
    const { self, fanout, neighbours } = this.#init;
    return this.#ask(plant(self, members, fanout, neighbours), now);
  }

  #ask(below: Forest, now: Instant): readonly GatherEffect[] {
    const leftMs = this.#init.deadlineAt - now.monoMs;
    const deadlineMs = Math.floor(leftMs - Math.max(MARGIN_MS, leftMs * MARGIN));
    if (deadlineMs <= 0) return NOTHING; // They stay missing.
    const { self, fanout, neighbours } = this.#init;
    const given = subtreesOf(below, fanout);
    const subtrees = given ?? subtreesOf(plant(self, below.peers, fanout, neighbours), fanout) ?? [];
    return subtrees.map(({ peers: [child = "", ...peers], sizes: [, ...sizes] }) => {
      this.#open.set(child, new Set([child, ...peers]));
      return { type: "ask", child, below: { peers, sizes }, deadlineMs };
    });
  }

  #own(
    result: { readonly state: unknown } | { readonly code: string },
    now: Instant,
  ): readonly GatherEffect[] {
    const { self } = this.#init;
    if (!this.#ownOpen) return NOTHING;
    this.#ownOpen = false;
    if ("code" in result) this.#failed.push([self, result.code]);
    else if (!this.#add([self], result.state)) this.#failed.push([self, "INVALID_OUTPUT"]);
    return this.#report(now);
  }

  /** `false`: the state cannot be merged; nothing has changed. */
  #add(answered: readonly Peer[], state: unknown): boolean {
    if (answered.length === 0) return true;
    try {
      this.#state = this.#answered.length === 0 ? state : this.#init.merge(this.#state, state);
    } catch {
      return false;
    }
    this.#answered.push(...answered);
    return true;
  }

  #part(child: Peer, part: Part, now: Instant): readonly GatherEffect[] {
    const owed = this.#open.get(child);
    if (owed === undefined) return NOTHING;
    const named = [...part.answered, ...part.failed.map(([peer]) => peer)];
    const isSound = new Set(named).size === named.length && named.every((peer) => owed.has(peer));
    // A child that speaks of others, or twice, or nonsense, cannot be taken apart again: nothing of it counts.
    if (!isSound || !this.#add(part.answered, part.state)) {
      return [{ type: "cancel", child }, ...this.#broken(child, "INVALID_OUTPUT", now)];
    }
    for (const peer of named) owed.delete(peer);
    this.#failed.push(...part.failed);
    return this.#report(now);
  }

  #broken(child: Peer, code: string | undefined, now: Instant): readonly GatherEffect[] {
    const owed = this.#open.get(child);
    if (owed === undefined) return NOTHING;
    this.#open.delete(child);
    // What it owes after an orderly end, or when time was up, is missing: asking again would not be in time.
    if (code === undefined || code === "DEADLINE_EXCEEDED") return this.#report(now);
    if (owed.delete(child)) this.#failed.push([child, code]);
    return [...this.#assign([...owed], now), ...this.#report(now)];
  }

  #report(now: Instant): readonly GatherEffect[] {
    if (!this.#ownOpen && this.#open.size === 0) return this.#finish();
    if (this.#answered.length + this.#failed.length === 0) return NOTHING;
    const { holdMs } = this.#init;
    if (holdMs === undefined) return [this.#take(false)];
    if (this.#held) return NOTHING;
    this.#holdAt ??= now.monoMs + holdMs;
    if (now.monoMs < this.#holdAt) return NOTHING;
    this.#held = true;
    this.#holdAt = undefined;
    return [this.#take(false)];
  }

  #finish(): readonly GatherEffect[] {
    this.#ended = true;
    const cancels = [...this.#open.keys()].map((child): GatherEffect => ({ type: "cancel", child }));
    this.#open.clear();
    return [...cancels, this.#take(true)];
  }

  #take(last: boolean): GatherEffect {
    const part = { answered: this.#answered, failed: this.#failed, state: this.#state };
    this.#answered = [];
    this.#failed = [];
    this.#state = undefined;
    return { type: "report", part, last };
  }
}
