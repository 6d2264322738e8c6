import fc from "fast-check";
import { describe, expect, it } from "vitest";

import { decodeHeaders, encodeHeaders } from "../../src/codec/headers.ts";

describe("headers", () => {
  it("always come back as they were given", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.string({ unit: "binary" }), { maxKeys: 20 }), (headers) => {
        expect({ ...decodeHeaders(encodeHeaders(headers)) }).toEqual({ ...headers });
      }),
    );
  });

  it("never throw, and never touch a prototype, whatever the bytes are", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(Object.getPrototypeOf(decodeHeaders(bytes))).toBe(null);
      }),
    );
    const evil = decodeHeaders(encodeHeaders(JSON.parse('{"__proto__":"x"}') as Record<string, string>));
    expect(evil["__proto__"]).toBe("x");
    expect(({} as Record<string, unknown>)["x"]).toBe(undefined);
  });
});
