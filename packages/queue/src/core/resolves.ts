import type { Context } from "./context.ts";
import type { Message } from "./messages.ts";
import type { LaneId, PeerId, Resolution } from "./types.ts";

/** Questions one node keeps open; more are answered UNKNOWN. */
const OPEN_MAX = 65_536;

interface Question {
  readonly lane: LaneId;
  readonly seq: number;
  readonly peers: readonly PeerId[];
  readonly unknown: Set<PeerId>;
  readonly deadlineMs: number;
  delayMs: number;
  readonly then: ((resolution: Resolution) => void)[];
}

/** Flow 7's `resolve`: asks the lane's replicas until one may say what became of a message id. */
export class Resolves {
  readonly #context: Context;
  readonly #questions = new Map<string, Question>();

  constructor(context: Context) {
    this.#context = context;
  }

  /** `then` gets PENDING at the deadline, UNKNOWN once all of `peers` know nothing. */
  ask(
    lane: LaneId,
    seq: number,
    peers: readonly PeerId[],
    deadlineMs: number,
    then: (resolution: Resolution) => void,
  ): void {
    const key = `${lane}-${seq}`;
    const known = this.#questions.get(key);
    if (known !== undefined && known.deadlineMs >= deadlineMs) {
      known.then.push(then);
      return;
    }
    if (this.#questions.size >= OPEN_MAX) return then("UNKNOWN");
    const question: Question = {
      lane,
      seq,
      peers,
      unknown: new Set(),
      deadlineMs,
      delayMs: this.#context.tuning.prepareRetryMs / 2,
      then: [then, ...(known?.then ?? [])],
    };
    this.#questions.set(key, question);
    this.#send(key, question);
  }

  #send(key: string, question: Question): void {
    const { lane, seq } = question;
    const { monoMs } = this.#context.now;
    if (monoMs >= question.deadlineMs) return this.#end(key, question, "PENDING");
    for (const peer of question.peers) this.#context.send(peer, { type: "resolve", lane, seq });
    question.delayMs = Math.min(question.delayMs * 2, this.#context.tuning.verdictRetryMaxMs);
    const at = Math.min(monoMs + question.delayMs, question.deadlineMs);
    this.#context.timers.set(at, () => {
      if (this.#questions.get(key) === question) this.#send(key, question);
    });
  }

  #end(key: string, question: Question, resolution: Resolution): void {
    this.#questions.delete(key);
    for (const then of question.then) then(resolution);
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
