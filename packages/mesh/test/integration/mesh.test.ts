import { cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createMesh, MeshError } from "@klatsch/mesh";
import type { Mesh, MeshInit } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { Bed, full, isFull, next, Probe, until } from "./helpers.ts";

/** Identities with fixed ports: their addresses are known before any of them runs. */
async function addressBook(
  bed: Bed,
  names: readonly string[],
): Promise<Map<string, { address: string; listen: string }>> {
  const book = new Map<string, { address: string; listen: string }>();
  for (const name of names) {
    const mesh = await createMesh({ name, dataDir: bed.dataDir(name) });
    const [address = ""] = mesh.addresses();
    await mesh.stop();
    book.set(name, { address, listen: address.split("/p2p/")[0] ?? "" });
  }
  return book;
}

describe("createMesh", () => {
  it("joins by one address and tells everybody of everybody", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { cloud: "berlin", tags: { role: "db" } });
    const joined: string[] = [];
    a.on("member:joined", (member) => joined.push(member.name));
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    const c = await bed.mesh("c", { bootstrap: b.addresses() });
    await full(a, b, c);
    expect(joined.toSorted()).toEqual(["b", "c"]);
    expect(c.members().map(({ peerId }) => peerId)).toEqual([a, b, c].map(({ peerId }) => peerId).toSorted());
    expect(c.member(a.peerId)).toMatchObject({
      name: "a",
      cloud: "berlin",
      tags: { role: "db" },
      boot: a.boot,
      incarnation: 0,
      status: "alive",
      evidence: "direct",
      self: false,
      linked: true,
      addresses: a.addresses(),
    });
    expect(c.member(c.peerId)).toMatchObject({
      self: true,
      status: "alive",
      linked: false,
      evidence: "self",
    });
    expect(c.resolve("a")).toBe(a.peerId);
    expect(() => c.resolve("nobody")).toThrow(expect.objectContaining({ code: "UNKNOWN_NAME" }));
  });

  it("changes its tags while it runs: members and hellos say so", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { tags: { role: "db" } });
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    await full(a, b);
    const told = [next(a, "member:updated"), next(b, "member:updated")];
    await a.setTags({ role: "web", zone: "2" });
    expect(a.member(a.peerId)?.tags).toEqual({ role: "web", zone: "2" });
    for (const member of await Promise.all(told))
      expect(member).toMatchObject({ name: "a", tags: { role: "web", zone: "2" }, incarnation: 1 });
    const c = await bed.mesh("c", { bootstrap: a.addresses() });
    await full(a, c);
    expect(c.member(a.peerId)?.tags).toEqual({ role: "web", zone: "2" });
    await expect(a.setTags({ "": "x" })).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
    await a.stop();
    await expect(a.setTags({})).rejects.toMatchObject({ code: "STOPPED" });
  });

  it("does not choose between members of one name", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const twins = [1, 2].map((no) =>
      createMesh({ name: "twin", dataDir: bed.dataDir(`twin${no}`), bootstrap: a.addresses() }),
    );
    bed.meshes.push(...(await Promise.all(twins)));
    await full(...bed.meshes);
    expect(() => a.resolve("twin")).toThrow(expect.objectContaining({ code: "AMBIGUOUS_NAME" }));
  });

  it("ends up with one link per pair where all dial all at once, without flapping", async () => {
    await using bed = new Bed();
    const names = ["a", "b", "c", "d", "e", "f"];
    const book = await addressBook(bed, names);
    for (let round = 0; round < 5; round += 1) {
      const bootstrap = [...book.values()].map(({ address }) => address);
      const meshes = await Promise.all(
        names.map((name) => bed.mesh(name, { bootstrap, listen: [book.get(name)?.listen ?? ""] })),
      );
      const probes = meshes.map((mesh) => new Probe(mesh));
      await full(...meshes);
      await Promise.all(probes.map((probe) => probe.up(names.length - 1)));
      await until(meshes, () => meshes.every((mesh) => mesh.stats().connections === names.length - 1));
      expect(probes.map((probe) => [probe.count("up"), probe.count("down")])).toEqual(
        names.map(() => [5, 0]),
      );
      expect(meshes.map((mesh) => mesh.stats().badFrames)).toEqual(names.map(() => 0));
      await Promise.all(meshes.map((mesh) => mesh.stop()));
    }
  });

  it("is seen as stopped after a planned stop, and as joined with a higher boot when it is back", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    const c = await bed.mesh("c", { bootstrap: a.addresses() });
    await full(a, b, c);
    const died: string[] = [];
    for (const mesh of [a, b]) mesh.on("member:died", (member) => died.push(member.name));
    const { boot, peerId } = c;
    await Promise.all([next(a, "member:stopped"), next(b, "member:stopped"), c.stop()]);
    expect(b.member(peerId)).toMatchObject({ status: "stopped", evidence: "announced" });
    await until([b], () => b.member(peerId)?.linked === false);
    const again = await bed.mesh("c", { bootstrap: a.addresses() });
    expect(again.peerId).toBe(peerId);
    expect(again.boot).toBeGreaterThan(boot);
    await full(a, b, again);
    expect(b.member(peerId)).toMatchObject({ status: "alive", boot: again.boot });
    expect(died).toEqual([]);
  });

  it("is seen as left after it left for good", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    await full(a, b);
    const left = next(a, "member:left");
    await b.leave();
    expect(await left).toMatchObject({ peerId: b.peerId, status: "left" });
    await expect(b.leave()).rejects.toMatchObject({ code: "STOPPED" });
    await b.stop(); // Twice is fine.
  });

  it("refuses and is refused by a mesh of another name, and both say so", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { mesh: "red" });
    const b = await bed.mesh("b", { mesh: "blue", bootstrap: a.addresses() });
    const [atA, atB] = await Promise.all([next(a, "link:refused"), next(b, "link:refused")]);
    expect([atA.code, atB.code]).toEqual(["MESH_NAME", "MESH_NAME"]);
    expect(atB.reason).toContain("this is mesh red, not blue");
    expect([a.members().length, b.members().length]).toEqual([1, 1]);
  });

  it("refuses a member too many", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { membersMax: 2 });
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    await full(a, b);
    const c = await bed.mesh("c", { bootstrap: a.addresses() });
    expect(await next(c, "link:refused")).toMatchObject({ peerId: a.peerId, code: "MEMBERS_MAX" });
    expect(a.members().length).toBe(2);
  });

  it("listens on a unix socket", async () => {
    await using bed = new Bed();
    mkdirSync(join(bed.directory, "s"));
    const a = await bed.mesh("a", { listen: [`/unix/${encodeURIComponent(join(bed.directory, "s", "a"))}`] });
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    await full(a, b);
  });
});

describe("identity", () => {
  it("is a key only its owner can read, and the same after a restart", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const file = join(bed.dataDir("a"), "identity.key");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(bed.dataDir("a"), "boot"), "utf8")).toBe(`${a.boot}\n`);
    await a.stop();
    const again = await bed.mesh("a");
    expect(again.peerId).toBe(a.peerId);
    expect(again.boot).toBeGreaterThan(a.boot);
  });

  it.each([
    ["identity.key", "garbage"],
    ["identity.key", ""],
    ["boot", "-1"],
    ["boot", "99999999999999999999"],
  ])("damaged in %s (%j) stops the start and names the file", async (name, content) => {
    await using bed = new Bed();
    await (await bed.mesh("a")).stop();
    const file = join(bed.dataDir("a"), name);
    writeFileSync(file, content);
    const error: unknown = await bed.mesh("a").catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(MeshError);
    expect(error).toMatchObject({ code: "IDENTITY_DAMAGED", message: expect.stringContaining(file) });
  });

  it("raises its boot above what others know, even after its disk and clock went back", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    const c = await bed.mesh("c", { bootstrap: a.addresses() });
    await full(a, b, c);
    await b.stop();
    rmSync(join(bed.dataDir("b"), "boot"));
    const clock = { now: () => ({ monoMs: performance.now(), wallMs: 1_000 }) };
    const again = await bed.mesh("b", { bootstrap: a.addresses(), clock });
    await until([a, c, again], () => isFull([a, c, again]) && c.member(b.peerId)?.boot === again.boot);
    expect(again.boot).toBeGreaterThan(b.boot);
    expect(readFileSync(join(bed.dataDir("b"), "boot"), "utf8")).toBe(`${again.boot}\n`);
  });

  it("in use by two processes stops the older one where others tell it of the newer, too", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const bootstrap = a.addresses();
    const others = [a, await bed.mesh("c", { bootstrap }), await bed.mesh("d", { bootstrap })];
    const older = await bed.mesh("b", { bootstrap });
    await full(...others, older);
    const failed = next(older, "mesh:failed");
    cpSync(bed.dataDir("b"), bed.dataDir("copy"), { recursive: true });
    const newer = await createMesh({ name: "b", dataDir: bed.dataDir("copy"), bootstrap });
    bed.meshes.push(newer);
    expect(await failed).toMatchObject({ error: { code: "IDENTITY_CONFLICT" } });
    await full(...others, newer);
    expect(a.member(newer.peerId)?.boot).toBe(newer.boot);
  });

  it("in use by two processes stops the older one, which says why", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const older = await bed.mesh("b", { bootstrap: a.addresses() });
    await full(a, older);
    const failed = next(older, "mesh:failed");
    cpSync(bed.dataDir("b"), bed.dataDir("copy"), { recursive: true });
    const newer = await createMesh({ name: "b", dataDir: bed.dataDir("copy"), bootstrap: a.addresses() });
    bed.meshes.push(newer);
    expect(await failed).toMatchObject({ error: { code: "IDENTITY_CONFLICT" } });
    await full(a, newer);
    expect(a.member(newer.peerId)?.boot).toBe(newer.boot);
  });
});

/** Peer id of nobody here. */
const STRANGER = "12D3KooWE6QSjPpFUsKa36zasGH3TYZDQbWAX56nEUWzXKrZn4A5";

describe("options", () => {
  it.each([
    [{ name: "" }, "name"],
    [{ name: "has space" }, "name"],
    [{ listen: ["nonsense"] }, "listen"],
    [{ listen: ["/ip4/0.0.0.0/tcp/0"] }, "admission"],
    [{ listen: [`/ip4/127.0.0.1/tcp/0/p2p/${STRANGER}`] }, "listen[0]"],
    [{ listen: ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"] }, "listen[1]"],
    [{ listen: ["/dnsaddr/mesh.example"] }, "listen[0]"],
    [{ announce: ["/ip4/127.0.0.1/tcp/0"] }, "announce[0]"],
    [{ announce: ["/dns4/mesh.example/tcp/443/wss"] }, "announce[0]"],
    [{ announce: ["/ip4/127.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1"] }, "announce[1]"],
    [{ announce: ["/ip6zone/lo/ip6/::/tcp/1"] }, "announce[0]"],
    [{ announce: ["/ip6/0:0:0:0:0:0:0:0/tcp/1"] }, "announce[0]"],
    [{ announce: ["/ip6/::ffff:0.0.0.0/tcp/1"] }, "announce[0]"],
    [{ bootstrap: ["/ip4/127.0.0.1/tcp/0"] }, "bootstrap"],
    [{ bootstrap: [`/ip4/127.0.0.1/tcp/0/p2p/${STRANGER}`] }, "bootstrap[0]"],
    [{ bootstrap: [`/ip4/127.0.0.1/tcp/1/ws/p2p/${STRANGER}`] }, "bootstrap[0]"],
    [{ bootstrap: [`/ip4/127.0.0.1/udp/1/quic-v1/p2p/${STRANGER}`] }, "bootstrap[0]"],
    [{ bootstrap: [`/p2p/${STRANGER}`] }, "bootstrap[0]"],
    [{ dataDir: "" }, "dataDir"],
    [{ mesh: "ä" }, "mesh"],
    [{ tags: { "": "x" } }, "tags"],
    [{ sharedPrefixes: { "": "declare" } }, "sharedPrefixes"],
    [{ forgetAfterMs: -1 }, "forgetAfterMs"],
    [{ membersMax: 1 }, "membersMax"],
    [{ queues: { fast: { queueFramesMax: 1, queueBytesMax: 1 } } }, "queues"],
    [{ surprise: 1 }, "surprise"],
  ])("%j is refused by naming the field", async (wrong, field) => {
    await using bed = new Bed();
    const init = wrong as Partial<MeshInit>;
    const error: unknown = await bed.mesh("a", init).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "INVALID_OPTIONS", message: expect.stringContaining(field) });
  });

  it("say one thing about a field", async () => {
    await using bed = new Bed();
    const listen = "/ip4/127.0.0.1/tcp/4001" as unknown as readonly string[];
    const message = "listen: Invalid input: expected array, received string";
    await expect(bed.mesh("a", { listen })).rejects.toMatchObject({ code: "INVALID_OPTIONS", message });
  });

  it("take every kind of address that can be dialled", async () => {
    await using bed = new Bed();
    const places = [
      ...["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip6zone/lo/ip6/fe80::1/tcp/1", "/unix/%2Fnowhere"],
      ...["/dns/a.invalid/tcp/1", "/dns4/a.invalid/tcp/1", "/dns6/a.invalid/tcp/1", "/dnsaddr/a.invalid"],
      "/memory/nobody",
    ];
    await bed.mesh("a", { bootstrap: places.map((place) => `${place}/p2p/${STRANGER}`) });
    await bed.mesh("b", { announce: places.slice(0, 5) });
  });

  it("let anybody in beyond loopback only when asked for, with a warning", async () => {
    await using bed = new Bed();
    const warnings: string[] = [];
    const log = (): void => undefined;
    const logger = {
      debug: log,
      info: log,
      error: log,
      warn: (message: string) => void warnings.push(message),
    };
    await bed.mesh("a", {
      listen: ["/ip4/0.0.0.0/tcp/0"],
      announce: ["/ip4/127.0.0.1/tcp/1"],
      admission: "open",
      logger,
    });
    expect(warnings).toEqual([expect.stringContaining("open admission")]);
  });

  it("name an address that cannot be bound", async () => {
    await using bed = new Bed();
    const a: Mesh = await bed.mesh("a");
    const taken = a.addresses()[0]?.split("/p2p/")[0] ?? "";
    await expect(bed.mesh("b", { listen: [taken] })).rejects.toMatchObject({
      code: "LISTEN_FAILED",
      message: expect.stringMatching(`^cannot listen on ${taken}: listen EADDRINUSE`),
    });
  });

  it("tell a file that cannot be read from one that is damaged", async () => {
    await using bed = new Bed();
    mkdirSync(join(bed.dataDir("a"), "identity.key"), { recursive: true });
    await expect(bed.mesh("a")).rejects.toMatchObject({
      code: "STORE_FAILED",
      message: expect.stringContaining("identity.key: EISDIR"),
    });
    writeFileSync(bed.dataDir("b"), "");
    await expect(bed.mesh("b")).rejects.toMatchObject({ code: "STORE_FAILED" });
  });
});
