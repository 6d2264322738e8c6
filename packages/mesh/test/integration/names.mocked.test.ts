import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { openMeshEncrypter } from "@klatsch/mesh";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { createLibp2p } from "libp2p";
import { describe, expect, it, vi } from "vitest";
import { Bed, full } from "./helpers.ts";

const resolver = vi.hoisted(() => {
  const hosts: { address: string; family: number }[] = [];
  return { hosts, wait: Promise.resolve() };
});
vi.mock("node:dns/promises", () => ({
  lookup: async () => {
    await resolver.wait;
    return [...resolver.hosts];
  },
}));

const host = (no: number): string => `127.0.0.${no}`;

describe("one name of several hosts", () => {
  it("makes one mesh, although those found first are linked with each other alone", async () => {
    await using bed = new Bed();
    const server = createServer().listen(0, host(1));
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    const bootstrap = [`/dns4/klatsch.example/tcp/${port}`];
    const at = (no: number): string => `/ip4/${host(no)}/tcp/${port}`;
    const a = await bed.mesh("a", { listen: [at(1)] });
    const b = await bed.mesh("b", { listen: [at(2)], bootstrap: [at(1)] });
    const c = await bed.mesh("c", { listen: [at(3)] });
    await full(a, b);
    resolver.hosts.splice(0, Infinity, ...[3, 1, 4, 2].map((no) => ({ address: host(no), family: 4 })));
    const d = await bed.mesh("d", { listen: [at(4)], bootstrap });
    await full(a, b, c, d);
    expect([a, b, c, d].map((mesh) => mesh.stats().links)).toEqual([3, 3, 3, 3]);
  });

  it("is dialled no more by the application's node once the mesh in it has stopped", async () => {
    await using bed = new Bed();
    const libp2p = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [openMeshEncrypter()],
      streamMuxers: [yamux()],
    });
    bed.onEnd(() => libp2p.stop());
    const dial = vi.spyOn(libp2p, "dial");
    const answered = Promise.withResolvers<void>();
    resolver.wait = answered.promise;
    resolver.hosts.splice(0, Infinity, { address: host(1), family: 4 });
    const mesh = await bed.mesh("a", { libp2p, bootstrap: ["/dns4/klatsch.example/tcp/1"] });
    await mesh.stop();
    answered.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(dial).not.toHaveBeenCalled();
  });
});
