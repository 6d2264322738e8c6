import type { Ballot, Right } from "../core/ballot.ts";
import { PID_DIGITS } from "../core/ballot.ts";
import type { Floor } from "../core/messages.ts";
import type {
  Attributes,
  Definition,
  Descriptor,
  EndValue,
  Failure,
  Keys,
  Ordered,
  Parentage,
  Ranges,
  Replica,
  RetryPolicy,
  Shard,
} from "../core/types.ts";
import { FAILURE_REASON_MAX, FAILURES_MAX } from "../core/register.ts";
import { CodecError, Fields, ROUND_MAX, SEQ_MAX } from "./fields.ts";
import { HEADER_BYTES_MAX, KEY_MAX, PEER_MAX, PRIORITY_MAX, TOKEN_MAX } from "./value.ts";

/** The shapes that stand both on the wire and on disk, as positional arrays. */

export const LANE_DIGITS = 64;
export const STORE_DIGITS = 32;
/** Replicas of a lane at most: their bits fit one small integer. */
export const REPLICAS_MAX = 15;
/** Lanes of an ordered queue at most. */
export const SHARDS_MAX = 64;
const LANE_NO_MAX = 0xffff_ffff;
const NAME_MAX = 128;
const RANGES_MAX = 65_536;
const LEASE_MS_MAX = 2_147_483_647;

export type Wire = readonly unknown[];

export const right = {
  write: ({ round, pid }: Right): Wire => [round, pid],
  read: (fields: Fields): Right => {
    const inner = fields.nested();
    return { round: inner.uint(ROUND_MAX), pid: inner.hex(PID_DIGITS) };
  },
};

export const ballot = {
  write: ({ round, pid, step }: Ballot): Wire => [round, pid, step],
  read: (fields: Fields): Ballot => {
    const inner = fields.nested();
    return { round: inner.uint(ROUND_MAX), pid: inner.hex(PID_DIGITS), step: inner.uint(ROUND_MAX) };
  },
};

/** Ascending, disjoint, flat: [from, to, from, to, …]. */
export const ranges = {
  write: (list: Ranges): Wire => list.flat(),
  read: (fields: Fields): Ranges => {
    const flat = fields.list(2 * RANGES_MAX, (at) => {
      if (typeof at !== "number" || !Number.isInteger(at) || at < 0 || at > SEQ_MAX) {
        throw new CodecError("a range leaves the lane");
      }
      return at;
    });
    const list: [number, number][] = [];
    for (let at = 0; at < flat.length; at += 2) {
      const from = flat[at] ?? 0;
      const to = flat[at + 1] ?? 0;
      if (to <= from || from < (list.at(-1)?.[1] ?? 0)) throw new CodecError("ranges do not ascend");
      list.push([from, to]);
    }
    return list;
  },
};

/** An optional field: absent is not the same as undefined to who compares or hashes it. */
function present<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

export const endValue = {
  write: ({ n, voids, closed, heir, base, frozenBy }: EndValue): Wire => {
    const by = frozenBy === undefined ? null : right.write(frozenBy);
    const more = [heir === undefined ? null : descriptor.write(heir), base ?? null, by];
    return [n, ranges.write(voids), closed, ...trimmed(more)];
  },
  read: (fields: Fields): EndValue => {
    const inner = fields.nested();
    const ended = { n: inner.uint(SEQ_MAX), voids: ranges.read(inner), closed: inner.bool() };
    return {
      ...ended,
      ...present("heir", inner.optional(descriptor.read)),
      ...present(
        "base",
        inner.optional((f) => f.uint(SEQ_MAX)),
      ),
      ...present("frozenBy", inner.optional(right.read)),
    };
  },
};

const replica = {
  write: ({ peer, store }: Replica): Wire => [peer, store],
  read: (at: unknown): Replica => {
    const inner = new Fields(at);
    return { peer: inner.text(PEER_MAX), store: inner.hex(STORE_DIGITS) };
  },
};

function readShard(fields: Fields): Shard {
  const inner = fields.nested();
  return {
    no: inner.uint(SHARDS_MAX - 1),
    dedupMs: inner.uint(LEASE_MS_MAX),
    ...present(
      "moves",
      inner.optional((f) => f.uint(LANE_NO_MAX)),
    ),
  };
}

const parentage = {
  write: ({ root, lane, originPid, laneNo }: Parentage): Wire => [root, lane, originPid, laneNo],
  read: (fields: Fields): Parentage => {
    const inner = fields.nested();
    return {
      root: inner.hex(LANE_DIGITS),
      lane: inner.hex(LANE_DIGITS),
      originPid: inner.hex(PID_DIGITS),
      laneNo: inner.uint(LANE_NO_MAX),
    };
  },
};

/** What is absent at the end is left out: ids are made of these bytes, and stay as they were before there were these. */
function trimmed(fields: Wire): Wire {
  return fields.slice(0, fields.findLastIndex((field) => field !== null) + 1);
}

/** What only some lanes have. */
function particularsOf({ shard, heirOf, relaxed }: Descriptor): Wire {
  const ordered = shard && trimmed([shard.no, shard.dedupMs, shard.moves ?? null]);
  return trimmed([ordered ?? null, heirOf === undefined ? null : parentage.write(heirOf), relaxed ?? null]);
}

export const descriptor = {
  write: (d: Descriptor): Wire => [
    d.queue,
    d.originPid,
    d.laneNo,
    d.replicas.map(replica.write),
    d.voters,
    d.consumersSeen,
    d.wanted,
    ...particularsOf(d),
  ],
  read: (fields: Fields): Descriptor => {
    const inner = fields.nested();
    const read: Descriptor = {
      queue: inner.hex(LANE_DIGITS),
      originPid: inner.hex(PID_DIGITS),
      laneNo: inner.uint(LANE_NO_MAX),
      replicas: inner.list(REPLICAS_MAX, replica.read),
      voters: inner.uint(2 ** REPLICAS_MAX - 1),
      consumersSeen: inner.uint(),
      wanted: inner.uint(REPLICAS_MAX),
      ...present("shard", inner.optional(readShard)),
      ...present("heirOf", inner.optional(parentage.read)),
      ...present(
        "relaxed",
        inner.optional((f) => f.bool()),
      ),
    };
    if (read.replicas.length === 0) throw new CodecError("a lane has replicas");
    return read;
  },
};

const ordered = {
  write: (o: Ordered): Wire => [o.groups, o.dedupMs, o.shards, o.stores.map(replica.write)],
  read: (fields: Fields): Ordered => {
    const inner = fields.nested();
    const read = {
      groups: inner.bool(),
      dedupMs: inner.uint(LEASE_MS_MAX),
      shards: inner.uint(SHARDS_MAX),
      stores: inner.list(REPLICAS_MAX, replica.read),
    };
    if (read.shards === 0 || read.stores.length === 0) throw new CodecError("an ordered queue has lanes");
    return read;
  },
};

const RETRY_KINDS = ["fixed", "linear", "exponential"] as const;

const retry = {
  write: (r: RetryPolicy): Wire => [RETRY_KINDS.indexOf(r.kind), r.delayMs, r.maxMs, r.jitter],
  read: (fields: Fields): RetryPolicy => {
    const inner = fields.nested();
    const kind = RETRY_KINDS[inner.uint(RETRY_KINDS.length - 1)] ?? "fixed";
    return {
      kind,
      delayMs: inner.uint(LEASE_MS_MAX),
      maxMs: inner.uint(LEASE_MS_MAX),
      jitter: inner.ratio(),
    };
  },
};

export const definition = {
  write: (d: Definition): Wire => {
    const plain = [d.queue, d.name, d.replicas, d.leaseMs, d.maxDeliveries];
    const written = d.retry === undefined ? null : retry.write(d.retry);
    const inOrder = d.ordered === undefined ? null : ordered.write(d.ordered);
    const more = [
      written,
      d.exclusive ?? null,
      d.maxLength ?? null,
      d.maxBytes ?? null,
      inOrder,
      d.bodyBytesMax ?? null,
      d.relaxed ?? null,
      d.generation ?? null,
      d.deadTtlMs ?? null,
    ];
    return [...plain, ...trimmed(more)];
  },
  read: (fields: Fields): Definition => {
    const inner = fields.nested();
    return {
      queue: inner.hex(LANE_DIGITS),
      name: inner.text(NAME_MAX),
      replicas: inner.uint(REPLICAS_MAX),
      leaseMs: inner.uint(LEASE_MS_MAX),
      maxDeliveries: inner.uint(),
      ...present("retry", inner.optional(retry.read)),
      ...present(
        "exclusive",
        inner.optional((f) => f.bool()),
      ),
      ...present(
        "maxLength",
        inner.optional((f) => f.uint()),
      ),
      ...present(
        "maxBytes",
        inner.optional((f) => f.uint()),
      ),
      ...present("ordered", inner.optional(ordered.read)),
      ...present(
        "bodyBytesMax",
        inner.optional((f) => f.uint()),
      ),
      ...present(
        "relaxed",
        inner.optional((f) => f.bool()),
      ),
      ...present(
        "generation",
        inner.optional((f) => f.uint()),
      ),
      ...present(
        "deadTtlMs",
        inner.optional((f) => f.uint()),
      ),
    };
  },
};

const failure = {
  write: (f: Failure): Wire => [f.epoch, f.atWallMs, f.peer, f.reason],
  read: (at: unknown): Failure => {
    const inner = new Fields(at);
    return {
      epoch: inner.uint(),
      atWallMs: inner.uint(),
      peer: inner.text(PEER_MAX),
      reason: inner.text(FAILURE_REASON_MAX),
    };
  },
};

export const attributes = {
  write: (a: Attributes): Wire => [
    a.priority,
    a.headerBytes,
    a.expiresAtWallMs,
    a.group ?? null,
    a.dedupKey ?? null,
    a.failures.map(failure.write),
    a.redrives,
    a.forgiven,
    ...(a.token === undefined ? [] : [a.token]),
  ],
  read: (fields: Fields): Attributes => {
    const inner = fields.nested();
    return {
      priority: inner.uint(PRIORITY_MAX),
      headerBytes: inner.uint(HEADER_BYTES_MAX),
      expiresAtWallMs: inner.uint(),
      group: inner.optional((f) => f.text(KEY_MAX)),
      dedupKey: inner.optional((f) => f.text(KEY_MAX)),
      failures: inner.list(FAILURES_MAX, failure.read),
      redrives: inner.optional((f) => f.uint()) ?? 0,
      forgiven: inner.optional((f) => f.uint()) ?? 0,
      token: inner.optional((f) => f.text(TOKEN_MAX)),
    };
  },
};

export const keys = {
  write: (k: Keys): Wire => [k.token, k.group ?? null, k.dedupKey ?? null, k.atWallMs],
  read: (fields: Fields): Keys => ({
    token: fields.text(TOKEN_MAX),
    group: fields.optional((f) => f.text(KEY_MAX)),
    dedupKey: fields.optional((f) => f.text(KEY_MAX)),
    atWallMs: fields.uint(),
  }),
};

export const floor = {
  write: ({ boot, laneNo }: Floor): Wire => [boot, laneNo],
  read: (fields: Fields): Floor => {
    const inner = fields.nested();
    return { boot: inner.uint(), laneNo: inner.uint() };
  },
};
