import { randomBytes } from "node:crypto";
import type { Mesh, MeshInit } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { Bed, next, Probe, until } from "./helpers.ts";

/** Meshes named a, b, c … that are linked as they like at first, and then only as a test says. */
class Shape {
  readonly meshes: Mesh[] = [];
  #links: ReadonlySet<string> | undefined;

  static async of(
    bed: Bed,
    names: string,
    pairs: string,
    init: (name: string) => Partial<MeshInit> = () => ({}),
  ): Promise<Shape> {
    const shape = new Shape();
    for (const name of names) {
      const mesh = await bed.mesh(name, {
        bootstrap: shape.meshes.flatMap((mesh) => mesh.addresses()),
        mayLink: (peer) => shape.#mayLink(name, peer.name),
        ...init(name),
      });
      shape.meshes.push(mesh);
    }
    const { meshes } = shape;
    await Promise.all(meshes.map((mesh) => mesh.waitFor({ members: meshes.length, timeoutMs: 10_000 })));
    await shape.become(pairs);
    return shape;
  }

  /** Only these are linked from now on: "ab bc". */
  async become(pairs: string): Promise<void> {
    this.#links = new Set(pairs.split(" ").flatMap((pair) => [pair, pair.split("").toReversed().join("")]));
    await until(this.meshes, () =>
      this.meshes.every((mesh) =>
        this.meshes.every(
          (other) =>
            mesh === other || mesh.member(other.peerId)?.linked === this.#mayLink(mesh.name, other.name),
        ),
      ),
    );
  }

  #mayLink(a: string, b: string): boolean {
    return this.#links?.has(`${a}${b}`) ?? true;
  }
}

/** As soon as gossip has told the way. */
const SOON = { waitMs: 10_000 };

describe("a mesh in which not all are linked", { timeout: 60_000 }, () => {
  it("carries channels to a member that is no neighbour", async () => {
    await using bed = new Bed();
    const { meshes } = await Shape.of(bed, "abcd", "ab bc cd");
    const [a, b, c, d] = meshes as [Mesh, Mesh, Mesh, Mesh];
    const [atA, atD] = [new Probe(a), new Probe(d)];
    await a.connect(d.peerId, SOON);
    await atA.until(() => atA.channel.peers().includes(d.peerId));
    await atD.until(() => atD.channel.peers().includes(a.peerId));
    const frames = [0, 1, 100, 200_000, 3_000_000, 5].map((length) => randomBytes(length));
    for (const frame of frames) {
      expect(atA.channel.send(d.peerId, frame)).toBe(true);
      expect(atD.channel.send(a.peerId, frame)).toBe(true);
    }
    for (const probe of [atA, atD]) {
      await probe.until(() => probe.frames.length === frames.length);
      expect(probe.frames.map((frame, index) => Buffer.compare(frame, frames[index] ?? Buffer.of()))).toEqual(
        frames.map(() => 0),
      );
    }
    expect(a.member(d.peerId)?.linked).toBe(false);
    expect([a, b, c, d].map((mesh) => mesh.stats().tunnels)).toEqual([1, 0, 0, 1]);
    expect([a, b, c, d].map((mesh) => mesh.stats().tunnelsCarried)).toEqual([0, 1, 1, 0]);
    expect(meshes.map((mesh) => mesh.stats().badFrames)).toEqual([0, 0, 0, 0]);
  });

  it("goes on over another way when a relay dies, and both ends learn of it", async () => {
    await using bed = new Bed();
    // a–b–d and a–c–d.
    const { meshes } = await Shape.of(bed, "abcd", "ab bd ac cd");
    const [a, b, c, d] = meshes as [Mesh, Mesh, Mesh, Mesh];
    const [atA, atD] = [new Probe(a), new Probe(d)];
    await a.connect(d.peerId, SOON);
    await atA.until(() => atA.channel.peers().includes(d.peerId));
    const relay = b.stats().tunnelsCarried === 1 ? b : c;
    const other = relay === b ? c : b;
    const downAt = [next(a, "tunnel:down"), next(d, "tunnel:down")];
    const upAgain = next(a, "tunnel:up");
    let sent = 0;
    const timer = setInterval(() => {
      if (atA.channel.send(d.peerId, Buffer.of(sent & 0xff))) sent += 1;
    }, 2);
    bed.onEnd(() => clearInterval(timer));
    await atD.until(() => atD.frames.length > 20);
    await relay.stop();
    expect((await Promise.all(downAt)).map(({ peerId }) => peerId)).toEqual([d.peerId, a.peerId]);
    expect((await upAgain).path).toEqual([a.peerId, other.peerId, d.peerId]);
    const before = atD.frames.length;
    await atD.until(() => atD.frames.length > before + 20);
    expect(a.member(d.peerId)?.status).toBe("alive"); // No evidence against it.
  });

  it("reaches a neighbour over others when the link with it is cut", async () => {
    await using bed = new Bed();
    const shape = await Shape.of(bed, "abc", "ab bc ac");
    const [a, , c] = shape.meshes as [Mesh, Mesh, Mesh];
    const [atA, atC] = [new Probe(a), new Probe(c)];
    await a.connect(c.peerId);
    expect(a.stats().tunnels).toBe(0);
    const up = next(a, "tunnel:up");
    await shape.become("ab bc");
    expect((await up).path.length).toBe(3);
    await atA.until(() => atA.channel.peers().includes(c.peerId));
    await atC.until(() => atC.channel.peers().includes(a.peerId));
    expect(atA.channel.send(c.peerId, Buffer.of(1))).toBe(true);
    await atC.until(() => atC.frames.length === 1);
    // And directly again as soon as that is possible.
    const down = next(a, "tunnel:down");
    await shape.become("ab bc ac");
    await down;
    await atA.until(() => atA.channel.peers().includes(c.peerId));
    expect(a.stats().tunnels).toBe(0);
  });

  it("says that there is no way where there is none, or no router", async () => {
    await using bed = new Bed();
    const { meshes } = await Shape.of(bed, "abc", "ab bc", (name) => (name === "a" ? { router: false } : {}));
    const [a, , c] = meshes as [Mesh, Mesh, Mesh];
    await expect(a.connect(c.peerId)).rejects.toMatchObject({ code: "NO_ROUTE", outcome: "none" });
    await expect(c.connect("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")).rejects.toMatchObject({
      code: "NO_ROUTE",
      message: expect.stringContaining("the map has none"),
    });
    await c.connect(a.peerId, SOON); // The end of a tunnel it can be.
    const relayless = await Shape.of(bed, "xyz", "xy yz", (name) => ({
      mesh: "other",
      router: name !== "y",
    }));
    const [x, , z] = relayless.meshes as [Mesh, Mesh, Mesh];
    await expect(x.connect(z.peerId)).rejects.toMatchObject({ code: "NO_ROUTE" });
  });

  it("traces the way of each class, hop by hop", async () => {
    await using bed = new Bed();
    const { meshes } = await Shape.of(bed, "abcd", "ab bc cd");
    const [a, b, c, d] = meshes as [Mesh, Mesh, Mesh, Mesh];
    await a.connect(d.peerId, SOON);
    const traces = await a.trace(d.peerId);
    expect(traces.map((trace) => trace.class)).toEqual(["high", "normal", "bulk"]);
    for (const { hops, code } of traces) {
      expect(code).toBeUndefined();
      expect(hops.map(({ peerId }) => peerId)).toEqual([b.peerId, c.peerId, d.peerId]);
      for (const { roundTripMs } of hops) expect(roundTripMs).toBeGreaterThan(0);
    }
    expect((await a.trace(b.peerId)).map(({ hops }) => hops.length)).toEqual([1, 1, 1]);
    expect(await a.trace("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")).toMatchObject([
      { hops: [], code: "NO_ROUTE" },
      { hops: [], code: "NO_ROUTE" },
      { hops: [], code: "NO_ROUTE" },
    ]);
  });

  it("passes between clouds over gateways, if both clouds want it", async () => {
    await using bed = new Bed();
    const clouds: Record<string, Partial<MeshInit>> = {
      a: { cloud: "x" },
      b: { cloud: "x", gateway: true },
      c: { cloud: "y", gateway: true },
      d: { cloud: "y" },
      e: { cloud: "z", reach: ["y"] },
    };
    const { meshes } = await Shape.of(bed, "abcde", "ab bc cd ce", (name) => clouds[name] ?? {});
    const [a, b, c, d, e] = meshes as [Mesh, Mesh, Mesh, Mesh, Mesh];
    await a.connect(d.peerId, { ...SOON, class: "high" });
    expect([b, c].map((mesh) => mesh.stats().tunnelsCarried)).toEqual([1, 1]);
    await expect(a.connect(e.peerId, { class: "high" })).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  it("settles on one tunnel where both ends open one at once", async () => {
    await using bed = new Bed();
    const { meshes } = await Shape.of(bed, "abcd", "ab bd ac cd");
    const [a, b, c, d] = meshes as [Mesh, Mesh, Mesh, Mesh];
    const [atA, atD] = [new Probe(a), new Probe(d)];
    await Promise.all([a.connect(d.peerId, SOON), d.connect(a.peerId, SOON)]);
    await atA.until(() => atA.channel.peers().includes(d.peerId));
    await atD.until(() => atD.channel.peers().includes(a.peerId));
    await until(meshes, () => b.stats().tunnelsCarried + c.stats().tunnelsCarried === 1);
    expect([a.stats().tunnels, d.stats().tunnels]).toEqual([1, 1]);
    expect(atA.channel.send(d.peerId, Buffer.of(1))).toBe(true);
    await atD.until(() => atD.frames.length === 1);
    const ups = (probe: Probe, peer: Mesh): number =>
      probe.log.filter((line) => line === `up ${peer.peerId}`).length;
    expect([ups(atA, d), ups(atD, a)]).toEqual([1, 1]);
  });

  it("gives up waiting when the signal fires", async () => {
    await using bed = new Bed();
    const { meshes } = await Shape.of(bed, "abc", "ab bc");
    const [a, , c] = meshes as [Mesh, Mesh, Mesh];
    const reason = new Error("enough");
    await expect(a.connect(c.peerId, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const connecting = a.connect(c.peerId, { signal: controller.signal });
    controller.abort(reason);
    await expect(connecting).rejects.toBe(reason);
  });
});
