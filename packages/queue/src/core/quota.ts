import type { Context } from "./context.ts";
import type { Message } from "./messages.ts";
import type { Definition, PeerId, QueueId, Value } from "./types.ts";

/** How often a node tells what its lanes hold of queues that have a limit, in milliseconds. */
const TELL_MS = 1_000;

/** What lanes hold that is neither done nor dead. */
export interface Usage {
  count: number;
  bytes: number;
}

/** One lane's part of that. */
export class LaneUsage {
  readonly #all: Usage;
  readonly #own: Usage = { count: 0, bytes: 0 };
  #over = false;

  constructor(all: Usage) {
    this.#all = all;
  }

  add(value: Value): void {
    this.#weigh(value, 1);
  }

  /** Messages that wait. */
  addWaiting(count: number, bytes: number): void {
    for (const usage of this.#over ? [] : [this.#own, this.#all]) {
      usage.count += count;
      usage.bytes += bytes;
    }
  }

  remove(value: Value): void {
    this.#weigh(value, -1);
  }

  #weigh({ state, reason, bodyBytes }: Value, sign: 1 | -1): void {
    if (state === "DONE" || reason !== undefined || this.#over) return;
    this.#own.count += sign;
    this.#own.bytes += sign * bodyBytes;
    this.#all.count += sign;
    this.#all.bytes += sign * bodyBytes;
  }

  /** Whoever writes the lane from now on counts it. */
  giveUp(): void {
    if (this.#over) return;
    this.#over = true;
    this.#all.count -= this.#own.count;
    this.#all.bytes -= this.#own.bytes;
  }
}

interface QuotaHost {
  definition(queue: QueueId): Definition | undefined;
  /** Peers that hear what this node's lanes hold. */
  linked(): readonly PeerId[];
}

/**
 * `maxLength` and `maxBytes`: each node counts what the lanes it writes hold, and tells the others. A limit is soft:
 * all nodes together may pass it by what they enter within the second it takes them to hear of each other.
 */
export class Quota {
  readonly #context: Context;
  readonly #host: QuotaHost;
  readonly #own = new Map<QueueId, Usage>();
  readonly #told = new Map<QueueId, Usage>();
  readonly #others = new Map<PeerId, ReadonlyMap<QueueId, Usage>>();
  #telling = false;

  constructor(context: Context, host: QuotaHost) {
    this.#context = context;
    this.#host = host;
  }

  /** Where this node's lanes of the queue are counted. */
  usageOf(queue: QueueId): Usage {
    let usage = this.#own.get(queue);
    if (usage === undefined) this.#own.set(queue, (usage = { count: 0, bytes: 0 }));
    this.#tellLater();
    return usage;
  }

  forget(queue: QueueId): void {
    this.#own.delete(queue);
    this.#told.delete(queue);
  }

  /** All that this node counts, whatever the queue. */
  get count(): number {
    let count = 0;
    for (const usage of this.#own.values()) count += usage.count;
    return count;
  }

  /** The limit that one more message of `bytes` would pass; `undefined` if there is room. */
  passed({ queue, maxLength, maxBytes }: Definition, bytes: number): string | undefined {
    if (maxLength === undefined && maxBytes === undefined) return undefined;
    const own = this.usageOf(queue);
    let all: Usage = { count: own.count + 1, bytes: own.bytes + bytes };
    for (const other of this.#others.values()) {
      const usage = other.get(queue);
      if (usage !== undefined) all = { count: all.count + usage.count, bytes: all.bytes + usage.bytes };
    }
    if (maxLength !== undefined && all.count > maxLength) return `maxLength ${maxLength}`;
    return maxBytes !== undefined && all.bytes > maxBytes ? `maxBytes ${maxBytes}` : undefined;
  }

  usage(from: PeerId, { items }: Message & { type: "usage" }): void {
    this.#others.set(from, new Map(items.map(({ queue, count, bytes }) => [queue, { count, bytes }])));
  }

  /** Somebody may have missed what was told, or not have been told what is limited from now on. */
  tellAgain(): void {
    this.#told.clear();
    this.#tellLater();
  }

  /** What it wrote is counted by whoever takes its lanes over. */
  linkDown(peer: PeerId): void {
    this.#others.delete(peer);
  }

  #tellLater(): void {
    if (this.#telling) return;
    this.#telling = true;
    this.#context.timers.set(this.#context.now.monoMs + TELL_MS, () => {
      this.#telling = false;
      this.#tell();
    });
  }

  #tell(): void {
    const limited = [...this.#own].filter(([queue]) => {
      const { maxLength, maxBytes } = this.#host.definition(queue) ?? {};
      return maxLength !== undefined || maxBytes !== undefined;
    });
    const changed = limited.some(([queue, usage]) => {
      const told = this.#told.get(queue);
      return told?.count !== usage.count || told.bytes !== usage.bytes;
    });
    if (changed) {
      for (const [queue, usage] of limited) this.#told.set(queue, { ...usage });
      const items = limited.map(([queue, usage]) => ({ queue, ...usage }));
      for (const peer of this.#host.linked()) this.#context.send(peer, { type: "usage", items });
    }
    // With nothing here as well: what other nodes enter into a lane of this one says nothing when it comes.
    if (limited.length > 0) this.#tellLater();
  }
}
