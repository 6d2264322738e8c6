import type { Instant } from "@klatsch/kit/core";

/** What a hello says of the process behind a connection. */
interface Process {
  readonly boot: number;
  /** Random per process start: tells two processes with one identity apart even at the same boot. */
  readonly instance: string;
}

export type LinkChoiceInput =
  | {
      readonly type: "hello";
      readonly conn: number;
      readonly process: Process;
      /** It runs over relays. */
      readonly tunnel: boolean;
      /** Highest boot that membership knows of this peer; 0 if unknown. */
      readonly knownBoot: number;
    }
  /** The other end, being the arbiter, took this connection. */
  | { readonly type: "accepted"; readonly conn: number }
  /** A frame of the link protocol arrived on it. */
  | { readonly type: "heard"; readonly conn: number }
  | { readonly type: "closed"; readonly conn: number }
  | { readonly type: "tick" };

/** Why a connection is turned away for the sake of another. */
type ChoiceRefusal = "DUPLICATE" | "SUPERSEDED" | "BOOT_LOW";

export type LinkChoiceEffect =
  /** Tell the other end that this one is taken; `up` follows. */
  | { readonly type: "accept"; readonly conn: number }
  | { readonly type: "up"; readonly conn: number }
  /** Turn away a connection that never was up. */
  | { readonly type: "refuse"; readonly conn: number; readonly code: ChoiceRefusal }
  /** End the connection that was up. */
  | { readonly type: "drop"; readonly conn: number; readonly code: "REPLACED" | "SUPERSEDED" | "SILENT" }
  /** Ask for a sign of life on the connection that is up. */
  | { readonly type: "test"; readonly conn: number };

interface Candidate {
  readonly conn: number;
  readonly process: Process;
  readonly tunnel: boolean;
  readonly knownBoot: number;
}

/** How long the connection that is up has to show life when another one wants its place, in milliseconds. */
export const TEST_MS = 500;
/** A check that runs this late means that we slept: what was sent to us is still to be read. */
const LATE_MS = 200;

/**
 * Which of several connections with one peer is *the* link. One end decides alone, the **arbiter** (lower peer
 * id), so the two cannot disagree: the first comer is kept as long as it shows life, a restarted process
 * (higher boot) replaces its predecessor at once, and so does a direct connection a tunnel. An older process is
 * turned away by either end.
 */
export class LinkChoice {
  readonly #arbiter: boolean;
  #current: Candidate | undefined;
  #waiting: Candidate[] = [];
  #testEndsAt: number | undefined;

  constructor(init: { readonly arbiter: boolean }) {
    this.#arbiter = init.arbiter;
  }

  get current(): number | undefined {
    return this.#current?.conn;
  }

  /** Monotonic instant of the next `tick`, in milliseconds. */
  nextDeadline(): number | undefined {
    return this.#testEndsAt;
  }

  step(input: LinkChoiceInput, now: Instant): readonly LinkChoiceEffect[] {
    switch (input.type) {
      case "hello":
        return this.#hello(input, now);
      case "accepted":
        return this.#accepted(input.conn);
      case "heard":
        return input.conn === this.#current?.conn ? this.#settleTest(true, now) : [];
      case "closed":
        return this.#closed(input.conn, now);
      case "tick":
        return this.#tick(now);
    }
  }

  #hello(hello: Candidate, now: Instant): LinkChoiceEffect[] {
    const { conn, process, tunnel, knownBoot } = hello;
    const candidate: Candidate = { conn, process, tunnel, knownBoot };
    const current = this.#current;
    if (this.#isOlder(candidate)) {
      // Only a newer process that answers *now* proves a conflict; otherwise the boot counter went back.
      if (current === undefined) return [{ type: "refuse", conn: candidate.conn, code: "BOOT_LOW" }];
      return this.#test(candidate, current, now);
    }
    if (!this.#arbiter) {
      this.#waiting.push(candidate);
      return [];
    }
    if (current === undefined) return this.#take(candidate);
    if (candidate.process.boot > current.process.boot) return this.#replace(current, candidate, now);
    if (current.tunnel && !candidate.tunnel) return this.#replace(current, candidate, now);
    return this.#test(candidate, current, now);
  }

  /** Who waited for a sign of life on the old one is judged against the new one. */
  #replace(current: Candidate, candidate: Candidate, now: Instant): LinkChoiceEffect[] {
    const code = candidate.process.boot > current.process.boot ? "SUPERSEDED" : "REPLACED";
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#testEndsAt = undefined;
    return [
      { type: "drop", conn: current.conn, code },
      ...this.#take(candidate),
      ...waiting.flatMap((waiter) => this.#hello(waiter, now)),
    ];
  }

  #accepted(conn: number): LinkChoiceEffect[] {
    const index = this.#waiting.findIndex((candidate) => candidate.conn === conn);
    const candidate = this.#waiting[index];
    if (this.#arbiter || candidate === undefined || this.#isOlder(candidate)) return [];
    this.#waiting.splice(index, 1);
    const current = this.#current;
    this.#current = candidate;
    this.#testEndsAt = undefined;
    if (current === undefined) return [{ type: "up", conn }];
    const code = candidate.process.boot > current.process.boot ? "SUPERSEDED" : "REPLACED";
    return [
      { type: "drop", conn: current.conn, code },
      { type: "up", conn },
    ];
  }

  #closed(conn: number, now: Instant): LinkChoiceEffect[] {
    this.#waiting = this.#waiting.filter((candidate) => candidate.conn !== conn);
    if (conn !== this.#current?.conn) return [];
    this.#current = undefined;
    return this.#settleTest(false, now);
  }

  #tick(now: Instant): LinkChoiceEffect[] {
    if (this.#testEndsAt === undefined || now.monoMs < this.#testEndsAt) return [];
    if (now.monoMs > this.#testEndsAt + LATE_MS) {
      this.#testEndsAt = now.monoMs + LATE_MS;
      return [];
    }
    const silent = this.#current;
    this.#current = undefined;
    const dropped: LinkChoiceEffect[] =
      silent === undefined ? [] : [{ type: "drop", conn: silent.conn, code: "SILENT" }];
    return [...dropped, ...this.#settleTest(false, now)];
  }

  #test(candidate: Candidate, current: Candidate, now: Instant): LinkChoiceEffect[] {
    this.#waiting.push(candidate);
    if (this.#testEndsAt !== undefined) return [];
    this.#testEndsAt = now.monoMs + TEST_MS;
    return [{ type: "test", conn: current.conn }];
  }

  /** The connection that was up has answered, or is gone: whoever waited for that is decided, oldest first. */
  #settleTest(alive: boolean, now: Instant): LinkChoiceEffect[] {
    if (this.#testEndsAt === undefined && alive) return [];
    this.#testEndsAt = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    if (!alive) return waiting.flatMap((candidate) => this.#hello(candidate, now));
    const effects: LinkChoiceEffect[] = [];
    for (const candidate of waiting) {
      if (this.#isOlder(candidate))
        effects.push({ type: "refuse", conn: candidate.conn, code: "SUPERSEDED" });
      else if (this.#arbiter) effects.push({ type: "refuse", conn: candidate.conn, code: "DUPLICATE" });
      else this.#waiting.push(candidate); // The arbiter's to decide.
    }
    return effects;
  }

  #take(candidate: Candidate): LinkChoiceEffect[] {
    this.#current = candidate;
    return [
      { type: "accept", conn: candidate.conn },
      { type: "up", conn: candidate.conn },
    ];
  }

  #isOlder(candidate: Candidate): boolean {
    const current = this.#current?.process;
    if (candidate.process.boot < candidate.knownBoot) return true;
    if (current === undefined) return false;
    if (candidate.process.boot !== current.boot) return candidate.process.boot < current.boot;
    return candidate.process.instance !== current.instance;
  }
}
