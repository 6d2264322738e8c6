import fc from "fast-check";

import { bodyHash } from "../../src/codec/hash.ts";
import type { Message } from "../../src/core/messages.ts";
import type { PackedPage } from "../../src/core/register-table.ts";
import { headed } from "../../src/core/register.ts";
import { RegisterTable } from "../../src/core/register-table.ts";
import type {
  Attributes,
  Definition,
  Descriptor,
  Ordered,
  RetryPolicy,
  Value,
} from "../../src/core/types.ts";

const hex = (digits: number): fc.Arbitrary<string> =>
  fc.string({
    unit: fc.constantFrom(...Array.from("0123456789abcdef")),
    minLength: digits,
    maxLength: digits,
  });
export const lane = hex(64);
const store = hex(32);
const pid = hex(60);
const session = hex(16);
const seq = fc.nat(65_535);
export const count = fc.nat(1_000_000);
export const peer = fc.base64String({ minLength: 1, maxLength: 60 });
const body = fc.uint8Array({ maxLength: 300 });
export const right = fc.record({ round: count, pid });
export const ballot = fc.record({ round: count, pid, step: count });
export const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined });
const wallMs = fc.nat(2 ** 42);
const failure = fc.record({
  epoch: count,
  atWallMs: wallMs,
  peer,
  reason: fc.string({ maxLength: 200 }),
});
const token = fc.string({ maxLength: 32 });
const attributes: fc.Arbitrary<Attributes> = fc.record({
  priority: fc.nat(9),
  headerBytes: fc.constant(0),
  expiresAtWallMs: wallMs,
  group: maybe(fc.string({ maxLength: 128 })),
  dedupKey: maybe(fc.string({ maxLength: 128, unit: "grapheme" }).filter((text) => text.length <= 128)),
  failures: fc.array(failure, { maxLength: 8 }),
  redrives: count,
  forgiven: count,
  token: maybe(token),
});
const plain = {
  epoch: count,
  leaseMs: count,
  deliveries: count,
  acquired: count,
  notBeforeWallMs: count,
  enqueuedWallMs: wallMs,
  attributes: maybe(attributes),
};
/** Pages of a table, as a take-over sends them. */
const packed: fc.Arbitrary<readonly PackedPage[]> = fc
  .array(fc.record({ seq: fc.nat(40), ballot, counts: fc.record({ ...plain, bodyBytes: count }) }), {
    maxLength: 20,
  })
  .map((registers) => {
    const table = new RegisterTable(0, 3);
    for (const { seq: at, ballot: own, counts } of registers) {
      const state = { state: "READY", holder: undefined, reason: undefined, encoded: undefined } as const;
      const rare = {
        notBeforeWallMs: 0,
        attributes: headed(Math.min(counts.bodyBytes, counts.acquired % 300)),
        bodyHash: String.fromCharCode(at).repeat(32),
      };
      table.set(at, {
        ballot: own,
        value: { ...counts, ...state, ...rare },
        hasBody: true,
        rewritten: false,
      });
    }
    return table.parts().packed;
  });
export const value: fc.Arbitrary<Value> = fc.oneof(
  fc.record({
    ...plain,
    state: fc.constantFrom("READY" as const, "DONE" as const, "DEAD" as const),
    holder: fc.constant(undefined),
    bodyHash: fc.constant("h".repeat(32)),
    bodyBytes: count,
    reason: maybe(fc.string({ maxLength: 100 })),
    encoded: fc.constant(undefined),
  }),
  fc.record({
    ...plain,
    state: fc.constant("LEASED" as const),
    holder: fc.record({ peer, session }),
    bodyHash: fc.constant("h".repeat(32)),
    bodyBytes: count,
    reason: fc.constant(undefined),
    encoded: fc.constant(undefined),
  }),
);
const ranges = fc
  .uniqueArray(fc.nat(5_000), { maxLength: 20 })
  .map((ats) => ats.toSorted((a, b) => a - b))
  .map((ats) => ats.slice(0, ats.length & ~1))
  .map((ats) => ats.flatMap((at, i) => (i % 2 === 0 ? [[at, ats[i + 1] ?? at + 1] as const] : [])));
const shard = fc.record(
  { no: fc.nat(63), dedupMs: count, moves: fc.nat(9) },
  { requiredKeys: ["no", "dedupMs"] },
);
const parentage = fc.record({ root: lane, lane, originPid: pid, laneNo: count });
const plainDescriptor = fc.record({
  queue: lane,
  originPid: pid,
  laneNo: count,
  replicas: fc.array(fc.record({ peer, store }), { minLength: 1, maxLength: 5 }),
  voters: fc.nat(31),
  consumersSeen: fc.nat(9),
  wanted: fc.nat(9),
});
export const descriptor: fc.Arbitrary<Descriptor> = fc
  .tuple(plainDescriptor, maybe(shard), maybe(parentage), fc.boolean())
  .map(([plain, one, heirOf, relaxed]) => ({
    ...plain,
    ...(one === undefined ? {} : { shard: one }),
    ...(heirOf === undefined ? {} : { heirOf }),
    ...(relaxed ? { relaxed } : {}),
  }));
const ended = fc.record(
  { n: seq, voids: ranges, closed: fc.boolean(), base: seq, frozenBy: right },
  { requiredKeys: ["n", "voids", "closed"] },
);
export const end = fc
  .tuple(ended, maybe(descriptor))
  .map(([plain, heir]) => (heir === undefined ? plain : { ...plain, heir }));
const ref = { lane, seq, epoch: count, session };
const accept = fc
  .record(
    { seq, step: count, value, body: maybe(body), imported: fc.constant(true as const) },
    { requiredKeys: ["seq", "step", "value", "body"] },
  )
  .map((op) =>
    op.body === undefined
      ? op
      : { ...op, value: { ...op.value, bodyHash: bodyHash(op.body), encoded: undefined } },
  );
const section = fc.record({
  lane,
  descriptor: maybe(descriptor),
  round: count,
  pid,
  accepts: fc.array(accept, { maxLength: 4 }),
  learned: ranges,
  end: maybe(fc.record({ step: count, value: end })),
  closed: maybe(end),
});
const exception = fc.oneof(
  fc.record({
    section: count,
    code: fc.constantFrom("REFUSED" as const, "CLOSED" as const, "NEED_LANE" as const, "BAD_LANE" as const),
    promise: maybe(right),
    end: maybe(end),
  }),
  fc.record({
    section: count,
    seq: fc.integer({ min: -1, max: 65_535 }),
    code: fc.constantFrom(
      "OLDER" as const,
      "GONE" as const,
      "NEED_BODY" as const,
      "CONFLICT" as const,
      "EARLY" as const,
    ),
    ballot: maybe(ballot),
  }),
);
const retry: fc.Arbitrary<RetryPolicy> = fc.record({
  kind: fc.constantFrom("fixed" as const, "linear" as const, "exponential" as const),
  delayMs: count,
  maxMs: count,
  jitter: fc.double({ min: 0, max: 1, noNaN: true }),
});
const ordered: fc.Arbitrary<Ordered> = fc.record({
  groups: fc.boolean(),
  dedupMs: count,
  shards: fc.integer({ min: 1, max: 64 }),
  stores: fc.array(fc.record({ peer, store }), { minLength: 1, maxLength: 5 }),
});
export const definition: fc.Arbitrary<Definition> = fc
  .record({
    queue: lane,
    name: fc.string({ maxLength: 128 }),
    replicas: fc.nat(15),
    leaseMs: count,
    maxDeliveries: count,
  })
  .chain((plain) =>
    fc.tuple(maybe(retry), maybe(ordered), fc.boolean(), fc.nat(3)).map(([policy, order, relaxed, no]) => ({
      ...plain,
      ...(no === 0 ? {} : { generation: no }),
      ...(policy === undefined ? {} : { retry: policy }),
      ...(order === undefined ? {} : { ordered: order }),
      ...(relaxed ? { relaxed } : {}),
    })),
  );
const keys = fc.record({
  token,
  group: maybe(fc.string({ maxLength: 128 })),
  dedupKey: maybe(fc.string({ maxLength: 128 })),
  atWallMs: wallMs,
});
const entering = fc.tuple(value, attributes, token, body).map(([one, given, name, content]) => ({
  value: {
    ...one,
    state: "READY" as const,
    holder: undefined,
    attributes: { ...given, token: name },
    bodyHash: bodyHash(content),
  },
  body: content,
}));
const floor = fc.record({ boot: count, laneNo: count });
const verdict = fc.oneof(
  fc.record({
    kind: fc.constantFrom("ack" as const, "release" as const, "renew" as const, "redrive" as const),
  }),
  fc.record({
    kind: fc.constant("nack" as const),
    delayMs: maybe(count),
    reason: maybe(fc.string({ maxLength: 1_024 })),
  }),
  fc.record({ kind: fc.constant("reject" as const), reason: fc.string({ maxLength: 1_024 }) }),
);
const list = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(arbitrary, { maxLength: 4 });
const of = <T extends Message["type"], F extends object>(
  type: T,
  fields: { [K in keyof F]: fc.Arbitrary<F[K]> },
): fc.Arbitrary<{ type: T } & F> => fc.record({ type: fc.constant(type), ...fields }) as never;

/** Every kind of message that travels. */
export const message: fc.Arbitrary<Message> = fc.oneof(
  of("hello", {
    store: maybe(store),
    boot: count,
    definitions: list(definition),
    consumes: list(lane),
    floor: maybe(floor),
    echoes: list(fc.tuple(store, count, count)),
    deleted: list(fc.tuple(lane, count)),
  }),
  of("roster", { consumes: list(lane) }),
  of("declare", { definition }),
  of("deleted", { queues: list(fc.tuple(lane, count)) }),
  of("ops", {
    session: count,
    no: count,
    sections: list(section),
    echoes: list(fc.tuple(store, count, count)),
  }),
  of("ok", { session: count, no: count, exceptions: list(exception), batchNo: count, proof: count }),
  of("prepare", { lane, descriptor, round: count, pid }),
  of("refused", { lane, round: count, promise: maybe(right) }),
  of("page", {
    lane,
    round: count,
    snapshot: count,
    index: count,
    last: fc.boolean(),
    registers: list(fc.record({ seq, ballot, value })),
    finished: ranges,
    end: maybe(fc.record({ ballot, value: end })),
    keys: list(fc.record({ seq, keys })),
    packed,
  }),
  of("more", { lane, snapshot: count, index: count }),
  of("closed", { lane, end: maybe(end) }),
  of("getBody", { lane, seq }),
  of("body", { lane, seq, body: maybe(body) }),
  of("askGone", { lane, pid }),
  of("gone", { lane, pid, gone: fc.boolean() }),
  of("askLane", { lane }),
  of("lane", { lane, serving: fc.boolean() }),
  of("confirm", { lane, round: count, pid, token: count }),
  of("confirmed", { lane, token: count, yes: fc.boolean() }),
  of("floor", { floor }),
  of("resolve", { lane, seq }),
  of("resolved", {
    lane,
    seq,
    resolution: fc.constantFrom("ACKED" as const, "NEVER" as const, "PENDING" as const, "UNKNOWN" as const),
  }),
  of("credit", {
    items: list(
      fc.record({ session, queue: lane, total: fc.integer({ min: -1, max: 9_999 }), recall: fc.boolean() }),
    ),
    stampMs: count,
  }),
  of("returned", { session, count }),
  of("offer", { queue: lane, count }),
  of("deliver", {
    items: list(
      fc.record({
        ...ref,
        leaseMs: count,
        ageMs: count,
        deliveries: count,
        enqueuedWallMs: wallMs,
        attributes: maybe(attributes),
        reason: maybe(fc.string({ maxLength: 1_024 })),
        body: maybe(body),
      }),
    ),
    descriptors: list(fc.tuple(lane, descriptor)),
    stampMs: count,
  }),
  of("held", { items: list(fc.record(ref)) }),
  of("verdicts", { items: list(fc.record({ ...ref, verdict })), stampMs: count }),
  of("manage", {
    token: count,
    queue: lane,
    act: fc.constantFrom("list" as const, "count" as const, "redrive" as const, "discard" as const),
    scope: fc.constantFrom("any" as const, "alive" as const, "ready" as const, "dead" as const),
    only: maybe(fc.record({ lane, seq })),
    limit: count,
    after: maybe(fc.record({ lane, seq })),
    oldest: fc.boolean(),
  }),
  of("managed", {
    token: count,
    items: list(fc.record({ lane, seq, value })),
    count,
    counts: fc.record({
      ...{ ready: count, delayed: count, leased: count, dead: count, unserved: count },
      lanes: count,
      weakLanes: count,
      movingLanes: count,
      oldestWallMs: wallMs,
    }),
    consumers: list(fc.record({ session, prefetch: count, held: count })),
    groups: list(
      fc.record({ group: fc.string({ maxLength: 128 }), count, head: fc.record({ lane, seq, value }) }),
    ),
    shards: list(fc.nat(63)),
    last: maybe(fc.record({ lane, seq })),
    lanes: maybe(fc.record({ served: list(lane), kept: list(fc.tuple(lane, count)) })),
  }),
  of("enter", { lane, items: list(entering) }),
  of("entered", {
    lane,
    items: list(
      fc.record({
        token,
        code: fc.constantFrom(
          "PENDING" as const,
          "OK" as const,
          "DUPLICATE" as const,
          "RETRY" as const,
          "FULL" as const,
          "ELSEWHERE" as const,
        ),
        seq,
      }),
    ),
    hint: maybe(peer),
  }),
  of("askHeir", { lane }),
  of("askMoved", { lane, descriptor, kept: fc.boolean(), ended: fc.boolean() }),
  of("moved", { lane }),
  of("heirs", { descriptors: list(descriptor) }),
  of("usage", { items: list(fc.record({ queue: lane, count, bytes: count })) }),
  of("inspect", { token: count, lane, seq }),
  of("inspected", {
    token: count,
    store,
    known: fc.boolean(),
    isWriter: fc.boolean(),
    finished: fc.boolean(),
    promise: maybe(right),
    register: maybe(fc.record({ seq, ballot, value })),
    end: maybe(end),
  }),
  of("settled", {
    items: list(
      fc.record({
        ...ref,
        kind: fc.constantFrom("ack" as const, "nack" as const, "release" as const, "renew" as const),
        code: fc.constantFrom("DONE" as const, "STALE" as const, "FINISHED" as const, "RETRY" as const),
        hint: maybe(peer),
      }),
    ),
  }),
);
