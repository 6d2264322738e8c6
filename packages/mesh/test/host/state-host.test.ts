import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { silentLogger, systemClock, systemRandom } from "@klatsch/kit";
import type { Instant } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { STATE_TIMES } from "../../src/core/state/state-types.ts";
import { Signing } from "../../src/host/signing.ts";
import { StateHost } from "../../src/host/state-host.ts";
import type { StateHostInit } from "../../src/host/state-host.ts";

type Commit = StateHostInit["store"]["commit"];

async function hostWith(
  commit: Commit,
  init: Partial<Pick<StateHostInit, "clock" | "send">> = {},
): Promise<{ readonly host: StateHost; readonly self: string; readonly failed: Promise<Error> }> {
  const privateKey = await generateKeyPair("Ed25519");
  const self = peerIdFromPrivateKey(privateKey).toString();
  const failed = Promise.withResolvers<Error>();
  const host = new StateHost({
    ...{ self, boot: 1, mesh: "m", privateKey },
    ...{ times: STATE_TIMES, clock: systemClock, random: systemRandom, logger: silentLogger },
    store: { entries: [], agreedAtMs: undefined, commit, close: () => Promise.resolve() },
    policy: { mayWrite: () => true, credential: () => undefined },
    counters: { stateRefused: 0 },
    send: () => true,
    disconnect: () => undefined,
    raiseBoot: () => undefined,
    onFailed: (error) => failed.resolve(error),
    ...init,
  });
  return { host, self, failed: failed.promise };
}

describe("gossip state on a disk that fails", () => {
  it("confirms nothing, stops, and says why", async () => {
    const { host, failed } = await hostWith((_records, done) =>
      setImmediate(() => done(new Error("disk full"))),
    );
    const write = host.shared.set("k", 1);
    const rejected = expect(write).rejects.toMatchObject({ code: "STOPPED", outcome: "unknown" });
    expect(await failed).toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("disk full"),
    });
    await host.stop();
    await rejected;
  });

  it("confirms a write only once it is on disk, and writes what waits before it stops", async () => {
    let sync: () => void = () => undefined;
    const { host } = await hostWith((_records, done) => (sync = () => done(undefined)));
    let confirmed = false;
    const write = host.shared.set("k", 1).then(() => (confirmed = true));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([confirmed, host.shared.get("k")]).toEqual([false, 1]);
    const stopped = host.stop();
    await expect(host.shared.set("l", 1)).rejects.toMatchObject({ code: "STOPPED" });
    sync();
    await Promise.all([write, stopped]);
    expect(confirmed).toBe(true);
  });
});

describe("shared entries by the hundred", () => {
  it("are checked few at a time where that takes long: nothing else of the process would go on meanwhile", async () => {
    const written: Uint8Array[] = [];
    const atOnce: Commit = (_records, done) => setImmediate(() => done(undefined));
    const send = (_to: string, payload: Uint8Array): boolean => written.push(payload) > 0;
    const writer = await hostWith(atOnce, { send });
    let lateMs = 0;
    // Whoever looks finds that the time of a run is over.
    const now = (): Instant => ({ ...systemClock.now(), monoMs: systemClock.now().monoMs + (lateMs += 25) });
    const reader = await hostWith(atOnce, { clock: { now } });
    writer.host.enter({ type: "linkUp", peer: reader.self, aheadMs: 0 });
    reader.host.enter({ type: "linkUp", peer: writer.self, aheadMs: 0 });
    const keys = Array.from({ length: 600 }, (_, no) => `k${no}`);
    await Promise.all(keys.map((key) => writer.host.shared.set(key, 1)));
    for (const payload of written) expect(reader.host.receive(writer.self, payload)).toBe(true);
    const counts = [0];
    while ((counts.at(-1) ?? 0) < keys.length) {
      await new Promise(setImmediate);
      counts.push(reader.host.shared.entries().length);
    }
    const atATime = counts.slice(1).map((count, turn) => count - (counts[turn] ?? 0));
    expect(Math.max(...atATime)).toBeLessThanOrEqual(64);
    await Promise.all([writer.host.stop(), reader.host.stop()]);
  });
});

describe("Signing", () => {
  it("verifies what the owner of a peer id signed, and nothing else", async () => {
    const [a, b] = [await generateKeyPair("Ed25519"), await generateKeyPair("Ed25519")];
    const [peerA, peerB] = [a, b].map((key) => peerIdFromPrivateKey(key).toString());
    const bytes = Buffer.from("klatsch");
    const signature = new Signing(a).sign(bytes);
    const other = new Signing(b);
    expect(other.verify(peerA ?? "", bytes, signature)).toBe(true);
    expect(other.verify(peerB ?? "", bytes, signature)).toBe(false);
    expect(other.verify(peerA ?? "", Buffer.from("Klatsch"), signature)).toBe(false);
    expect(other.verify("nobody", bytes, signature)).toBe(false);
    // What libp2p signs with the same key is the same.
    expect(Buffer.from(await a.sign(bytes))).toEqual(Buffer.from(signature));
  });
});
