import { keyText } from "@klatsch/kit/core";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { CodecError } from "../../src/codec/fields.ts";
import { decodeFrame, encodeFrame } from "../../src/codec/frames.ts";
import { bodyHash, laneIdOf, queueIdOf } from "../../src/codec/hash.ts";
import { decodeRecord, encodeRecord } from "../../src/codec/records.ts";
import { keyOf } from "../../src/core/records.ts";
import type { StoredRecord } from "../../src/core/records.ts";
import type { Descriptor, Value } from "../../src/core/types.ts";

import {
  ballot,
  count,
  definition,
  descriptor,
  end,
  lane,
  maybe,
  message,
  peer,
  right,
  value,
} from "../support/arbitrary.ts";

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
        const plainBytes = (key: string, at: unknown): unknown =>
          key === "encoded" ? undefined : at instanceof Uint8Array ? [...at] : at;
        const read = decodeFrame(encodeFrame(messages));
        expect(JSON.parse(JSON.stringify(read, plainBytes))).toEqual(
          JSON.parse(JSON.stringify(messages, plainBytes)),
        );
      }),
      { numRuns: 500 },
    );
  });

  it("are the same in memory that is given, and leave it alone afterwards", () => {
    const memory = Buffer.alloc(2_048);
    fc.assert(
      fc.property(fc.array(message, { maxLength: 5 }), (messages) => {
        const plain = encodeFrame(messages).slice();
        const given = encodeFrame(messages, memory);
        encodeFrame([{ type: "roster", consumes: ["later"] }]);
        expect(Buffer.compare(given, plain)).toBe(0);
      }),
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

  it("are refused where a few bytes would stand for many, or take long", () => {
    // Lists that have the one before them twice, by extensions of msgpackr's; the packer would write them out in an error.
    const levels = Array.from({ length: 16 }, (_, level) => [
      ...[0xd6, 0x69, 0, 0, 0, level],
      ...(level === 0 ? [0x91, 0x01] : [0x92, ...[1, 1].flatMap(() => [0xd6, 0x70, 0, 0, 0, level - 1])]),
    ]);
    const growing = Uint8Array.from([0x92, 4, 0xdc, 0, levels.length, ...levels.flat(), 0]);
    expect(() => decodeFrame(growing)).toThrow("too much of it");
    expect(() => decodeFrame(Uint8Array.of(0x92, 4, 0xd4, 0x65, 0, 0x90))).toThrow("too much of it");
    const crowd = Buffer.alloc(600_007, 0x90);
    crowd.set([0x92, 4, 0xdd]);
    crowd.writeUInt32BE(600_000, 3);
    expect(() => decodeFrame(crowd)).toThrow("too much of it");
  });

  it("hold nothing of one before that could not be written", () => {
    const ref = { lane: "a".repeat(64), seq: 1, epoch: 1, session: "b".repeat(16) };
    const item = { ...ref, kind: "ack", code: "DONE", hint: undefined } as const;
    const message = { type: "settled", items: [item] } as const;
    const broken = { ...message, items: [item, { ...item, session: undefined as never }] };
    expect(() => encodeFrame([broken])).toThrow();
    expect(decodeFrame(encodeFrame([message]))).toEqual([message]);
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
      enqueuedWallMs: 0,
      attributes: undefined,
      encoded: undefined,
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
  const echo = fc.record({ batchNo: count, proof: count });
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
      .map((one) => [keyText(keyOf.register(1, 2)), one] as const),
    fc
      .record({ kind: fc.constant("message" as const), ballot, value, body: fc.uint8Array() })
      .map((one) => [keyText(keyOf.message(1, 2)), one] as const),
    fc
      .record({ kind: fc.constant("digest" as const), count, digest: count })
      .map((one) => [keyOf.digest(1), one] as const),
    fc
      .record({ kind: fc.constant("definition" as const), definition })
      .map((one) => [keyOf.definition("x"), one] as const),
    fc
      .record({ kind: fc.constant("member" as const), peer, boot: count, retired: fc.boolean() })
      .map((one) => [keyOf.member("x"), one] as const),
    fc
      .record({ kind: fc.constant("echo" as const), said: echo, heard: echo })
      .map((one) => [keyOf.echo("x"), one] as const),
  );

  const stored = (one: StoredRecord): Uint8Array =>
    one.kind === "message" ? Buffer.concat([encodeRecord(one), one.body]) : encodeRecord(one);

  it("always come back as they were stored", () => {
    fc.assert(
      fc.property(record, ([key, one]) => {
        const read = decodeRecord(key, stored(one));
        if (one.kind === "register" || one.kind === "message") one.value.encoded = undefined;
        expect(read).toEqual(one);
      }),
      { numRuns: 300 },
    );
  });

  it("never do more than be refused when their bytes are cut or changed", () => {
    fc.assert(
      fc.property(record, fc.nat(), fc.nat(255), fc.nat(), ([key, one], at, byte, cut) => {
        const bytes = new Uint8Array(stored(one));
        bytes[at % bytes.length] = byte;
        try {
          decodeRecord(key, bytes.subarray(0, bytes.length - (cut % 3)));
        } catch (error) {
          expect(error).toBeInstanceOf(CodecError);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  it("are refused when their key is nobody's or their version is another", () => {
    expect(() =>
      decodeRecord(
        "z/1",
        encodeRecord({ kind: "echo", said: { batchNo: 1, proof: 2 }, heard: { batchNo: 3, proof: 4 } }),
      ),
    ).toThrow(CodecError);
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
    // An option that is absent takes no part in them, and one that is there does.
    expect(queueIdOf({ ...jobs, relaxed: true })).toMatchInlineSnapshot(
      `"eaae94477374c5761ad429847573889a743c22b767dcad9c70c303b523d61216"`,
    );
    const shard = { no: 1, dedupMs: 0 };
    expect(laneIdOf({ ...first, shard })).not.toBe(laneIdOf({ ...first, shard: { ...shard, moves: 1 } }));
    expect(laneIdOf({ ...first, shard })).toMatchInlineSnapshot(
      `"53f78eb42166354293a732da055a3ae1c5580ac6a6db4a8fcea96d1b8638f7fc"`,
    );
    expect(laneIdOf({ ...first, relaxed: true })).toMatchInlineSnapshot(
      `"eae012390c66e229fde70d3e293a8101c9a583a1d028fe2e15824f7a546cbc74"`,
    );
    expect(Buffer.from(bodyHash(new Uint8Array([1, 2, 3])), "latin1").toString("hex")).toBe(
      "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81",
    );
  });
});
