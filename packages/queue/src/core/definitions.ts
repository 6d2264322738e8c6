import type { Instant } from "@klatsch/kit/core";

import type { Deleted } from "./messages.ts";
import type { StoredRecord } from "./records.ts";
import { keyOf } from "./records.ts";
import type { Definition, Policy, QueueId } from "./types.ts";

/** Queue definitions one node knows at most, and deleted queues it remembers: the newest. */
export const DEFINITIONS_MAX = 10_000;
/** How long a deleted queue is remembered, in milliseconds: a node that was away for longer brings it back. */
const DELETED_KEEP_MS: number = 30 * 24 * 3_600_000;

interface DefinitionsHost {
  readonly now: Instant;
  persist(key: string, record: StoredRecord | undefined): void;
}

/** The queues this node knows, and those it knows to be deleted. */
export class Definitions {
  readonly #host: DefinitionsHost;
  readonly #known = new Map<QueueId, Definition>();
  /** Of queues that are not as they were declared, known or not yet. The host bounds how many there are. */
  readonly #policies = new Map<QueueId, Policy>();
  readonly #altered = new Map<QueueId, Definition>();
  readonly #deleted = new Map<QueueId, number>();
  /** None of them was deleted before. */
  #oldestWallMs = Number.POSITIVE_INFINITY;

  constructor(host: DefinitionsHost, records: Iterable<readonly [key: string, record: StoredRecord]>) {
    this.#host = host;
    for (const [key, record] of records) {
      const queue = key.slice(2);
      if (record.kind === "definition") this.#known.set(queue, record.definition);
      else if (record.kind === "deleted") this.#note(queue, record.atWallMs);
    }
  }

  /** As it is now. */
  get(queue: QueueId): Definition | undefined {
    return this.#altered.get(queue) ?? this.#known.get(queue);
  }

  /** As it was declared. */
  declared(queue: QueueId): Definition | undefined {
    return this.#known.get(queue);
  }

  /** As they were declared. */
  all(): readonly Definition[] {
    return [...this.#known.values()];
  }

  /** `undefined`: it is as it was declared. */
  alter(queue: QueueId, policy: Policy | undefined): void {
    if (policy === undefined) this.#policies.delete(queue);
    else this.#policies.set(queue, policy);
    this.#apply(queue);
  }

  #apply(queue: QueueId): void {
    const known = this.#known.get(queue);
    const policy = this.#policies.get(queue);
    if (known === undefined || policy === undefined) this.#altered.delete(queue);
    else this.#altered.set(queue, altered(known, policy));
  }

  /** `true` if it is new here. A deleted queue is not declared again: one of the same name and options is another generation. */
  add(definition: Definition): boolean {
    const { queue } = definition;
    if (this.#known.has(queue) || this.isDeleted(queue)) return false;
    if (this.#known.size >= DEFINITIONS_MAX) return false;
    this.#known.set(queue, definition);
    this.#apply(queue);
    this.#host.persist(keyOf.definition(queue), { kind: "definition", definition });
    return true;
  }

  get deletedCount(): number {
    return this.#deleted.size;
  }

  /** When it was deleted, unless that is so long ago that nobody has to know any more. */
  deletedAt(queue: QueueId): number | undefined {
    const atWallMs = this.#deleted.get(queue);
    return atWallMs === undefined || this.#isPast(atWallMs) ? undefined : atWallMs;
  }

  isDeleted(queue: QueueId): boolean {
    return this.deletedAt(queue) !== undefined;
  }

  deleted(): readonly Deleted[] {
    return [...this.#deleted].filter(([, atWallMs]) => !this.#isPast(atWallMs));
  }

  #note(queue: QueueId, atWallMs: number): void {
    this.#deleted.set(queue, atWallMs);
    this.#oldestWallMs = Math.min(this.#oldestWallMs, atWallMs);
  }

  /** Those that nobody has to know any more, and the oldest of too many. To copy all of them for each one would be quadratic. */
  #forgettable(): readonly QueueId[] {
    if (this.#deleted.size <= DEFINITIONS_MAX && !this.#isPast(this.#oldestWallMs)) return [];
    const past: QueueId[] = [];
    let oldest: Deleted | undefined;
    for (const one of this.#deleted) {
      if (this.#isPast(one[1])) past.push(one[0]);
      else if (oldest === undefined || newestFirst(oldest, one) < 0) oldest = one;
    }
    this.#oldestWallMs = oldest?.[1] ?? Number.POSITIVE_INFINITY;
    const over = this.#deleted.size - past.length - DEFINITIONS_MAX;
    if (over <= 0 || oldest === undefined) return past;
    const left = over === 1 ? [oldest] : this.deleted().toSorted(newestFirst).slice(DEFINITIONS_MAX);
    return [...past, ...left.map(([queue]) => queue)];
  }

  #isPast(atWallMs: number): boolean {
    return atWallMs + DELETED_KEEP_MS <= this.#host.now.wallMs;
  }

  /** What is news of it, as this node tells it on. All nodes keep the same newest ones, whatever clocks somebody claims. */
  delete(queues: readonly Deleted[]): readonly Deleted[] {
    const nowWallMs = Math.ceil(this.#host.now.wallMs);
    const said = new Map(queues.map(([queue, atWallMs]) => [queue, Math.min(atWallMs, nowWallMs)]));
    const news = [...said].filter(([queue, at]) => !this.isDeleted(queue) && !this.#isPast(at));
    if (news.length === 0) return [];
    const unsaved = new Set(news.flatMap(([queue]) => (this.#deleted.has(queue) ? [] : [queue])));
    for (const [queue, atWallMs] of news) this.#note(queue, atWallMs);
    for (const queue of this.#forgettable()) {
      this.#deleted.delete(queue);
      if (!unsaved.has(queue)) this.#host.persist(keyOf.deleted(queue), undefined);
    }
    return news.filter(([queue, atWallMs]) => {
      if (!this.#deleted.has(queue)) return false;
      this.#host.persist(keyOf.deleted(queue), { kind: "deleted", atWallMs });
      if (this.#known.delete(queue)) this.#host.persist(keyOf.definition(queue), undefined);
      this.#apply(queue);
      return true;
    });
  }
}

/** What the policy leaves out has its default, whatever was declared. */
export function altered(declared: Definition, policy: Policy): Definition {
  const limits = { maxLength: undefined, maxBytes: undefined, bodyBytesMax: undefined, deadTtlMs: undefined };
  return { ...declared, retry: undefined, ...limits, ...policy };
}

function newestFirst([a, aWallMs]: Deleted, [b, bWallMs]: Deleted): number {
  return bWallMs - aWallMs || (a < b ? -1 : 1);
}
