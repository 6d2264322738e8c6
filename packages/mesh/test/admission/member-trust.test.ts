import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { afterAll, describe, expect, it } from "vitest";
import { createMeshRoot, openAuthority } from "@klatsch/mesh";
import { sealStatement, signingKey } from "../../src/admission/envelope.ts";
import type { SigningKey } from "../../src/admission/envelope.ts";
import { MemberTrust } from "../../src/admission/member-trust.ts";
import { parseNoticesText } from "../../src/admission/notices.ts";
import type { Notices } from "../../src/codec/admission-codec.ts";
import { hashOfKey } from "../../src/codec/statement-codec.ts";
import { read } from "./keys.ts";

const PARENT: string = mkdtempSync(join(tmpdir(), "klatsch-trust-"));
afterAll(() => rmSync(PARENT, { recursive: true }));

const key = async (): Promise<SigningKey> => signingKey(await generateKeyPair("Ed25519"));
const [peer, stranger] = await Promise.all([key(), key()]);
const root = await createMeshRoot({ directory: join(PARENT, "root") });
await root.delegate({ directory: join(PARENT, "admin") });
const admin = await openAuthority({ directory: join(PARENT, "admin") });
const own = read(root.issueCertificate({ peer: peer.id, name: "a" }));
const byAdmin = read(admin.issueCertificate({ peer: peer.id, name: "a" }));
const delegation = byAdmin.certificate.delegation?.envelope ?? "";
const now = Date.now();
const open = (): Promise<MemberTrust> => MemberTrust.open(own, join(PARENT, "node"), now);

/** The same with a signature that is none. */
function missigned(envelope: string): string {
  const bytes = Buffer.from(envelope, "base64url");
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return bytes.toString("base64url");
}

function noticesOf(text: string): Notices {
  const notices = parseNoticesText(text);
  if (notices === undefined) throw new Error("no notices");
  return notices;
}

const revocation = sealStatement(
  "revocation",
  { mesh: root.meshId, subject: peer.id, atWallMs: now },
  stranger,
).envelope;
const rotated = { mesh: root.meshId, seq: 1, key: stranger.id, keyHash: hashOfKey(stranger.id) };
const rotation = sealStatement(
  "rotation",
  { ...rotated, nextHash: hashOfKey(peer.id), atWallMs: now, overlapMs: 0 },
  stranger,
).envelope;

describe("what a member tells of keys", () => {
  it.each([
    ["a revocation", { rotations: [], revocations: [{ statement: missigned(revocation), delegation: "" }] }],
    [
      "one behind an admin's delegation",
      { rotations: [], revocations: [{ statement: missigned(revocation), delegation }] },
    ],
    ["a rotation", { rotations: [missigned(rotation)], revocations: [] }],
  ])(
    "is refused without a look at its signature if no key of the mesh says it: %s",
    async (_what, notices) => {
      const trust = await open();
      expect(trust.learn(notices, now)).toMatchObject({ bad: false, refused: ["refused"], revoked: [] });
    },
  );

  it("breaks the protocol if it is signed wrongly in the name of a key of the mesh", async () => {
    for (const text of [await root.revoke(stranger.id), await admin.revoke(stranger.id)]) {
      const trust = await open();
      const [entry] = noticesOf(text).revocations;
      if (entry === undefined) throw new Error("no revocation");
      const forged = { ...entry, statement: missigned(entry.statement) };
      expect(trust.learn({ rotations: [], revocations: [forged] }, now)).toMatchObject({ bad: true });
      expect(trust.learn({ rotations: [], revocations: [entry] }, Date.now())).toMatchObject({
        ...{ bad: false, refused: [], revoked: [{ subject: stranger.id }] },
      });
      expect(trust.learn({ rotations: [], revocations: [forged] }, now)).toMatchObject({
        bad: false,
        revoked: [],
      });
    }
  });

  it("is taken of each next root, and refused of the one before after that", async () => {
    const trust = await open();
    const [first, second] = [await root.rotate({ overlapMs: 0 }), await root.rotate({ overlapMs: 0 })];
    const later = Date.now() + 1;
    for (const text of [first, second])
      expect(trust.learn(noticesOf(text), later).fresh.rotations).toHaveLength(1);
    const text = await admin.revoke(peer.id); // The delegation of a root that counts no more.
    expect(trust.learn(noticesOf(text), later)).toMatchObject({ bad: false, refused: ["refused"] });
  });

  it("is told of once, though a root to come signs it again", async () => {
    const another = await createMeshRoot({ directory: join(PARENT, "another") });
    const certificate = another.issueCertificate({ peer: peer.id, name: "a" });
    const trust = await MemberTrust.open(read(certificate), join(PARENT, "node"), now);
    const subject = (await key()).id;
    const first = trust.learn(noticesOf(await another.revoke(subject)), Date.now());
    expect(first.revoked).toMatchObject([{ subject }]);
    const again = trust.learn(noticesOf(await another.rotate()), Date.now());
    expect(again).toMatchObject({ revoked: [], refused: [] });
    expect(again.fresh.revocations).toHaveLength(1); // Others are passed it on nevertheless.
  });
});
