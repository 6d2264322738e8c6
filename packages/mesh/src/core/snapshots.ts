import type { Context } from "./context.ts";
import type { View } from "./messages.ts";
import { bucketOf, BUCKETS } from "./roster.ts";
import type { Entry } from "./roster.ts";
import { isEnded } from "./views.ts";

/** A table of this size is sent whole; of a larger one only what differs. */
const WHOLE_MAX = 64;
/** Views of one chunk: about 64 KiB. */
const CHUNK_VIEWS = 160;
/** Peers that are sent something at once (M11); the others wait. */
const SERVED_MAX = 4;
const WAITING_MAX = 256;

/** Brings two tables together: a link is new, or a flood was missed. */
export class Snapshots {
  readonly #context: Context;
  /** Buckets that peers lack, in order of asking. */
  readonly #waiting = new Map<string, Set<number>>();
  readonly #served = new Map<string, View[]>();
  #chunkAt = 0;
  /** Core time at which others were last asked to tell again what we lost our word for, and who of them is next. */
  #askedAt = -Infinity;
  #turn = 0;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Core time at which the next chunk is due, if anybody waits for one. */
  get dueAt(): number | undefined {
    return this.#waiting.size + this.#served.size === 0 ? undefined : this.#chunkAt;
  }

  /** Sends what the peer may lack, and asks for what we do. */
  offer(entry: Entry): void {
    const { roster, now } = this.#context;
    const { peer } = entry.record;
    this.#renewWord(entry);
    if (roster.entries.size <= WHOLE_MAX)
      this.#context.send(peer, { type: "views", views: this.#context.views() });
    else {
      entry.offeredAt = now;
      this.#context.send(peer, { type: "buckets", hashes: roster.bucketDigests });
    }
  }

  /** The digests of a peer's table: it is sent what differs, and told ours if it does not have them. */
  onBuckets(entry: Entry, hashes: readonly number[]): void {
    const { roster, now, times } = this.#context;
    const { peer } = entry.record;
    const own = roster.bucketDigests;
    const differing = Array.from({ length: BUCKETS }, (_, bucket) => bucket).filter(
      (bucket) => own[bucket] !== hashes[bucket],
    );
    if (differing.length === 0) return;
    this.#renewWord(entry);
    if (now - entry.offeredAt >= times.repairAfterMs) {
      entry.offeredAt = now;
      this.#context.send(peer, { type: "buckets", hashes: own });
    }
    const known = this.#waiting.get(peer);
    if (known === undefined && this.#waiting.size >= WAITING_MAX) return; // Digests will tell again.
    this.#waiting.set(peer, new Set([...(known ?? []), ...differing]));
  }

  /** Sends the next chunks. */
  work(): void {
    const { now, times } = this.#context;
    if (this.dueAt === undefined || now < this.#chunkAt) return;
    this.#chunkAt = now + times.floodMs;
    for (const [peer, buckets] of this.#waiting) {
      if (this.#served.size >= SERVED_MAX) break;
      if (this.#served.has(peer)) continue;
      this.#waiting.delete(peer);
      this.#served.set(peer, this.#context.views(buckets));
    }
    for (const [peer, views] of this.#served) {
      if (views.length > 0) this.#context.send(peer, { type: "views", views: views.splice(0, CHUNK_VIEWS) });
      if (views.length === 0) this.#served.delete(peer);
    }
  }

  /**
   * A peer lacks members. If we slept since we were told of them, our word makes nobody a member; and where our neighbours list the same as we, nobody
   * would tell us again: whoever joined behind us would never list them. They send what is in buckets that differ, so we say that those do.
   */
  #renewWord(peer: Entry): void {
    const { roster, now, times, self } = this.#context;
    if (now - this.#askedAt < times.repairMs) return;
    const others = [...roster.linked].filter((other) => other !== peer);
    const asked = new Map<Entry, Set<number>>();
    for (const entry of roster.entries.values()) {
      const isLost =
        entry !== self && !entry.linked && !isEnded(entry.status) && !this.#context.vouchesFor(entry);
      if (!isLost) continue;
      const voucher = others.find(({ record }) => record.peer === entry.voucher);
      const other = voucher ?? others[this.#turn % others.length];
      if (other === undefined) break; // We have no link but this.
      asked.set(other, (asked.get(other) ?? new Set()).add(bucketOf(entry)));
    }
    if (asked.size === 0) return;
    this.#askedAt = now;
    this.#turn += 1;
    for (const [other, buckets] of asked) {
      const hashes = roster.bucketDigests.map((hash, bucket) =>
        buckets.has(bucket) ? (hash ^ 1) >>> 0 : hash,
      );
      this.#context.send(other.record.peer, { type: "buckets", hashes });
    }
  }

  onLinkDown(peer: string): void {
    this.#waiting.delete(peer);
    this.#served.delete(peer);
  }
}
