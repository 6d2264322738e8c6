import { once } from "node:events";
import { statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { silentLogger } from "@klatsch/kit";
import type { Instant, Logger } from "@klatsch/kit";
import { generateKeyPair } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";
import { createMeshRoot, openAuthority, startEnrolment } from "@klatsch/mesh";
import type { Enrolment, EnrolmentInit, MeshAuthority } from "@klatsch/mesh";
import { createLibp2p } from "libp2p";
import { describe, expect, it, vi } from "vitest";
import { newNonce, proofOf } from "../../src/admission/enrol-code.ts";
import { enrolEncrypter } from "../../src/admission/enrol-dialog.ts";
import type { EnrolExchange } from "../../src/admission/enrol-dialog.ts";
import type { EnrolMessage } from "../../src/codec/enrol-codec.ts";
import { CODE_LIFE_MS } from "../../src/core/trust/enrol-window.ts";
import { conduits } from "../../src/host/conduits.ts";
import { TestClock } from "../admission/keys.ts";
import { Bed, full } from "./helpers.ts";
import { Stranger } from "./stranger.ts";

/** A root, and nodes that wait to be adopted. */
class EnrolBed extends Bed {
  readonly codes: string[] = [];

  async root(name = "root"): Promise<MeshAuthority> {
    return await createMeshRoot({ directory: join(this.directory, name) });
  }

  async waiting(name: string, init: Partial<EnrolmentInit> = {}): Promise<Enrolment> {
    const enrolment = await startEnrolment({
      dataDir: this.dataDir(name),
      listen: ["/ip4/127.0.0.1/tcp/0"],
      onCode: (code) => void this.codes.push(code),
      wrongPauseMs: 0,
      ...init,
    });
    this.onEnd(() => enrolment.stop());
    return enrolment;
  }

  get code(): string {
    return this.codes.at(-1) ?? "";
  }
}

/** Talks to a waiting node by hand. Ends when the dialog has, in whichever way. */
async function dialogWith(
  address: string,
  privateKey: Ed25519PrivateKey,
  dialog: (exchange: EnrolExchange) => Promise<void>,
): Promise<void> {
  const node = await createLibp2p({
    privateKey,
    transports: conduits(),
    connectionEncrypters: [enrolEncrypter(dialog)],
    connectionMonitor: { enabled: false },
  });
  await node.dial(multiaddr(address)).catch(() => undefined);
  await node.stop();
}

function addressOf(enrolment: Enrolment): string {
  return enrolment.addresses()[0] ?? "";
}

const WRONG = "00000-00000-00000";

describe("enrolment", () => {
  it("makes a member of a fresh node by address and code", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const a = await bed.waiting("a");
    const adopted = await root.adopt({ address: addressOf(a), code: bed.code.toLowerCase(), name: "a" });
    expect(adopted.peerId).toBe(a.peerId);
    expect(await a.adopted).toMatchObject({ meshId: root.meshId, adopter: root.keyId });
    const meshA = await bed.mesh("a", { name: undefined, admission: "certificate" });
    const b = await bed.waiting("b");
    const configuration = { bootstrap: meshA.addresses() };
    await root.adopt({ address: addressOf(b), code: bed.code, name: "b", cloud: "north", configuration });
    expect(await b.adopted).toMatchObject({ configuration });
    const meshB = await bed.mesh("b", { name: undefined, admission: "certificate", ...configuration });
    await full(meshA, meshB);
    expect(meshA.member(b.peerId)).toMatchObject({ name: "b", cloud: "north" });
    for (const file of ["adoption", "identity.key"])
      expect(statSync(join(bed.dataDir("a"), file)).mode & 0o777).toBe(0o600);
  });

  it("refuses a wrong code, and shows another after five", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const a = await bed.waiting("a");
    const address = addressOf(a);
    const first = bed.code;
    for (let attempt = 0; attempt < 5; attempt += 1) {
      expect(bed.codes).toEqual([first]);
      await expect(root.adopt({ address, code: WRONG, name: "a" })).rejects.toMatchObject({
        code: "ENROL_REFUSED",
        outcome: "none",
      });
    }
    expect(bed.codes.length).toBe(2);
    await expect(root.adopt({ address, code: first, name: "a" })).rejects.toThrow(/wrong or has run out/);
    await root.adopt({ address, code: bed.code, name: "a" });
  });

  it("refuses a code older than ten minutes", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const clock = new TestClock(Date.now());
    const startedMs = performance.now();
    let passedMs = 0;
    const a = await bed.waiting("a", {
      clock: { now: () => ({ monoMs: startedMs + passedMs, wallMs: clock.wallMs }) },
    });
    const first = bed.code;
    passedMs = CODE_LIFE_MS;
    const adopting = root.adopt({ address: addressOf(a), code: first, name: "a" });
    await expect(adopting).rejects.toThrow(/wrong or has run out/);
    expect(bed.codes.length).toBe(2);
    await root.adopt({ address: addressOf(a), code: bed.code, name: "a" });
  });

  it.runIf(process.platform === "linux")(
    "keeps no adopter out who comes from elsewhere than those that never come to the point",
    async () => {
      await using bed = new EnrolBed();
      const root = await bed.root();
      const a = await bed.waiting("a");
      const port = Number(addressOf(a).split("/")[4]);
      const dialled = Array.from({ length: 16 }, async () => {
        const socket = connect({ port, host: "127.0.0.1", localAddress: "127.0.0.2" }).on(
          "error",
          () => undefined,
        );
        bed.onEnd(() => void socket.destroy());
        socket.write("\u0013/multistream/1.0.0\n");
        await once(socket, "data"); // It is let in, and says no more.
      });
      await Promise.all(dialled);
      await root.adopt({ address: addressOf(a), code: bed.code, name: "a" });
    },
  );

  it("is closed by the first adopter for everybody else, restarts included", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const other = await bed.root("other");
    const a = await bed.waiting("a");
    const { code } = bed;
    await root.adopt({ address: addressOf(a), code, name: "a" });
    await a.adopted;
    const again = await bed.waiting("a"); // Answers its adopter for a while.
    expect(bed.codes).toEqual([code]);
    for (const authority of [other, root]) {
      await expect(authority.adopt({ address: addressOf(again), code, name: "a" })).rejects.toMatchObject({
        code: "ALREADY_ADOPTED",
      });
    }
    await again.stop();
  });

  it("serves a stranger nothing, and pins the peer id in the address", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const a = await bed.waiting("a");
    const b = await bed.waiting("b");
    await using stranger = await Stranger.stock();
    await stranger.tryEverything(addressOf(a));
    expect([stranger.served, stranger.connections]).toEqual([[], 0]);
    const address = addressOf(b).replace(b.peerId, a.peerId);
    await expect(root.adopt({ address, code: bed.code, name: "b" })).rejects.toMatchObject({
      code: "ENROL_REFUSED",
    });
    expect(bed.codes.length).toBe(2);
    for (const wrong of [{ address: "/ip4/127.0.0.1/tcp/1" }, { code: "short" }, { name: "a b" }]) {
      await expect(
        root.adopt({ address: addressOf(a), code: bed.code, name: "a", ...wrong }),
      ).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
    }
  });

  it("takes no proof twice, and nothing without one", async () => {
    await using bed = new EnrolBed();
    const mesh = "a".repeat(64);
    const a = await bed.waiting("a");
    const key = await generateKeyPair("Ed25519");
    const adopter = peerIdFromPrivateKey(key).toString();
    const nonce = newNonce();
    let recorded = "";
    await dialogWith(addressOf(a), key, async ({ say, hear }) => {
      await say({ type: "begin", mesh, nonce });
      const challenge = await hear();
      if (challenge.type !== "challenge") return;
      const nonces = [nonce, challenge.nonce] as const;
      recorded = proofOf(bed.code, { by: "adopter", adopter, node: a.peerId, mesh, nonces });
      await say({ type: "proof", mac: recorded });
      expect(await hear()).toMatchObject({ type: "proof" }); // And goes without granting.
    });
    const answers: EnrolMessage[] = [];
    await dialogWith(addressOf(a), key, async ({ say, hear }) => {
      await say({ type: "begin", mesh, nonce });
      await hear();
      await say({ type: "proof", mac: recorded });
      answers.push(await hear());
    });
    for (const word of [
      { type: "grant", credentials: "AAAA", configuration: "{}" },
      { type: "done" },
      { type: "proof", mac: recorded },
    ] as const) {
      await dialogWith(addressOf(a), key, async ({ say, hear }) => {
        await say(word);
        answers.push(await hear());
      });
    }
    expect(answers).toEqual([{ type: "refused", code: "WRONG_CODE" }]);
  });

  it("gives an adopter whose ack was lost the same one, for the same certificate only", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const a = await bed.waiting("a");
    const key = await generateKeyPair("Ed25519");
    const adopter = peerIdFromPrivateKey(key).toString();
    const issue = (): string => root.issueCertificate({ peer: a.peerId, name: "a" });
    const [certificate, another] = [issue(), issue()];
    const answers: EnrolMessage[] = [];
    await dialogWith(addressOf(a), key, async ({ say, hear }) => {
      const nonce = newNonce();
      await say({ type: "begin", mesh: root.meshId, nonce });
      const challenge = await hear();
      if (challenge.type !== "challenge") return;
      const nonces = [nonce, challenge.nonce] as const;
      const proven = { by: "adopter", adopter, node: a.peerId, mesh: root.meshId, nonces } as const;
      await say({ type: "proof", mac: proofOf(bed.code, proven) });
      await hear();
      await say({ type: "grant", credentials: certificate, configuration: "{}" });
      answers.push(await hear()); // And goes without a word.
    });
    for (const credentials of [certificate, another]) {
      await dialogWith(addressOf(a), key, async ({ say, hear }) => {
        await say({ type: "begin", mesh: root.meshId, nonce: newNonce() });
        expect(await hear()).toMatchObject({ type: "adopted" });
        await say({ type: "grant", credentials, configuration: "{}" });
        answers.push(await hear());
      });
    }
    await dialogWith(addressOf(a), await generateKeyPair("Ed25519"), async ({ say, hear }) => {
      await say({ type: "begin", mesh: root.meshId, nonce: newNonce() });
      answers.push(await hear());
    });
    const refused = { type: "refused", code: "ALREADY_ADOPTED" };
    expect(answers).toMatchObject([{ type: "ack" }, answers[0], refused, refused]);
  });

  it("plans nothing more once it was stopped, though an adopter is there", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const startedMs = performance.now();
    let stopsNow = false;
    let stopped: Promise<void> | undefined;
    const now = (): Instant => {
      if (stopsNow) stopped ??= a.stop();
      return { monoMs: startedMs + (stopsNow ? CODE_LIFE_MS : 0), wallMs: Date.now() };
    };
    const a = await bed.waiting("a", { clock: { now } });
    const planned = vi.spyOn(globalThis, "setTimeout");
    stopsNow = true; // While a proof for a code is judged that has run out.
    const adopting = root.adopt({ address: addressOf(a), code: bed.code, name: "a" });
    await expect(adopting).rejects.toMatchObject({ code: "ENROL_REFUSED" });
    await stopped;
    const delays = planned.mock.calls.map(([, delayMs]) => delayMs ?? 0);
    planned.mockRestore();
    expect(bed.codes.length).toBe(2);
    expect(delays).not.toContain(CODE_LIFE_MS);
  });

  it("has its data directory for itself, as a node has", async () => {
    await using bed = new EnrolBed();
    const first = await bed.waiting("a");
    const locked = { code: "STORE_LOCKED" };
    await expect(bed.waiting("a")).rejects.toMatchObject(locked);
    await expect(bed.mesh("a")).rejects.toMatchObject(locked);
    await first.stop();
    await (await bed.waiting("a")).stop();
    const mesh = await bed.mesh("a");
    await expect(bed.waiting("a")).rejects.toMatchObject(locked);
    await mesh.stop();
    await bed.waiting("a");
  });

  it("logs what an async onCode rejects with", async () => {
    await using bed = new EnrolBed();
    const error = new Error("no terminal");
    const logged: unknown[] = [];
    const logger: Logger = { ...silentLogger, error: (_message, fields) => logged.push(fields?.["err"]) };
    const rejects = (): unknown => Promise.reject(error);
    await bed.waiting("a", { logger, onCode: rejects });
    await new Promise(setImmediate);
    expect(logged).toEqual([error]);
  });

  it("is done by an admin key too, within what the root gave it", async () => {
    await using bed = new EnrolBed();
    const root = await bed.root();
    const directory = join(bed.directory, "admin");
    await root.delegate({ directory, lifeMs: 7 * 24 * 60 * 60 * 1_000 });
    const admin = await openAuthority({ directory });
    expect([admin.role, admin.meshId]).toEqual(["admin", root.meshId]);
    const a = await bed.waiting("a");
    await admin.adopt({ address: addressOf(a), code: bed.code, name: "a" });
    await a.adopted;
    const meshA = await bed.mesh("a", { name: undefined, admission: "certificate" });
    const lifeMs = (meshA.admission.certificate(a.peerId)?.notAfterWallMs ?? 0) - Date.now();
    expect(lifeMs).toBeLessThanOrEqual(7 * 24 * 60 * 60 * 1_000);
    await expect(admin.delegate({ directory: join(bed.directory, "x") })).rejects.toMatchObject({
      code: "AUTHORITY_INVALID",
    });
  });
});
