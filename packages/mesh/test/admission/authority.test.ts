import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { afterAll, describe, expect, it } from "vitest";
import { lockDirectory } from "@klatsch/kit/store";
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

  it("makes an admin key that knows of each revocation asked for before, however long that waits", async () => {
    const directory = join(PARENT, "waiting");
    const root = await createMeshRoot({ directory });
    const other = await createMeshRoot({ directory: join(PARENT, "waiting-other") });
    const subject = await peer();
    const unlock = await lockDirectory(join(directory, "lock"));
    const revoking = root.revoke(subject);
    const delegating = root.delegate({ directory: join(PARENT, "waiting-admin") });
    // As long as that takes where nothing is waited for.
    for (const name of ["1", "2"]) await other.delegate({ directory: join(PARENT, `waiting-other-${name}`) });
    await unlock();
    await Promise.all([revoking, delegating]);
    const admin = await openAuthority({ directory: join(PARENT, "waiting-admin") });
    for (const authority of [root, admin])
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
      [2, 1],
    ]);
    const { rotations } = read(root.issueCertificate({ peer: await peer(), name: "a" }));
    expect(rotations.map(({ body }) => body.seq)).toEqual([1, 2]);
    const envelopes = rotations.map(({ envelope }) => envelope);
    expect(notices.map((told) => told?.rotations)).toEqual([envelopes.slice(0, 1), envelopes]);
  });

  it("is used by several at once: none forgets what another revoked, or rotates to a root that has taken over already", async () => {
    const directory = join(PARENT, "shared");
    const authorities = [
      await createMeshRoot({ directory }),
      ...(await Promise.all([1, 2].map(() => openAuthority({ directory })))),
    ];
    const peers = await Promise.all(Array.from({ length: 6 }, peer));
    const texts = await Promise.all([
      ...peers.map((subject, no) => authorities[no % 3]?.revoke(subject)),
      ...authorities.map((authority) => authority.rotate()),
    ]);
    const rotated = texts.slice(peers.length).map((text) => parseNoticesText(text ?? "")?.rotations.at(-1));
    const again = await openAuthority({ directory });
    for (const subject of peers)
      expect(() => again.issueCertificate({ peer: subject, name: "a" })).toThrow(/was revoked/u);
    const { rotations } = read(again.issueCertificate({ peer: await peer(), name: "a" }));
    expect(rotations.map(({ envelope }) => envelope).toSorted()).toEqual(rotated.toSorted());
    expect(rotations).toHaveLength(3);
  });

  it("is made once, however many try at the same time", async () => {
    const directory = join(PARENT, "raced");
    const made = await Promise.allSettled([1, 2, 3].map(() => createMeshRoot({ directory })));
    expect(made.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected", "rejected"]);
    const reasons = made.flatMap((each) => (each.status === "rejected" ? [each.reason as unknown] : []));
    for (const reason of reasons) expect(reason).toMatchObject({ code: "AUTHORITY_INVALID" });
  });

  it("removes what was half written when somebody was killed: it may be a copy of a key", async () => {
    const directory = join(PARENT, "killed");
    const root = await createMeshRoot({ directory });
    const left = ["root-1.key.0123abcd.new", "mesh.json.89abcdef.new"].map((name) => join(directory, name));
    for (const file of left) writeFileSync(file, "");
    await root.revoke(await peer());
    expect(left.map((file) => existsSync(file))).toEqual([false, false]);
  });

  it("prolongs an admin key, whose own revocations stay", async () => {
    const directory = join(PARENT, "admin");
    const root = await createMeshRoot({ directory: join(PARENT, "of-admin") });
    await root.delegate({ directory });
    const admin = await openAuthority({ directory });
    const [byAdmin, byRoot] = [await peer(), await peer()];
    await admin.revoke(byAdmin);
    await root.revoke(byRoot);
    await root.delegate({ directory });
    const prolonged = await openAuthority({ directory });
    expect(prolonged.keyId).toBe(admin.keyId);
    for (const subject of [byAdmin, byRoot])
      expect(() => prolonged.issueCertificate({ peer: subject, name: "a" })).toThrow(/was revoked/u);
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
