import { generateKeyPair } from "@libp2p/crypto/keys";
import type { Libp2p, Stream } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { createLibp2p } from "libp2p";
import type { Libp2pOptions } from "libp2p";
import { describe, expect, it } from "vitest";
import { meshGate, openMeshEncrypter } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { releaseTimers } from "../../src/host/node.ts";
import { CertifiedBed } from "./certified-bed.ts";
import { Bed, full, next, Probe, until } from "./helpers.ts";
import { Stranger } from "./stranger.ts";

const ECHO = "/app/echo/1";

/** A libp2p node of an application: it echoes. */
async function application(bed: Bed, init: Partial<Libp2pOptions> = {}): Promise<Libp2p> {
  const node = await createLibp2p({
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()],
    connectionEncrypters: [openMeshEncrypter(), noise()],
    streamMuxers: [yamux()],
    connectionManager: { inboundConnectionThreshold: 100 },
    ...init,
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
  it("dials whatever its node can, so no address is refused for its transport", async () => {
    await using bed = new Bed();
    const libp2p = await application(bed);
    const bootstrap = [`/ip4/127.0.0.1/tcp/1/ws/p2p/${(await bed.mesh("a")).peerId}`];
    await bed.mesh("b", { libp2p, bootstrap });
  });

  it("has the node for itself until it stops", async () => {
    await using bed = new Bed();
    const libp2p = await application(bed);
    const first = await bed.mesh("a", { libp2p });
    await expect(bed.mesh("b", { libp2p })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
      message: expect.stringMatching(/^libp2p: another mesh/),
    });
    await first.stop();
    await bed.mesh("b", { libp2p });
  });

  it("ends with a connection whose muxer meets what is no frame, and not with the process", async () => {
    await using bed = new Bed();
    const [nodeA, nodeB] = [await application(bed), await application(bed)];
    const a = await bed.mesh("a", { libp2p: nodeA });
    const b = await bed.mesh("b", { libp2p: nodeB, bootstrap: a.addresses() });
    await full(a, b);
    const down = Promise.all([next(a, "link:down"), next(b, "link:down")]);
    const [connection] = nodeB.getConnections();
    (connection as unknown as { muxer: { send(bytes: Uint8Array): boolean } }).muxer.send(
      Buffer.alloc(12, 9),
    );
    await down;
    await full(a, b);
  });

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
    await expect(bed.mesh("a", { libp2p, admission: "certificate" })).rejects.toThrow(
      /admission\.gate: is needed/u,
    );
    await expect(bed.mesh("b", { admission: { gate: meshGate() } })).rejects.toThrow(/admission\.gate/u);
    const other = await createLibp2p({ privateKey: await generateKeyPair("secp256k1") });
    bed.onEnd(() => other.stop());
    await expect(bed.mesh("a", { libp2p: other })).rejects.toThrow(/Ed25519/u);
    const exposed = await application(bed, { addresses: { listen: ["/ip4/0.0.0.0/tcp/0"] } });
    await expect(bed.mesh("a", { libp2p: exposed })).rejects.toThrow(/admission/u);
    await libp2p.stop();
    await expect(bed.mesh("a", { libp2p })).rejects.toThrow(/started/u);
  });
});

/** A mesh of certificates in a node of the application's that serves others, too. */
async function certifiedGuest(
  bed: CertifiedBed,
  name: string,
  bootstrap: readonly string[],
): Promise<{ readonly node: Libp2p; readonly mesh: Mesh }> {
  const gate = meshGate();
  const node = await application(bed, {
    privateKey: await bed.key(name),
    connectionEncrypters: [...gate.encrypters, noise()],
  });
  const certificate = await bed.certificate(name);
  const admission = { certificate, gate };
  return { node, mesh: await bed.mesh(name, { name: undefined, libp2p: node, bootstrap, admission }) };
}

describe("a mesh of certificates inside a libp2p node of the application", () => {
  it("links with members alone, wherever they run, while the node serves whom it wants", async () => {
    await using bed = new CertifiedBed();
    const own = await bed.certified("own");
    const { node: nodeA, mesh: a } = await certifiedGuest(bed, "a", own.addresses());
    const { mesh: b } = await certifiedGuest(bed, "b", own.addresses());
    await full(own, a, b);
    expect(own.admission.certificate(a.peerId)).toMatchObject({ name: "a" });
    const [atA, atB] = [new Probe(a), new Probe(b)];
    await Promise.all([atA.up(), atB.up()]);
    expect(atB.channel.send(a.peerId, Buffer.from("here"))).toBe(true);
    await atA.until(() => atA.frames.length === 1);

    const before = a.stats().linksRefused;
    await using stranger = await Stranger.stock();
    await stranger.tryEverything(nodeA.getMultiaddrs()[0]?.toString() ?? "");
    expect(a.stats().linksRefused).toBeGreaterThan(before);
    const app = await application(bed, { connectionEncrypters: [noise()] });
    await echo(await app.dialProtocol(nodeA.getMultiaddrs(), ECHO));
    // And where the mesh itself dials one that has no certificate.
    const { mesh: c } = await certifiedGuest(bed, "c", [
      ...app.getMultiaddrs().map(String),
      ...a.addresses(),
    ]);
    await full(own, a, b, c);
    await until([c], () => c.stats().linksRefused > 0);
    expect([stranger.peerId, app.peerId.toString()].map((peer) => a.member(peer))).toEqual([
      undefined,
      undefined,
    ]);
  });

  it("refuses each bad certificate as any mesh does, and lets a revoked member go", async () => {
    await using bed = new CertifiedBed();
    const { node: nodeA, mesh: a } = await certifiedGuest(bed, "a", []);
    const { node: nodeB, mesh: b } = await certifiedGuest(bed, "b", a.addresses());
    await full(a, b);
    const stream = await nodeB.dialProtocol(nodeA.getMultiaddrs(), ECHO);
    const foreign = await bed.certificate("c", {}, await bed.authority("other"));
    const refused = next(a, "link:refused");
    const failed = bed.mesh("c", {
      name: undefined,
      bootstrap: a.addresses(),
      admission: { certificate: foreign },
    });
    expect(await refused).toMatchObject({ code: "FOREIGN_MESH" });
    await (await failed).stop();
    const down = next(a, "link:down");
    const root = await bed.authority();
    await a.admission.publish(await root.revoke(b.peerId));
    expect(await down).toMatchObject({ peerId: b.peerId });
    await until([a], () => a.member(b.peerId)?.status === "left");
    expect(a.admission.can(b.peerId, "queue")).toBe(false);
    stream.abort(new Error("done"));
  });
});
