import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeFields } from "../../src/codec/fields.ts";
import {
  decodeLinkMessage,
  decodeMemberMessage,
  decodeNotice,
  encodeLinkMessage,
  encodeMemberMessage,
  encodeNotice,
  VIEWS_BYTES_MAX,
} from "../../src/codec/link-codec.ts";
import { isPlainArray } from "../../src/codec/scan.ts";
import type { ChannelNotice } from "../../src/core/channel-sessions.ts";
import type { LinkMessage, MemberMessage, View } from "../../src/core/messages.ts";

const PEER = `12D3KooW${"A".repeat(44)}`;
const OTHER = `12D3KooW${"B".repeat(44)}`;
const BOOT = 1_795_249_022_761;

const view: View = {
  peer: PEER,
  boot: BOOT,
  inc: 3,
  name: "a",
  cloud: "default",
  tags: { role: "db", empty: "" },
  addresses: [`/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`],
  status: "dead",
  ageMs: 86_400_000,
};
const { status: _status, ageMs: _ageMs, ...record } = view;

const memberMessages: readonly MemberMessage[] = [
  { type: "ping", nonce: 0, hash: 0xffff_ffff },
  { type: "ack", nonce: 0xffff_ffff, hash: 1 },
  { type: "pingReq", nonce: 7, target: OTHER },
  { type: "indirectAck", nonce: 7 },
  { type: "suspect", subject: PEER, boot: BOOT, inc: 0, id: "abc:1:2", accuser: OTHER },
  { type: "heard", subject: PEER, boot: BOOT, id: "abc:1:2", witness: OTHER },
  { type: "gone", subject: PEER, boot: BOOT, id: "abc:1:2", witness: OTHER },
  { type: "views", views: [view, { ...view, status: "alive", ageMs: 0 }] },
  { type: "views", views: [{ ...view, status: "alive", ageMs: 0, vouched: true }] },
  { type: "views", views: [{ ...view, gateway: true, dialOnly: true, reach: [] }] },
  { type: "buckets", hashes: Array.from({ length: 64 }, (_, bucket) => bucket) },
  { type: "neighbours", hashes: [] },
  { type: "neighbours", hashes: Array.from({ length: 4_096 }, () => 0xffff_ffff) },
  { type: "present", hashes: Array.from({ length: 2_048 }, () => 0xffff_ffff) },
  { type: "closeRequest" },
  { type: "closeOk" },
  { type: "closeNo" },
];
const hello = {
  type: "hello",
  hello: {
    mesh: "default",
    instance: "0".repeat(32),
    wallMs: BOOT,
    knownBoot: 0,
    frameBytesMax: 2 ** 24,
    record,
    digest: 0xffff_ffff,
  },
} as const satisfies LinkMessage;
const linkMessages: readonly LinkMessage[] = [
  hello,
  { type: "accept" },
  { type: "refuse", code: "MESH_NAME", detail: "why" },
  { type: "test" },
  { type: "testAck" },
  { type: "busy", records: [record, { ...record, reach: ["berlin", "oslo"] }] },
];
const notices: readonly ChannelNotice[] = [
  { type: "open", number: 1, name: "x", seen: 0 },
  { type: "close", number: 65_535, name: "x" },
];

const encoded: readonly Uint8Array[] = [
  ...memberMessages.flatMap(encodeMemberMessage),
  ...linkMessages.map(encodeLinkMessage),
  ...notices.map(encodeNotice),
];

function decodeAll(bytes: Uint8Array): unknown[] {
  return [decodeMemberMessage(bytes), decodeLinkMessage(bytes), decodeNotice(bytes)];
}

describe("the link codec", () => {
  it("gives back what was encoded", () => {
    expect(memberMessages.flatMap(encodeMemberMessage).map(decodeMemberMessage)).toEqual(memberMessages);
    expect(linkMessages.map(encodeLinkMessage).map(decodeLinkMessage)).toEqual(linkMessages);
    expect(notices.map(encodeNotice).map(decodeNotice)).toEqual(notices);
  });

  it("refuses digests that are not one for each bucket", () => {
    expect(decodeMemberMessage(encodeFields([9, [1, 2, 3]]))).toBeUndefined();
  });

  it("ignores unknown trailing fields", () => {
    expect(decodeMemberMessage(encodeFields([1, 5, 6, "new", [1]]))).toEqual({
      type: "ping",
      nonce: 5,
      hash: 6,
    });
  });

  it("names the version of a hello it cannot read", () => {
    expect(decodeLinkMessage(encodeFields([1, 99, "who knows"]))).toEqual({ type: "foreign", version: 99 });
  });

  it("cuts a long table into messages below the limit, and loses nothing", () => {
    const views = Array.from({ length: 2_000 }, (_, index) => ({ ...view, inc: index }));
    const parts = encodeMemberMessage({ type: "views", views });
    expect(parts.length).toBeGreaterThan(5);
    expect(Math.max(...parts.map((part) => part.length))).toBeLessThanOrEqual(VIEWS_BYTES_MAX);
    const decoded = parts
      .map(decodeMemberMessage)
      .flatMap((part) => (part?.type === "views" ? part.views : []));
    expect(decoded).toEqual(views);
  });

  it.each([
    ["a name with a slash", { ...record, name: "a/b" }],
    ["no name", { ...record, name: "" }],
    ["a negative boot", { ...record, boot: -1 }],
    ["a fractional incarnation", { ...record, inc: 0.5 }],
    ["a boot beyond 2⁵³", { ...record, boot: 2 ** 60 }],
    ["a peer id of another kind", { ...record, peer: "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N" }],
    ["an address of another peer", { ...record, addresses: [`/ip4/1.1.1.1/tcp/1/p2p/${OTHER}`] }],
    [
      "too many addresses",
      { ...record, addresses: Array.from({ length: 17 }, () => record.addresses[0] ?? "") },
    ],
    ["an address too long", { ...record, addresses: [`/${"x".repeat(300)}/p2p/${PEER}`] }],
    [
      "too many tags",
      { ...record, tags: Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`t${index}`, ""])) },
    ],
    ["a tag too long", { ...record, tags: { t: "x".repeat(257) } }],
  ])("refuses a record with %s", (_what, wrong) => {
    expect(
      decodeLinkMessage(encodeLinkMessage({ type: "hello", hello: { ...hello.hello, record: wrong } })),
    ).toBeUndefined();
    const views = [{ ...wrong, status: "alive", ageMs: 0 } as const];
    expect(encodeMemberMessage({ type: "views", views }).map(decodeMemberMessage)).toEqual([undefined]);
  });

  it("takes tags named like what objects inherit for mere tags", () => {
    const tags = JSON.parse('{"__proto__":"x","constructor":"y"}') as Record<string, string>;
    const [bytes = Buffer.alloc(0)] = encodeMemberMessage({ type: "views", views: [{ ...view, tags }] });
    const decoded = decodeMemberMessage(bytes);
    const read = decoded?.type === "views" ? decoded.views[0]?.tags : undefined;
    expect(Object.entries(read ?? {})).toEqual([
      ["__proto__", "x"],
      ["constructor", "y"],
    ]);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });

  it("never throws on random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300, size: "max" }), (bytes) => {
        decodeAll(bytes);
      }),
      { numRuns: 20_000 },
    );
  });

  it("never throws on its own messages damaged", () => {
    const damage = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(
        fc.nat(),
        fc.array(damage, { minLength: 1, maxLength: 6, size: "max" }),
        fc.nat(),
        (which, damages, cut) => {
          const bytes = Uint8Array.from(encoded[which % encoded.length] ?? []);
          for (const [at, byte] of damages) bytes[at % bytes.length] = byte;
          decodeAll(bytes.subarray(0, bytes.length - (cut % 3)));
        },
      ),
      { numRuns: 20_000 },
    );
  });

  it.each([
    ["an array said to have 2³² entries", [0xdd, 0xff, 0xff, 0xff, 0xff]],
    ["a string said to have 2³² bytes", [0x91, 0xdb, 0xff, 0xff, 0xff, 0xff]],
    ["arrays nested without end", Array.from({ length: 100_000 }, () => 0x91)],
    ["an extension", [0x91, 0xd4, 0x72, 0x40]],
    ["a map", [0x91, 0x81, 0xa1, 0x61, 0x01]],
    ["bytes after the end", [0x91, 0x01, 0x01]],
    ["nothing", []],
  ])("finds in %s no plain array, without reading far", (_what, bytes) => {
    expect(isPlainArray(Uint8Array.from(bytes))).toBe(false);
    expect(decodeAll(Uint8Array.from(bytes))).toEqual([undefined, undefined, undefined]);
  });
});
