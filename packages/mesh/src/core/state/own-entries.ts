import { hash64 } from "@klatsch/kit/core";
import type { Hash64 } from "@klatsch/kit/core";
import type { Buckets } from "./buckets.ts";
import { sameBytes } from "./bytes.ts";
import type { OwnDelta, OwnEntry, OwnHead } from "./messages.ts";
import { bucketOf } from "./sum64.ts";

/** What a member may say of itself. A writer refuses at the limit, others at twice that. */
export const OWN_LIMITS: {
  /** Keys of one member, deleted ones not counted. */
  readonly keysMax: number;
  /** One value, encoded. */
  readonly valueBytesMax: number;
  /** All keys and values of one member, {@link ENTRY_BYTES} each included. */
  readonly nodeBytesMax: number;
} = { keysMax: 256, valueBytesMax: 32 * 1024, nodeBytesMax: 64 * 1024 };

/** What an entry weighs beside its key and value. */
const ENTRY_BYTES = 16;
/** Others hold for a moment what the owner never held at once: old values beside new ones. */
const SLACK = 2;

export function entryBytes(key: string, value: Uint8Array | undefined): number {
  return ENTRY_BYTES + key.length + (value?.length ?? 0);
}

/** What became of a key: the new value, or `undefined` if it is gone. */
export interface OwnChange {
  readonly peer: string;
  readonly boot: number;
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/**
 * `news`: taken over. `old`: we know as much. `gap`: what lies between is missing. `unknown`: no member, or no process of it.
 * `tooLarge`: beyond the limits. `impostor`: somebody says of us what we never said.
 */
export type OwnVerdict = "news" | "old" | "gap" | "unknown" | "tooLarge" | "impostor";

/** The own state of one member: what it wrote in its process `boot`. */
export interface Namespace {
  readonly peer: string;
  readonly bucket: number;
  boot: number;
  /** Version of its latest change; 0 while nothing is known. */
  version: number;
  /** Deletions up to here are forgotten. */
  floor: number;
  /** By key, in order of version. */
  readonly entries: Map<string, OwnEntry>;
  bytes: number;
  /** Whether the member takes part: the state of others is neither hashed nor offered. */
  counted: boolean;
  /** Its share of the bucket. */
  hash: Hash64 | undefined;
}

/** The own state of all members, this node's included. Only a member writes its own. */
export class OwnEntries {
  readonly #self: string;
  readonly #buckets: Buckets;
  readonly #namespaces = new Map<string, Namespace>();
  readonly #onChange: (change: OwnChange) => void;

  constructor(self: string, buckets: Buckets, onChange: (change: OwnChange) => void) {
    this.#self = self;
    this.#buckets = buckets;
    this.#onChange = onChange;
  }

  get(peer: string): Namespace | undefined {
    return this.#namespaces.get(peer);
  }

  all(): IterableIterator<Namespace> {
    return this.#namespaces.values();
  }

  /** Members that take part, this node included. */
  get liveCount(): number {
    let count = 0;
    for (const { counted } of this.#namespaces.values()) if (counted) count += 1;
    return count;
  }

  /** A member is there, in its process `boot`: what an earlier one said is void. */
  join(peer: string, boot: number, nowMs: number): Namespace {
    const known = this.#namespaces.get(peer);
    const space = known ?? emptyNamespace(peer, boot);
    this.#namespaces.set(peer, space);
    space.counted = true;
    if (boot > space.boot) this.#begin(space, boot);
    this.#rehash(space, nowMs);
    return space;
  }

  /** A member has ended: what it said last can still be read here, but is not spread any more. */
  end(peer: string, nowMs: number): void {
    const space = this.#namespaces.get(peer);
    if (space === undefined) return;
    space.counted = false;
    this.#rehash(space, nowMs);
  }

  forget(peer: string, nowMs: number): void {
    const space = this.#namespaces.get(peer);
    if (space === undefined) return;
    this.end(peer, nowMs);
    this.#begin(space, space.boot);
    this.#namespaces.delete(peer);
  }

  /** Writes one entry of this node's own. */
  write(space: Namespace, key: string, value: Uint8Array | undefined, nowMs: number): void {
    this.#put(space, { key, version: space.version + 1, value });
    space.version += 1;
    this.#rehash(space, nowMs);
  }

  /** Forgets the marks of deletion up to version `floor` of this node's own. */
  raiseFloor(space: Namespace, floor: number): void {
    space.floor = Math.max(space.floor, floor);
    for (const entry of space.entries.values()) {
      if (entry.version > space.floor) break;
      if (entry.value === undefined) this.#drop(space, entry);
    }
  }

  /** This node's process has another boot now: what it holds is said anew. */
  rebase(space: Namespace, boot: number, nowMs: number): void {
    const live = [...space.entries.values()].filter(({ value }) => value !== undefined);
    space.entries.clear();
    space.bytes = 0;
    space.boot = boot;
    space.version = 0;
    space.floor = 0;
    for (const { key, value } of live) {
      space.version += 1;
      this.#put(space, { key, version: space.version, value });
    }
    this.#rehash(space, nowMs);
  }

  /** Takes over what a delta adds; `whole`: it stands for everything its owner holds. */
  learn(delta: OwnDelta, whole: boolean, nowMs: number): OwnVerdict {
    const space = this.#namespaces.get(delta.peer);
    if (space === undefined) return "unknown";
    // A process that membership has not told of: there may be none.
    if (delta.boot > space.boot) return delta.peer === this.#self ? "old" : "unknown";
    const order = delta.boot - space.boot || delta.to - space.version;
    if (delta.peer === this.#self) return order > 0 ? "impostor" : "old";
    // RESET only upwards: a late one would bring back what has been deleted since.
    if (order <= 0) return "old";
    const { version } = space;
    if (!whole && delta.from > version) return "gap";
    if (!fits(space, delta, whole)) return "tooLarge";
    if (whole) this.#replace(space, delta);
    else for (const entry of delta.entries) if (entry.version > version) this.#put(space, entry);
    space.version = delta.to;
    this.raiseFloor(space, delta.floor);
    this.#rehash(space, nowMs);
    return "news";
  }

  /** What is new since `version`: all of it, as a RESET, where deletions in between are forgotten. */
  since(space: Namespace, version: number): { readonly delta: OwnDelta; readonly whole: boolean } {
    const { peer, boot, floor, version: to } = space;
    const whole = version === 0 || version < floor;
    const from = whole ? 0 : version;
    const all = [...space.entries.values()];
    // Marks of deletion above the floor belong to it: who learns of the whole passes on parts of it.
    const entries = whole ? all : all.filter((entry) => entry.version > from);
    return { delta: { peer, boot, floor, from, to, entries }, whole };
  }

  /** Where everybody in `bucket` that takes part stands, ordered by peer id. */
  heads(bucket: number): OwnHead[] {
    const heads: OwnHead[] = [];
    for (const space of this.#namespaces.values()) {
      if (space.bucket === bucket && space.counted && space.version > 0) heads.push(headOf(space));
    }
    return heads.sort((a, b) => (a.peer < b.peer ? -1 : 1));
  }

  /** Empties a namespace for process `boot`. */
  #begin(space: Namespace, boot: number): void {
    const gone = [...space.entries.values()].filter(isLive);
    space.entries.clear();
    space.bytes = 0;
    space.boot = boot;
    space.version = 0;
    space.floor = 0;
    for (const { key } of gone) this.#onChange({ peer: space.peer, boot, key, value: undefined });
  }

  #replace(space: Namespace, delta: OwnDelta): void {
    const before = new Map(space.entries);
    space.entries.clear();
    space.bytes = 0;
    space.boot = delta.boot;
    space.floor = 0;
    for (const entry of delta.entries) {
      space.entries.set(entry.key, entry);
      space.bytes += entryBytes(entry.key, entry.value);
    }
    for (const { key, value } of delta.entries) {
      if (!sameBytes(before.get(key)?.value, value)) this.#changed(space, key, value);
      before.delete(key);
    }
    for (const { key, value } of before.values())
      if (value !== undefined) this.#changed(space, key, undefined);
  }

  #put(space: Namespace, entry: OwnEntry): void {
    const before = space.entries.get(entry.key);
    if (before !== undefined) this.#drop(space, before);
    space.entries.set(entry.key, entry);
    space.bytes += entryBytes(entry.key, entry.value);
    // What this node writes itself was told of when it was written, published or not.
    if (space.peer !== this.#self && !sameBytes(before?.value, entry.value)) {
      this.#changed(space, entry.key, entry.value);
    }
  }

  #drop(space: Namespace, entry: OwnEntry): void {
    space.entries.delete(entry.key);
    space.bytes -= entryBytes(entry.key, entry.value);
  }

  #changed(space: Namespace, key: string, value: Uint8Array | undefined): void {
    this.#onChange({ peer: space.peer, boot: space.boot, key, value });
  }

  #rehash(space: Namespace, nowMs: number): void {
    const { peer, boot, version, counted, bucket } = space;
    const before = space.hash;
    space.hash = counted && version > 0 ? hash64(`${peer}/${boot}/${version}`) : undefined;
    if (before !== space.hash) this.#buckets.replace(bucket, before, space.hash, nowMs);
  }
}

export function headOf({ peer, boot, version }: Namespace): OwnHead {
  return { peer, boot, version };
}

function emptyNamespace(peer: string, boot: number): Namespace {
  const nothing = { version: 0, floor: 0, entries: new Map<string, OwnEntry>(), bytes: 0 };
  return { peer, bucket: bucketOf(peer), boot, ...nothing, counted: true, hash: undefined };
}

function isLive({ value }: OwnEntry): boolean {
  return value !== undefined;
}

function fits(space: Namespace, delta: OwnDelta, whole: boolean): boolean {
  const before: ReadonlyMap<string, OwnEntry> = whole ? new Map<string, OwnEntry>() : space.entries;
  let bytes = before === space.entries ? space.bytes : 0;
  let count = before.size;
  for (const { key, value } of delta.entries) {
    if (value !== undefined && value.length > OWN_LIMITS.valueBytesMax) return false;
    const known = before.get(key);
    if (known === undefined) count += 1;
    else bytes -= entryBytes(key, known.value);
    bytes += entryBytes(key, value);
  }
  // Marks of deletion beside the keys: their owner keeps at most as many.
  return bytes <= SLACK * OWN_LIMITS.nodeBytesMax && count <= 2 * SLACK * OWN_LIMITS.keysMax;
}
