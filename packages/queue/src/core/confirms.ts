import type { Context } from "./context.ts";
import type { LaneWriter } from "./lane-writer.ts";
import type { Message } from "./messages.ts";
import type { PeerId, StoreId } from "./types.ts";

/** Questions one lane keeps waiting; beyond it they are dropped and asked again. */
const WAITING_MAX = 65_536;
/** Times a round is asked before its questions are dropped. */
const TRIES_MAX = 30;

interface Round {
  readonly token: number;
  readonly yes: Set<StoreId>;
  tries: number;
  /** Came before the round was sent: its yes answers them. */
  readonly asked: (() => void)[];
  /** Came after: they need the next round. */
  readonly next: (() => void)[];
}

/**
 * CONFIRM: q replicas say that they still follow this writer *after* a question came. Without it
 * neither STALE nor a renewal may be told (P5, flow 4).
 */
export class Confirms {
  readonly #context: Context;
  readonly #rounds = new Map<LaneWriter, Round>();
  #nextToken = 1;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Calls `then` once q confirmed; never, if the lane is lost first. */
  ask(lane: LaneWriter, then: () => void): void {
    const round = this.#rounds.get(lane);
    if (round !== undefined) {
      if (round.next.length < WAITING_MAX) round.next.push(then);
      return;
    }
    this.#begin(lane, [then]);
  }

  #begin(lane: LaneWriter, asked: (() => void)[]): void {
    const round: Round = { token: this.#nextToken, yes: new Set(), tries: 0, asked, next: [] };
    this.#nextToken += 1;
    this.#rounds.set(lane, round);
    this.#send(lane, round);
  }

  drop(lane: LaneWriter): void {
    this.#rounds.delete(lane);
  }

  /**
   * Asks whoever has not answered yet. Once more means with the same token: whatever answers it came after the questions of this
   * round. With another each time no round would ever end where answers take longer than the pause between them.
   */
  #send(lane: LaneWriter, round: Round): void {
    round.tries += 1;
    const { token, yes } = round;
    for (const { peer, store } of lane.descriptor.replicas) {
      if (yes.has(store) || !this.#context.reachable(store)) continue;
      this.#context.send(peer, { type: "confirm", lane: lane.lane, ...lane.right, token });
    }
    const at = this.#context.now.monoMs + this.#context.tuning.askTimeoutMs;
    this.#context.timers.set(at, () => {
      if (this.#rounds.get(lane) !== round) return;
      if (lane.isLost || round.tries >= TRIES_MAX) this.#rounds.delete(lane);
      else this.#send(lane, round);
    });
  }

  confirmed(from: PeerId, lane: LaneWriter | undefined, message: Message & { type: "confirmed" }): void {
    const round = lane === undefined ? undefined : this.#rounds.get(lane);
    if (lane === undefined || round?.token !== message.token || !message.yes || lane.isLost) return;
    const replica = lane.descriptor.replicas.find(({ peer }) => peer === from);
    if (replica === undefined) return;
    round.yes.add(replica.store);
    if (round.yes.size < lane.quorum) return;
    const { asked, next } = round;
    this.#rounds.delete(lane);
    for (const then of asked) then();
    // All of them in one round: one a round would make the last wait for as many as there are.
    if (next.length > 0) this.#begin(lane, next);
  }
}
