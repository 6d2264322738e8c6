import type { Context } from "./context.ts";
import type { Message } from "./messages.ts";
import type { Timer } from "./timers.ts";
import type { LaneId, PeerId, Resolution } from "./types.ts";

/** Questions one node keeps open; more are answered UNKNOWN. */
const OPEN_MAX = 65_536;

type Then = (resolution: Resolution) => void;

interface Question {
  readonly lane: LaneId;
  readonly seq: number;
  readonly peers: readonly PeerId[];
  readonly unknown: Set<PeerId>;
  delayMs: number;
  /** Who asked, each with the timer of its own deadline. */
  readonly askers: Map<Then, Timer>;
}

/** Flow 7's `resolve`: asks the lane's replicas until one may say what became of a message id. */
export class Resolves {
  readonly #context: Context;
  readonly #questions = new Map<string, Question>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** `then` gets PENDING at the deadline, UNKNOWN once all of `peers` know nothing. */
  ask(lane: LaneId, seq: number, peers: readonly PeerId[], deadlineMs: number, then: Then): void {
    const key = `${lane}-${seq}`;
    const known = this.#questions.get(key);
    if (known === undefined && this.#questions.size >= OPEN_MAX) return then("UNKNOWN");
    const question = known ?? {
      lane,
      seq,
      peers,
      unknown: new Set(),
      delayMs: this.#context.tuning.prepareRetryMs / 2,
      askers: new Map(),
    };
    const timer = this.#context.timers.set(deadlineMs, () => {
      question.askers.delete(then);
      if (question.askers.size === 0) this.#questions.delete(key);
      then("PENDING");
    });
    question.askers.set(then, timer);
    if (known !== undefined) return;
    this.#questions.set(key, question);
    this.#send(key, question);
  }

  #send(key: string, question: Question): void {
    const { lane, seq } = question;
    for (const peer of question.peers) this.#context.send(peer, { type: "resolve", lane, seq });
    question.delayMs = Math.min(question.delayMs * 2, this.#context.tuning.verdictRetryMaxMs);
    this.#context.timers.set(this.#context.now.monoMs + question.delayMs, () => {
      if (this.#questions.get(key) === question) this.#send(key, question);
    });
  }

  #end(key: string, question: Question, resolution: Resolution): void {
    this.#questions.delete(key);
    for (const timer of question.askers.values()) this.#context.timers.cancel(timer);
    for (const then of question.askers.keys()) then(resolution);
  }

  resolved(from: PeerId, message: Message & { type: "resolved" }): void {
    const key = `${message.lane}-${message.seq}`;
    const question = this.#questions.get(key);
    if (question?.peers.includes(from) !== true) return;
    const { resolution } = message;
    if (resolution === "ACKED" || resolution === "NEVER") this.#end(key, question, resolution);
    else if (resolution === "UNKNOWN") {
      question.unknown.add(from);
      if (question.unknown.size === question.peers.length) this.#end(key, question, "UNKNOWN");
    }
  }
}
