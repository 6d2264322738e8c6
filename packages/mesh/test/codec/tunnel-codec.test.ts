import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeLinkMessage, encodeLinkMessage } from "../../src/codec/link-codec.ts";
import { decodeLinks, encodeLinks } from "../../src/codec/links-entry.ts";
import {
  decodeTunnelAnswer,
  decodeTunnelRequest,
  encodeTunnelAnswer,
  encodeTunnelRequest,
  splitTunnelWord,
  tunnelWordBytes,
} from "../../src/codec/tunnel-codec.ts";
import { HOP_REFUSALS, HOPS_MAX } from "../../src/core/routing/types.ts";
import type { TunnelRequest } from "../../src/core/routing/types.ts";

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const peer = fc
  .array(fc.constantFrom(...ALPHABET.split("")), { minLength: 44, maxLength: 44 })
  .map((letters) => `12D3KooW${letters.join("")}`);
const route = fc.array(peer, { maxLength: HOPS_MAX + 1 });
const request: fc.Arbitrary<TunnelRequest> = fc.record({
  class: fc.constantFrom("control", "high", "normal", "bulk"),
  route,
  index: fc.integer({ min: 0, max: HOPS_MAX }),
  deadlineMs: fc.integer({ min: 0, max: 60_000 }),
});

function wordOf(bytes: Uint8Array): Uint8Array {
  const split = splitTunnelWord(bytes);
  if (split === undefined || split.rest.length > 0) throw new Error("not one word");
  return split.word;
}

describe("tunnel words", () => {
  it("come back as they were", () => {
    fc.assert(
      fc.property(request, (sent) => {
        expect(decodeTunnelRequest(wordOf(encodeTunnelRequest(sent)))).toEqual(sent);
      }),
    );
    expect(decodeTunnelAnswer(wordOf(encodeTunnelAnswer({ type: "opened" })))).toEqual({ type: "opened" });
    for (const code of HOP_REFUSALS) {
      const answer = { type: "refused", hop: 3, code } as const;
      expect(decodeTunnelAnswer(wordOf(encodeTunnelAnswer(answer)))).toEqual(answer);
    }
  });

  it("are found whole however they are cut, and what follows is left", () => {
    const bytes = Buffer.concat([encodeTunnelAnswer({ type: "opened" }), Buffer.from("rest")]);
    for (let cut = 0; cut < bytes.length - 4; cut += 1)
      expect(splitTunnelWord(bytes.subarray(0, cut))).toBeUndefined();
    expect(Buffer.from(splitTunnelWord(bytes)?.rest ?? []).toString()).toBe("rest");
    expect(tunnelWordBytes(Buffer.of(0xff, 0xff))).toBe(0);
  });

  it("never throw, whatever the bytes, and never mean a route that cannot be one", () => {
    const damaged = fc
      .tuple(
        request,
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
        fc.nat(),
      )
      .map(([sent, changes, cut]) => {
        const word = Uint8Array.from(wordOf(encodeTunnelRequest(sent)));
        for (const [index, byte] of changes) word[index % word.length] = byte;
        return word.subarray(0, 1 + (cut % word.length));
      });
    fc.assert(
      fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 300 })), (word) => {
        decodeTunnelAnswer(word);
        const read = decodeTunnelRequest(word);
        if (read === undefined) return;
        expect(read.route.length).toBeLessThanOrEqual(HOPS_MAX + 1);
        expect(read.index).toBeLessThanOrEqual(HOPS_MAX);
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("a probe of a route", () => {
  it("comes back as it was", () => {
    const probe = fc.record({
      type: fc.constant("probe" as const),
      nonce: fc.nat(),
      route,
      index: fc.integer({ min: 0, max: HOPS_MAX }),
      back: fc.boolean(),
      code: fc.option(fc.constantFrom(...HOP_REFUSALS), { nil: undefined }),
    });
    fc.assert(
      fc.property(probe, (sent) => {
        expect(decodeLinkMessage(encodeLinkMessage(sent))).toEqual(sent);
      }),
    );
  });
});

describe("the entry of links", () => {
  it("comes back as it was", () => {
    const links = fc.oneof(
      fc.constant("all" as const),
      fc.array(fc.record({ peer, rttClass: fc.integer({ min: 0, max: 14 }) }), { maxLength: 20 }),
    );
    const said = fc.record({ router: fc.boolean(), overloaded: fc.boolean(), links });
    fc.assert(
      fc.property(said, (sent) => {
        expect(decodeLinks(encodeLinks(sent))).toEqual(sent);
      }),
    );
  });

  it.each([
    [undefined],
    [null],
    [7],
    [[]],
    [["x", null]],
    [[1, 7]],
    [[1, ["x", 1]]],
    [[1, ["x"]]],
    [{ links: [] }],
  ])("is nothing where it is %j", (value) => expect(decodeLinks(value)).toBeUndefined());
});
