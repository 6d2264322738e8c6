import type { Instant } from "@klatsch/kit/core";

import { Deadlines } from "./deadlines.ts";
import { ATTEMPTS_MAX } from "./limits.ts";
import { fault } from "./messages.ts";
import type { Fault, Message, Route } from "./messages.ts";

/** A call as its caller wants it. */
export interface Call {
  readonly id: number;
  readonly route: Route;
  readonly method: string;
  readonly input: unknown;
  /** Monotonic instant in milliseconds; `undefined` for a stream without one. */
  readonly deadlineAt: number | undefined;
  readonly key: string | undefined;
  readonly trace: string | undefined;
  /** Running it twice does no harm. */
  readonly idempotent: boolean;
  /** Has items beside its ask and its reply: never sent again once it was sent. */
  readonly stream: boolean;
  /** Whether the peer is believed alive: a call may wait for its link. */
  readonly reachable: boolean;
}

export type CallInput =
  | { readonly type: "call"; readonly call: Call }
  | { readonly type: "cancel"; readonly id: number }
  /** A session began. `boot` tells processes of the same peer apart. */
  | { readonly type: "up"; readonly route: Route; readonly boot: number }
  /** A session ended; the asks in `unsent` had not left whole. */
  | { readonly type: "down"; readonly route: Route; readonly unsent: ReadonlySet<number> }
  /** The peer takes no more calls, and ends the session soon. */
  | { readonly type: "closing"; readonly route: Route }
  /** The peer is dead, stopped or has left. */
  | { readonly type: "gone"; readonly route: Route }
  /** Answers `reach`: there is no way to the peer, and none is to be expected. */
  | { readonly type: "unreachable"; readonly route: Route; readonly reason: string }
  | { readonly type: "message"; readonly from: Route; readonly message: AnswerMessage }
  | { readonly type: "tick" }
  /** From now on {@link Calls.awaited} counts. */
  | { readonly type: "drain" }
  | { readonly type: "stop" };

/** What a handler's side sends. */
export type AnswerMessage = Extract<Message, { readonly type: "reply" | "fail" | "item" | "credit" }>;

export type CallEffect =
  | { readonly type: "send"; readonly route: Route; readonly message: Message }
  /** A call waits for a session with this peer, which may be no neighbour. */
  | { readonly type: "reach"; readonly route: Route }
  | { readonly type: "resolve"; readonly id: number; readonly value: unknown }
  | { readonly type: "reject"; readonly id: number; readonly fault: Fault }
  | { readonly type: "item"; readonly id: number; readonly value: unknown; readonly large: boolean }
  | { readonly type: "credit"; readonly id: number; readonly count: number };

interface Pending {
  readonly call: Call;
  sent: boolean;
  /** Of the process it was first sent to. */
  boot: number | undefined;
  attempts: number;
}

const NOTHING: readonly CallEffect[] = [];

/** The caller's side of all calls of one node. Pure: ids, deadlines, what is sent again and what is not. */
export class Calls {
  readonly #pendingMax: number;
  readonly #pending = new Map<number, Pending>();
  readonly #routes = new Map<Route, number>();
  /** Those of them that end soon. */
  readonly #closing = new Set<Route>();
  readonly #deadlines = new Deadlines<number>();
  /** Pending since before the drain. */
  readonly #awaited = new Set<number>();

  constructor({ pendingMax }: { readonly pendingMax: number }) {
    this.#pendingMax = pendingMax;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Calls that were pending when the drain began and are so still; a stream without a deadline may never end, and does not count. */
  get awaited(): number {
    return this.#awaited.size;
  }

  nextDeadline(): number | undefined {
    return this.#deadlines.next();
  }

  /** Total: late, repeated or unknown answers yield nothing. */
  step(input: CallInput, now: Instant): readonly CallEffect[] {
    switch (input.type) {
      case "call":
        return this.#call(input.call, now);
      case "message":
        return this.#answered(input.from, input.message);
      case "cancel":
        return this.#cancel(input.id);
      case "up":
        return this.#up(input.route, input.boot, now);
      case "down":
        return this.#down(input.route, input.unsent);
      case "closing":
        if (this.#routes.has(input.route)) this.#closing.add(input.route);
        return NOTHING;
      case "gone":
        return this.#gone(input.route);
      case "unreachable":
        return this.#unreachable(input.route, input.reason);
      case "tick":
        return this.#deadlines.due(now.monoMs).flatMap((id) => this.#expire(id));
      case "drain":
        for (const { call } of this.#pending.values())
          if (call.deadlineAt !== undefined) this.#awaited.add(call.id);
        return NOTHING;
      case "stop":
        return [...this.#pending.values()].flatMap((pending) => [
          ...this.#withdraw(pending),
          this.#reject(pending, fault("STOPPED", "this node's rpc has stopped", outcomeOf(pending))),
        ]);
    }
  }

  #call(call: Call, now: Instant): readonly CallEffect[] {
    const refusal = this.#refusal(call, now);
    if (refusal !== undefined) return [{ type: "reject", id: call.id, fault: refusal }];
    const pending: Pending = { call, sent: false, boot: undefined, attempts: 0 };
    this.#pending.set(call.id, pending);
    if (call.deadlineAt !== undefined) this.#deadlines.add(call.id, call.deadlineAt);
    const boot = this.#routes.get(call.route);
    return [boot === undefined ? { type: "reach", route: call.route } : this.#send(pending, boot, now)];
  }

  /** Whether a call waits for a session on this route (`sent` false), or for its answer. */
  has(route: Route, sent: boolean): boolean {
    for (const pending of this.#pending.values())
      if (pending.call.route === route && pending.sent === sent) return true;
    return false;
  }

  #refusal(call: Call, now: Instant): Fault | undefined {
    if (this.#pending.size >= this.#pendingMax) {
      return fault("OVERLOADED", `${this.#pendingMax} calls of this node are pending already`);
    }
    if (call.deadlineAt !== undefined && call.deadlineAt <= now.monoMs) {
      return fault("DEADLINE_EXCEEDED", `no time is left to call ${call.method}`);
    }
    // Sent now it could be lost with the session, and nobody would know what became of it. A key bears to be asked again.
    if (this.#closing.has(call.route) && call.key === undefined)
      return fault("UNAVAILABLE", "the peer stops, and takes no more calls");
    if (this.#routes.has(call.route) || call.reachable) return undefined;
    return fault("UNAVAILABLE", "no live member of the mesh has this peer id");
  }

  #send(pending: Pending, boot: number, now: Instant): CallEffect {
    const { id, route, method, input, deadlineAt, key, trace } = pending.call;
    pending.sent = true;
    pending.boot ??= boot;
    pending.attempts += 1;
    const remainingMs =
      deadlineAt === undefined ? undefined : Math.max(1, Math.round(deadlineAt - now.monoMs));
    return { type: "send", route, message: { type: "ask", id, method, remainingMs, input, key, trace } };
  }

  #answered(from: Route, message: AnswerMessage): readonly CallEffect[] {
    const pending = this.#pending.get(message.id);
    if (pending === undefined || pending.call.route !== from || !pending.sent) return NOTHING;
    const { id } = pending.call;
    switch (message.type) {
      case "reply":
        this.#forget(pending);
        return [{ type: "resolve", id, value: message.value }];
      case "fail":
        return [this.#reject(pending, message.fault)];
      case "item":
        if (message.up || !pending.call.stream) return NOTHING;
        return [{ type: "item", id, value: message.value, large: message.large === true }];
      case "credit":
        return message.up && pending.call.stream ? [{ type: "credit", id, count: message.count }] : NOTHING;
    }
  }

  #cancel(id: number): readonly CallEffect[] {
    const pending = this.#pending.get(id);
    if (pending === undefined) return NOTHING;
    const cancelled = fault(
      "CANCELLED",
      `the call of ${pending.call.method} was cancelled`,
      outcomeOf(pending),
    );
    return [...this.#withdraw(pending), this.#reject(pending, cancelled)];
  }

  #expire(id: number): readonly CallEffect[] {
    const pending = this.#pending.get(id);
    if (pending === undefined) return NOTHING;
    const { method } = pending.call;
    const late = pending.sent
      ? fault("DEADLINE_EXCEEDED", `${method} was not answered in time`, "unknown")
      : fault("UNAVAILABLE", `the peer could not be reached in time to call ${method}`, outcomeOf(pending));
    return [...this.#withdraw(pending), this.#reject(pending, late)];
  }

  /** Tells the handler's side that nobody waits any more. */
  #withdraw({ call, sent }: Pending): readonly CallEffect[] {
    return sent ? [{ type: "send", route: call.route, message: { type: "cancel", id: call.id } }] : NOTHING;
  }

  #up(route: Route, boot: number, now: Instant): readonly CallEffect[] {
    this.#routes.set(route, boot);
    const waiting = [...this.#pending.values()].filter(({ call, sent }) => call.route === route && !sent);
    return waiting.map((pending) => {
      // The process that kept the first result is gone: running it anew could be a second time.
      const mayRepeat = pending.boot === undefined || pending.boot === boot || pending.call.idempotent;
      return mayRepeat ? this.#send(pending, boot, now) : this.#reject(pending, broken(pending));
    });
  }

  #down(route: Route, unsent: ReadonlySet<number>): readonly CallEffect[] {
    this.#routes.delete(route);
    this.#closing.delete(route);
    const effects: CallEffect[] = [];
    for (const pending of this.#pending.values()) {
      const { call } = pending;
      if (call.route !== route || !pending.sent) continue;
      if (unsent.has(call.id) && pending.attempts === 1) pending.boot = undefined;
      const mayRepeat =
        pending.boot === undefined || (!call.stream && (call.idempotent || call.key !== undefined));
      if (mayRepeat && pending.attempts < ATTEMPTS_MAX) pending.sent = false;
      else effects.push(this.#reject(pending, broken(pending)));
    }
    return this.has(route, false) ? [...effects, { type: "reach", route }] : effects;
  }

  #unreachable(route: Route, reason: string): readonly CallEffect[] {
    const waiting = [...this.#pending.values()].filter(({ call, sent }) => call.route === route && !sent);
    return waiting.map((pending) => this.#reject(pending, fault("UNAVAILABLE", reason, outcomeOf(pending))));
  }

  #gone(route: Route): readonly CallEffect[] {
    if (this.#routes.has(route)) return NOTHING; // Its session will end; that decides.
    const waiting = [...this.#pending.values()].filter(({ call }) => call.route === route);
    return waiting.map((pending) => this.#reject(pending, broken(pending)));
  }

  #reject(pending: Pending, reason: Fault): CallEffect {
    this.#forget(pending);
    return { type: "reject", id: pending.call.id, fault: reason };
  }

  #forget({ call }: Pending): void {
    this.#pending.delete(call.id);
    this.#awaited.delete(call.id);
    if (call.deadlineAt !== undefined) this.#deadlines.delete(call.id, call.deadlineAt);
  }
}

function outcomeOf({ boot }: Pending): "none" | "unknown" {
  return boot === undefined ? "none" : "unknown";
}

function broken(pending: Pending): Fault {
  const when = pending.boot === undefined ? "before the call was sent" : "before it answered";
  return fault(
    "UNAVAILABLE",
    `the peer's link was lost ${when} (${pending.call.method})`,
    outcomeOf(pending),
  );
}
