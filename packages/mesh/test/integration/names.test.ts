import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { describe, expect, it, vi } from "vitest";
import { Bed, full } from "./helpers.ts";

const hosts = vi.hoisted((): { address: string; family: number }[] => []);
vi.mock("node:dns/promises", () => ({ lookup: () => Promise.resolve([...hosts]) }));

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
    hosts.push(...[3, 1, 4, 2].map((no) => ({ address: host(no), family: 4 })));
    const d = await bed.mesh("d", { listen: [at(4)], bootstrap });
    await full(a, b, c, d);
    expect([a, b, c, d].map((mesh) => mesh.stats().links)).toEqual([3, 3, 3, 3]);
  });
});
