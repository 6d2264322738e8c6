import { generateKeyPair } from "@libp2p/crypto/keys";
import { RPC } from "@libp2p/gossipsub/message";
import type { PublicKey } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { describe, expect, it, vi } from "vitest";
import { openMeshEncrypter } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { Bed, full } from "./helpers.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text);

/** What a node hears on a topic, as `author: body`. */
function listen(mesh: Mesh, topic = "news"): string[] {
  const heard: string[] = [];
  mesh.topics.subscribe(topic, ({ from, body }) => {
    heard.push(`${from === mesh.peerId ? "me" : "other"}: ${Buffer.from(body).toString()}`);
  });
  return heard;
}

/** Publishes until all have heard something: before that gossipsub has not met everybody. */
async function warmUp(from: Mesh, ...all: readonly string[][]): Promise<void> {
  await vi.waitFor(
    async () => {
      await from.topics.publish("news", bytes("warm"));
      expect(all.every((heard) => heard.length > 0)).toBe(true);
    },
    { timeout: 15_000, interval: 200 },
  );
  // What is still on its way has to be here before a test looks.
  await from.topics.publish("news", bytes("now"));
  await vi.waitFor(() => expect(all.every((heard) => heard.at(-1)?.endsWith("now"))).toBe(true), 10_000);
  for (const heard of all) heard.length = 0;
}

describe("topics", () => {
  it("reach who has subscribed and is meant, once, the author included", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { cloud: "east", tags: { role: "web" } });
    const b = await bed.mesh("b", { cloud: "west", tags: { role: "db" }, bootstrap: a.addresses() });
    const c = await bed.mesh("c", { cloud: "west", bootstrap: a.addresses() });
    await full(a, b, c);
    const [atA, atB, atC] = [listen(a), listen(b), listen(c)];
    const elsewhere = listen(b, "weather");
    await warmUp(a, atA, atB, atC);
    await a.topics.publish("news", bytes("to all"));
    await a.topics.publish("news", bytes("to the west"), { to: { cloud: "west" } });
    await a.topics.publish("news", bytes("to tagged"), { to: { tag: { key: "role" } } });
    await a.topics.publish("news", bytes("to databases"), { to: { tag: { key: "role", value: "db" } } });
    await a.topics.publish("news", bytes("end"));
    await vi.waitFor(() => {
      expect([atA, atB, atC].map((heard) => heard.toSorted())).toEqual([
        ["me: end", "me: to all", "me: to tagged"],
        ["other: end", "other: to all", "other: to databases", "other: to tagged", "other: to the west"],
        ["other: end", "other: to all", "other: to the west"],
      ]);
    }, 10_000);
    expect(elsewhere).toEqual([]);
  }, 40_000);

  it("are passed on by members that use none themselves, and cost nothing where nobody does", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const relay = await bed.mesh("relay", { bootstrap: a.addresses() });
    await full(a, relay);
    expect(relay.metrics()).not.toContain("gossipsub");
    const heard = listen(a);
    const late = await bed.mesh("late", { bootstrap: relay.addresses() });
    await full(a, relay, late);
    const atLate = listen(late);
    await warmUp(a, heard, atLate);
    expect(relay.metrics()).toContain('protocol="gossipsub"');
  }, 40_000);

  it("are what their bytes were when they were published, all of them, and told to nobody who was unsubscribed before", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const heard: string[] = [];
    a.topics.subscribe("news", ({ body }) => {
      heard.push(Buffer.from(body).toString());
      unsubscribe();
    });
    const unsubscribe = a.topics.subscribe("news", () => heard.push("unsubscribed"));
    class Short extends Uint8Array {
      override get length(): number {
        return 1;
      }
    }
    const body = Short.from(bytes("good"));
    const published = a.topics.publish("news", body);
    body.fill(0);
    await published;
    expect(heard).toEqual(["good"]);
  });

  it("are bounded in size and rate, with an error that says so", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const given = new Uint8Array(8);
    structuredClone(given.buffer, { transfer: [given.buffer] });
    await expect(a.topics.publish("news", given)).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
    await expect(a.topics.publish("news", new Uint8Array(65_537))).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
    });
    await expect(a.topics.publish("", bytes("x"))).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
    const tries = await Promise.allSettled(
      Array.from({ length: 300 }, () => a.topics.publish("news", bytes("x"))),
    );
    const refused = tries.filter(({ status }) => status === "rejected");
    expect(refused.length).toBeGreaterThan(50);
    expect(refused[0]).toMatchObject({ reason: { code: "LIMIT_REACHED", retryable: true } });
    await a.stop();
    await expect(a.topics.publish("news", bytes("x"))).rejects.toMatchObject({ code: "STOPPED" });
  });

  it("are not verified where they cannot be an author's: of thousands said to be, few are looked at", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const libp2p = await createLibp2p({
      addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
      transports: [tcp()],
      connectionEncrypters: [openMeshEncrypter(), noise()],
      streamMuxers: [yamux()],
    });
    bed.onEnd(() => libp2p.stop());
    const evil = await bed.mesh("evil", { libp2p, bootstrap: a.addresses() });
    await full(a, evil);
    const heard = listen(a);
    await warmUp(a, heard); // It has begun.
    const verify = vi.spyOn(libp2p.peerId.publicKey?.constructor.prototype as PublicKey, "verify");
    const stranger = (await generateKeyPair("Ed25519")).publicKey.toMultihash().bytes;
    const refused = a.stats().framesRefused;
    for (const from of [libp2p.peerId.toMultihash().bytes, stranger, stranger.subarray(1)]) {
      const messages = Array.from({ length: 1_000 }, (_, no) => ({
        from,
        data: bytes("x"),
        seqno: Buffer.from(no.toString(16).padStart(16, "0"), "hex"),
        topic: "klatsch/default",
        signature: new Uint8Array(64),
      }));
      const stream = await libp2p.dialProtocol(a.addresses().map(multiaddr), "/meshsub/1.1.0");
      const rpc = RPC.encode({ subscriptions: [], messages });
      stream.send(
        Buffer.concat([
          Buffer.of((rpc.length & 127) | 128, ((rpc.length >> 7) & 127) | 128, rpc.length >> 14),
          rpc,
        ]),
      );
    }
    await vi.waitFor(() => expect(a.stats().framesRefused - refused).toBeGreaterThan(2_300), 10_000);
    expect(verify.mock.calls.length).toBeGreaterThan(100);
    expect(verify.mock.calls.length).toBeLessThan(900);
    expect(heard).toEqual([]);
    await warmUp(a, heard);
  }, 40_000);

  it("are refused inside a libp2p node of the application", async () => {
    await using bed = new Bed();
    const libp2p = await createLibp2p({
      addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
    });
    bed.onEnd(() => libp2p.stop());
    const a = await bed.mesh("a", { libp2p });
    expect(() => a.topics.subscribe("news", () => undefined)).toThrow(/TOPICS_REFUSED|application/u);
    await expect(a.topics.publish("news", bytes("x"))).rejects.toMatchObject({ code: "TOPICS_REFUSED" });
  });
});
