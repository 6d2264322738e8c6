import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { afterAll, describe, expect, it } from "vitest";
import { createMeshRoot, openAuthority } from "@klatsch/mesh";
import { parseNoticesText } from "../../src/admission/notices.ts";
import { read } from "./keys.ts";

const PARENT: string = mkdtempSync(join(tmpdir(), "klatsch-authority-"));
afterAll(() => rmSync(PARENT, { recursive: true }));

const peer = async (): Promise<string> => peerIdFromPrivateKey(await generateKeyPair("Ed25519")).toString();

describe("an authority", () => {
  it("forgets no revocation of several at once", async () => {
    const directory = join(PARENT, "revoking");
    const root = await createMeshRoot({ directory });
    const peers = await Promise.all(Array.from({ length: 8 }, peer));
    await Promise.all(peers.map((subject) => root.revoke(subject)));
    const again = await openAuthority({ directory });
    for (const authority of [root, again])
      for (const subject of peers)
        expect(() => authority.issueCertificate({ peer: subject, name: "a" })).toThrow(/was revoked/u);
  });

  it("never signs two rotations of one number, and takes all revocations along", async () => {
    const directory = join(PARENT, "rotating");
    const root = await createMeshRoot({ directory });
    const subject = await peer();
    const [, first, second] = await Promise.all([root.revoke(subject), root.rotate(), root.rotate()]);
    const notices = [first, second].map((text) => parseNoticesText(text));
    expect(notices.map((told) => [told?.rotations.length, told?.revocations.length])).toEqual([
      [1, 1],
      [1, 1],
    ]);
    const { rotations } = read(root.issueCertificate({ peer: await peer(), name: "a" }));
    expect(rotations.map(({ body }) => body.seq)).toEqual([1, 2]);
    expect(rotations.map(({ envelope }) => [envelope])).toEqual(notices.map((told) => told?.rotations));
  });

  it("goes on with the root it has if the disk does not take a rotation", async () => {
    const directory = join(PARENT, "failing");
    const root = await createMeshRoot({ directory });
    const before = root.keyId;
    const file = join(directory, "mesh.json");
    const text = readFileSync(file);
    renameSync(file, `${file}.aside`);
    mkdirSync(file); // Nothing can be renamed to it.
    await expect(root.rotate()).rejects.toMatchObject({ code: "STORE_FAILED" });
    rmSync(file, { recursive: true });
    renameSync(`${file}.aside`, file);
    expect([root.keyId, readFileSync(file)]).toEqual([before, text]);
    const { rotations, certificate } = read(root.issueCertificate({ peer: await peer(), name: "a" }));
    expect([rotations, certificate.statement.signer]).toEqual([[], before]);
    await root.rotate();
    expect(root.keyId).not.toBe(before);
  });
});
