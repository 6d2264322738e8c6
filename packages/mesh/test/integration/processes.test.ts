import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import type { Mesh, MeshInit } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { Bed, full, isFull, next, Probe, until } from "./helpers.ts";

interface Told {
  readonly event: string;
  readonly name?: string;
  readonly peerId?: string;
  readonly boot?: number;
}

/** A member in a process of its own. */
class Remote {
  readonly child: ChildProcess;
  readonly told: Told[] = [];
  #waiting: (() => void)[] = [];

  constructor(bed: Bed, name: string, init: Partial<MeshInit>) {
    const argument = JSON.stringify({ name, dataDir: bed.dataDir(name), ...init });
    this.child = fork(new URL("./member-process.ts", import.meta.url), [argument], {
      execArgv: ["--conditions=klatsch-source", "--disable-warning=ExperimentalWarning"],
    });
    this.child.on("message", (message) => {
      this.told.push(message as Told);
      for (const wake of this.#waiting.splice(0)) wake();
    });
    bed.onEnd(() => void this.child.kill("SIGKILL"));
  }

  async hears(event: string, limitMs = 15_000): Promise<Told> {
    const timeout = AbortSignal.timeout(limitMs);
    for (;;) {
      const found = this.told.find((told) => told.event === event);
      if (found !== undefined) return found;
      await new Promise<void>((resolve, reject) => {
        this.#waiting.push(resolve);
        timeout.addEventListener("abort", () => reject(new Error(`${event} not within ${limitMs} ms`)));
      });
    }
  }
}

/** Two members here and one in a process of its own, all linked. */
async function threeWithOneRemote(bed: Bed): Promise<{ a: Mesh; b: Mesh; remote: Remote; peerId: string }> {
  const a = await bed.mesh("a");
  const b = await bed.mesh("b", { bootstrap: a.addresses() });
  const remote = new Remote(bed, "r", { bootstrap: a.addresses() });
  const { peerId = "" } = await remote.hears("started");
  await until([a, b], () => isFull([a, b]) && [a, b].every((mesh) => mesh.member(peerId)?.linked === true));
  return { a, b, remote, peerId };
}

async function seesAs(
  meshes: readonly Mesh[],
  peerId: string,
  status: string,
  limitMs: number,
): Promise<number> {
  const startedMs = performance.now();
  await until(meshes, () => meshes.every((mesh) => mesh.member(peerId)?.status === status), limitMs);
  return performance.now() - startedMs;
}

describe("a member in a process of its own", () => {
  it("killed is dead for the others within 1.5 s, and back with a higher boot when it runs again", async () => {
    await using bed = new Bed();
    const { a, b, remote, peerId } = await threeWithOneRemote(bed);
    const boot = a.member(peerId)?.boot ?? 0;
    remote.child.kill("SIGKILL");
    await seesAs([a, b], peerId, "dead", 1_500);
    expect(a.member(peerId)?.linked).toBe(false);
    expect([a, b].map((mesh) => mesh.member(peerId)?.evidence)).toContain("refused");
    const again = new Remote(bed, "r", { bootstrap: a.addresses() });
    expect((await again.hears("started")).peerId).toBe(peerId);
    await seesAs([a, b], peerId, "alive", 5_000);
    expect(a.member(peerId)?.boot).toBeGreaterThan(boot);
  });

  it("killed in a mesh of two is dead just as soon", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const remote = new Remote(bed, "r", { bootstrap: a.addresses() });
    const { peerId } = await next(a, "member:joined", 15_000);
    remote.child.kill("SIGKILL");
    await seesAs([a], peerId, "dead", 1_500);
  });

  it("frozen is dead for the others, and learns that when it wakes and refutes it", async () => {
    await using bed = new Bed();
    const { a, b, remote, peerId } = await threeWithOneRemote(bed);
    const { boot } = a.member(peerId) ?? {};
    remote.child.kill("SIGSTOP");
    await seesAs([a, b], peerId, "dead", 10_000);
    expect([a, b].map((mesh) => mesh.member(peerId)?.evidence)).toContain("silence");
    remote.child.kill("SIGCONT");
    await remote.hears("self:declaredDead");
    await seesAs([a, b], peerId, "alive", 10_000);
    expect(a.member(peerId)).toMatchObject({ boot, incarnation: 1 });
    await until([a, b], () => [a, b].every((mesh) => mesh.member(peerId)?.linked === true));
    expect(remote.told.filter(({ event }) => event === "member:died")).toEqual([]);
  });

  it.each(["stop", "leave"] as const)("that says %s is never dead", async (how) => {
    await using bed = new Bed();
    const { a, b, remote, peerId } = await threeWithOneRemote(bed);
    const died: string[] = [];
    for (const mesh of [a, b]) mesh.on("member:died", (member) => died.push(member.name));
    const gone = Promise.all([a, b].map((mesh) => next(mesh, "link:down")));
    remote.child.send(how);
    await seesAs([a, b], peerId, how === "stop" ? "stopped" : "left", 2_000);
    await gone;
    expect(died).toEqual([]);
  });

  it("killed on a unix socket can listen there again", async () => {
    await using bed = new Bed();
    const listen = [`/unix/${encodeURIComponent(join(bed.directory, "socket"))}`];
    const remote = new Remote(bed, "r", { listen });
    await remote.hears("started");
    const ended = once(remote.child, "exit");
    remote.child.kill("SIGKILL");
    await ended;
    const again = await bed.mesh("r", { listen });
    await expect(bed.mesh("other", { listen })).rejects.toMatchObject({ code: "LISTEN_FAILED" });
    const joining = await bed.mesh("x", { bootstrap: again.addresses() });
    await full(again, joining);
  });

  it("echoes frames", async () => {
    await using bed = new Bed();
    const { a, peerId } = await threeWithOneRemote(bed);
    const probe = new Probe(a, "echo");
    await probe.up();
    for (let count = 0; count < 100; count += 1) probe.channel.send(peerId, Buffer.of(count));
    await probe.until(() => probe.frames.length === 100);
    expect(probe.frames.map(([first]) => first)).toEqual(Array.from({ length: 100 }, (_, index) => index));
  });
});

/** A wire that can be cut without either end being told: bytes go nowhere, new connections are taken and say nothing. */
class Wire {
  port = 0;
  targetPort = 0;
  cut = false;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((near) => {
    const far = connect(this.targetPort, "127.0.0.1");
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(from);
      from.on("data", (bytes) => void (this.cut || to.write(bytes)));
      from.on("error", () => undefined);
      from.on("close", () => {
        this.#sockets.delete(from);
        if (!this.cut) to.destroy();
      });
    }
  });

  async open(): Promise<void> {
    this.port = await listenAnywhere(this.#server);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function listenAnywhere(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listenAnywhere(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe("a partition", () => {
  it("is seen by both sides, and heals by itself when the wires work again", async () => {
    await using bed = new Bed();
    const wires = [new Wire(), new Wire(), new Wire()];
    const meshes: Mesh[] = [];
    for (const [index, wire] of wires.entries()) {
      await wire.open();
      bed.onEnd(() => wire.close());
      wire.targetPort = await freePort();
      // Others reach it only over the wire.
      const mesh = await bed.mesh(`n${index}`, {
        announce: [`/ip4/127.0.0.1/tcp/${wire.port}`],
        listen: [`/ip4/127.0.0.1/tcp/${wire.targetPort}`],
        bootstrap: meshes.flatMap((other) => other.addresses()),
      });
      meshes.push(mesh);
    }
    await full(...meshes);
    for (const wire of wires) wire.cut = true;
    await until(
      meshes,
      () => meshes.every((mesh) => mesh.members().every((member) => member.self || member.status === "dead")),
      40_000, // 8 s; each time this process gets no turn for half a second nobody is judged.
    );
    for (const wire of wires) wire.cut = false;
    await until(
      meshes,
      () => isFull(meshes) && meshes.every((mesh) => mesh.members().every(isAlive)),
      10_000,
    );
  }, 60_000);
});

function isAlive(member: { readonly status: string }): boolean {
  return member.status === "alive";
}
