import type { Instant } from "@klatsch/kit/core";

import { Deadlines } from "./deadlines.ts";
import { ASKERS_MAX, HELD_BYTES_MAX, KEPT_BYTES_MAX, KEPT_RESULTS_MAX, KEPT_RESULTS_MS } from "./limits.ts";
import { fault } from "./messages.ts";
import type { AskMessage, Fault, Message, Route } from "./messages.ts";

/** What the registry says about an asked method, for this caller. */
export type Verdict =
  | { readonly ok: true; readonly concurrencyMax: number; readonly stream: boolean }
  | { readonly ok: false; readonly fault: Fault };

/** How a handler ended. */
export type Result =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly fault: Fault };

export type ServeInput =
  | { readonly type: "up"; readonly route: Route }
  | { readonly type: "down"; readonly route: Route }
  /** `owner`: whom an idempotency key belongs to. */
  | {
      readonly type: "ask";
      readonly from: Route;
      readonly owner: string;
      readonly ask: AskMessage;
      readonly verdict: Verdict;
    }
  | { readonly type: "message"; readonly from: Route; readonly message: CallerMessage }
  /** `bytes`: of the result, where a key keeps it. */
  | { readonly type: "done"; readonly run: number; readonly result: Result; readonly bytes: number }
  | { readonly type: "tick" }
  /** No more calls begin, but those of `self`: handlers under way may ask their own node. */
  | { readonly type: "drain"; readonly self: string }
  | { readonly type: "stop" };

/** What a caller sends after its ask. */
export type CallerMessage = Extract<Message, { readonly type: "cancel" | "item" | "end" | "credit" }>;

export type ServeEffect =
  | { readonly type: "send"; readonly route: Route; readonly message: Message }
  | {
      readonly type: "run";
      readonly run: number;
      readonly from: Route;
      readonly ask: AskMessage;
      readonly deadlineAt: number | undefined;
    }
  | { readonly type: "abort"; readonly run: number; readonly fault: Fault }
  /** Somebody waits for longer. */
  | { readonly type: "extend"; readonly run: number; readonly deadlineAt: number | undefined }
  | { readonly type: "item"; readonly run: number; readonly value: unknown; readonly large: boolean }
  | { readonly type: "end"; readonly run: number }
  | { readonly type: "credit"; readonly run: number; readonly count: number };

interface Run {
  readonly no: number;
  readonly method: string;
  readonly owner: string;
  readonly bytes: number;
  /** The latest of its askers. */
  deadlineAt: number | undefined;
  readonly stream: boolean;
  /** Who waits for it; several only if they gave the same key. */
  readonly askers: { readonly route: Route; readonly id: number }[];
  readonly keyed: string | undefined;
  /** Told to stop; it counts until its handler has really ended. */
  ended: boolean;
}

interface Kept {
  /** When it ended; as it may run for longer than results are kept, not when it began. */
  atMs: number;
  /** `undefined` while it runs. */
  result: Result | undefined;
  bytes: number;
  readonly run: number;
}

const NOTHING: readonly ServeEffect[] = [];
const TOLD_TO_END: Fault = fault(
  "UNAVAILABLE",
  "the first call with this key was told to end, and failed",
  "unknown",
);
/** No peer id. */
const NOBODY = "";

/** The handlers' side of all calls of one node. Pure: who runs, who is refused, who is told to stop. */
export class Serving {
  readonly #runsMax: number;
  readonly #runs = new Map<number, Run>();
  /** Runs by session and the caller's id. */
  readonly #asked = new Map<Route, Map<number, Run>>();
  readonly #running = new Map<string, number>();
  /** Bytes of large calls that run, by owner. */
  readonly #heldBytes = new Map<string, number>();
  readonly #kept = new Map<string, Kept>();
  #keptBytes = 0;
  /** Whose calls may begin; `undefined`: anybody's. */
  #onlyOwner: string | undefined;
  readonly #deadlines = new Deadlines<number>();
  #lastRun = 0;

  constructor({ runsMax }: { readonly runsMax: number }) {
    this.#runsMax = runsMax;
  }

  /** Calls whose handler has not ended. */
  get size(): number {
    return this.#runs.size;
  }

  nextDeadline(): number | undefined {
    return this.#deadlines.next();
  }

  /** The session and id a run's own items go to; `undefined` once nobody listens. */
  askerOf(run: number): { readonly route: Route; readonly id: number } | undefined {
    return this.#runs.get(run)?.askers[0];
  }

  step(input: ServeInput, now: Instant): readonly ServeEffect[] {
    switch (input.type) {
      case "ask":
        return this.#ask(input, now);
      case "done":
        return this.#done(input.run, input.result, input.bytes, now);
      case "message":
        return this.#told(input.from, input.message);
      case "up":
        this.#asked.set(input.route, new Map());
        return NOTHING;
      case "down":
        return this.#down(input.route);
      case "tick":
        return this.#deadlines.due(now.monoMs).flatMap((no) => this.#expire(no));
      case "drain":
        this.#onlyOwner = input.self;
        return NOTHING;
      case "stop":
        this.#onlyOwner = NOBODY;
        return [...this.#runs.values()].flatMap((run) =>
          this.#end(run, fault("UNAVAILABLE", "the peer stops", "unknown")),
        );
    }
  }

  #ask(
    { from, owner, ask, verdict }: Extract<ServeInput, { type: "ask" }>,
    now: Instant,
  ): readonly ServeEffect[] {
    const asked = this.#asked.get(from);
    if (asked === undefined || asked.has(ask.id)) return NOTHING;
    if (!verdict.ok) return [failed(from, ask.id, verdict.fault)];
    const keyed = ask.key === undefined || verdict.stream ? undefined : `${owner} ${ask.method} ${ask.key}`;
    const repeated = keyed === undefined ? undefined : this.#repeat(keyed, from, asked, ask, now);
    if (repeated !== undefined) return repeated;
    if (this.#onlyOwner !== undefined && this.#onlyOwner !== owner)
      return [failed(from, ask.id, fault("UNAVAILABLE", "the peer stops, and takes no more calls"))];
    const busy = this.#running.get(ask.method) ?? 0;
    if (this.#runs.size >= this.#runsMax || busy >= verdict.concurrencyMax) {
      return [failed(from, ask.id, fault("OVERLOADED", `${ask.method} is being called too often at once`))];
    }
    const bytes = ask.bytes ?? 0;
    if (bytes > 0 && (this.#heldBytes.get(owner) ?? 0) + bytes > HELD_BYTES_MAX)
      return [failed(from, ask.id, fault("OVERLOADED", "the caller's calls that run have too many bytes"))];
    this.#hold(owner, bytes);
    return [this.#begin(from, asked, owner, ask, verdict.stream, keyed, now)];
  }

  #begin(
    from: Route,
    asked: Map<number, Run>,
    owner: string,
    ask: AskMessage,
    stream: boolean,
    keyed: string | undefined,
    now: Instant,
  ): ServeEffect {
    this.#lastRun += 1;
    const no = this.#lastRun;
    const deadlineAt = deadlineOf(ask, now);
    const run: Run = {
      no,
      method: ask.method,
      owner,
      bytes: ask.bytes ?? 0,
      deadlineAt,
      stream,
      askers: [{ route: from, id: ask.id }],
      keyed,
      ended: false,
    };
    this.#runs.set(no, run);
    asked.set(ask.id, run);
    this.#running.set(ask.method, (this.#running.get(ask.method) ?? 0) + 1);
    if (deadlineAt !== undefined) this.#deadlines.add(no, deadlineAt);
    if (keyed !== undefined) this.#keep(keyed, { atMs: now.monoMs, result: undefined, bytes: 0, run: no });
    return { type: "run", run: no, from, ask, deadlineAt };
  }

  #hold(owner: string, bytes: number): void {
    const held = (this.#heldBytes.get(owner) ?? 0) + bytes;
    if (held === 0) this.#heldBytes.delete(owner);
    else this.#heldBytes.set(owner, held);
  }

  /** The first call's result for a repeated key; `undefined` if there is none. */
  #repeat(
    keyed: string,
    from: Route,
    asked: Map<number, Run>,
    ask: AskMessage,
    now: Instant,
  ): readonly ServeEffect[] | undefined {
    const { id } = ask;
    const kept = this.#kept.get(keyed);
    if (kept === undefined) return undefined;
    if (kept.result !== undefined) {
      if (now.monoMs - kept.atMs <= KEPT_RESULTS_MS) return [answer(from, id, kept.result)];
      this.#giveUp(keyed);
      return undefined;
    }
    const run = this.#runs.get(kept.run);
    if (run === undefined) return undefined;
    if (run.askers.length >= ASKERS_MAX)
      return [failed(from, id, fault("OVERLOADED", `${run.method} is asked too often with one key`))];
    run.askers.push({ route: from, id });
    asked.set(id, run);
    return this.#extend(run, deadlineOf(ask, now));
  }

  /** A run goes on for as long as anybody waits; whoever gave it less time cancels for itself. */
  #extend(run: Run, deadlineAt: number | undefined): readonly ServeEffect[] {
    if (run.ended || run.deadlineAt === undefined || (deadlineAt ?? Infinity) <= run.deadlineAt)
      return NOTHING;
    this.#deadlines.delete(run.no, run.deadlineAt);
    run.deadlineAt = deadlineAt;
    if (deadlineAt !== undefined) this.#deadlines.add(run.no, deadlineAt);
    return [{ type: "extend", run: run.no, deadlineAt }];
  }

  #keep(keyed: string, kept: Kept): void {
    this.#giveUpOldest(KEPT_RESULTS_MAX - 1);
    this.#kept.set(keyed, kept);
  }

  /** Results, until so many are left and their bytes are within their limit; never what still runs. */
  #giveUpOldest(leaving: number): void {
    for (const [oldest, { result }] of this.#kept) {
      if (this.#kept.size <= leaving && this.#keptBytes <= KEPT_BYTES_MAX) break;
      if (result !== undefined) this.#giveUp(oldest);
    }
  }

  #giveUp(keyed: string): void {
    this.#keptBytes -= this.#kept.get(keyed)?.bytes ?? 0;
    this.#kept.delete(keyed);
  }

  #done(no: number, result: Result, bytes: number, now: Instant): readonly ServeEffect[] {
    const run = this.#runs.get(no);
    if (run === undefined) return NOTHING;
    this.#detach(run);
    this.#runs.delete(no);
    const { ended } = run;
    this.#hold(run.owner, -run.bytes);
    const busy = (this.#running.get(run.method) ?? 1) - 1;
    if (busy === 0) this.#running.delete(run.method);
    else this.#running.set(run.method, busy);
    const kept = run.keyed === undefined ? undefined : this.#kept.get(run.keyed);
    if (kept?.run === no) {
      // What did nothing, or failed because it was told to stop, may be tried again under the same key.
      if (!result.ok && (ended || result.fault.outcome === "none")) this.#giveUp(run.keyed ?? "");
      else {
        kept.result = result;
        kept.atMs = now.monoMs;
        kept.bytes = bytes;
        this.#keptBytes += bytes;
        this.#giveUpOldest(KEPT_RESULTS_MAX);
      }
    }
    // Who asked with its key after it was told to end: that it failed then says nothing.
    const told: Result = result.ok || !ended ? result : { ok: false, fault: TOLD_TO_END };
    return run.askers.map(({ route, id }) => answer(route, id, told));
  }

  #told(from: Route, message: CallerMessage): readonly ServeEffect[] {
    const run = this.#asked.get(from)?.get(message.id);
    if (run === undefined) return NOTHING;
    switch (message.type) {
      case "cancel":
        return this.#leave(run, from, fault("CANCELLED", "the caller cancelled", "unknown"), message.id);
      case "item":
        if (!message.up || !run.stream) return NOTHING;
        return [{ type: "item", run: run.no, value: message.value, large: message.large === true }];
      case "end":
        return run.stream ? [{ type: "end", run: run.no }] : NOTHING;
      case "credit":
        return message.up ? NOTHING : [{ type: "credit", run: run.no, count: message.count }];
    }
  }

  /** One asker is gone, or all of a session. A run whose result is kept for a key goes on: its caller may come back. */
  #leave(run: Run, route: Route, reason: Fault, id?: number): readonly ServeEffect[] {
    // None of a session that ended may stay: its ids mean other calls in the next one, if that is another process.
    const isGone = (asker: Run["askers"][number]): boolean =>
      asker.route === route && (id === undefined || asker.id === id);
    const rest = run.askers.filter((asker) => !isGone(asker));
    for (const asker of run.askers) if (isGone(asker)) this.#asked.get(route)?.delete(asker.id);
    run.askers.splice(0, Infinity, ...rest);
    const isKept = run.keyed !== undefined && reason.code !== "CANCELLED";
    return run.askers.length > 0 || isKept ? NOTHING : this.#end(run, reason);
  }

  #down(route: Route): readonly ServeEffect[] {
    const runs = new Set(this.#asked.get(route)?.values());
    const gone = fault("UNAVAILABLE", "the caller's link was lost", "unknown");
    const effects = [...runs].flatMap((run) => this.#leave(run, route, gone));
    this.#asked.delete(route);
    return effects;
  }

  #expire(no: number): readonly ServeEffect[] {
    const run = this.#runs.get(no);
    return run === undefined
      ? NOTHING
      : this.#end(run, fault("DEADLINE_EXCEEDED", "the caller's deadline has passed", "unknown"));
  }

  /** Nobody waits for the result any more: the handler is told, and its askers are. */
  #end(run: Run, reason: Fault): readonly ServeEffect[] {
    if (run.ended) return NOTHING;
    run.ended = true;
    this.#detach(run);
    const askers = run.askers.splice(0);
    return [
      { type: "abort", run: run.no, fault: reason },
      ...askers.map(({ route, id }) => failed(route, id, reason)),
    ];
  }

  #detach(run: Run): void {
    if (run.deadlineAt !== undefined) this.#deadlines.delete(run.no, run.deadlineAt);
    for (const { route, id } of run.askers) this.#asked.get(route)?.delete(id);
  }
}

function deadlineOf({ remainingMs }: AskMessage, now: Instant): number | undefined {
  return remainingMs === undefined ? undefined : now.monoMs + remainingMs;
}

function failed(route: Route, id: number, reason: Fault): ServeEffect {
  return { type: "send", route, message: { type: "fail", id, fault: reason } };
}

function answer(route: Route, id: number, result: Result): ServeEffect {
  if (!result.ok) return failed(route, id, result.fault);
  return { type: "send", route, message: { type: "reply", id, value: result.value } };
}
