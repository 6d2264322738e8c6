import { generateKeyPair } from "@libp2p/crypto/keys";
import type { Libp2p, Stream } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { createLibp2p } from "libp2p";
import { describe, expect, it } from "vitest";
import { openMeshEncrypter } from "@klatsch/mesh";
import { releaseTimers } from "../../src/host/node.ts";
import { Bed, full, next, Probe, until } from "./helpers.ts";

const ECHO = "/app/echo/1";

/** A libp2p node of an application: it echoes. */
async function application(bed: Bed, listen = "/ip4/127.0.0.1/tcp/0"): Promise<Libp2p> {
  const node = await createLibp2p({
    addresses: { listen: [listen] },
    transports: [tcp()],
    connectionEncrypters: [openMeshEncrypter(), noise()],
    streamMuxers: [yamux()],
    connectionManager: { inboundConnectionThreshold: 100 },
  });
  await node.handle(ECHO, (stream) => {
    stream.addEventListener("message", (event) => void stream.send(event.data));
  });
  bed.onEnd(() => node.stop());
  return node;
}

async function echo(stream: Stream): Promise<void> {
  const answered = new Promise<void>((resolve, reject) => {
    stream.addEventListener("message", () => resolve(), { once: true });
    stream.addEventListener("close", () => reject(new Error("the stream closed")), { once: true });
  });
  stream.send(Buffer.from("anybody there?"));
  await answered;
}

describe("a libp2p node", () => {
  it("has the timer that a stop calls off, lest it keep the process alive for a second", async () => {
    expect(releaseTimers(await createLibp2p({ start: false }))).toBe(true);
  });
});

describe("a mesh inside a libp2p node of the application", () => {
  it("links and carries frames beside other protocols, and leaves them and the node alone when it stops", async () => {
    await using bed = new Bed();
    const [nodeA, nodeB] = [await application(bed), await application(bed)];
    const a = await bed.mesh("a", { libp2p: nodeA });
    const b = await bed.mesh("b", { libp2p: nodeB, bootstrap: a.addresses() });
    expect([a.peerId, a.addresses()]).toEqual([nodeA.peerId.toString(), nodeA.getMultiaddrs().map(String)]);
    const own = await bed.mesh("own", { bootstrap: a.addresses() });
    await full(a, b, own);
    const [atA, atOwn] = [new Probe(a), new Probe(own)];
    await Promise.all([atA.up(), atOwn.up()]);
    expect(atOwn.channel.send(a.peerId, Buffer.alloc(1_000_000))).toBe(true);
    await atA.until(() => atA.frames.length === 1);

    // The application uses the connections that the mesh dialled, too.
    const stream = await nodeB.dialProtocol(nodeA.getMultiaddrs(), ECHO);
    await echo(stream);
    const down = next(b, "link:down");
    await a.stop();
    await down;
    await echo(stream);
    expect([nodeA.status, nodeB.status]).toEqual(["started", "started"]);
    expect(nodeA.getProtocols().filter((protocol) => protocol.startsWith("/klatsch/"))).toEqual([]);
    await until([b, own], () => [b, own].every((mesh) => mesh.member(a.peerId)?.status === "stopped"));
    expect(b.member(own.peerId)?.linked).toBe(true);

    const again = await bed.mesh("a", { libp2p: nodeA, bootstrap: b.addresses() });
    await full(again, b, own);
    await echo(stream);
    expect(again.boot).toBeGreaterThan(a.boot);
  });

  it("takes no notice of peers that are no members", async () => {
    await using bed = new Bed();
    const [nodeA, nodeB] = [await application(bed), await application(bed)];
    const a = await bed.mesh("a", { libp2p: nodeA });
    const streams = [
      await nodeB.dialProtocol(nodeA.getMultiaddrs(), ECHO),
      await nodeA.dialProtocol(nodeB.getMultiaddrs(), ECHO),
    ];
    for (const stream of streams) await echo(stream);
    expect(a.stats()).toMatchObject({ connections: 0, badFrames: 0 });
    expect(a.members().length).toBe(1);
  });

  it("turns a peer of another mesh away, and leaves the application's connection with it alone", async () => {
    await using bed = new Bed();
    const [nodeA, nodeB] = [await application(bed), await application(bed)];
    const a = await bed.mesh("a", { libp2p: nodeA });
    const stream = await nodeB.dialProtocol(nodeA.getMultiaddrs(), ECHO);
    const refused = next(a, "link:refused");
    await bed.mesh("b", { libp2p: nodeB, mesh: "other", bootstrap: a.addresses() });
    expect(await refused).toMatchObject({ code: "MESH_NAME" });
    await echo(stream);
  });

  it("asks for a node that is started, has an Ed25519 key, and says itself where it listens", async () => {
    await using bed = new Bed();
    const libp2p = await application(bed);
    await expect(bed.mesh("a", { libp2p, listen: [] })).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
    await expect(bed.mesh("a", { libp2p, admission: "certificate" })).rejects.toThrow(/admission/u);
    const other = await createLibp2p({ privateKey: await generateKeyPair("secp256k1") });
    bed.onEnd(() => other.stop());
    await expect(bed.mesh("a", { libp2p: other })).rejects.toThrow(/Ed25519/u);
    const exposed = await application(bed, "/ip4/0.0.0.0/tcp/0");
    await expect(bed.mesh("a", { libp2p: exposed })).rejects.toThrow(/admission/u);
    await libp2p.stop();
    await expect(bed.mesh("a", { libp2p })).rejects.toThrow(/started/u);
  });
});
