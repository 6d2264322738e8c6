import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { createMesh, createMeshRoot, readPeerId } from "@klatsch/mesh";
import { contract, createRpc, method } from "@klatsch/rpc";
import type { Access } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { isAccess } from "../src/contract.ts";
import { Registry } from "../src/host/registry.ts";
import type { Served } from "../src/host/registry.ts";
import { Nodes, until } from "./support/nodes.ts";

const text = z.string();
const of = (access: Access) => method({ input: text, output: text, access });

/** Methods without a stated access rule. */
function unguarded(entries: readonly Served[]): readonly string[] {
  return entries.filter(({ method: { access } }) => !isAccess(access)).map(({ name }) => name);
}

describe("the registry", () => {
  it("has no method without a stated access rule, and the check would find one", async () => {
    const added: Served[] = [];
    const { add } = Registry.prototype;
    Registry.prototype.add = function (all) {
      added.push(...all);
      return add.call(this, all);
    };
    try {
      await using nodes = await Nodes.start("a");
      nodes.get("a").rpc.serve(contract({ methods: { x: of([]) } }), { x: (input) => input });
    } finally {
      Registry.prototype.add = add;
    }
    // All that a node serves by itself, and what the application adds.
    expect(added.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["klatsch.node.ping", "klatsch.gather.collect", "klatsch.topic.recall", "x"]),
    );
    expect(unguarded(added)).toEqual([]);
    const planted = { ...added[0], method: { ...added[0]?.method, access: undefined } } as unknown as Served;
    expect(unguarded([...added, planted])).toEqual([planted.name]);
  });

  it("takes no rule that says nothing", () => {
    for (const access of [
      undefined,
      "everybody",
      {},
      { role: "admin" },
      { capability: undefined },
      [7],
      null,
    ])
      expect(() => of(access as never)).toThrow(/access/);
  });

  it("guards local, mesh, cast and gathered calls alike: nobody is on an empty list", async () => {
    await using nodes = await Nodes.start("a", "b");
    let runs = 0;
    const api = contract({ name: "api", methods: { x: of([]) } });
    for (const { rpc } of nodes.all()) rpc.serve(api, { x: () => `${(runs += 1)}` });
    const { rpc, id } = nodes.get("a");
    for (const peer of [id, nodes.get("b").id])
      await expect(rpc.peer(peer, api).x("")).rejects.toMatchObject({ code: "DENIED", outcome: "none" });
    await expect(rpc.any("all", api).x("")).rejects.toMatchObject({ code: "DENIED" });
    await rpc.cast("all", api, "x", "");
    await until("both dropped it", () => nodes.all().every((one) => one.rpc.stats().castsDropped === 1));
    const { failed } = await rpc.gather("all", api, "x", "");
    expect(failed.map(({ code }) => code)).toEqual(["DENIED", "DENIED"]);
    expect(runs).toBe(0);
  });
});

describe("access by certificate", () => {
  it("goes by what is signed, for calls, casts and topics, and never by what members say", async () => {
    const directory = await mkdtemp(join(tmpdir(), "klatsch-access-"));
    const root = await createMeshRoot({ directory: join(directory, "root") });
    const member = async (
      name: string,
      cloud: string,
      capabilities: string[],
      bootstrap: readonly string[],
    ) => {
      const dataDir = join(directory, name);
      const peer = await readPeerId(dataDir);
      const certificate = root.issueCertificate({
        peer,
        name,
        cloud,
        tags: { role: cloud },
        capabilities,
      });
      const mesh = await createMesh({ dataDir, bootstrap, admission: { certificate } });
      return { mesh, rpc: createRpc({ mesh }) };
    };
    const server = await member("server", "north", ["*"], []);
    const [mayWash, mayNot] = [
      await member("washer", "north", ["wash"], server.mesh.addresses()),
      await member("guest", "south", [], server.mesh.addresses()),
    ];
    const all = [server, mayWash, mayNot];
    try {
      const api = contract({
        name: "api",
        methods: {
          byCapability: of({ capability: "wash" }),
          byCloud: of({ cloud: "north" }),
          byTag: of({ tags: { role: "north" } }),
          byRule: of(
            ({ can, certificate, ...caller }) => can.call(caller, "wash") && certificate !== undefined,
          ),
          byCaller: of((caller) => caller.can("wash") && caller.certificate?.cloud === "north"),
        },
      });
      let noted = 0;
      server.rpc.serve(api, {
        byCapability: (input) => `${input}${(noted += 1)}`,
        byCloud: (input) => input,
        byTag: (input) => input,
        byRule: (input) => input, // Its rule throws, which is a no.
        byCaller: (input) => input,
      });
      await until("all are linked", () => all.every(({ rpc }) => rpc.stats().links >= 3));
      const outcomes = async ({ rpc }: typeof server): Promise<string[]> => {
        const client = rpc.peer(server.mesh.peerId, api);
        const names = ["byCapability", "byCloud", "byTag", "byCaller", "byRule"] as const;
        const calls = names.map(async (name) => await client[name]("x"));
        const settled = await Promise.allSettled(calls);
        return settled.map((one) =>
          one.status === "fulfilled" ? "ok" : (one.reason as { code: string }).code,
        );
      };
      expect(await outcomes(mayWash)).toEqual(["ok", "ok", "ok", "ok", "DENIED"]);
      expect(await outcomes(mayNot)).toEqual(Array(5).fill("DENIED"));
      expect(await outcomes(server)).toEqual(["ok", "ok", "ok", "ok", "DENIED"]);

      const heard: string[] = [];
      const access = { capability: "wash" };
      server.rpc.subscribe("cups", text, (value) => heard.push(value), { access });
      await mayNot.rpc.emit("cups", "no");
      await mayWash.rpc.emit("cups", "yes");
      await until("it is heard", () => heard.length > 0);
      await until("the other was refused", () => server.rpc.stats().valuesDenied === 1);
      expect(heard).toEqual(["yes"]);
      const before = noted;
      for (const { rpc } of [mayNot, mayWash]) await rpc.cast([server.mesh.peerId], api, "byCapability", "x");
      await until("one cast ran", () => noted > before && server.rpc.stats().castsDropped === 1);
      expect(noted).toBe(before + 1);
    } finally {
      for (const { rpc, mesh } of all.toReversed()) {
        await rpc.stop();
        await mesh.stop();
      }
      await rm(directory, { recursive: true, force: true });
    }
  });

  it("admits nobody by cloud or tag in an open mesh, where nothing is signed", async () => {
    await using nodes = await Nodes.start();
    await nodes.add("a", { cloud: "north", tags: { role: "admin" } });
    await nodes.add("b");
    const methods = { cloud: of({ cloud: "north" }), tag: of({ tags: { role: "admin" } }) };
    const api = contract({ methods: { ...methods, can: of({ capability: "wash" }) } });
    nodes.get("b").rpc.serve(api, { cloud: (x) => x, tag: (x) => x, can: (x) => x });
    const client = nodes.get("a").rpc.peer(nodes.get("b").id, api);
    await expect(client.cloud("")).rejects.toMatchObject({ code: "DENIED" });
    await expect(client.tag("")).rejects.toMatchObject({ code: "DENIED" });
    expect(await client.can("x")).toBe("x"); // Every member of an open mesh may everything.
  });
});
