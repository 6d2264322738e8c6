import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { SeededRandom } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { openCredentials } from "../../src/admission/credentials.ts";
import { decodeHandshake, encodeDecision, encodeIntroduction } from "../../src/codec/admission-codec.ts";
import { CAMPAIGN_MS, expectNoGrowth, heapBytes, isCampaign, mangled, tries } from "../garbage.ts";
import { CertifiedBed } from "./certified-bed.ts";
import { full, until } from "./helpers.ts";
import { Stranger } from "./stranger.ts";

const random = new SeededRandom(11);

describe("garbage", () => {
  it(
    "before, in and after the handshake, 10,000 times, gets nobody in and harms nobody",
    { timeout: isCampaign ? CAMPAIGN_MS : 120_000 },
    async () => {
      await using bed = new CertifiedBed();
      const unhandled: unknown[] = [];
      const onUnhandled = (error: unknown): void => void unhandled.push(error);
      process.on("unhandledRejection", onUnhandled);
      bed.onEnd(() => void process.off("unhandledRejection", onUnhandled));
      const a = await bed.certified("a", { inboundPerSecondMax: 100_000 });
      const b = await bed.certified("b", { bootstrap: a.addresses() });
      await full(a, b);

      const [address = ""] = a.addresses();
      const port = Number(address.split("/")[4]);
      for (let round = 0; round < tries(1_000) / 25; round += 1) {
        await Promise.all(
          Array.from({ length: 25 }, async () => {
            const socket = connect(port, "127.0.0.1").on("error", () => undefined);
            socket.end(
              Buffer.concat([Buffer.from("\u0013/multistream/1.0.0\n"), mangled(random, [randomBytes(64)])]),
            );
            socket.resume();
            await new Promise((resolve) => socket.on("close", resolve));
          }),
        );
      }

      const certificate = await bed.certificate("c"); // Good, but not for those who show it.
      const credentials = Buffer.from(certificate, "base64url");
      const notices = { rotations: [], revocations: [] };
      const good = [
        encodeIntroduction({ wallMs: Date.now(), digest: "0", credentials }),
        encodeDecision({ refusal: undefined, detail: "", wallMs: 0, notices }),
      ];
      const key = await generateKeyPair("Ed25519");
      const before = a.stats().linksRefused;
      const impostors = tries(200, 0.05);
      const heap = heapBytes();
      for (let round = 0; round < impostors; round += 1) {
        await using stranger = await Stranger.impostor(key, mangled(random, good));
        await stranger.tryEverything(address);
        expect(stranger.connections).toBe(0);
      }
      expect(a.stats().linksRefused - before).toBeGreaterThan(impostors * 0.75);

      // The same without Noise around it, which is what takes the time.
      const mesh = a.admission.meshId;
      for (let round = 0; round < 8_800; round += 1) {
        const message = decodeHandshake(mangled(random, good));
        if (message?.type !== "introduction") continue;
        const found = openCredentials(message.credentials, mesh);
        if (found === undefined || found === "foreign") continue;
        expect(found.certificate.statement.body.name).toBe("c"); // Nothing that was signed can have changed.
      }
      expectNoGrowth("a node in the handshake", heap);
      expect([a.member(b.peerId)?.linked, a.stats().links, unhandled]).toEqual([true, 1, []]);
    },
  );
});

describe("a stranger who never comes to the point", () => {
  it.runIf(process.platform === "linux")("keeps nobody out who comes from elsewhere", async () => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const port = Number(a.addresses()[0]?.split("/")[4]);
    const silent = new Set<Socket>();
    const dial = (): void => {
      const socket = connect({ port, host: "127.0.0.1", localAddress: "127.0.0.2" });
      silent.add(socket);
      socket.on("error", () => undefined).on("close", () => void silent.delete(socket));
    };
    // Within the rate at which one host is let in, 200 a second: whoever is above it is cut off at once.
    const beganMs = performance.now();
    let dialed = 0;
    const refill = setInterval(() => {
      for (; dialed < 0.19 * (performance.now() - beganMs); dialed += 1) dial();
    }, 50);
    bed.onEnd(() => {
      clearInterval(refill);
      for (const socket of silent) socket.destroy();
    });
    await until([a], () => silent.size > 300, 20_000);
    const b = await bed.certified("b", { bootstrap: a.addresses() });
    await b.waitFor({ members: 2, timeoutMs: 10_000 });
    expect(b.stats().dialsFailed).toBe(0);
  });

  it.each([
    ["asks what there is, again and again", Buffer.from("\u0003ls\n".repeat(5_000))],
    ["says nothing, again and again", Buffer.from("\u0001\n".repeat(5_000))],
    ["names a length that has no end", Buffer.alloc(64 * 1_024, 0xff)],
  ])("%s, and is cut off after a few words", async (_what, bytes) => {
    await using bed = new CertifiedBed();
    const a = await bed.certified("a");
    const port = Number(a.addresses()[0]?.split("/")[4]);
    const socket = connect(port, "127.0.0.1").on("error", () => undefined);
    let heard = 0;
    socket.on("data", (data: Buffer) => (heard += data.length));
    socket.write(Buffer.concat([Buffer.from("\u0013/multistream/1.0.0\n"), bytes]));
    await new Promise((resolve) => socket.on("close", resolve));
    expect(heard).toBeLessThan(2_000);
  });
});
