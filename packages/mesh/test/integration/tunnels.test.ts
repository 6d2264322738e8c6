import { randomBytes } from "node:crypto";
import type { Connection, Stream } from "@libp2p/interface";
import { SeededRandom, randomBelow } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { encodeTunnelAnswer, encodeTunnelRequest } from "../../src/codec/tunnel-codec.ts";
import { TUNNEL_PROTOCOL } from "../../src/host/tunnels.ts";
import { CAMPAIGN_MS, expectNoGrowth, heapBytes, isCampaign, tries } from "../garbage.ts";
import { chain, TEST_PROTOCOL } from "./tunnel-nodes.ts";
import type { TunnelNode } from "./tunnel-nodes.ts";

async function open(connection: Connection): Promise<Stream> {
  return connection.newStream(TEST_PROTOCOL, { runOnLimitedConnection: true });
}

/** Sends all of it as fast as the stream takes it. */
async function pour(stream: Stream, bytes: number, chunk: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes; sent += chunk.length) {
    if (stream.status !== "open") return;
    if (stream.send(chunk)) continue;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stream.removeEventListener("drain", drained);
        stream.removeEventListener("close", done);
        resolve();
      };
      const drained = (): void => queueMicrotask(() => (stream.writableNeedsDrain ? undefined : done()));
      stream.addEventListener("drain", drained);
      stream.addEventListener("close", done);
    });
  }
}

/** Counts what arrives at a node's streams. */
function sink(node: TunnelNode): () => number {
  let got = 0;
  node.onStream = (stream) =>
    stream.addEventListener("message", (event) => void (got += event.data.byteLength));
  return () => got;
}

async function closed(what: Connection | Stream): Promise<void> {
  if (what.status !== "open") return;
  const target: Pick<EventTarget, "addEventListener"> = what;
  await new Promise<void>((resolve) => target.addEventListener("close", () => resolve(), { once: true }));
}

describe("a tunnel", () => {
  it("over three links is an ordinary connection with the node at its end", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c, d] = (await chain(stack, 4)) as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    const arrived = new Promise<string>((resolve) => {
      d.onStream = (stream, connection) => {
        stream.addEventListener("message", (event) => {
          stream.send(event.data);
          resolve(connection.remotePeer.toString());
        });
      };
    });
    const connection = await a.open([b, c, d]);
    expect(connection.remotePeer.toString()).toBe(d.peerId);
    const stream = await open(connection);
    const echoed = new Promise<string>((resolve) => {
      stream.addEventListener("message", (event) => resolve(Buffer.from(event.data.subarray()).toString()));
    });
    stream.send(Buffer.from("hello"));
    expect(await echoed).toBe("hello");
    expect(await arrived).toBe(a.peerId);
    expect([a, b, c, d].map(({ tunnels }) => tunnels.carriedCount)).toEqual([0, 1, 1, 0]);
    connection.abort(new Error("done"));
    await closed(d.tunnelled[0] as Connection);
    await Promise.all([b, c].map((node) => until(() => node.tunnels.carriedCount === 0)));
  });

  it("carries much in bounded memory to a reader that is slow", { timeout: 60_000 }, async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c, d] = (await chain(stack, 4)) as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    const total = 64 * 1024 * 1024;
    let got = 0;
    d.onStream = (stream) => {
      stream.addEventListener("message", (event) => {
        got += event.data.byteLength;
        queueMicrotask(() => {
          if (stream.status !== "open") return;
          stream.pause();
          setImmediate(() => stream.resume());
        });
      });
    };
    const stream = await open(await a.open([b, c, d]));
    let ahead = 0;
    const watch = setInterval(() => (ahead = Math.max(ahead, b.carriedBytes - got)), 1);
    await pour(stream, total, randomBytes(64 * 1024));
    await until(() => got >= total);
    clearInterval(watch);
    // Two relays and two ends, each with a window or two each way.
    expect(ahead).toBeLessThan(4 * 1024 * 1024);
  });

  it("holds back a sender whose reader has stopped", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c, d] = (await chain(stack, 4)) as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    d.onStream = (stream) => stream.pause();
    const stream = await open(await a.open([b, c, d]));
    const pouring = pour(stream, 16 * 1024 * 1024, Buffer.alloc(64 * 1024));
    let before = -1;
    while (before !== b.carriedBytes) {
      before = b.carriedBytes;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(b.carriedBytes).toBeLessThan(2 * 1024 * 1024);
    stream.abort(new Error("enough"));
    await pouring;
  });

  it("shows a relay nothing of what it carries", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c, d] = (await chain(stack, 4)) as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    const recorded: Uint8Array[] = [];
    for (const relay of [b, c]) relay.onCarried = (bytes) => recorded.push(Uint8Array.from(bytes));
    const secret = Buffer.from("Der Wolf und die sieben jungen Geisslein");
    const got = sink(d);
    const stream = await open(await a.open([b, c, d]));
    const frame = Buffer.concat(Array.from({ length: 200 }, () => secret));
    await pour(stream, frame.length * 50, frame);
    await until(() => got() >= frame.length * 50);
    const all = Buffer.concat(recorded);
    expect(all.length).toBeGreaterThan(2 * frame.length * 50);
    for (const known of [secret, Buffer.from(TEST_PROTOCOL), Buffer.from(a.peerId), Buffer.from(d.peerId)])
      expect(all.includes(known)).toBe(false);
  });

  it("ends at both ends when a relay dies", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c, d] = (await chain(stack, 4)) as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    const connection = await a.open([b, c, d]);
    await until(() => d.tunnelled.length === 1);
    const other = d.tunnelled[0] as Connection;
    c.direct(b.peerId)?.abort(new Error("cut"));
    await Promise.all([closed(connection), closed(other)]);
  });

  it("is refused by the hop that has no link to the next, and the hop is named", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c, d] = (await chain(stack, 4)) as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    await expect(a.open([b, d])).rejects.toMatchObject({ hop: 1, code: "NOT_DIRECT" });
    await expect(a.open([c, d])).rejects.toMatchObject({ hop: 0, code: "NOT_DIRECT" });
    await expect(a.open([b, c, b])).rejects.toMatchObject({ hop: 1, code: "BAD_ROUTE" });
    await expect(a.open([b, c, a])).rejects.toMatchObject({ hop: 1, code: "BAD_ROUTE" });
    expect([b, c].map(({ tunnels }) => tunnels.carriedCount)).toEqual([0, 0]);
  });

  it("cannot pass another tunnel", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c] = (await chain(stack, 3)) as [TunnelNode, TunnelNode, TunnelNode];
    const connection = await a.open([b, c]);
    await expect(
      connection.newStream("/klatsch/tunnel/1", { runOnLimitedConnection: true }).then(async (stream) => {
        stream.send(Buffer.of(0, 1, 0));
        await closed(stream);
        throw new Error(stream.status);
      }),
    ).rejects.toThrow();
    expect(c.bad).toEqual([]); // It was not even read.
  });

  it("counts against the relay's limits until it ends", async () => {
    await using stack = new AsyncDisposableStack();
    const limits = { tunnelsMax: 3, tunnelsPerSourceMax: 2 };
    const [a, b, c] = (await chain(stack, 3, () => ({ limits }))) as [TunnelNode, TunnelNode, TunnelNode];
    const [first] = [await a.open([b, c]), await a.open([b, c])];
    await expect(a.open([b, c])).rejects.toMatchObject({ hop: 1, code: "RELAY_FULL" });
    await c.open([b, a]);
    first?.abort(new Error("done"));
    await until(() => b.tunnels.carriedCount === 2);
    await a.open([b, c]);
    expect(b.tunnels.carriedCount).toBe(3);
    await expect(c.open([b, a])).rejects.toMatchObject({ code: "RELAY_FULL" });
  });

  it("is given up where a hop does not answer, and named at the last hop that did", async () => {
    await using stack = new AsyncDisposableStack();
    const times = { halfOpenMs: 200 };
    const nodes = await chain(stack, 4, (index) => (index === 1 ? { times } : {}));
    const [a, b, c, d] = nodes as [TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    c.tunnels.accept = () => undefined; // Takes the stream and says nothing.
    await expect(a.open([b, c, d])).rejects.toMatchObject({ hop: 1, code: "TIMED_OUT" });
    expect(b.tunnels.carriedCount).toBe(0);
  });

  it("is ended by a relay once it carried nothing for long", async () => {
    await using stack = new AsyncDisposableStack();
    const nodes = await chain(stack, 3, () => ({ times: { idleMs: 200 } }));
    const [a, b, c] = nodes as [TunnelNode, TunnelNode, TunnelNode];
    const connection = await a.open([b, c]);
    await closed(connection);
    expect(b.tunnels.carriedCount).toBe(0);
  });

  it("passes between clouds over gateways only, and only where both clouds want it", async () => {
    await using stack = new AsyncDisposableStack();
    const selves = [
      { cloud: "x" },
      { cloud: "x", gateway: true },
      { cloud: "y", gateway: true, reaches: ["x"] },
      { cloud: "y" },
      { cloud: "z" },
    ];
    const nodes = await chain(stack, 5, (index) => ({ self: selves[index] ?? {} }));
    for (const node of nodes)
      for (const [index, other] of nodes.entries()) node.clouds.set(other.peerId, selves[index]?.cloud ?? "");
    const [a, b, c, d, e] = nodes as [TunnelNode, TunnelNode, TunnelNode, TunnelNode, TunnelNode];
    await a.open([b, c, d]);
    // The third is no gateway for anybody of z, and the fourth is none at all.
    await expect(a.open([b, c, d, e])).rejects.toMatchObject({ hop: 2, code: "FORBIDDEN" });
    await expect(b.open([c, d, e])).rejects.toMatchObject({ hop: 1, code: "FORBIDDEN" });
    await expect(c.open([d, e])).rejects.toMatchObject({ hop: 1, code: "FORBIDDEN" });
  });
});

/** Again until it works: the muxer at the other end resets streams that come too fast, and takes more a little later. */
async function patiently<Result>(link: Connection, open: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await open();
    } catch (error) {
      if (link.status !== "open") throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

describe("garbage on the tunnel protocol", () => {
  const streams = tries(2_000);
  const timeout = isCampaign ? CAMPAIGN_MS : 60_000;
  it(`ends its stream, is counted, and harms nothing: ${streams} streams`, { timeout }, async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c] = (await chain(stack, 3)) as [TunnelNode, TunnelNode, TunnelNode];
    const random = new SeededRandom(11);
    const good = encodeTunnelRequest({
      class: "normal",
      route: [a.peerId, b.peerId, c.peerId],
      index: 1,
      deadlineMs: 100,
    });
    const link = a.direct(b.peerId);
    if (link === undefined) throw new Error("no link");
    const heap = heapBytes();
    for (let round = 0; round < streams; round += 1) {
      const stream = await patiently(link, () => link.newStream(TUNNEL_PROTOCOL));
      const bytes = round % 2 === 0 ? randomBytes(1 + randomBelow(random, 200)) : Uint8Array.from(good);
      for (let count = round % 2 === 0 ? 0 : 1 + randomBelow(random, 4); count > 0; count -= 1)
        bytes[randomBelow(random, bytes.length)] = randomBelow(random, 256);
      if (stream.status === "open") stream.send(bytes.subarray(0, 1 + randomBelow(random, bytes.length)));
      // The rest of a word that was cut, or the first bytes through a tunnel that opened all the same.
      if (stream.status === "open") stream.send(Buffer.alloc(1_100, 0xff));
      await new Promise((resolve) => setImmediate(resolve));
      stream.abort(new Error("next"));
      // Meanwhile others are served.
      if (round % 1_000 === 999) (await patiently(link, () => a.open([b, c]))).abort(new Error("seen"));
    }
    await until(() => b.tunnels.carriedCount === 0);
    expect(b.bad.splice(0).length).toBeGreaterThan(streams / 4);
    expectNoGrowth("three nodes of a tunnel", heap);
    expect(link.status).toBe("open");
    await patiently(link, () => a.open([b, c]));
  });

  it("from behind is not passed on: a hop that answers nonsense is refused and named by the one before it", async () => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c] = (await chain(stack, 3)) as [TunnelNode, TunnelNode, TunnelNode];
    const answers = [
      Buffer.of(0xff, 0xff),
      Buffer.of(0, 1, 0x90),
      // It names a hop before itself.
      encodeTunnelAnswer({ type: "refused", hop: 0, code: "NOT_DIRECT" }),
    ];
    for (const answer of answers) {
      c.tunnels.accept = (stream) => void stream.send(answer);
      await expect(a.open([b, c])).rejects.toMatchObject({ hop: 1 });
    }
    expect(b.bad.length).toBe(answers.length);
    expect(b.tunnels.carriedCount).toBe(0);
  });
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
