import { sameBytes } from "./bytes.ts";
import { entryBytes, OWN_LIMITS } from "./own-entries.ts";
import type { Namespace, OwnEntries } from "./own-entries.ts";
import { TokenBucket } from "./token-bucket.ts";
import type { Budget } from "./token-bucket.ts";

/** Keys that begin so are the mesh's own: the application neither writes them nor shares a budget with them. */
export const RESERVED_PREFIX = "klatsch/";

/** Which limit a write would break. */
export type OwnLimit = keyof typeof OWN_LIMITS;

/** Deletions are remembered this long, in milliseconds, and forgotten sooner where their room is needed. */
const MARK_MS = 600_000;

interface Pending {
  readonly budget: TokenBucket;
  readonly values: Map<string, Uint8Array | undefined>;
}

/**
 * What this node says of itself. A write counts here at once and is *published* when the budget allows (S4): the
 * first change after quiet at once, then those that gathered meanwhile together.
 */
export class OwnWriter {
  readonly #entries: OwnEntries;
  readonly #space: Namespace;
  readonly #application: Pending;
  readonly #reserved: Pending;
  /** Deletions by rising version. */
  #marks: { readonly version: number; readonly untilMs: number }[] = [];

  constructor(entries: OwnEntries, space: Namespace, budget: Budget, nowMs: number) {
    this.#entries = entries;
    this.#space = space;
    this.#application = { budget: new TokenBucket(budget, nowMs), values: new Map() };
    this.#reserved = { budget: new TokenBucket(budget, nowMs), values: new Map() };
  }

  /** The value this node has given to `key`, published or not. */
  get(key: string): Uint8Array | undefined {
    const { values } = this.#groupOf(key);
    return values.has(key) ? values.get(key) : this.#space.entries.get(key)?.value;
  }

  /** All this node says of itself, published or not. */
  current(): Map<string, Uint8Array> {
    const current = new Map<string, Uint8Array>();
    const put = (key: string, value: Uint8Array | undefined): void => {
      if (value === undefined) current.delete(key);
      else current.set(key, value);
    };
    for (const { key, value } of this.#space.entries.values()) put(key, value);
    for (const { values } of [this.#application, this.#reserved]) {
      for (const [key, value] of values) put(key, value);
    }
    return current;
  }

  /** Gives `key` a value, or none. `unchanged`: it had that one. */
  write(key: string, value: Uint8Array | undefined): "written" | "unchanged" | OwnLimit {
    if (sameBytes(this.get(key), value)) return "unchanged";
    const limit = value === undefined ? undefined : this.#limitOf(key, value);
    if (limit !== undefined) return limit;
    const { values } = this.#groupOf(key);
    values.delete(key);
    // A value that came and went unpublished leaves no trace.
    if (!sameBytes(this.#space.entries.get(key)?.value, value)) values.set(key, value);
    return "written";
  }

  /** Publishes what waits, as far as the budgets allow. `true`: something was. */
  publish(nowMs: number): boolean {
    let published = false;
    for (const { budget, values } of [this.#reserved, this.#application]) {
      if (values.size === 0 || !budget.take(nowMs)) continue;
      for (const [key, value] of values) {
        this.#entries.write(this.#space, key, value, nowMs);
        if (value === undefined) {
          this.#marks.push({ version: this.#space.version, untilMs: nowMs + MARK_MS });
        }
      }
      values.clear();
      published = true;
    }
    this.#forgetMarks(nowMs);
    return published;
  }

  /** When something can be published or forgotten. */
  nextDeadline(nowMs: number): number {
    let atMs = this.#marks[0]?.untilMs ?? Infinity;
    for (const { budget, values } of [this.#reserved, this.#application]) {
      if (values.size > 0) atMs = Math.min(atMs, budget.nextAt(nowMs));
    }
    return atMs;
  }

  /** The members there are set the pace, so that the whole mesh's gossip stays bounded. */
  setRefill(refillMs: number, nowMs: number): void {
    this.#application.budget.setRefill(refillMs, nowMs);
    this.#reserved.budget.setRefill(refillMs, nowMs);
  }

  /** This process has another boot: no deletion of an earlier one matters. */
  rebased(): void {
    this.#marks = [];
  }

  #groupOf(key: string): Pending {
    return key.startsWith(RESERVED_PREFIX) ? this.#reserved : this.#application;
  }

  #limitOf(key: string, value: Uint8Array): OwnLimit | undefined {
    if (value.length > OWN_LIMITS.valueBytesMax) return "valueBytesMax";
    // The mesh's own and the application's are counted apart: neither takes the other's room.
    const isReserved = key.startsWith(RESERVED_PREFIX);
    const all = this.current().set(key, value);
    const current = [...all].filter(([other]) => other.startsWith(RESERVED_PREFIX) === isReserved);
    if (current.length > OWN_LIMITS.keysMax) return "keysMax";
    let bytes = 0;
    for (const [key, value] of current) bytes += entryBytes(key, value);
    return bytes > OWN_LIMITS.nodeBytesMax ? "nodeBytesMax" : undefined;
  }

  /** Old marks go, and all of them where others would have to hold more than the limits. */
  #forgetMarks(nowMs: number): void {
    const { bytes } = this.#space;
    const crowded = bytes > OWN_LIMITS.nodeBytesMax || this.#marks.length > OWN_LIMITS.keysMax;
    const kept = crowded ? [] : this.#marks.filter(({ untilMs }) => untilMs > nowMs);
    const forgotten = this.#marks[this.#marks.length - kept.length - 1];
    if (forgotten === undefined) return;
    this.#entries.raiseFloor(this.#space, forgotten.version);
    this.#marks = kept;
  }
}
