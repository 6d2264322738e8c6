import { generateKeyPair } from "@libp2p/crypto/keys";
import { RecordEnvelope } from "@libp2p/peer-record";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openStatement, sealStatement, signingKey } from "../../src/admission/envelope.ts";
import type { StatementKind } from "../../src/codec/statement-codec.ts";
import { DAY_MS } from "./keys.ts";

const key = signingKey(await generateKeyPair("Ed25519"));
const validity = { notBeforeWallMs: 1, notAfterWallMs: 1 + DAY_MS };
const mesh = "a".repeat(64);
const body = {
  mesh,
  peer: key.id,
  name: "n",
  cloud: "c",
  tags: { k: "v", __proto__x: "" },
  capabilities: ["*", "ca"],
  serial: "b".repeat(32),
  ...validity,
};
const certificate = sealStatement("certificate", body, key);

describe("a signed statement", () => {
  it("is what it was, by whoever signed it", () => {
    expect(openStatement("certificate", certificate.envelope)).toEqual({ ...certificate, body });
    const delegation = sealStatement("delegation", { mesh, key: key.id, ...validity }, key);
    expect(openStatement("delegation", delegation.envelope)).toMatchObject({ signer: key.id });
  });

  it("is a libp2p signed envelope to libp2p", async () => {
    const bytes = Buffer.from(certificate.envelope, "base64url");
    const envelope = await RecordEnvelope.openAndCertify(bytes, "klatsch-certificate");
    expect(envelope.publicKey.equals(key.privateKey.publicKey)).toBe(true);
    await expect(RecordEnvelope.openAndCertify(bytes, "klatsch-renewal")).rejects.toThrow();
  });

  it("of one kind never passes for another", () => {
    const kinds: StatementKind[] = ["delegation", "renewal", "revocation", "rotation"];
    for (const kind of kinds) expect(openStatement(kind, certificate.envelope)).toBeUndefined();
  });

  it("never survives a changed bit", () => {
    const bytes = Buffer.from(certificate.envelope, "base64url");
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length * 8 - 1 }), (bit) => {
        const changed = Buffer.from(bytes);
        changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        const found = openStatement("certificate", changed.toString("base64url"));
        // A bit that the encoding does not use may change; what was signed may not.
        if (found !== undefined) expect([found.signer, found.body]).toEqual([key.id, body]);
      }),
      { numRuns: 2_000 },
    );
  });

  it("with a life too long or none at all is not read", () => {
    for (const notAfterWallMs of [1, 0, 1 + 401 * DAY_MS]) {
      const wrong = sealStatement("certificate", { ...body, notAfterWallMs }, key);
      expect(openStatement("certificate", wrong.envelope)).toBeUndefined();
    }
  });
});
