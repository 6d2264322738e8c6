import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { silentLogger } from "@klatsch/kit";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { createLibp2p } from "libp2p";
import { describe, expect, it } from "vitest";
import { openMeshEncrypter } from "@klatsch/mesh";
import type { Mesh, MeshInit } from "@klatsch/mesh";
import { CertifiedBed } from "./certified-bed.ts";
import { Bed, full, next, until } from "./helpers.ts";

/** A port of this machine that is free now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

const at = (port: number): string => `/ip4/127.0.0.1/tcp/${port}`;
const unnamed = (mesh: Mesh): string[] =>
  mesh.addresses().map((address) => address.replace(/\/p2p\/.*$/, ""));
const named = (port: number): string => `/dns4/localhost/tcp/${port}`;

describe("bootstrap addresses without a peer id", () => {
  it("make a mesh of nodes that have the same list, their own address included, whoever is up first", async () => {
    await using bed = new Bed();
    const ports = [await freePort(), await freePort(), await freePort()];
    const bootstrap = ports.map(at);
    const start = (name: string, port = 0): Promise<Mesh> =>
      bed.mesh(name, { listen: [at(port)], bootstrap });
    const a = await start("a", ports[0]);
    const b = await start("b", ports[1]);
    const c = await start("c", ports[2]);
    await full(a, b, c);
    // Nobody was dialled who had come already: each pair has one connection.
    expect([a, b, c].map((mesh) => mesh.stats().links)).toEqual([2, 2, 2]);
  });

  it("may be names, which lead to whoever is found there, and to others than this node", async () => {
    await using bed = new Bed();
    const port = await freePort();
    // It finds itself, alone as it is.
    const a = await bed.mesh("a", { listen: [at(port)], bootstrap: [named(port)] });
    const b = await bed.mesh("b", { bootstrap: [named(port)] });
    await full(a, b);
  });

  it("lead to a node that took the place of another", async () => {
    await using bed = new Bed();
    const port = await freePort();
    const a = await bed.mesh("a", { listen: [at(port)] });
    const b = await bed.mesh("b", { bootstrap: [at(port)] });
    await full(a, b);
    const gone = next(b, "member:left");
    await a.leave();
    await gone;
    const successor = await bed.mesh("successor", { listen: [at(port)] });
    await until([b, successor], () => b.member(successor.peerId)?.linked === true);
  });

  it("lead nowhere where another mesh is", async () => {
    await using bed = new Bed();
    const other = await bed.mesh("other", { mesh: "elsewhere" });
    const b = await bed.mesh("b", { bootstrap: unnamed(other) });
    await next(b, "link:refused");
    expect(b.members()).toHaveLength(1);
  });

  it("do in a mesh of certificates, and refuse who has none", async () => {
    await using bed = new CertifiedBed();
    const stranger = await bed.mesh("stranger");
    const a = await bed.certified("a");
    const b = await bed.certified("b", { bootstrap: [...unnamed(stranger), ...unnamed(a)] });
    await full(a, b);
    expect(b.members()).toHaveLength(2);
  });

  it("do inside a libp2p node of the application", async () => {
    await using bed = new Bed();
    const libp2p = await createLibp2p({
      addresses: { listen: [at(0)] },
      transports: [tcp()],
      connectionEncrypters: [openMeshEncrypter(), noise()],
      streamMuxers: [yamux()],
    });
    bed.onEnd(() => libp2p.stop());
    const a = await bed.mesh("a");
    await full(a, await bed.mesh("b", { libp2p, bootstrap: unnamed(a) }));
  });

  it("are logged while nobody answers there", async () => {
    await using bed = new Bed();
    const address = at(await freePort());
    const warned = Promise.withResolvers<unknown>();
    const warn = (message: string, fields?: Readonly<Record<string, unknown>>): void => {
      if (message === "a bootstrap address does not work") warned.resolve(fields?.["address"]);
    };
    await bed.mesh("b", { logger: { ...silentLogger, warn }, bootstrap: [address] });
    expect(await warned.promise).toBe(address);
  });

  it.each([
    ["/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "ends in no peer id"],
    ["/ip4/127.0.0.1/tcp/0", "cannot be dialled"],
    ["/ip4/127.0.0.1/udp/4001/quic-v1", "cannot be dialled"],
  ])("%s is refused", async (address, reason) => {
    await using bed = new Bed();
    const init: Partial<MeshInit> = { bootstrap: [at(1), address] };
    await expect(bed.mesh("a", init)).rejects.toThrow(`bootstrap[1]: ${reason}`);
  });
});
