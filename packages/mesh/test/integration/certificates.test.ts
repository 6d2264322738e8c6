import type { Ed25519PrivateKey } from "@libp2p/interface";
import { createMesh } from "@klatsch/mesh";
import type { LinkRefusal, Mesh, MeshInit } from "@klatsch/mesh";
import { describe, expect, it, vi } from "vitest";
import { Announcements } from "../../src/admission/announcements.ts";
import { credentialsText } from "../../src/admission/credentials.ts";
import { encodeAdmissionMessage, encodeIntroduction } from "../../src/codec/admission-codec.ts";
import { encodeMemberMessage } from "../../src/codec/link-codec.ts";
import type { MemberRecord } from "../../src/core/messages.ts";
import { DAY_MS, HOUR_MS, read, TestClock } from "../admission/keys.ts";
import { heapBytes } from "../garbage.ts";
import { CertifiedBed } from "./certified-bed.ts";
import { full, next, until } from "./helpers.ts";
import { Stranger } from "./stranger.ts";

/** An introduction by credentials of any kind. */
function introduce(certificate: string): Uint8Array {
  const credentials = Buffer.from(certificate, "base64url");
  return encodeIntroduction({ wallMs: Date.now(), digest: "0", credentials });
}

/** Signs what a member says of itself. */
function sealer(
  self: string,
  mesh: string,
  privateKey: Ed25519PrivateKey,
): (record: MemberRecord) => MemberRecord {
  const announcements = new Announcements({
    ...{ self, mesh, privateKey },
    mayCheck: () => true,
    isCertified: () => true,
    onForged: () => undefined,
  });
  return (record) => announcements.sealed(record, "alive");
}

/** Has somebody dial `a` by an introduction, and tells how `a` took it. */
async function refusedBy(
  a: Mesh,
  key: Ed25519PrivateKey,
  certificate: string,
): Promise<{ readonly code: LinkRefusal; readonly reason: string; readonly served: readonly string[] }> {
  await using stranger = await Stranger.impostor(key, introduce(certificate));
  const told = next(a, "link:refused");
  await stranger.tryEverything(a.addresses()[0] ?? "");
  const { code, reason, peerId } = await told;
  expect(peerId).toBe(stranger.peerId);
  expect(stranger.connections).toBe(0);
  return { code, reason, served: stranger.served };
}

describe("a mesh of certificates", () => {
  it("lets three members in that have certificates, and takes their names from these", async () => {
    await using bed = new CertifiedBed();
    const certified = { cloud: "north", tags: { disk: "fast" }, capabilities: ["queue"] };
    const a = await bed.certified("a", {}, certified);
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    const c = await bed.certified("c", { bootstrap: a.addresses() });
    await full(a, b, c);
    expect(b.member(a.peerId)).toMatchObject({ name: "a", cloud: "north", tags: { disk: "fast" } });
    expect(a.admission).toMatchObject({ mode: "certificate", meshId: b.admission.meshId });
    expect(b.admission.certificate(a.peerId)).toMatchObject({ name: "a", capabilities: ["queue"] });
    expect([b.admission.can(a.peerId, "queue"), b.admission.can(a.peerId, "state:admin")]).toEqual([
      true,
      false,
    ]);
    expect([b.admission.can(c.peerId, "anything"), b.admission.can(c.peerId, "ca")]).toEqual([true, false]);
    expect(b.admission.can("12D3KooWnobody", "queue")).toBe(false);
    await expect(a.setTags({ disk: "slow" })).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  it("never lists a member under another name, cloud or tags than it is certified with, though it signs them", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    await full(a, b);
    const certificate = await bed.certificate("rogue", { tags: { role: "web" } });
    const [peer, privateKey] = [await bed.peer("rogue"), await bed.key("rogue")];
    const mesh = a.admission.meshId ?? "";
    const sealed = sealer(peer, mesh, privateKey);
    await using rogue = await Stranger.impostor(privateKey, introduce(certificate));
    const record = {
      ...{ peer, boot: 1, inc: 0, name: "rogue", cloud: "default" },
      ...{ tags: { role: "web" }, addresses: [] },
    };
    const link = await rogue.link(a, { mesh, record: sealed(record) });
    await until([a, b], () => [a, b].every((other) => other.member(peer) !== undefined));
    const views = [
      { inc: 1, name: "b" },
      { inc: 2, cloud: "x" },
      { inc: 3, tags: {} },
    ].map((lie) => ({ ...sealed({ ...record, ...lie }), status: "alive", ageMs: 0 }) as const);
    link.say(1, ...encodeMemberMessage({ type: "views", views }));
    await until([a], () => a.stats().badFrames === 3);
    // Nobody asked it for a renewal: it is not looked at, and breaks nothing.
    const renewed = { statement: "AAAA", issuer: { statement: "AAAA", delegation: "" } };
    link.say(4, encodeAdmissionMessage({ type: "renewed", ...renewed }));
    // What it may say of itself it says still.
    const moved = { ...sealed({ ...record, inc: 4, addresses: [`/ip4/127.0.0.1/tcp/9/p2p/${peer}`] }) };
    link.say(1, ...encodeMemberMessage({ type: "views", views: [{ ...moved, status: "alive", ageMs: 0 }] }));
    await until([a, b], () => [a, b].every((other) => other.member(peer)?.addresses.length === 1));
    for (const other of [a, b])
      expect(other.member(peer)).toMatchObject({ name: "rogue", cloud: "default", tags: { role: "web" } });
    expect([a.resolve("b"), b.stats().badFrames]).toEqual([b.peerId, 0]);
  });

  it("believes a member that it stops or leaves, by its signature", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    const c = await bed.certified("c", { bootstrap: a.addresses() });
    const d = await bed.certified("d", { bootstrap: a.addresses() });
    await full(a, b, c, d);
    await Promise.all([next(a, "member:stopped"), next(b, "member:stopped"), c.stop()]);
    await Promise.all([next(a, "member:left"), next(b, "member:left"), d.leave()]);
    expect([a, b].map((mesh) => mesh.stats().badFrames)).toEqual([0, 0]);
  });

  it("keeps nothing of a node that has stopped", async () => {
    await using bed = new CertifiedBed();
    const start = async (): Promise<WeakRef<Mesh>[]> => {
      const a = await bed.certified("a");
      const b = await bed.certified("b", { bootstrap: a.addresses() });
      await full(a, b);
      await Promise.all(bed.meshes.splice(0).map((mesh) => mesh.stop()));
      return [new WeakRef(a), new WeakRef(b)];
    };
    const stopped = await start();
    await vi.waitFor(
      () => {
        heapBytes();
        expect(stopped.map((mesh) => mesh.deref()?.stats())).toEqual([undefined, undefined]);
      },
      { timeout: 10_000 },
    );
  });

  it("refuses an ordinary libp2p node and serves it nothing, whoever dials", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    await using stranger = await Stranger.stock();
    const told = next(a, "link:refused");
    await stranger.tryEverything(a.addresses()[0] ?? "");
    expect(await told).toMatchObject({ code: "NO_CERTIFICATE", peerId: undefined });
    const b = await bed.certified("b", { bootstrap: stranger.addresses() });
    expect(await next(b, "link:refused")).toMatchObject({ code: "NO_CERTIFICATE", peerId: stranger.peerId });
    expect([stranger.served, stranger.connections]).toEqual([[], 0]);
    expect(a.stats().linksRefused).toBe(1);
  });

  it("refuses what is expired and not yet valid, showing both clocks, and allows for five minutes", async () => {
    await using bed = new CertifiedBed();
    const clock = new TestClock();
    const root = await bed.authority("root", clock);
    const certificate = await bed.certificate("b", { lifeMs: HOUR_MS }, root);
    const key = await bed.key("b");
    const later = new TestClock(clock.wallMs + HOUR_MS + 6 * 60_000);
    const a = await bed.certified("a", { clock: later });
    const expired = await refusedBy(a, key, certificate);
    expect(expired).toMatchObject({ code: "EXPIRED", served: [] });
    expect(expired.reason).toContain("to 2030-01-01T01:00:00.000Z, our clock says 2030-01-01T01:06:00.000Z");
    expect(expired.reason).toMatch(/the peer's 20\d\d-/);
    later.wallMs = clock.wallMs - 6 * 60_000;
    expect(await refusedBy(a, key, certificate)).toMatchObject({ code: "NOT_YET_VALID", served: [] });
    for (const wallMs of [clock.wallMs - 4 * 60_000, clock.wallMs + HOUR_MS + 4 * 60_000]) {
      later.wallMs = wallMs;
      await using stranger = await Stranger.impostor(key, introduce(certificate));
      await stranger.tryEverything(a.addresses()[0] ?? "");
      expect(stranger.connections).toBe(1);
    }
  });

  it("refuses what another mesh issued, what was changed, and what is somebody else's", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const key = await bed.key("b");
    const foreign = await bed.certificate("b", {}, await bed.authority("other"));
    expect(await refusedBy(a, key, foreign)).toMatchObject({ code: "FOREIGN_MESH", served: [] });
    const good = read(await bed.certificate("b"));
    const other = await bed.certificate("c");
    // Of clocks it tells only where time is the reason.
    expect(await refusedBy(a, key, other)).toMatchObject({
      code: "WRONG_PEER",
      reason: "we refused the peer: the certificate is another peer's",
      served: [],
    });
    // The mesh's genesis with a certificate that another root signed for the same peer.
    const mixed = credentialsText({ ...good, certificate: read(foreign).certificate });
    expect(await refusedBy(a, key, mixed)).toMatchObject({ code: "FOREIGN_MESH", served: [] });
    const envelope = Buffer.from(good.certificate.statement.envelope, "base64url");
    for (let at = 5; at < envelope.length; at += 41) {
      const changed = Buffer.from(envelope);
      changed[at] = (changed[at] ?? 0) ^ 1;
      const statement = { ...good.certificate.statement, envelope: changed.toString("base64url") };
      const tampered = credentialsText({ ...good, certificate: { ...good.certificate, statement } });
      expect(await refusedBy(a, key, tampered)).toMatchObject({ code: "TAMPERED", served: [] });
    }
    await using stranger = await Stranger.impostor(key, Buffer.from("good morning"));
    const told = next(a, "link:refused");
    await stranger.tryEverything(a.addresses()[0] ?? "");
    expect(await told).toMatchObject({ code: "TAMPERED" });
  });

  it("goes on watching over a member's certificate when another is shown in its name", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const c = await bed.certified("c", { bootstrap: a.addresses() }, { capabilities: ["queue"] });
    await full(a, c);
    // By its own key: a stolen one, or c itself, which wants to outlive its certificate on the link it has.
    const shown = await refusedBy(a, await bed.key("c"), await bed.certificate("d"));
    expect(shown.code).toBe("WRONG_PEER");
    expect([a.member(c.peerId)?.linked, a.admission.can(c.peerId, "queue")]).toEqual([true, true]);
  });

  it("closes the links of a revoked member everywhere, and lets it in no more, restarts included", async () => {
    await using bed = new CertifiedBed();
    const root = await bed.authority();
    const certificates = { b: await bed.certificate("b"), c: await bed.certificate("c") };
    const a = await bed.certified("a");
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    const c = await bed.certified("c", { bootstrap: a.addresses() });
    await full(a, b, c);
    const gone = [a, b].map((mesh) => next(mesh, "link:down"));
    const told = next(b, "member:revoked");
    const itself = next(c, "link:refused");
    const failed = next(c, "mesh:failed");
    await a.admission.publish(await root.revoke(c.peerId));
    expect((await Promise.all(gone)).map(({ peerId }) => peerId)).toEqual([c.peerId, c.peerId]);
    expect(await told).toEqual({ subject: c.peerId });
    expect(await itself).toMatchObject({ code: "REVOKED" });
    expect((await failed).error).toMatchObject({ code: "REVOKED" });
    await until([a, b], () => [a, b].every((mesh) => mesh.member(c.peerId)?.status === "left"));
    expect(b.admission.can(c.peerId, "queue")).toBe(false);
    await b.stop();
    const restarted = await bed.mesh("b", { name: undefined, admission: { certificate: certificates.b } });
    expect(await refusedBy(restarted, await bed.key("c"), certificates.c)).toMatchObject({
      code: "REVOKED",
      served: [],
    });
  });

  it("is asked for at the ends of a tunnel too, which ends with a revocation", async () => {
    await using bed = new CertifiedBed();
    const root = await bed.authority();
    const apart = (other: string): Partial<MeshInit> => ({ mayLink: ({ name }) => name !== other });
    const a = await bed.certified("a", apart("c"));
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    const c = await bed.certified(
      "c",
      { ...apart("a"), bootstrap: b.addresses() },
      { capabilities: ["queue"] },
    );
    for (const mesh of [a, c]) mesh.channel("test", { onUp() {}, onDown() {}, onFrame() {} });
    await until([a, b, c], () => a.member(c.peerId)?.status === "alive");
    expect(a.admission.can(c.peerId, "queue")).toBe(false); // They have never met.
    for (let tries = 0; a.stats().tunnels === 0 && tries < 100; tries += 1) {
      await a.connect(c.peerId).catch(async () => await new Promise((resolve) => setTimeout(resolve, 100)));
    }
    expect([a.stats().tunnels, a.member(c.peerId)?.linked]).toEqual([1, false]);
    expect(a.admission.can(c.peerId, "queue")).toBe(true);
    const down = next(a, "tunnel:down");
    await a.admission.publish(await root.revoke(c.peerId));
    expect(await down).toMatchObject({ peerId: c.peerId });
    await until([a, b], () => b.stats().links === 1 && a.stats().tunnels === 0);
    expect(a.admission.can(c.peerId, "queue")).toBe(false);
  });

  it("ends a link when the peer's certificate has run out by more than five minutes", async () => {
    await using bed = new CertifiedBed();
    const clock = new TestClock();
    await bed.authority("root", clock);
    const a = await bed.certified("a", { clock }, { lifeMs: 30 * DAY_MS });
    const b = await bed.certified("b", { clock, bootstrap: a.addresses() }, { lifeMs: HOUR_MS });
    await full(a, b);
    clock.wallMs += HOUR_MS + 4 * 60_000;
    expect(a.admission.can(b.peerId, "queue")).toBe(true);
    clock.wallMs += 2 * 60_000;
    const c = await bed.certified("c", { clock, bootstrap: a.addresses() }); // Any link makes everybody look.
    expect(await next(a, "link:down")).toMatchObject({ peerId: b.peerId, reason: "certificate: EXPIRED" });
    await full(a, c);
  });

  it("refuses to start under another name than the certificate says, or with somebody else's", async () => {
    await using bed = new CertifiedBed();
    const certificate = await bed.certificate("a", { cloud: "north" });
    const dataDir = bed.dataDir("a");
    const admission = { certificate };
    for (const wrong of [{ name: "b" }, { cloud: "south" }, { tags: { disk: "fast" } }, { mesh: "blue" }]) {
      await expect(createMesh({ dataDir, admission, ...wrong })).rejects.toMatchObject({
        code: "INVALID_OPTIONS",
      });
    }
    await expect(createMesh({ dataDir, admission: { certificate, meshId: "0".repeat(64) } })).rejects.toThrow(
      /certificate is of mesh/,
    );
    const other = { certificate: await bed.certificate("b") };
    await expect(createMesh({ dataDir, admission: other })).rejects.toMatchObject({
      code: "CERTIFICATE_INVALID",
    });
    await expect(createMesh({ dataDir, admission: "certificate" })).rejects.toThrow(
      /no certificate is given/,
    );
  });

  it("and an open mesh refuse each other, and say which is which", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    const [atA, atB] = await Promise.all([next(a, "link:refused"), next(b, "link:refused")]);
    expect([atA.code, atB.code]).toEqual(["ADMISSION_MODE", "ADMISSION_MODE"]);
    await until([a, b], () => a.stats().links === 0);
  });
});
