import { SeededRandom } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import {
  decodeAdmissionMessage,
  decodeHandshake,
  encodeAdmissionMessage,
  encodeDecision,
  encodeIntroduction,
  encodeMeshName,
} from "../../src/codec/admission-codec.ts";
import { decodeCredentials } from "../../src/codec/credentials-codec.ts";
import { decodeAdoption, decodeEnrolMessage, encodeEnrolMessage } from "../../src/codec/enrol-codec.ts";
import { FrameDecoder, writeFrameHeader } from "../../src/codec/framing.ts";
import {
  decodeLinkMessage,
  decodeMemberMessage,
  decodeNotice,
  encodeLinkMessage,
  encodeMemberMessage,
  encodeNotice,
} from "../../src/codec/link-codec.ts";
import {
  decodeSharedEntry,
  decodeStateMessage,
  encodeSharedEntry,
  encodeStateMessage,
  hashOfValue,
} from "../../src/codec/state-codec.ts";
import { decodeStateValue, encodeStateValue, isStateValue } from "../../src/codec/state-value.ts";
import { decodeStatement } from "../../src/codec/statement-codec.ts";
import { decodeTopicEnvelope, encodeTopicEnvelope } from "../../src/codec/topic-codec.ts";
import {
  decodeTunnelAnswer,
  decodeTunnelRequest,
  encodeTunnelAnswer,
  encodeTunnelRequest,
  splitTunnelWord,
} from "../../src/codec/tunnel-codec.ts";
import { Membership } from "../../src/core/membership.ts";
import type { MemberMessage, View } from "../../src/core/messages.ts";
import { MEMBERSHIP_TIMES } from "../../src/core/times.ts";
import { mangled } from "../garbage.ts";

const TRIES = 100_000;
const PEER = `12D3KooW${"A".repeat(44)}`;
const OTHER = `12D3KooW${"B".repeat(44)}`;
const HASH = "0123456789abcdef".repeat(4);
const BOOT = 1_795_249_022_761;
const RECORD = { peer: PEER, boot: BOOT, inc: 3, name: "a", cloud: "c", tags: { role: "db" }, addresses: [] };
const NOTICES = { rotations: ["AAAA"], revocations: [{ statement: "BBBB", delegation: "" }] };
const VALUE = encodeStateValue({ a: [1, "b", Uint8Array.of(7)] }) ?? Buffer.of();
const ENTRY = {
  ...{ key: "queue/x", value: VALUE, valueHash: hashOfValue(VALUE), override: false, l: BOOT, c: 3 },
  ...{ writer: PEER, signature: new Uint8Array(64).fill(7), credential: undefined },
};
const DELTA = { peer: PEER, boot: BOOT, floor: 1, from: 2, to: 7 };

const views: readonly View[] = [
  { ...RECORD, status: "dead", ageMs: 9 },
  { ...RECORD, peer: OTHER, boot: 1, inc: 1, status: "alive", ageMs: 0, vouched: true },
];
const MEMBER: readonly MemberMessage[] = [
  { type: "ping", nonce: 7, hash: 9 },
  { type: "pingReq", nonce: 7, target: OTHER },
  { type: "suspect", subject: PEER, boot: BOOT, inc: 3, id: "abc:1:2", accuser: OTHER },
  { type: "heard", subject: PEER, boot: BOOT, id: "abc:1:2", witness: OTHER },
  { type: "gone", subject: PEER, boot: BOOT, id: "abc:1:2", witness: OTHER },
  { type: "views", views },
  { type: "buckets", hashes: Array.from({ length: 64 }, (_, bucket) => bucket) },
  { type: "neighbours", hashes: [1, 0xffff_ffff] },
  { type: "present", hashes: [1, 0xffff_ffff] },
  { type: "closeRequest" },
];
const HELLO = {
  ...{ mesh: "default", instance: "0".repeat(32), wallMs: BOOT, knownBoot: 0, frameBytesMax: 2 ** 24 },
  ...{ record: RECORD, digest: 5 },
};
const ROUTE = { route: [PEER, OTHER], index: 1 };
const decision = { refusal: "EXPIRED", detail: "d", wallMs: 1, notices: NOTICES } as const;

/** What is said on each protocol, and who reads it. */
const PROTOCOLS: readonly (readonly [
  string,
  readonly Uint8Array[],
  readonly ((bytes: Uint8Array) => unknown)[],
])[] = [
  [
    "the handshake of admission",
    [
      encodeIntroduction({ wallMs: 7, digest: "ff", credentials: Buffer.of(9) }),
      encodeMeshName({ mesh: "default" }),
      encodeDecision(decision),
    ],
    [decodeHandshake, decodeCredentials, (bytes) => decodeStatement("certificate", bytes)],
  ],
  [
    "admission on a link",
    [
      encodeAdmissionMessage({ type: "digest", digest: "0", seq: 3 }),
      encodeAdmissionMessage({ type: "notices", notices: NOTICES }),
      encodeAdmissionMessage({ type: "renewed", statement: "AAAA", issuer: NOTICES.revocations[0]! }),
    ],
    [decodeAdmissionMessage, (bytes) => decodeStatement("revocation", bytes)],
  ],
  [
    "an adoption",
    [
      encodeEnrolMessage({ type: "begin", mesh: HASH, nonce: HASH }),
      encodeEnrolMessage({ type: "grant", credentials: "AAAA", configuration: '{"a":1}' }),
      encodeEnrolMessage({ type: "refused", code: "ALREADY_ADOPTED" }),
    ],
    [decodeEnrolMessage, decodeAdoption],
  ],
  [
    "a link",
    [
      encodeLinkMessage({ type: "hello", hello: HELLO }),
      encodeLinkMessage({ type: "refuse", code: "MESH_NAME", detail: "why" }),
      encodeLinkMessage({ type: "busy", records: [RECORD] }),
      encodeLinkMessage({ type: "probe", nonce: 3, back: false, code: undefined, ...ROUTE }),
    ],
    [decodeLinkMessage],
  ],
  ["membership", MEMBER.flatMap(encodeMemberMessage), [decodeMemberMessage]],
  [
    "the notices of a class",
    [
      encodeNotice({ type: "open", number: 1, name: "x", seen: 0 }),
      encodeNotice({ type: "close", number: 65_535, name: "x" }),
    ],
    [decodeNotice],
  ],
  [
    "gossip state",
    [
      encodeStateMessage({
        type: "delta",
        delta: { ...DELTA, entries: [{ key: "a", version: 3, value: VALUE }] },
        toAll: true,
      }),
      encodeStateMessage({ type: "shared", entries: [ENTRY], toAll: false }),
      encodeStateMessage({ type: "ownPull", heads: [{ peer: PEER, boot: BOOT, version: 9 }] }),
      encodeStateMessage({ type: "sharedPull", keys: ["a", "b/c"] }),
      [encodeSharedEntry(ENTRY), VALUE],
    ].flat(),
    [decodeStateMessage, decodeSharedEntry, (bytes) => isStateValue(bytes) && decodeStateValue(bytes)],
  ],
  [
    "tunnels",
    [
      encodeTunnelRequest({ class: "normal", deadlineMs: 100, ...ROUTE }),
      encodeTunnelAnswer({ type: "refused", hop: 1, code: "NOT_DIRECT" }),
      encodeTunnelAnswer({ type: "opened" }),
    ],
    [
      (bytes) => {
        const { word } = splitTunnelWord(bytes) ?? {};
        return word === undefined ? undefined : [decodeTunnelRequest(word), decodeTunnelAnswer(word)];
      },
    ],
  ],
  [
    "topics",
    [
      encodeTopicEnvelope({ topic: "t", target: { cloud: "c" }, body: Buffer.of(1) }),
      encodeTopicEnvelope({ topic: "t", target: { tag: { key: "k", value: "v" } }, body: Buffer.of(1) }),
    ],
    [decodeTopicEnvelope],
  ],
];

describe(`garbage, ${TRIES} times`, () => {
  it.each(PROTOCOLS)("in %s never makes a reader throw", (_name, good, readers) => {
    const random = new SeededRandom(23);
    let refused = 0;
    for (let round = 0; round < TRIES; round += 1) {
      const bytes = mangled(random, good);
      for (const read of readers) {
        try {
          if (read(bytes) === undefined) refused += 1;
        } catch (error) {
          expect.fail(`${String(error)} on ${Buffer.from(bytes).toString("hex")}`);
        }
      }
    }
    expect(refused).toBeGreaterThan(TRIES / 4);
  });

  it("as a stream of frames ends it, and never lets a frame through that is too long", () => {
    const random = new SeededRandom(29);
    const frame = Buffer.alloc(60);
    writeFrameHeader(frame, 0, 3, 54);
    const limit = 1_024;
    const lengths: number[] = [];
    const sink = (_channel: number, payload: Uint8Array): boolean => lengths.push(payload.length) > 0;
    let [decoder, ended] = [new FrameDecoder(limit), 0];
    for (let round = 0; round < TRIES; round += 1) {
      if (decoder.push(mangled(random, [frame]), sink)) continue;
      decoder = new FrameDecoder(limit);
      ended += 1;
    }
    expect(ended).toBeGreaterThan(TRIES / 4);
    expect(lengths.reduce((most, length) => Math.max(most, length), 0)).toBeLessThanOrEqual(limit);
  });

  it("from a member never moves this node from its place, nor makes more members than there may be", () => {
    const random = new SeededRandom(31);
    const now = { monoMs: 0, wallMs: BOOT };
    const self = { ...RECORD, peer: `12D3KooW${"C".repeat(44)}` };
    const init = { self, seeds: new Map(), membersMax: 16, times: MEMBERSHIP_TIMES, random };
    const membership = new Membership(init, now);
    const good = MEMBER.flatMap(encodeMemberMessage);
    membership.step(
      { type: "linkUp", peer: OTHER, link: 1, record: { ...RECORD, peer: OTHER }, digest: 0 },
      now,
    );
    let taken = 0;
    for (let round = 0; round < TRIES; round += 1) {
      const message = decodeMemberMessage(mangled(random, good));
      if (message === undefined) continue;
      taken += 1;
      now.monoMs += 1;
      membership.step({ type: "message", peer: OTHER, message }, now);
      membership.flush(now);
    }
    expect(taken).toBeGreaterThan(TRIES / 20);
    expect(membership.members().length).toBeLessThanOrEqual(16);
    expect([membership.self.peer, membership.member(self.peer)?.status]).toEqual([self.peer, "alive"]);
  });
});
