import { randomBytes } from "node:crypto";
import { describe, expect, it, vi } from "vitest";
import { Bed, full, next, Probe } from "./helpers.ts";

async function pair(
  bed: Bed,
  names: readonly [string, string] = ["a", "b"],
): Promise<[Probe, Probe, string, string]> {
  const a = await bed.mesh(names[0]);
  const b = await bed.mesh(names[1], { bootstrap: a.addresses() });
  const probes: [Probe, Probe] = [new Probe(a), new Probe(b)];
  await full(a, b);
  await Promise.all(probes.map((probe) => probe.up()));
  return [...probes, a.peerId, b.peerId];
}

describe("a channel", () => {
  it("carries frames of any length, whole and in order, both ways", async () => {
    await using bed = new Bed();
    const [a, b, aId, bId] = await pair(bed);
    const frames = [0, 1, 100, 65_535, 200_000, 5_000_000, 3].map((length) => randomBytes(length));
    for (const frame of frames) {
      expect(a.channel.send(bId, frame)).toBe(true);
      expect(b.channel.send(aId, frame)).toBe(true);
    }
    for (const probe of [a, b]) {
      await probe.until(() => probe.frames.length === frames.length);
      expect(
        probe.frames.map((frame, index) => Buffer.compare(frame, frames[index] ?? Buffer.alloc(0))),
      ).toEqual(frames.map(() => 0));
    }
  });

  it("sends nothing to a peer that is not up", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const probe = new Probe(a);
    expect(probe.channel.send("12D3KooWnobody", Buffer.of(1))).toBe(false);
    expect(probe.channel.peers()).toEqual([]);
  });

  it("refuses what exceeds its limits, queues nothing of that, and loses nothing it took", async () => {
    await using bed = new Bed();
    const queues = { normal: { queueFramesMax: 10_000, queueBytesMax: 1_000_000 } };
    const a = await bed.mesh("a", { queues, frameBytesMax: 100_000 });
    const b = await bed.mesh("b", { bootstrap: a.addresses(), frameBytesMax: 50_000 });
    const [from, to] = [new Probe(a), new Probe(b)];
    await from.up();
    expect(from.channel.send(b.peerId, Buffer.alloc(100_001))).toBe(false);
    expect(from.channel.send(b.peerId, Buffer.alloc(50_001))).toBe(false); // More than the other end takes.
    let taken = 0;
    while (from.channel.send(b.peerId, Buffer.alloc(40_000))) taken += 1;
    expect(taken).toBe(Math.floor(1_000_000 / 40_006));
    expect(a.stats().framesRefused).toBe(3);
    await to.until(() => to.frames.length === taken);
    expect(from.channel.send(b.peerId, Buffer.of(1))).toBe(true);
    await to.until(() => to.frames.length === taken + 1);
  });

  it("keeps its order and loses nothing under back-pressure", async () => {
    await using bed = new Bed();
    const [a, b, , bId] = await pair(bed);
    let sent = 0;
    let got = 0;
    b.onFrame = (_peer, frame) => {
      if (Buffer.from(frame).readUInt32BE() !== got) throw new Error("out of order");
      got += 1;
    };
    while (sent < 3_000) {
      const frame = Buffer.alloc(20_000);
      frame.writeUInt32BE(sent);
      if (a.channel.send(bId, frame)) sent += 1;
      else await b.until(() => got > sent - 500);
    }
    await b.until(() => got === sent);
    expect([a.count("down"), b.count("down")]).toEqual([0, 0]);
  });

  it("goes down and up again at both ends when one resets it", async () => {
    await using bed = new Bed();
    for (const names of [
      ["a", "b"],
      ["c", "d"],
    ] as const) {
      const [a, b, aId, bId] = await pair(bed, names);
      const resetting = names[0] === "a" ? a : b; // The dialer once, and once the other.
      resetting.channel.reset(resetting === a ? bId : aId, "test");
      expect(resetting.count("down")).toBe(1); // At once.
      await Promise.all([a.until(() => a.count("up") === 2), b.until(() => b.count("up") === 2)]);
      expect(b.channel.send(aId, Buffer.of(7))).toBe(true);
      await a.until(() => a.frames.length === 1);
    }
  });

  it("resets the stream of a peer whose frame made a handler throw, and nobody else's", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    const c = await bed.mesh("c", { bootstrap: a.addresses() });
    const [atA, atB, atC] = [new Probe(a), new Probe(b), new Probe(c)];
    await Promise.all([atA, atB, atC].map((probe) => probe.up(2)));
    let throwing = true;
    atA.onFrame = (_peer, frame) => {
      if (throwing) throw new Error("bad bytes");
      atA.frames.push(frame);
    };
    atB.channel.send(a.peerId, Buffer.of(1));
    await atA.until(() => atA.count("up") === 3);
    await atB.until(() => atB.count("up") === 3);
    expect(atA.log.filter((line) => line.startsWith("down"))).toEqual([`down ${b.peerId}`]);
    expect(atC.count("down")).toBe(0);
    expect(a.stats().handlerErrors).toBe(1);
    throwing = false;
    atB.channel.send(a.peerId, Buffer.of(2));
    await atA.until(() => atA.frames.length === 1);
  });

  it("resets the stream of a peer at which an async handler rejected, too", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    const ups: string[] = [];
    const late = (): undefined => Promise.reject(new Error("late")) as never;
    a.channel("test", {
      onUp: (peer) => (ups.push(peer) === 1 ? late() : undefined),
      onDown: late,
      onFrame: late,
    });
    const atB = new Probe(b);
    await atB.until(() => atB.count("up") === 2);
    atB.channel.send(a.peerId, Buffer.of(1));
    await atB.until(() => atB.count("up") === 3);
    await vi.waitFor(() => expect([ups.length, a.stats().handlerErrors]).toEqual([3, 4]));
  });

  it("survives handlers of its sessions that throw", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    let ups = 0;
    const ready = new Promise<void>((resolve) => {
      a.channel("test", {
        onUp: () => {
          ups += 1;
          if (ups < 3) throw new Error("not yet");
          resolve();
        },
        onDown: () => {
          throw new Error("never");
        },
        onFrame: () => undefined,
      });
    });
    const other = new Probe(b);
    await ready;
    expect(other.count("up")).toBeGreaterThan(2);
    expect(a.stats().handlerErrors).toBe(4);
    expect(b.member(a.peerId)?.status).toBe("alive");
  });

  it("closed and registered anew is a new session at both ends", async () => {
    await using bed = new Bed();
    const [a, b, aId, bId] = await pair(bed);
    const [mesh] = bed.meshes;
    if (mesh === undefined) throw new Error("no mesh");
    a.channel.close();
    expect(a.log.at(-1)).toBe(`down ${bId}`);
    expect(a.channel.send(bId, Buffer.of(1))).toBe(false);
    const again = new Probe(mesh);
    await again.up();
    await b.until(() => b.count("up") === 2);
    b.channel.send(aId, Buffer.of(1));
    await again.until(() => again.frames.length === 1);
    expect(a.frames.length).toBe(0);
  });

  it("of each class runs beside the others", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    for (const trafficClass of ["control", "high", "normal", "bulk"] as const) {
      const [atA, atB] = [new Probe(a, trafficClass, trafficClass), new Probe(b, trafficClass, trafficClass)];
      await Promise.all([atA.up(), atB.up()]);
      atA.channel.send(b.peerId, Buffer.from(trafficClass));
      await atB.until(() => atB.frames.length === 1);
    }
  });

  it("is refused where its name is taken, too long, or the mesh has stopped", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const first = new Probe(a, "x");
    expect(() => new Probe(a, "x")).toThrow(expect.objectContaining({ code: "CHANNEL_EXISTS" }));
    expect(() => new Probe(a, "")).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS" }));
    expect(() => new Probe(a, "x".repeat(65))).toThrow(expect.objectContaining({ code: "INVALID_OPTIONS" }));
    const more = Array.from({ length: 63 }, (_, index) => new Probe(a, `n${index}`));
    expect(() => new Probe(a, "one more")).toThrow(expect.objectContaining({ code: "LIMIT_REACHED" }));
    expect([first, ...more].map(({ channel }) => channel.peers())).toEqual(
      Array.from({ length: 64 }, () => []),
    );
    await a.stop();
    expect(() => new Probe(a, "y")).toThrow(expect.objectContaining({ code: "STOPPED" }));
  });

  it("is told that a peer is down before membership is told that the link is", async () => {
    await using bed = new Bed();
    const [a, , , bId] = await pair(bed);
    const [mesh, other] = bed.meshes;
    if (mesh === undefined || other === undefined) throw new Error("no mesh");
    const down = next(mesh, "link:down").then(() => a.log.at(-1));
    await other.stop();
    expect(await down).toBe(`down ${bId}`);
  });
});
