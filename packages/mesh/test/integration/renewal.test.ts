import { join } from "node:path";
import { openAuthority } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { DAY_MS, HOUR_MS, TestClock } from "../admission/keys.ts";
import { CertifiedBed } from "./certified-bed.ts";
import { full, next, until } from "./helpers.ts";

describe("a certificate", () => {
  it("is renewed by a member with ca, kept on disk, and told to everybody", async () => {
    await using bed = new CertifiedBed();
    const clock = new TestClock();
    const root = await bed.authority("root", clock);
    const certificate = await bed.certificate("b", { cloud: "north" }, root);
    const ca = await bed.certified("ca", { clock }, { capabilities: ["ca"], lifeMs: 400 * DAY_MS });
    const a = await bed.certified("a", { clock, bootstrap: ca.addresses() });
    await full(ca, a);
    clock.wallMs += 75 * DAY_MS; // Beyond 2/3 of 90 days, whatever the jitter.
    const init = { name: undefined, clock, bootstrap: ca.addresses(), admission: { certificate } };
    const b = await bed.mesh("b", init);
    const expiring = next(b, "certificate:expiring");
    const renewed = await next(b, "certificate:renewed");
    expect(await expiring).toMatchObject({ daysLeft: 30 });
    expect(renewed.notAfterWallMs).toBe(Math.floor(clock.wallMs) + 90 * DAY_MS);
    await full(ca, a, b);
    await until([a], () => a.admission.certificate(b.peerId)?.notAfterWallMs === renewed.notAfterWallMs);
    await b.stop();
    clock.wallMs += 30 * DAY_MS; // The certificate alone is over, and so is that of a.
    const again = await bed.mesh("b", init);
    await until([again, ca], () => again.member(ca.peerId)?.linked === true);
    expect(ca.admission.certificate(b.peerId)).toMatchObject({
      cloud: "north",
      notAfterWallMs: renewed.notAfterWallMs,
    });
    expect(a.admission.can(b.peerId, "queue")).toBe(true);
  });

  it("of the old root ends with a rotation without overlap, one of the new root does not", async () => {
    await using bed = new CertifiedBed();
    const root = await bed.authority();
    const a = await bed.certified("a");
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    await full(a, b);
    const text = await root.rotate({ overlapMs: HOUR_MS });
    const under = await openAuthority({ directory: join(bed.directory, "authority-root") });
    expect(under.meshId).toBe(root.meshId);
    const certificate = await bed.certificate("c", {}, under);
    // Nobody was told but by the certificate itself.
    const c = await bed.mesh("c", {
      name: undefined,
      bootstrap: a.addresses(),
      admission: { certificate },
    });
    await full(a, b, c);
    await a.admission.publish(text); // Known by now: no harm.
    const down = next(c, "link:down");
    await c.admission.publish(await under.rotate({ overlapMs: 0 }));
    expect((await down).reason).toBe("certificate: UNTRUSTED_ISSUER");
    await until([a, b, c], () => [a, b, c].every((mesh) => mesh.stats().links === 0));
    await expect(a.admission.publish("AAAA")).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
    const foreign = await (await bed.authority("other")).revoke(a.peerId);
    await expect(a.admission.publish(foreign)).rejects.toThrow(/is it of this mesh/);
  });

  it("decides who may write which shared entry", async () => {
    await using bed = new CertifiedBed();
    const sharedPrefixes = { "queue/": "queue", "free/": "any" };
    const a = await bed.certified("a", { sharedPrefixes }, { capabilities: ["queue"] });
    const b = await bed.certified(
      "b",
      { sharedPrefixes, bootstrap: a.addresses() },
      { capabilities: ["any"] },
    );
    await full(a, b);
    await a.state.shared.set("queue/jobs", 1);
    await until([a, b], () => b.state.shared.get("queue/jobs") === 1);
    await expect(b.state.shared.set("queue/jobs", 2)).rejects.toThrow();
    await b.state.shared.set("free/x", 3);
    await until([a, b], () => a.state.shared.get("free/x") === 3);
    expect(a.state.shared.get("queue/jobs")).toBe(1);
  });

  it.each(["/ip4/127.0.0.1/tcp/0", "/unix/SOCKET", "/memory/certified"])(
    "is asked for over %s",
    async (address) => {
      await using bed = new CertifiedBed();
      const listen = [address.replace("SOCKET", encodeURIComponent(join(bed.directory, "s")))];
      const a = await bed.certified("a", { listen });
      const b = await bed.certified("b", { bootstrap: a.addresses() });
      await full(a, b);
      const stranger = await bed.mesh("c", { bootstrap: a.addresses() });
      expect(await next(stranger, "link:refused")).toMatchObject({
        code: "ADMISSION_MODE",
        peerId: a.peerId,
      });
    },
  );
});
