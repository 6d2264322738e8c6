import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeFields } from "../../src/codec/fields.ts";
import {
  decodeSharedEntry,
  decodeStateMessage,
  encodeSharedEntry,
  encodeStateMessage,
  hashOfValue,
  signedBytes,
  STATE_BYTES_MAX,
} from "../../src/codec/state-codec.ts";
import { decodeStateValue, encodeStateValue, isStateValue } from "../../src/codec/state-value.ts";
import type { OwnDelta, SharedEntry, StateMessage } from "../../src/core/state/messages.ts";

const PEER = `12D3KooW${"A".repeat(44)}`;
const BOOT = 1_795_249_022_761;

const delta: OwnDelta = {
  peer: PEER,
  boot: BOOT,
  floor: 1,
  from: 2,
  to: 7,
  entries: [
    { key: "a/b", version: 3, value: Uint8Array.of(1) },
    { key: "c", version: 6, value: undefined },
  ],
};
const heads = [{ peer: PEER, boot: BOOT, version: 9 }];
const value = encodeStateValue({ a: [1, "b"] });
const entry: SharedEntry = {
  key: "queue/x",
  value,
  valueHash: hashOfValue(value),
  override: false,
  l: BOOT,
  c: 3,
  writer: PEER,
  signature: new Uint8Array(64).fill(7),
  credential: undefined,
};
const deleted: SharedEntry = {
  ...entry,
  value: undefined,
  valueHash: "",
  override: true,
  credential: Uint8Array.of(1),
};
const messages: readonly StateMessage[] = [
  { type: "hash", hash: { high: 0xffff_ffff, low: 0 }, wallMs: undefined },
  { type: "hash", hash: { high: 0, low: 1 }, wallMs: 1_700_000_000_000 },
  { type: "buckets", hashes: Array.from({ length: 64 }, (_, low) => ({ high: 7, low })) },
  { type: "ownHeads", bucket: 63, after: "", upTo: PEER, heads },
  { type: "ownHeads", bucket: 0, after: PEER, upTo: undefined, heads: [] },
  { type: "ownPull", heads },
  { type: "delta", delta, toAll: true },
  { type: "reset", delta: { ...delta, from: 0, entries: delta.entries.slice(0, 1) }, toAll: false },
  {
    type: "sharedHeads",
    bucket: 5,
    after: "a",
    upTo: "b",
    heads: [{ key: "b", override: true, l: BOOT, c: 0, hash: { high: 1, low: 2 } }],
  },
  { type: "sharedPull", keys: ["a", "b/c"] },
  { type: "shared", entries: [entry, deleted], toAll: false },
  { type: "sharedAsk", bucket: 63 },
  { type: "sharedAway" },
];
const encoded = messages.flatMap(encodeStateMessage);

describe("the codec of gossip state", () => {
  it("gives back what was encoded", () => {
    expect(encoded.map(decodeStateMessage)).toEqual(messages);
  });

  it("cuts a long delta at the end only, so that its parts follow each other", () => {
    const value = encodeStateValue("x".repeat(1_000));
    const entries = Array.from({ length: 500 }, (_, at) => ({ key: `k${at}`, version: at + 1, value }));
    const parts = encodeStateMessage({
      type: "delta",
      delta: { ...delta, floor: 0, from: 0, to: 500, entries },
      toAll: false,
    });
    expect(parts.length).toBeGreaterThan(5);
    let version = 0;
    for (const part of parts) {
      expect(part.length).toBeLessThanOrEqual(STATE_BYTES_MAX);
      const decoded = decodeStateMessage(part);
      if (decoded?.type !== "delta") throw new Error("no delta");
      expect(decoded.delta.from).toBe(version);
      version = decoded.delta.to;
    }
    expect(version).toBe(500);
  });

  it("cuts a long list of shared entries, and loses none", () => {
    const long = encodeStateValue("x".repeat(9_000));
    const entries = Array.from({ length: 40 }, (_, c) => ({
      ...entry,
      c,
      value: long,
      valueHash: hashOfValue(long),
    }));
    const parts = encodeStateMessage({ type: "shared", entries, toAll: true });
    expect(Math.max(...parts.map(({ length }) => length))).toBeLessThanOrEqual(STATE_BYTES_MAX);
    const decoded = parts.map(decodeStateMessage);
    expect(decoded.flatMap((part) => (part?.type === "shared" ? part.entries : []))).toEqual(entries);
  });

  it.each<[string, Partial<SharedEntry>]>([
    ["a short signature", { signature: new Uint8Array(63) }],
    ["a long credential", { credential: new Uint8Array(5_000) }],
    ["a key with a line break", { key: "a\nb" }],
    ["a negative time", { l: -1 }],
    ["a writer that is no peer", { writer: "me" }],
    ["a value that is none", { value: Uint8Array.of(0xc7, 0, 0) }],
  ])("refuses a shared entry with %s", (_what, wrong) => {
    const bytes = encodeStateMessage({
      type: "shared",
      entries: [entry, { ...entry, ...wrong }],
      toAll: false,
    });
    expect(bytes.map(decodeStateMessage)).toEqual([undefined]);
  });

  it("keeps on disk what it sends", () => {
    for (const kept of [entry, deleted]) expect(decodeSharedEntry(encodeSharedEntry(kept))).toEqual(kept);
    expect(decodeSharedEntry(Uint8Array.of(1))).toBeUndefined();
  });

  it("signs every part that counts, for one mesh", () => {
    const parts: Partial<SharedEntry>[] = [
      {},
      { key: "queue/y" },
      { valueHash: "" },
      { override: true },
      { l: BOOT + 1 },
      { c: 4 },
      { writer: `12D3KooW${"B".repeat(44)}` },
    ];
    const signed = parts.map((part) => signedBytes("m", { ...entry, ...part }).toString());
    expect(new Set([...signed, signedBytes("n", entry).toString()]).size).toBe(parts.length + 1);
  });

  it.each<[string, Partial<OwnDelta>]>([
    ["versions that fall", { entries: delta.entries.toReversed() }],
    ["a version beyond its end", { to: 5 }],
    ["a version before its beginning", { from: 3 }],
    ["no progress", { from: 7, entries: [] }],
    ["a floor beyond its beginning", { floor: 3 }],
    ["a key twice", { entries: [3, 4].map((version) => ({ key: "a", version, value: undefined })) }],
    ["a key with a space", { entries: [{ key: "a b", version: 3, value: undefined }] }],
    ["a value that is none", { entries: [{ key: "a", version: 3, value: Uint8Array.of(0xc1) }] }],
    ["a value and more", { entries: [{ key: "a", version: 3, value: Uint8Array.of(1, 1) }] }],
    ["a peer id that is none", { peer: "12D3KooW" }],
  ])("refuses a delta with %s", (_what, wrong) => {
    const bytes = encodeStateMessage({ type: "delta", delta: { ...delta, ...wrong }, toAll: false });
    expect(bytes.map(decodeStateMessage)).toEqual([undefined]);
  });

  it("refuses a whole that begins in the middle", () => {
    expect(encodeStateMessage({ type: "reset", delta, toAll: false }).map(decodeStateMessage)).toEqual([
      undefined,
    ]);
  });

  it("refuses too few buckets", () => {
    expect(decodeStateMessage(encodeFields([2, [1, 2, 3]]))).toBeUndefined();
  });

  it("never throws on random bytes, nor on its own messages damaged", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300, size: "max" }), (bytes) => {
        decodeStateMessage(bytes);
      }),
      { numRuns: 10_000 },
    );
    const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(fc.nat(), damage, fc.nat(3), (which, damages, cut) => {
        const bytes = Uint8Array.from(encoded[which % encoded.length] ?? []);
        for (const [at, byte] of damages) bytes[at % bytes.length] = byte;
        decodeStateMessage(bytes.subarray(0, bytes.length - cut));
      }),
      { numRuns: 10_000 },
    );
  });
});

describe("a value of the state", () => {
  const plain = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constant(null),
      fc.boolean(),
      fc.double().map((number) => (number === 0 ? 0 : number)), // MessagePack knows no −0.
      fc.integer(),
      fc.string(),
      fc.uint8Array(),
      fc.array(tie("value"), { maxLength: 4 }),
      fc.dictionary(
        fc.string().filter((key) => key !== "__proto__"),
        tie("value"),
        { maxKeys: 4, noNullPrototype: true },
      ),
    ),
  })).value;

  it("comes back as it was", () => {
    fc.assert(
      fc.property(plain, (value) => {
        const bytes = encodeStateValue(value as never);
        expect(bytes).toBeDefined();
        expect(decodeStateValue(bytes ?? Uint8Array.of())).toEqual(value);
      }),
    );
  });

  it("is its reader's own", () => {
    const bytes = encodeStateValue({ raw: Uint8Array.of(1) }) ?? Uint8Array.of();
    const { raw } = decodeStateValue(bytes) as { raw: Uint8Array };
    raw[0] = 9;
    expect(decodeStateValue(bytes)).toEqual({ raw: Uint8Array.of(1) });
  });

  it.each([
    ["a date", new Date(0)],
    ["a bigint", 2n ** 60n],
    ["a function", () => 1],
    ["undefined", undefined],
    ["undefined inside", [undefined]],
    ["a map", new Map([[1, 2]])],
    ["a set", new Set([1])],
    ["an error", new Error("x")],
    ["a key __proto__", JSON.parse('{"a":[{"__proto__":{"x":1}}]}')],
  ])("is not %s", (_what, value) => {
    expect(encodeStateValue(value as never)).toBeUndefined();
  });

  it("never gives its reader a prototype, whatever a peer says", () => {
    const key = [...Buffer.from("__proto__")];
    // {"__proto__": {"x": 1}}
    const bytes = Uint8Array.of(0x81, 0xa9, ...key, 0x81, 0xa1, 0x78, 1);
    expect(isStateValue(bytes)).toBe(true);
    const value = decodeStateValue(bytes) as object;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect("x" in value).toBe(false);
  });

  it("is neither circular nor endlessly deep", () => {
    const circle: unknown[] = [];
    circle.push(circle);
    expect(encodeStateValue(circle as never)).toBeUndefined();
    let deep: unknown = 1;
    for (let depth = 0; depth < 20; depth += 1) deep = [deep];
    expect(encodeStateValue(deep as never)).toBeUndefined();
  });
});
