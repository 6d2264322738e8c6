import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { SeededRandom, randomBelow } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { OPEN_NOISE } from "../../src/admission/encrypter.ts";
import { encodeMeshName } from "../../src/codec/admission-codec.ts";
import { FRAME_HEADER_BYTES, writeFrameHeader } from "../../src/codec/framing.ts";
import { encodeLinkMessage, encodeMemberMessage, encodeNotice } from "../../src/codec/link-codec.ts";
import { encodeStateMessage, hashOfValue } from "../../src/codec/state-codec.ts";
import { encodeStateValue } from "../../src/codec/state-value.ts";
import type { SharedEntry } from "../../src/core/state/messages.ts";
import { expectNoGrowth, heapBytes, tries } from "../garbage.ts";
import { Bed, describe as describeMeshes, full, Probe, until } from "./helpers.ts";
import { introducing } from "./stranger.ts";

const SEED = 7;
const random = new SeededRandom(SEED);
/** What ends a connection takes a handshake for the next try: a campaign tries that less often. */
const SHARE = 0.05;

let bed: Bed;
let heapBefore = 0;
let target: Mesh;
let other: Mesh;
let probes: [Probe, Probe];
let dialer: Libp2p;
const unhandled: unknown[] = [];
const onUnhandled = (error: unknown): void => void unhandled.push(error);

beforeAll(async () => {
  bed = new Bed();
  process.on("unhandledRejection", onUnhandled);
  target = await bed.mesh("target", { inboundPerSecondMax: 100_000 });
  other = await bed.mesh("other", { bootstrap: target.addresses() });
  probes = [new Probe(target), new Probe(other)];
  await full(target, other);
  await Promise.all(probes.map((probe) => probe.up()));
  heapBefore = heapBytes();
  dialer = await createLibp2p({
    transports: [tcp()],
    connectionEncrypters: introducing(OPEN_NOISE, encodeMeshName({ mesh: "default" })),
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  });
});

afterAll(async () => {
  await dialer.stop();
  await bed[Symbol.asyncDispose]();
  process.off("unhandledRejection", onUnhandled);
});

/** Nobody died, nothing changed, and frames still flow. */
async function expectUnharmed(): Promise<void> {
  expect(describeMeshes([target, other])).toMatch(
    /^target sees .*other:alive\+.*other sees .*target:alive\+/u,
  );
  expect([target.members().length, other.members().length]).toEqual([2, 2]);
  expect(probes.map((probe) => [probe.count("up"), probe.count("down")])).toEqual([
    [1, 0],
    [1, 0],
  ]);
  const before = probes[1].frames.length;
  expect(probes[0].channel.send(other.peerId, Buffer.of(1))).toBe(true);
  await probes[1].until(() => probes[1].frames.length > before);
  expect(unhandled).toEqual([]);
}

function frame(channel: number, payload: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  writeFrameHeader(bytes, 0, channel, payload.length);
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
}

function garbage(): Uint8Array {
  return randomBytes(1 + randomBelow(random, 200));
}

/** One of ours with some bytes changed, or cut, or with a wrong length. */
function damaged(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (let count = 1 + randomBelow(random, 4); count > 0; count -= 1) {
    copy[randomBelow(random, copy.length)] = randomBelow(random, 256);
  }
  return copy.subarray(0, 1 + randomBelow(random, copy.length));
}

function helloOf(peer: string, name = "stranger"): Uint8Array {
  const record = { peer, boot: 1, inc: 0, name, cloud: "default", tags: {}, addresses: [] };
  const hello = {
    mesh: "default",
    instance: "0".repeat(32),
    wallMs: 1,
    knownBoot: 0,
    frameBytesMax: 1_000,
    record,
    digest: undefined,
  };
  return encodeLinkMessage({ type: "hello", hello });
}

/** Sends over a stream; `false` once the other end has ended it. */
function push(stream: Stream, bytes: Uint8Array): boolean {
  try {
    stream.send(bytes);
    return stream.status === "open";
  } catch {
    return false;
  }
}

async function ended(what: Stream | Connection): Promise<void> {
  if (what.status !== "open") return;
  await new Promise<void>((resolve) => {
    const target: Pick<EventTarget, "addEventListener"> = what;
    target.addEventListener("close", () => resolve(), { once: true });
  });
}

async function dial(): Promise<Connection> {
  return dialer.dial(multiaddr(target.addresses()[0] ?? ""), { force: true });
}

async function inTurns(count: number, atOnce: number, attempt: () => Promise<void>): Promise<void> {
  let left = count;
  const worker = async (): Promise<void> => {
    for (; left > 0; left -= 1) await attempt();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** A connection that is a link, to a member called rogue. */
async function admitted(): Promise<{ readonly connection: Connection; readonly link: Stream }> {
  const self = dialer.peerId.toString();
  const connection = await dial();
  const link = await connection.newStream("/klatsch/link/1");
  push(link, frame(0, helloOf(self, "rogue")));
  if (target.peerId > self) push(link, frame(0, encodeLinkMessage({ type: "accept" })));
  return { connection, link };
}

describe("garbage", () => {
  it(`at the port: ${tries(6_000)} connections of random bytes change nothing`, async () => {
    const port = Number(target.addresses()[0]?.split("/")[4]);
    await inTurns(tries(6_000), 20, async () => {
      const socket = connect(port, "127.0.0.1");
      await new Promise<void>((resolve) => {
        socket.on("error", () => resolve());
        socket.on("close", () => resolve());
        socket.write(garbage(), () => socket.destroy());
      });
    });
    await expectUnharmed();
  });

  it(`on streams of a peer that never greeted: ${tries(3_000)} tries change nothing`, async () => {
    const protocols = ["/klatsch/control/1", "/klatsch/high/1", "/klatsch/normal/1", "/klatsch/bulk/1"];
    const notice = frame(0, encodeNotice({ type: "open", number: 1, name: "test", seen: 0 }));
    let connection = await dial();
    await inTurns(tries(3_000), 1, async () => {
      if (connection.status !== "open") connection = await dial();
      const protocol = protocols[randomBelow(random, protocols.length)] ?? "";
      try {
        const stream = await connection.newStream(protocol);
        push(stream, randomBelow(random, 2) === 0 ? garbage() : damaged(notice));
        stream.abort(new Error("next"));
      } catch {
        // Refused, or the hello time is over: as it should be.
      }
    });
    connection.abort(new Error("done"));
    await expectUnharmed();
  });

  it(`on link streams, some of it after a good hello: ${tries(1_200, SHARE)} tries change nothing`, async () => {
    const self = dialer.peerId.toString();
    const views = encodeMemberMessage({ type: "ping", nonce: 1, hash: 1 });
    await inTurns(tries(1_200, SHARE), 4, async () => {
      const connection = await dial();
      try {
        const stream = await connection.newStream("/klatsch/link/1");
        const kind = randomBelow(random, 4);
        if (kind === 0) push(stream, garbage());
        else if (kind === 1) push(stream, frame(0, damaged(helloOf(self))));
        else if (kind === 2) push(stream, damaged(frame(0, helloOf(self))));
        else push(stream, frame(1, damaged(views[0] ?? Buffer.of(0))));
        // Garbage that happens to be the beginning of a longer frame would wait for its rest until the hello time is over.
        push(stream, Buffer.alloc(100, 0xff));
        await Promise.race([ended(connection), new Promise((resolve) => setTimeout(resolve, 20))]);
      } catch {
        // Refused while the stream opened.
      }
      connection.abort(new Error("next"));
    });
    expect(target.stats().badFrames).toBeGreaterThan(500);
    await until([target], () => target.stats().connections === 1);
    // A damaged hello may still be a good one: then the stranger was a member of this open mesh for a moment.
    const strangers = target.members().filter(({ peerId }) => peerId === self);
    expect(strangers.length).toBeLessThanOrEqual(1);
  });

  it("from an admitted member ends its own streams and nobody else's", async () => {
    const self = dialer.peerId.toString();
    let { connection, link } = await admitted();
    await until([target], () => target.member(self)?.linked === true);
    for (let round = 0; round < tries(300); round += 1) {
      // It answers no probe, so it is held dead before long.
      if (connection.status !== "open") ({ connection, link } = await admitted());
      const stream = await connection.newStream("/klatsch/normal/1").catch(() => undefined);
      if (stream === undefined) continue;
      push(stream, frame(0, encodeNotice({ type: "open", number: 1, name: "test", seen: 0 })));
      // Frames of a channel that was never offered, notices that are none, lengths beyond the limit.
      const bad = [frame(9, garbage()), frame(0, garbage()), Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 1])][
        round % 3
      ];
      push(stream, bad ?? garbage());
      await ended(stream);
    }
    expect(target.member(self)?.linked).toBe(true);
    // A table of lies about others: who is heard is not dead, and the rest are candidates that nobody can reach.
    const record = target.member(other.peerId);
    if (record === undefined) throw new Error("other is gone");
    const lie = {
      peer: record.peerId,
      boot: record.boot,
      inc: 9,
      name: "x",
      cloud: "x",
      tags: {},
      addresses: [],
    };
    const lies = encodeMemberMessage({ type: "views", views: [{ ...lie, status: "dead", ageMs: 0 }] });
    for (const bytes of lies) push(link, frame(1, bytes));
    push(link, frame(1, garbage()));
    await ended(connection);
    await until([target], () => target.member(self)?.linked === false);
    expect(target.member(other.peerId)).toMatchObject({ status: "alive", linked: true });
  });

  it(`about gossip state: ${tries(300, SHARE)} tries change nothing, forged entries are refused, and lies are refuted`, async () => {
    const self = dialer.peerId.toString();
    other.state.set("color", "blue");
    await target.state.shared.set("genuine", 1);
    const value = encodeStateValue("red") ?? Buffer.of();
    const { boot } = other;
    const delta = {
      peer: other.peerId,
      boot,
      floor: 0,
      from: 0,
      to: 99,
      entries: [{ key: "color", version: 99, value }],
    };
    const entry: SharedEntry = {
      ...{ key: "genuine", value, valueHash: hashOfValue(value), override: true, l: Date.now(), c: 9 },
      ...{ writer: other.peerId, signature: new Uint8Array(64).fill(1), credential: undefined },
    };
    const [lie = Buffer.of(), forged = Buffer.of()] = [
      encodeStateMessage({ type: "reset", delta, toAll: false }),
      encodeStateMessage({ type: "shared", entries: [entry], toAll: false }),
    ].flat();

    const badBefore = target.stats().badFrames;
    await inTurns(tries(300, SHARE), 2, async () => {
      try {
        const { link } = await admitted();
        push(
          link,
          frame(
            2,
            randomBelow(random, 2) === 0 ? garbage() : damaged(randomBelow(random, 2) === 0 ? lie : forged),
          ),
        );
        push(link, Buffer.alloc(100, 0xff));
        await Promise.race([ended(link), new Promise((resolve) => setTimeout(resolve, 20))]);
        link.abort(new Error("next"));
      } catch {
        // Refused while the stream opened.
      }
    });
    expect(target.stats().badFrames).toBeGreaterThan(badBefore + 100);

    const refusedBefore = target.stats().stateRefused;
    const { link } = await admitted();
    await until([target], () => target.member(self)?.linked === true);
    push(link, frame(2, forged));
    await ended(link);
    expect(target.stats().stateRefused).toBeGreaterThan(refusedBefore);
    expect([target.state.shared.get("genuine"), other.state.shared.get("genuine")]).toEqual([1, 1]);

    // A member is believed about others, until they hear of it.
    await until([target], () => target.member(self)?.linked !== true);
    const { link: liar } = await admitted();
    await until([target], () => target.member(self)?.linked === true);
    const colors: unknown[] = [];
    const refuted = new Promise<void>((resolve) => {
      target.state.watch({ peerId: other.peerId, key: "color" }, ({ value }) => {
        colors.push(value);
        if (value === "blue" && colors.includes("red")) resolve();
      });
    });
    push(liar, frame(2, lie));
    await refuted;
    expect(other.boot).toBeGreaterThan(boot);
    liar.abort(new Error("done"));
  });

  it("in addresses of somebody there is not is dialled in vain", async () => {
    const { connection, link } = await admitted();
    await until([target], () => target.member(dialer.peerId.toString())?.linked === true);
    const peer = peerIdFromPrivateKey(await generateKeyPair("Ed25519")).toString();
    const addresses = ["/nowhere", "/ip4/999.1.1.1/tcp/1", "/unix/%00", "/ip4/127.0.0.1/tcp/9"].map(
      (address) => `${address}/p2p/${peer}`,
    );
    const ghost = { peer, boot: 1, inc: 0, name: "ghost", cloud: "default", tags: {}, addresses };
    const before = target.stats().dialsFailed;
    const view = { ...ghost, status: "alive", ageMs: 0, vouched: true } as const;
    for (const bytes of encodeMemberMessage({ type: "views", views: [view] })) push(link, frame(1, bytes));
    await until([target], () => target.stats().dialsFailed > before);
    connection.abort(new Error("done"));
    await until([target], () => target.member(dialer.peerId.toString())?.linked !== true);
    // Nobody has a link to it: among so few it is suspected for up to 8 s, and for longer by a process that comes late itself.
    const isDead = (): boolean => [target, other].every((mesh) => mesh.member(peer)?.status === "dead");
    await until([target, other], isDead, 30_000);
  }, 60_000);

  it.each([
    ["of another version", Buffer.from("050000000000000100000000", "hex")],
    ["of no known type", Buffer.from("000900000000000100000000", "hex")],
    ["that answer no ping", Buffer.from("000200020000000000000007", "hex")],
    ["for a stream that only the other end can open", Buffer.from("000100010000000200000000", "hex")],
    [
      "that are longer than the window",
      Buffer.concat([Buffer.from("000000000000000100080000", "hex"), Buffer.alloc(0x8_0000)]),
    ],
  ])("of the muxer's frames, %s, ends the connection", async (_what, bytes) => {
    const { connection } = await admitted();
    await until([target], () => target.member(dialer.peerId.toString())?.linked === true);
    (connection as unknown as { muxer: { send(bytes: Uint8Array): boolean } }).muxer.send(bytes);
    await ended(connection);
    await until([target], () => target.member(dialer.peerId.toString())?.linked !== true);
  });

  it("leaves the two as they were, and their heap", async () => {
    expectNoGrowth("two nodes", heapBefore);
    expect(target.member(other.peerId)?.status).toBe("alive");
    expect(probes[0].log).not.toContain(`down ${other.peerId}`);
    expect(probes[1].log).not.toContain(`down ${target.peerId}`);
    expect(unhandled).toEqual([]);
    const before = probes[0].frames.length;
    probes[1].channel.send(target.peerId, Buffer.of(1));
    await probes[0].until(() => probes[0].frames.length > before);
  });
});
