import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  cutNotices,
  decodeAdmissionMessage,
  decodeHandshake,
  encodeAdmissionMessage,
  encodeDecision,
  encodeIntroduction,
  encodeMeshName,
} from "../../src/codec/admission-codec.ts";
import type { AdmissionMessage } from "../../src/codec/admission-codec.ts";
import { decodeCredentials } from "../../src/codec/credentials-codec.ts";
import { decodeAdoption, decodeEnrolMessage, encodeEnrolMessage } from "../../src/codec/enrol-codec.ts";
import type { EnrolMessage } from "../../src/codec/enrol-codec.ts";
import { LINK_PAYLOAD_BYTES_MAX } from "../../src/codec/link-codec.ts";
import { decodeStatement } from "../../src/codec/statement-codec.ts";

const HASH = "0123456789abcdef".repeat(4);
const NOTICES = {
  rotations: ["AAAA"],
  revocations: [
    { statement: "BBBB", delegation: "" },
    { statement: "CC-_", delegation: "DDDD" },
  ],
};
const MESSAGES: readonly AdmissionMessage[] = [
  { type: "digest", digest: "0", seq: 3 },
  { type: "notices", notices: NOTICES },
  { type: "credentials", credentials: Buffer.of(1, 2, 3) },
  { type: "renew" },
  { type: "renewed", statement: "AAAA", issuer: { statement: "BBBB", delegation: "" } },
];
const ENROL: readonly EnrolMessage[] = [
  { type: "begin", mesh: HASH, nonce: HASH },
  { type: "challenge", nonce: HASH },
  { type: "proof", mac: HASH },
  { type: "grant", credentials: "AAAA", configuration: '{"a":1}' },
  { type: "ack", hash: HASH },
  { type: "done" },
  { type: "adopted", hash: HASH },
  { type: "refused", code: "ALREADY_ADOPTED" },
];

const DECODERS: readonly ((bytes: Uint8Array) => unknown)[] = [
  decodeHandshake,
  decodeAdmissionMessage,
  decodeEnrolMessage,
  decodeCredentials,
  decodeAdoption,
  (bytes) => decodeStatement("certificate", bytes),
  (bytes) => decodeStatement("rotation", bytes),
];

describe("the codec of admission", () => {
  it.each(MESSAGES.map((message) => [message.type, message] as const))("keeps %s", (_type, message) => {
    expect(decodeAdmissionMessage(encodeAdmissionMessage(message))).toEqual(message);
  });

  it.each(ENROL.map((message) => [message.type, message] as const))(
    "keeps %s of an adoption",
    (_type, message) => {
      expect(decodeEnrolMessage(encodeEnrolMessage(message))).toEqual(message);
    },
  );

  it("keeps the words of a handshake", () => {
    const introduction = { wallMs: 7, digest: "ff", credentials: Buffer.of(9) };
    expect(decodeHandshake(encodeIntroduction(introduction))).toEqual({
      type: "introduction",
      ...introduction,
    });
    expect(decodeHandshake(encodeMeshName({ mesh: "blue" }))).toEqual({ type: "meshName", mesh: "blue" });
    for (const refusal of [undefined, "NO_CERTIFICATE", "ADMISSION_MODE", "EXPIRED"] as const) {
      const decision = { refusal, detail: "d", wallMs: 1, notices: NOTICES };
      expect(decodeHandshake(encodeDecision(decision))).toEqual({ type: "decision", ...decision });
    }
    const other = encodeMeshName({ mesh: "blue" });
    other[2] = 2;
    expect(decodeHandshake(other)).toEqual({ type: "foreign", version: 2 });
  });

  it("never throws on random bytes, nor on a good message with bytes changed", () => {
    const good = [
      ...MESSAGES.map(encodeAdmissionMessage),
      ...ENROL.map(encodeEnrolMessage),
      encodeIntroduction({ wallMs: 7, digest: "ff", credentials: Buffer.of(9) }),
      encodeDecision({ refusal: "EXPIRED", detail: "d", wallMs: 1, notices: NOTICES }),
    ];
    const changed = fc
      .tuple(fc.constantFrom(...good), fc.array(fc.tuple(fc.nat(500), fc.nat(255)), { maxLength: 4 }))
      .map(([bytes, changes]) => {
        const copy = Uint8Array.from(bytes);
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), changed), (bytes) => {
        for (const decode of DECODERS) decode(bytes);
      }),
      { numRuns: 5_000 },
    );
  });

  it("always cuts notices into messages that fit a frame, and loses none", () => {
    const entry = fc.record({
      statement: fc.integer({ min: 4, max: 20_000 }).map((length) => "A".repeat(length)),
      delegation: fc.constantFrom("", "B".repeat(400)),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 300 }), (revocations) => {
        const cut = cutNotices({ rotations: ["C".repeat(300)], revocations });
        for (const notices of cut) {
          const bytes = encodeAdmissionMessage({ type: "notices", notices });
          expect(bytes.length).toBeLessThanOrEqual(LINK_PAYLOAD_BYTES_MAX);
          expect(decodeAdmissionMessage(bytes)).toEqual({ type: "notices", notices });
        }
        expect(cut.flatMap((notices) => notices.revocations)).toEqual(revocations);
      }),
      { numRuns: 30 },
    );
  });
});
