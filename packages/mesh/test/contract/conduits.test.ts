import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ChannelClass, Conduit } from "@klatsch/mesh";
import { inDialOrder } from "../../src/host/conduits.ts";
import { Bed, full, next, Probe } from "../integration/helpers.ts";
import { TunnelNode } from "../integration/tunnel-nodes.ts";

const CLASSES: readonly ChannelClass[] = ["control", "high", "normal", "bulk"];
const CONDUITS: readonly Conduit[] = ["tcp", "unix", "memory"];

/** Where a node called `name` listens. */
function placeOf(conduit: Conduit, bed: Bed, name: string): string {
  if (conduit === "tcp") return "/ip4/127.0.0.1/tcp/0";
  if (conduit === "unix") return `/unix/${encodeURIComponent(join(bed.directory, `${name}.sock`))}`;
  return `/memory/${bed.directory.slice(-6)}-${name}`;
}

describe.each(CONDUITS)("a conduit, %s,", (conduit) => {
  it("carries frames of any length and class, whole and in order, both ways", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { listen: [placeOf(conduit, bed, "a")] });
    const b = await bed.mesh("b", { listen: [placeOf(conduit, bed, "b")], bootstrap: a.addresses() });
    await full(a, b);
    expect([a.member(b.peerId)?.conduit, b.member(a.peerId)?.conduit]).toEqual([conduit, conduit]);
    const frames = [0, 1, 100, 65_535, 300_000, 3].map((length) => randomBytes(length));
    await Promise.all(
      CLASSES.map(async (trafficClass) => {
        const [atA, atB] = [
          new Probe(a, trafficClass, trafficClass),
          new Probe(b, trafficClass, trafficClass),
        ];
        await Promise.all([atA.up(), atB.up()]);
        for (const frame of frames) {
          expect(atA.channel.send(b.peerId, frame)).toBe(true);
          expect(atB.channel.send(a.peerId, frame)).toBe(true);
        }
        for (const probe of [atA, atB]) {
          await probe.until(() => probe.frames.length === frames.length);
          expect(probe.frames.map((frame, index) => frames[index]?.equals(frame))).toEqual(
            frames.map(() => true),
          );
        }
      }),
    );
    expect([a.stats().badFrames, b.stats().badFrames]).toEqual([0, 0]);
  });

  it("keeps its order and loses nothing under back-pressure, and refuses what no queue can hold", async () => {
    await using bed = new Bed();
    const queues = { normal: { queueFramesMax: 1_000, queueBytesMax: 1_000_000 } };
    const a = await bed.mesh("a", { listen: [placeOf(conduit, bed, "a")], queues });
    const b = await bed.mesh("b", { listen: [placeOf(conduit, bed, "b")], bootstrap: a.addresses() });
    const [from, to] = [new Probe(a), new Probe(b)];
    await from.up();
    let got = 0;
    to.onFrame = (_peer, frame) => {
      if (Buffer.from(frame).readUInt32BE() !== got) throw new Error("out of order");
      got += 1;
    };
    let refused = 0;
    for (let sent = 0; sent < 2_000;) {
      const frame = Buffer.alloc(20_000);
      frame.writeUInt32BE(sent);
      if (from.channel.send(b.peerId, frame)) sent += 1;
      else {
        refused += 1;
        await to.until(() => got > sent - 40);
      }
    }
    await to.until(() => got === 2_000);
    expect(refused).toBeGreaterThan(0);
    expect([from.count("down"), to.count("down")]).toEqual([0, 0]);
  });

  it("shows a planned stop, and links again to the same place with a higher boot", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { listen: [placeOf(conduit, bed, "a")] });
    const first = await bed.mesh("b", { listen: [placeOf(conduit, bed, "b")], bootstrap: a.addresses() });
    await full(a, first);
    const [stopped, down] = [next(a, "member:stopped"), next(a, "link:down")];
    await first.stop();
    expect([(await stopped).peerId, (await down).peerId]).toEqual([first.peerId, first.peerId]);
    expect(a.member(first.peerId)).toMatchObject({ linked: false, conduit: undefined });
    const joined = next(a, "member:joined");
    const again = await bed.mesh("b", { listen: [placeOf(conduit, bed, "b")], bootstrap: a.addresses() });
    expect((await joined).boot).toBe(again.boot);
    expect(again.boot).toBeGreaterThan(first.boot);
    await full(a, again);
  });

  it("turns away who is of another mesh", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { listen: [placeOf(conduit, bed, "a")] });
    const refused = next(a, "link:refused");
    const listen = [placeOf(conduit, bed, "b")];
    const b = await bed.mesh("b", { listen, bootstrap: a.addresses(), mesh: "other" });
    expect(await refused).toMatchObject({ peerId: b.peerId, code: "MESH_NAME" });
    expect([a.members().length, b.members().length]).toEqual([1, 1]);
  });

  it("cannot be listened on twice", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { listen: [placeOf(conduit, bed, "a")] });
    const taken = a.addresses().map((address) => address.replace(/\/p2p\/.*$/u, ""));
    await expect(bed.mesh("b", { listen: taken })).rejects.toMatchObject({ code: "LISTEN_FAILED" });
  });

  it("tells a refusal, which is evidence, from success", async () => {
    await using bed = new Bed();
    await using stack = new AsyncDisposableStack();
    const start = async (name: string): Promise<TunnelNode> =>
      stack.use(await new TunnelNode({ listen: [placeOf(conduit, bed, name)] }).start());
    const [a, b, c] = [await start("a"), await start("b"), await start("c")];
    const addresses = b.addresses();
    expect(await a.dial(b.peerId, addresses)).toBe("connected");
    const theirs = addresses.map((address) => address.replace(b.peerId, c.peerId));
    expect(await a.dial(c.peerId, theirs)).toBe("refused"); // Another one's key is there.
    await b.stop();
    expect(await a.dial(b.peerId, addresses)).toBe("refused"); // Nobody is.
    expect(await a.dial(b.peerId, [])).toBe("failed"); // That says nothing.
  });
});

describe("several conduits at once", () => {
  it("are all listened on, and the nearest that reaches is used", async () => {
    await using bed = new Bed();
    const everywhere = (name: string): string[] => CONDUITS.map((conduit) => placeOf(conduit, bed, name));
    const a = await bed.mesh("a", { listen: everywhere("a") });
    expect(a.addresses().length).toBe(3);
    const b = await bed.mesh("b", { listen: everywhere("b"), bootstrap: a.addresses() });
    const onSocket = await bed.mesh("c", {
      listen: [placeOf("unix", bed, "c")],
      bootstrap: a.addresses().filter((address) => address.startsWith("/unix/")),
    });
    const onNetwork = await bed.mesh("d", {
      listen: [placeOf("tcp", bed, "d")],
      bootstrap: a.addresses().filter((address) => address.startsWith("/ip4/")),
    });
    await full(a, b, onSocket, onNetwork);
    const over = [b, onSocket, onNetwork].map((mesh) => mesh.member(a.peerId)?.conduit);
    expect(over).toEqual(["memory", "unix", "tcp"]);
  });

  it("never take the name of another process for their own", () => {
    const own = ["/memory/main/p2p/a", "/ip4/127.0.0.1/tcp/1/p2p/a"];
    const theirs = [
      "/ip4/127.0.0.1/tcp/2/p2p/b",
      "/unix/b.sock/p2p/b",
      "/memory/main/p2p/b",
      "/memory/b/p2p/b",
    ];
    expect(inDialOrder(theirs, own)).toEqual([
      "/memory/b/p2p/b",
      "/unix/b.sock/p2p/b",
      "/ip4/127.0.0.1/tcp/2/p2p/b",
    ]);
  });

  it("are tried last where they are none, instead of not at all: somebody may say so of anybody", () => {
    const theirs = ["/nowhere/p2p/b", "/ip4/999.1.1.1/tcp/1/p2p/b", "/unix/b.sock"];
    expect(inDialOrder(theirs, [])).toEqual(["/unix/b.sock", "/nowhere/p2p/b", "/ip4/999.1.1.1/tcp/1/p2p/b"]);
  });
});
