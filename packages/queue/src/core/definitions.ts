import type { Instant } from "@klatsch/kit/core";

import type { Deleted } from "./messages.ts";
import type { StoredRecord } from "./records.ts";
import { keyOf } from "./records.ts";
import type { Definition, QueueId } from "./types.ts";

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
  readonly #deleted = new Map<QueueId, number>();

  constructor(host: DefinitionsHost, records: Iterable<readonly [key: string, record: StoredRecord]>) {
    this.#host = host;
    for (const [key, record] of records) {
      const queue = key.slice(2);
      if (record.kind === "definition") this.#known.set(queue, record.definition);
      else if (record.kind === "deleted") this.#deleted.set(queue, record.atWallMs);
    }
  }

  get(queue: QueueId): Definition | undefined {
    return this.#known.get(queue);
  }

  all(): readonly Definition[] {
    return [...this.#known.values()];
  }

  /** `true` if it is new here. A deleted queue is not declared again: one of the same name and options is another generation. */
  add(definition: Definition): boolean {
    const { queue } = definition;
    if (this.#known.has(queue) || this.#deleted.has(queue)) return false;
    if (this.#known.size >= DEFINITIONS_MAX) return false;
    this.#known.set(queue, definition);
    this.#host.persist(keyOf.definition(queue), { kind: "definition", definition });
    return true;
  }

  isDeleted(queue: QueueId): boolean {
    return this.#deleted.has(queue);
  }

  deleted(): readonly Deleted[] {
    return [...this.#deleted];
  }

  /** `true` if that is news. What is older than the memory of those who were there counts no more. */
  delete([queue, saidWallMs]: Deleted): boolean {
    if (this.#deleted.has(queue)) return false;
    const { wallMs } = this.#host.now;
    const atWallMs = Math.min(saidWallMs, Math.ceil(wallMs));
    if (!this.#makeRoom(atWallMs, wallMs - DELETED_KEEP_MS)) return false;
    this.#deleted.set(queue, atWallMs);
    this.#host.persist(keyOf.deleted(queue), { kind: "deleted", atWallMs });
    if (this.#known.delete(queue)) this.#host.persist(keyOf.definition(queue), undefined);
    return true;
  }

  /** Whether there is room for one of that time; the same newest ones are kept on all nodes. */
  #makeRoom(atWallMs: number, sinceWallMs: number): boolean {
    if (atWallMs <= sinceWallMs) return false;
    const old = [...this.#deleted].filter(([, at]) => at <= sinceWallMs);
    for (const [queue] of old) this.#forget(queue);
    if (this.#deleted.size < DEFINITIONS_MAX) return true;
    const oldest = [...this.#deleted].reduce((a, b) => (b[1] < a[1] ? b : a));
    if (oldest[1] >= atWallMs) return false;
    this.#forget(oldest[0]);
    return true;
  }

  #forget(queue: QueueId): void {
    this.#deleted.delete(queue);
    this.#host.persist(keyOf.deleted(queue), undefined);
  }
}
