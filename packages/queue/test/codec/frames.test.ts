import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { CodecError } from "../../src/codec/fields.ts";
import { decodeFrame, encodeFrame } from "../../src/codec/frames.ts";
import { bodyHash, laneIdOf, queueIdOf } from "../../src/codec/hash.ts";
import { decodeRecord, encodeRecord } from "../../src/codec/records.ts";
import type { Message } from "../../src/core/messages.ts";
import { keyOf } from "../../src/core/records.ts";
import type { StoredRecord } from "../../src/core/records.ts";
import type { Descriptor, Value } from "../../src/core/types.ts";

const hex = (digits: number): fc.Arbitrary<string> =>
  fc.string({
    unit: fc.constantFrom(...Array.from("0123456789abcdef")),
    minLength: digits,
    maxLength: digits,
  });
const lane = hex(64);
const store = hex(32);
const pid = hex(60);
const session = hex(16);
const seq = fc.nat(65_535);
const count = fc.nat(1_000_000);
const peer = fc.string({ minLength: 1, maxLength: 60 });
const body = fc.uint8Array({ maxLength: 300 });
const right = fc.record({ round: count, pid });
const ballot = fc.record({ round: count, pid, step: count });
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined });
const plain = { epoch: count, leaseMs: count, deliveries: count, acquired: count, notBeforeWallMs: count };
const value: fc.Arbitrary<Value> = fc.oneof(
  fc.record({
    ...plain,
    state: fc.constantFrom("READY" as const, "DONE" as const, "DEAD" as const),
    holder: fc.constant(undefined),
    bodyHash: fc.constant("h"),
    bodyBytes: count,
    reason: maybe(fc.string({ maxLength: 100 })),
  }),
  fc.record({
    ...plain,
    state: fc.constant("LEASED" as const),
    holder: fc.record({ peer, session }),
    bodyHash: fc.constant("h"),
    bodyBytes: count,
    reason: fc.constant(undefined),
  }),
);
const ranges = fc
  .uniqueArray(fc.nat(5_000), { maxLength: 20 })
  .map((ats) => ats.toSorted((a, b) => a - b))
  .map((ats) => ats.slice(0, ats.length & ~1))
  .map((ats) => ats.flatMap((at, i) => (i % 2 === 0 ? [[at, ats[i + 1] ?? at + 1] as const] : [])));
const end = fc.record({ n: seq, voids: ranges, closed: fc.boolean() });
const descriptor: fc.Arbitrary<Descriptor> = fc.record({
  queue: lane,
  originPid: pid,
  laneNo: count,
  replicas: fc.array(fc.record({ peer, store }), { minLength: 1, maxLength: 5 }),
  voters: fc.nat(31),
  consumersSeen: fc.nat(9),
  wanted: fc.nat(9),
});
const ref = { lane, seq, epoch: count, session };
const accept = fc
  .record({ seq, step: count, value, body: maybe(body) })
  .map((op) => (op.body === undefined ? op : { ...op, value: { ...op.value, bodyHash: bodyHash(op.body) } }));
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
    code: fc.constantFrom("OLDER" as const, "GONE" as const, "NEED_BODY" as const, "CONFLICT" as const),
    ballot: maybe(ballot),
  }),
);
const definition = fc.record({
  queue: lane,
  name: fc.string({ maxLength: 128 }),
  replicas: fc.nat(15),
  leaseMs: count,
  maxDeliveries: count,
});
const floor = fc.record({ boot: count, laneNo: count });
const verdict = fc.oneof(
  fc.record({ kind: fc.constantFrom("ack" as const, "release" as const, "renew" as const) }),
  fc.record({ kind: fc.constant("nack" as const), delayMs: count }),
  fc.record({ kind: fc.constant("reject" as const), reason: fc.string({ maxLength: 1_024 }) }),
);
const list = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(arbitrary, { maxLength: 4 });
const of = <T extends Message["type"], F extends object>(
  type: T,
  fields: { [K in keyof F]: fc.Arbitrary<F[K]> },
): fc.Arbitrary<{ type: T } & F> => fc.record({ type: fc.constant(type), ...fields }) as never;

/** Every kind of message that travels. */
const message: fc.Arbitrary<Message> = fc.oneof(
  of("hello", {
    store: maybe(store),
    boot: count,
    definitions: list(definition),
    consumes: list(lane),
    floor: maybe(floor),
    echo: count,
  }),
  of("roster", { consumes: list(lane) }),
  of("declare", { definition }),
  of("ops", { session: count, no: count, sections: list(section), echoes: list(fc.tuple(store, count)) }),
  of("ok", { session: count, no: count, exceptions: list(exception), batchNo: count }),
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
    items: list(fc.record({ ...ref, leaseMs: count, ageMs: count, deliveries: count, body: maybe(body) })),
    descriptors: list(fc.tuple(lane, descriptor)),
    stampMs: count,
  }),
  of("held", { items: list(fc.record(ref)) }),
  of("verdicts", { items: list(fc.record({ ...ref, verdict })), stampMs: count }),
  of("settled", {
    items: list(
      fc.record({
        ...ref,
        renew: fc.boolean(),
        code: fc.constantFrom("DONE" as const, "STALE" as const, "FINISHED" as const, "RETRY" as const),
        hint: maybe(peer),
      }),
    ),
  }),
);

/** Decodes, and says whether the bytes were taken. Anything but a CodecError gets through. */
function accepts(bytes: Uint8Array): boolean {
  try {
    decodeFrame(bytes);
    return true;
  } catch (error) {
    if (error instanceof CodecError) return false;
    throw error;
  }
}

describe("frames", () => {
  it("always come back as they were sent", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
        const plainBytes = (_key: string, at: unknown): unknown => (at instanceof Uint8Array ? [...at] : at);
        const read = decodeFrame(encodeFrame(messages));
        expect(JSON.parse(JSON.stringify(read, plainBytes))).toEqual(
          JSON.parse(JSON.stringify(messages, plainBytes)),
        );
      }),
      { numRuns: 500 },
    );
  });

  it("never do more than be refused when their bytes are mutated", () => {
    fc.assert(
      fc.property(message, fc.infiniteStream(fc.nat()), (one, numbers) => {
        const bytes = encodeFrame([one]).slice();
        for (let times = 0; times < 3; times += 1) {
          const at = (numbers.next().value ?? 0) % bytes.length;
          bytes[at] = (numbers.next().value ?? 0) % 256;
        }
        accepts(bytes);
        accepts(bytes.subarray(0, (numbers.next().value ?? 0) % bytes.length));
      }),
      { numRuns: 3_000 },
    );
  });

  it("are refused when they are random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (bytes) => {
        accepts(bytes);
      }),
      { numRuns: 5_000 },
    );
    expect(accepts(new Uint8Array(0))).toBe(false);
  });

  it("are refused when a body does not match its hash", () => {
    const register: Value = {
      state: "READY",
      epoch: 0,
      holder: undefined,
      leaseMs: 1,
      deliveries: 0,
      acquired: 0,
      notBeforeWallMs: 0,
      bodyHash: bodyHash(new Uint8Array([1])),
      bodyBytes: 1,
      reason: undefined,
    };
    const frame = (byte: number): Uint8Array =>
      encodeFrame([
        {
          type: "ops",
          session: 1,
          no: 1,
          echoes: [],
          sections: [
            {
              lane: "0".repeat(64),
              descriptor: undefined,
              round: 0,
              pid: "0".repeat(60),
              accepts: [{ seq: 0, step: 0, value: register, body: new Uint8Array([byte]) }],
              learned: [],
              end: undefined,
              closed: undefined,
            },
          ],
        },
      ]);
    expect([accepts(frame(1)), accepts(frame(2))]).toEqual([true, false]);
  });
});

describe("records", () => {
  const record: fc.Arbitrary<readonly [string, StoredRecord]> = fc.oneof(
    fc
      .record({
        kind: fc.constant("lane" as const),
        lane,
        descriptor,
        promise: right,
        closed: fc.boolean(),
        end: maybe(fc.record({ ballot, value: end })),
      })
      .map((one) => [keyOf.lane(1), one] as const),
    fc
      .record({ kind: fc.constant("register" as const), ballot, value, hasBody: fc.boolean() })
      .map((one) => [keyOf.register(1, 2), one] as const),
    fc
      .record({ kind: fc.constant("digest" as const), count, digest: count })
      .map((one) => [keyOf.digest(1), one] as const),
    fc
      .record({ kind: fc.constant("definition" as const), definition })
      .map((one) => [keyOf.definition("x"), one] as const),
    fc
      .record({ kind: fc.constant("member" as const), peer, boot: count, retired: fc.boolean() })
      .map((one) => [keyOf.member("x"), one] as const),
  );

  it("always come back as they were stored", () => {
    fc.assert(
      fc.property(record, ([key, one]) => {
        expect(decodeRecord(key, encodeRecord(one))).toEqual(one);
      }),
      { numRuns: 300 },
    );
  });

  it("are refused when their key is nobody's or their version is another", () => {
    expect(() => decodeRecord("z/1", encodeRecord({ kind: "echo", batchNo: 1 }))).toThrow(CodecError);
    expect(() => decodeRecord("e/1", new Uint8Array([0x92, 0x63, 0x01]))).toThrow(CodecError);
  });
});

describe("identities", () => {
  it("keep their golden values: changing them would orphan every lane on disk", () => {
    const jobs = { name: "jobs", replicas: 3, leaseMs: 30_000, maxDeliveries: 20 };
    expect(queueIdOf(jobs)).toMatchInlineSnapshot(
      `"096637dea3e6c5f40155d1ec2a29d4383dfef8bbb641b12bc6b7442e1a9ffd5c"`,
    );
    const first: Descriptor = {
      queue: "ab".repeat(32),
      originPid: "0123456789ab".repeat(5),
      laneNo: 7,
      replicas: [{ peer: "p", store: "cd".repeat(16) }],
      voters: 1,
      consumersSeen: 1,
      wanted: 3,
    };
    expect(laneIdOf(first)).toMatchInlineSnapshot(
      `"d9f5a0cab55ef0beee60d04832d82ecd78e05879db9113fefbf8bff632cdc6d0"`,
    );
    expect(bodyHash(new Uint8Array([1, 2, 3]))).toMatchInlineSnapshot(
      `"A5BYxvLAy0ksUzsKTRTvd8wPeKvMztUofYShogEc-4E"`,
    );
  });
});
