import { systemClock } from "@klatsch/kit";

import { decodeHeaders } from "../codec/headers.ts";
import { pidStore } from "../core/ballot.ts";
import { isInDeadView } from "../core/dead-queue.ts";
import type { Inspection as CoreInspection, ManageRequest, ManageResult } from "../core/manage.ts";
import { MANAGE_ITEMS_MAX } from "../core/manage.ts";
import { onceEach, Page } from "../core/listed-page.ts";
import { messageId } from "../core/message-id.ts";
import { QueueError } from "../errors.ts";
import type { HostEffect } from "./engine.ts";
import { Gate } from "./gate.ts";
import { nextOf, placeOf } from "./listing.ts";
import { failuresOf } from "./message.ts";
import type { QueueInput } from "../core/inputs.ts";
import type { LaneId, ManageAct, ManageScope, Place, Value } from "../core/types.ts";
import type {
  Browsed,
  Changed,
  ConsumerInfo,
  Groups,
  Inspection,
  MessageInfo,
  PeekedMessage,
  QueueCounts,
  ReplicaInfo,
} from "../types.ts";

/** Questions that are open at a time, and changes of single messages: the others of this node wait for them. */
const QUESTIONS_MAX = 512;
const CHANGES_MAX = 64;
/** How often `drain` looks, in milliseconds. */
const LOOK_MS = 200;

type Answer = Extract<HostEffect, { readonly type: "managed" | "inspected" | "fetched" }>;

/** Which messages are listed. */
interface Listed {
  readonly state: ManageScope;
  readonly limit: number;
  readonly after: string | undefined;
  readonly timeoutMs: number;
}

/** Where requests go, and when there is nobody to ask any more. */
interface Way {
  /** Hands the engine an input; throws once the queues have ended. */
  enter(input: QueueInput): void;
  request(): number;
}

/** Operators' calls: each asks the nodes that write lanes, and says who did not answer. */
export class Operations {
  readonly #way: Way;
  readonly #questions = new Gate(QUESTIONS_MAX);
  readonly #open = new Map<number, (answer: Answer | undefined) => void>();

  constructor(way: Way) {
    this.#way = way;
  }

  onAnswer(answer: Answer): void {
    const done = this.#open.get(answer.requestId);
    this.#open.delete(answer.requestId);
    done?.(answer);
  }

  /** The queues of this node have ended: every question is answered by nobody. */
  end(): void {
    const waiting = [...this.#open.values()];
    this.#open.clear();
    for (const done of waiting) done(undefined);
  }

  /** `make`: the question, and until when it waits. */
  async #ask(make: (requestId: number) => QueueInput): Promise<Answer | undefined> {
    return await this.#questions.pass(
      async () =>
        await new Promise((resolve) => {
          const requestId = this.#way.request();
          this.#way.enter(make(requestId));
          this.#open.set(requestId, resolve);
        }),
    );
  }

  async #manage(
    queue: string,
    act: ManageAct,
    scope: ManageScope,
    timeoutMs: number,
    more: Partial<Pick<ManageRequest, "only" | "limit" | "from" | "after" | "oldest">> = {},
  ): Promise<ManageResult> {
    const deadlineMs = systemClock.now().monoMs + timeoutMs;
    const { limit = MANAGE_ITEMS_MAX, only, from, ...rest } = more;
    const answer = await this.#ask((requestId) => {
      return { type: "manage", requestId, queue, act, scope, only, limit, from, ...rest, deadlineMs };
    });
    if (answer?.type === "managed") return answer.result;
    throw new QueueError("STOPPED", "the queues of this node have ended");
  }

  async counts(queue: string, timeoutMs: number): Promise<QueueCounts> {
    const { counts, missing } = await this.#manage(queue, "count", "any", timeoutMs);
    const { oldestWallMs, ...rest } = counts;
    const { wallMs } = systemClock.now();
    const oldestAgeMs = oldestWallMs === 0 ? undefined : Math.max(0, wallMs - oldestWallMs);
    return { ...rest, oldestAgeMs, missing };
  }

  /** Waits until no message is left that is not dead. */
  async drain(queue: string, name: string, timeoutMs: number): Promise<void> {
    const endMs = systemClock.now().monoMs + timeoutMs;
    let seen: QueueCounts | undefined;
    let silent: readonly string[] | undefined;
    for (;;) {
      const leftMs = Math.max(1, endMs - systemClock.now().monoMs);
      const counts = await this.counts(queue, leftMs);
      const { ready, delayed, leased, unserved, missing } = counts;
      if (ready + delayed + leased + unserved === 0 && missing.length === 0) return;
      // The last look may have no time left for others to answer: those before know more.
      if (seen === undefined || missing.length <= seen.missing.length) seen = counts;
      if (silent === undefined || leftMs >= LOOK_MS) silent = missing;
      if (systemClock.now().monoMs >= endMs) throw notDrained(name, seen, silent);
      await new Promise((resolve) => setTimeout(resolve, Math.min(LOOK_MS, leftMs)));
    }
  }

  async consumers(
    queue: string,
    timeoutMs: number,
  ): Promise<{ readonly consumers: readonly ConsumerInfo[]; readonly missing: readonly string[] }> {
    const { consumers, missing } = await this.#manage(queue, "consumers", "any", timeoutMs);
    return { consumers, missing };
  }

  async groups(queue: string, shardCount: number, timeoutMs: number): Promise<Groups> {
    const { groups, shards, missing } = await this.#manage(queue, "groups", "any", timeoutMs);
    const found = groups.map(({ group, count, head, peer }) => {
      const { lane, seq, value } = head;
      return { group, count, head: infoOf(lane, seq, value, peer) };
    });
    const unreachable = Array.from({ length: shardCount }, (_, no) => no).filter(
      (no) => !shards.includes(no),
    );
    return { groups: found.toSorted((a, b) => b.head.ageMs - a.head.ageMs), unreachable, missing };
  }

  /** In as many parts as it takes; once time is over the page ends where it is. */
  async #list(queue: string, { state, limit, after, timeoutMs }: Listed): Promise<Page> {
    const endMs = systemClock.now().monoMs + timeoutMs;
    const page = new Page(limit, after === undefined ? undefined : placeOf(queue, after));
    do {
      const leftMs = Math.max(1, endMs - systemClock.now().monoMs);
      page.add(await this.#manage(queue, "list", state, leftMs, page.wanted));
    } while (!page.isFull && systemClock.now().monoMs < endMs);
    return page;
  }

  async browse(queue: string, options: Listed): Promise<Browsed> {
    const { items, missing, unserved, next } = await this.#list(queue, options);
    const messages = items.map(({ lane, seq, value, peer }) => infoOf(lane, seq, value, peer));
    messages.sort((a, b) => b.ageMs - a.ageMs);
    return { messages, next: next && nextOf(queue, next), missing, unserved };
  }

  async peek(queue: string, options: Listed): Promise<readonly PeekedMessage[]> {
    const found = (await this.#peeked(queue, options)).map(async ({ lane, seq, value, peer }) => {
      const deadlineMs = systemClock.now().monoMs + options.timeoutMs;
      const answer = await this.#ask((requestId) => {
        return { type: "fetch", requestId, peer, lane, seq, deadlineMs };
      });
      if (answer?.type !== "fetched" || answer.body === undefined) return [];
      const headerBytes = value.attributes?.headerBytes ?? 0;
      const headers = decodeHeaders(answer.body.subarray(0, headerBytes));
      return [{ ...infoOf(lane, seq, value, peer), headers, body: answer.body.subarray(headerBytes) }];
    });
    return (await Promise.all(found)).flat();
  }

  async #peeked(queue: string, options: Listed): Promise<ManageResult["items"]> {
    const { state, limit, after, timeoutMs } = options;
    if (after !== undefined) return (await this.#list(queue, options)).items;
    const { items, more } = await this.#manage(queue, "list", state, timeoutMs, { limit, oldest: true });
    // What no more fitted into an answer comes before what others tell of behind it.
    const ends = [...Map.groupBy(items, ({ peer }) => peer)]
      .filter(([peer]) => more.has(peer))
      .map(([, found]) => Math.max(...found.map(enqueuedAt)));
    const endMs = Math.min(...ends);
    return onceEach(items.filter((item) => enqueuedAt(item) <= endMs))
      .toSorted((a, b) => enqueuedAt(a) - enqueuedAt(b))
      .slice(0, limit);
  }

  /** Does away with the queue on all nodes that can be asked; the others hear of it when they come back. */
  async delete(queue: string, timeoutMs: number): Promise<Changed> {
    const { count, missing } = await this.#manage(queue, "delete", "any", timeoutMs);
    return { count, missing };
  }

  /**
   * Once through the queue, in rounds, until all was seen or somebody does not answer. What comes back behind that stays; only
   * what is done away with is looked for once more, since a lane may have changed its writer between two rounds.
   */
  async change(
    queue: string,
    act: "redrive" | "discard",
    scope: ManageScope,
    limit: number,
    timeoutMs: number,
  ): Promise<Changed> {
    const endMs = systemClock.now().monoMs + timeoutMs;
    let count = 0;
    let from: ManageRequest["from"];
    let isLast = act === "redrive";
    for (;;) {
      const leftMs = Math.max(1, endMs - systemClock.now().monoMs);
      const { more, missing, ...result } = await this.#manage(queue, act, scope, leftMs, {
        limit: limit - count,
        from,
      });
      count += result.count;
      const isWhole = from === undefined;
      from = more;
      if (count >= limit || missing.length > 0) return { count, missing };
      if (more.size === 0) {
        if (isLast || isWhole) return { count, missing };
        isLast = true;
        from = undefined;
      }
      if (systemClock.now().monoMs >= endMs) return { count, missing: [...more.keys()] };
    }
  }

  async changeThese(
    queue: string,
    act: "redrive" | "discard",
    scope: ManageScope,
    messages: readonly Place[],
    timeoutMs: number,
  ): Promise<Changed> {
    const changes = new Gate(CHANGES_MAX);
    const results = await Promise.all(
      messages.map((only) =>
        changes.pass(() => this.#manage(queue, act, scope, timeoutMs, { only, limit: 1 })),
      ),
    );
    const missing = new Set(results.flatMap((result) => result.missing));
    return { count: results.reduce((sum, { count }) => sum + count, 0), missing: [...missing] };
  }

  async inspect({ lane, seq }: Place, timeoutMs: number): Promise<Inspection> {
    const deadlineMs = systemClock.now().monoMs + timeoutMs;
    const answer = await this.#ask((requestId) => {
      return { type: "inspect", requestId, lane, seq, deadlineMs };
    });
    if (answer?.type !== "inspected") throw new QueueError("STOPPED", "the queues of this node have ended");
    const { found, missing } = answer;
    const known = found.filter((one) => one.known);
    return {
      id: messageId(lane, seq),
      writer: known.find(({ isWriter }) => isWriter)?.peer,
      replicas: known.map((one) => replicaOf(lane, seq, one)),
      missing,
    };
  }
}

function replicaOf(lane: LaneId, seq: number, one: CoreInspection): ReplicaInfo {
  const { peer, store, finished, register, promise } = one;
  const ballot = register && {
    round: register.ballot.round,
    step: register.ballot.step,
    proposer: pidStore(register.ballot.pid),
  };
  return {
    peer,
    store,
    follows: promise === undefined ? undefined : pidStore(promise.pid),
    finished,
    ballot,
    message: register && infoOf(lane, seq, register.value, peer),
  };
}

function enqueuedAt({ value }: { readonly value: Value }): number {
  return value.enqueuedWallMs;
}

function infoOf(lane: LaneId, seq: number, value: Value, peer: string): MessageInfo {
  const { epoch, deliveries, acquired, bodyBytes, holder, reason, attributes } = value;
  const { wallMs } = systemClock.now();
  return {
    id: messageId(lane, seq),
    state: stateOf(value, wallMs),
    epoch,
    deliveries,
    releases: acquired,
    redrives: attributes?.redrives ?? 0,
    priority: attributes?.priority ?? 0,
    group: attributes?.group,
    dedupKey: attributes?.dedupKey,
    ageMs: value.enqueuedWallMs === 0 ? 0 : Math.max(0, wallMs - value.enqueuedWallMs),
    dueMs: Math.max(0, value.notBeforeWallMs - wallMs),
    bodyBytes: bodyBytes - (attributes?.headerBytes ?? 0),
    holder: holder && { peer: holder.peer, session: holder.session },
    reason,
    failures: failuresOf(attributes),
    peer,
  };
}

function stateOf(value: Value, wallMs: number): MessageInfo["state"] {
  if (value.state === "DONE") return "done";
  if (value.state === "LEASED") return "leased";
  if (isInDeadView(value)) return "dead";
  return value.notBeforeWallMs > wallMs ? "delayed" : "ready";
}

function notDrained(name: string, seen: QueueCounts, missing: readonly string[]): QueueError {
  const { ready, delayed, leased, unserved } = seen;
  const more = unserved === 0 ? "" : `, and ${unserved} that wait for another node to serve them`;
  const silent = missing.length === 0 ? "" : `; not heard of: ${missing.join(", ")}`;
  const text = `${name} has ${ready} ready, ${delayed} delayed and ${leased} held messages${more}${silent}`;
  return new QueueError("NOT_DRAINED", text);
}
