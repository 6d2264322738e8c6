import { hash64 } from "@klatsch/kit/core";
import type { Hash64 } from "@klatsch/kit/core";
import type { Buckets } from "./buckets.ts";
import { sameBytes } from "./bytes.ts";
import { HybridClock, SKEW_MS_MAX } from "./hybrid-clock.ts";
import type { SharedEntry, SharedHead } from "./messages.ts";
import { bucketOf } from "./sum64.ts";

/** What all members share. A writer refuses at the limit, others at twice that. */
export const SHARED_LIMITS: {
  /** Keys, those deleted in the last 30 days included. */
  readonly keysMax: number;
  /** One value, encoded. */
  readonly valueBytesMax: number;
  /** All keys and values, {@link ENTRY_BYTES} each included. */
  readonly meshBytesMax: number;
} = { keysMax: 16_384, valueBytesMax: 32 * 1024, meshBytesMax: 16 * 1024 * 1024 };
export type SharedLimit = keyof typeof SHARED_LIMITS;

/** What an entry weighs beside its key and value: signature, writer and order. */
const ENTRY_BYTES = 256;
/** Several may write at the same time: what each took for the last that fits has to fit everywhere. */
const SLACK = 2;

/** Deletions are remembered this long after they were made, in milliseconds. */
export const TOMBSTONE_MS: number = 30 * 24 * 60 * 60 * 1_000;
/** Older ones are neither sent, hashed, nor learnt of unknown keys: or two nodes would remind each other for ever. */
const TOMBSTONE_SPREAD_MS: number = TOMBSTONE_MS / 2;

/** What decides over entries beside their order. Must be functions of their arguments and of what was signed. */
export interface SharedPorts {
  /** Signs an entry of this node's own. */
  seal(draft: SharedDraft): SharedEntry;
  /** Whether the signature is the writer's. */
  verify(entry: SharedEntry): boolean;
  /** Whether the writer may write this, judged at the time of the entry. */
  mayWrite(request: WriteRequest): boolean;
}

/** An entry before it is signed. */
type SharedDraft = Pick<SharedEntry, "key" | "value" | "override" | "l" | "c">;
/** What authorisation is asked. */
export interface WriteRequest extends Pick<
  SharedEntry,
  "key" | "value" | "override" | "writer" | "credential"
> {
  readonly atMs: number;
}

/**
 * `news`: taken over. `old`: we know as much. `skew`: from a clock too far ahead. `forbidden`: not the writer's to
 * write. `forged`: the signature is not the writer's. `full`: beyond the limits.
 */
export type SharedVerdict = "news" | "old" | "skew" | "forbidden" | "forged" | "full";

interface Held {
  readonly entry: SharedEntry;
  readonly bucket: number;
  readonly hash: Hash64;
  /** Whether the hash is in the bucket: old tombstones are not. */
  counted: boolean;
}

export interface SharedInit {
  readonly buckets: Buckets;
  readonly ports: SharedPorts;
  /** An entry was taken over; `changed`: its key has another value now. */
  readonly onChange: (entry: SharedEntry, changed: boolean) => void;
  readonly onRemove: (entry: SharedEntry) => void;
}

/** Entries that all members share: last-writer-wins registers, signed, in one order everywhere. */
export class SharedEntries {
  readonly #init: SharedInit;
  readonly #clock = new HybridClock();
  readonly #held = new Map<string, Held>();
  readonly #keysOf = new Map<number, Set<string>>();
  #bytes = 0;

  constructor(init: SharedInit) {
    this.#init = init;
  }

  /** Takes back what was on disk. */
  restore(entries: Iterable<SharedEntry>, meshMs: number, nowMs: number): void {
    for (const entry of entries) {
      this.#clock.observe(entry);
      this.#hold(entry, meshMs, nowMs);
    }
  }

  get(key: string): SharedEntry | undefined {
    return this.#held.get(key)?.entry;
  }

  *live(): Generator<SharedEntry> {
    for (const { entry } of this.#held.values()) if (entry.value !== undefined) yield entry;
  }

  /** Writes as this node. A named limit, or why not, changes nothing. */
  write(
    change: Pick<SharedEntry, "key" | "value" | "override">,
    meshMs: number,
    nowMs: number,
  ): SharedEntry | "unchanged" | "overridden" | "ahead" | "forbidden" | SharedLimit {
    const { key, value, override } = change;
    const before = this.get(key);
    if (sameBytes(before?.value, value) && (before?.override ?? false) === override) return "unchanged";
    if (before?.override === true && !override) return "overridden";
    const rival = before?.override === override ? before : undefined; // An entry with override needs no later time than one without.
    // What comes after it nobody would take over, and nobody would be told.
    if (rival !== undefined && rival.l > meshMs + SKEW_MS_MAX) return "ahead";
    const limit = value === undefined ? undefined : this.#limitOf(key, value, 1);
    if (limit !== undefined) return limit;
    const entry = this.#init.ports.seal({ ...change, ...this.#clock.next(meshMs, rival) });
    if (!this.#mayWrite(entry)) return "forbidden";
    this.#take(entry, meshMs, nowMs);
    return entry;
  }

  /** Whether an entry of a peer's would be news, before its signature is looked at. */
  weigh(entry: SharedEntry, meshMs: number): Exclude<SharedVerdict, "forged"> {
    const before = this.get(entry.key);
    if (before !== undefined && compareStamps(entry, before) <= 0) return "old";
    if (before === undefined && !isSpread(entry, meshMs)) return "old";
    // Or one wrong clock would decide for all, for as long as it is ahead (S5).
    if (entry.l > meshMs + SKEW_MS_MAX) return "skew";
    if (this.#limitOf(entry.key, entry.value, SLACK) !== undefined) return "full";
    return this.#mayWrite(entry) ? "news" : "forbidden";
  }

  /** Takes over an entry of a peer's if it is later than ours, and genuine. */
  learn(entry: SharedEntry, meshMs: number, nowMs: number): SharedVerdict {
    const verdict = this.weigh(entry, meshMs);
    if (verdict !== "news") return verdict;
    if (!this.#init.ports.verify(entry)) return "forged";
    this.#clock.observe(entry);
    this.#take(entry, meshMs, nowMs);
    return "news";
  }

  /** What is spread of a bucket, ordered by key. */
  heads(bucket: number): SharedHead[] {
    const heads: SharedHead[] = [];
    for (const key of [...(this.#keysOf.get(bucket) ?? [])].sort()) {
      const held = this.#held.get(key);
      if (held?.counted === true) heads.push(headOf(held));
    }
    return heads;
  }

  /** Positive: ours is later than what the head stands for. 0: neither, as far as a head tells. */
  compare(head: SharedHead): number | "same" {
    const held = this.#held.get(head.key);
    if (held === undefined) return -1;
    if (held.hash.high === head.hash.high && held.hash.low === head.hash.low) return "same";
    const { override, l, c } = held.entry;
    return Number(override) - Number(head.override) || l - head.l || c - head.c;
  }

  /** Forgets deletions that are old enough. */
  collect(meshMs: number, nowMs: number): void {
    for (const held of this.#held.values()) {
      const { entry } = held;
      if (entry.value !== undefined) continue;
      this.#count(held, isSpread(entry, meshMs), nowMs);
      if (meshMs - entry.l > TOMBSTONE_MS) this.remove(entry.key, nowMs);
    }
  }

  /** Removes an entry as if it had never been. */
  remove(key: string, nowMs: number): void {
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#count(held, false, nowMs);
    this.#held.delete(key);
    this.#keysOf.get(held.bucket)?.delete(key);
    this.#bytes -= bytesOf(held.entry);
    this.#init.onRemove(held.entry);
  }

  #take(entry: SharedEntry, meshMs: number, nowMs: number): void {
    const before = this.get(entry.key);
    this.#hold(entry, meshMs, nowMs);
    this.#init.onChange(entry, !sameBytes(before?.value, entry.value));
  }

  #hold(entry: SharedEntry, meshMs: number, nowMs: number): void {
    const before = this.#held.get(entry.key);
    if (before !== undefined) {
      this.#count(before, false, nowMs);
      this.#bytes -= bytesOf(before.entry);
    }
    const bucket = before?.bucket ?? bucketOf(entry.key);
    const held: Held = { entry, bucket, hash: entryHash(entry), counted: false };
    this.#held.set(entry.key, held);
    const keys = this.#keysOf.get(bucket) ?? new Set();
    this.#keysOf.set(bucket, keys.add(entry.key));
    this.#bytes += bytesOf(entry);
    this.#count(held, isSpread(entry, meshMs), nowMs);
  }

  #count(held: Held, counted: boolean, nowMs: number): void {
    if (held.counted === counted) return;
    held.counted = counted;
    const [before, after] = counted ? [undefined, held.hash] : [held.hash, undefined];
    this.#init.buckets.replace(held.bucket, before, after, nowMs);
  }

  #limitOf(key: string, value: Uint8Array | undefined, factor: number): SharedLimit | undefined {
    const before = this.get(key);
    if ((value?.length ?? 0) > SHARED_LIMITS.valueBytesMax) return "valueBytesMax";
    if (before === undefined && this.#held.size >= factor * SHARED_LIMITS.keysMax) return "keysMax";
    const grown =
      ENTRY_BYTES + key.length + (value?.length ?? 0) - (before === undefined ? 0 : bytesOf(before));
    return grown > 0 && this.#bytes + grown > factor * SHARED_LIMITS.meshBytesMax
      ? "meshBytesMax"
      : undefined;
  }

  #mayWrite({ key, value, override, writer, credential, l }: SharedEntry): boolean {
    return this.#init.ports.mayWrite({ key, value, override, writer, credential, atMs: l });
  }
}

/** Positive: `a` is the later one. Everybody decides alike. */
export function compareStamps(a: SharedEntry, b: SharedEntry): number {
  return (
    Number(a.override) - Number(b.override) ||
    a.l - b.l ||
    a.c - b.c ||
    compareTexts(a.writer, b.writer) ||
    compareTexts(a.valueHash, b.valueHash)
  );
}

function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function entryHash({ key, override, l, c, writer, valueHash }: SharedEntry): Hash64 {
  return hash64(`${key} ${override} ${l} ${c} ${writer} ${valueHash}`);
}

function headOf({ entry, hash }: Held): SharedHead {
  const { key, override, l, c } = entry;
  return { key, override, l, c, hash };
}

function bytesOf({ key, value }: SharedEntry): number {
  return ENTRY_BYTES + key.length + (value?.length ?? 0);
}

/** The age of a deletion is that of its writing, not of our hearing of it: the latter would begin anew at each node. */
function isSpread(entry: SharedEntry, meshMs: number): boolean {
  return entry.value !== undefined || meshMs - entry.l <= TOMBSTONE_SPREAD_MS;
}
