import { multiaddrConnectionPair } from "@libp2p/utils";
import type { MultiaddrConnection, Stream, StreamMuxer } from "@libp2p/interface";
import { yamux } from "@libp2p/yamux";
import { describe, expect, it } from "vitest";
import { UNLIMITED_STREAMS, withLimits } from "../../src/host/wary-muxer.ts";

const KIB = 1024;
const [DATA, UPDATE, PING] = [0, 1, 2];
const [SYN, ACK, RST] = [1, 2, 8];

function frame(type: number, flags: number, stream: number, length: number, data = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.alloc(12 + data.length);
  bytes[1] = type;
  bytes.writeUInt16BE(flags, 2);
  bytes.writeUInt32BE(stream, 4);
  bytes.writeUInt32BE(length, 8);
  bytes.set(data, 12);
  return bytes;
}

/** A muxer with limits, and the bare other end of its connection. */
function pair(): { wild: MultiaddrConnection; muxer: StreamMuxer; opened: Stream[]; pass(ms: number): void } {
  const [wild, connection] = multiaddrConnectionPair();
  let now = 0;
  const make = yamux({ enableKeepAlive: false, maxInboundStreams: UNLIMITED_STREAMS });
  const init = { frameBytesMax: 1024 * KIB, nowMs: () => now };
  const muxer = withLimits(make(), init).createStreamMuxer(connection);
  const opened: Stream[] = [];
  muxer.addEventListener("stream", ({ detail }) => void opened.push(detail));
  return { wild, muxer, opened, pass: (ms) => void (now += ms) };
}

const turns = async (count = 20): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

describe("a muxer with limits", () => {
  it("puts no frame together that is longer than any window", async () => {
    const { wild, muxer } = pair();
    wild.send(frame(DATA, SYN, 1, 0xffff_ffff));
    for (let sent = 0; sent < 64 && wild.status === "open"; sent += 1) {
      wild.send(Buffer.alloc(64 * KIB));
      await turns(1);
    }
    await turns();
    expect([muxer.status, wild.status]).toEqual(["closed", expect.not.stringMatching("open")]);
  });

  it("takes so many streams at once, resets what is beyond, and ends with who goes on", async () => {
    const { wild, muxer, opened, pass } = pair();
    let stream = -1;
    const open = (count: number): void => {
      const frames = Array.from({ length: count }, () => {
        stream += 2;
        return [frame(UPDATE, SYN, stream, 0), frame(UPDATE, RST, stream, 0)];
      });
      wild.send(Buffer.concat(frames.flat()));
    };
    open(1_500);
    await turns();
    expect([opened.length, muxer.status]).toEqual([1_024, "open"]);
    pass(10_000);
    open(10);
    await turns();
    expect([opened.length, muxer.status]).toEqual([1_034, "open"]);
    open(4_000);
    await turns();
    expect([muxer.status, muxer.streams.length]).toEqual(["closed", 0]);
  });

  it("answers pings, as long as somebody reads the answers", async () => {
    const { wild, muxer } = pair();
    let answers = 0;
    wild.addEventListener("message", () => void (answers += 1));
    wild.send(frame(PING, SYN, 0, 1));
    await turns();
    expect([answers, muxer.status]).toEqual([1, "open"]);
    wild.pause();
    const flood = Buffer.concat(Array.from({ length: 5_000 }, () => frame(PING, SYN, 0, 1)));
    for (let sent = 0; sent < 400 && muxer.status === "open"; sent += 1) {
      wild.send(flood);
      await turns(1);
    }
    expect(muxer.status).toBe("closed");
  });

  it.each([
    ["a length without end", Buffer.alloc(10_000, 0xff)],
    ["a length in three bytes", Buffer.of(0x80, 0x80, 0x01)],
    ["words without end", Buffer.from("\u0001\n".repeat(100))],
    ["a word too long", Buffer.from([0xff, 0x7f])],
  ])("resets a stream that opens with %s", async (_what, words) => {
    const { wild, opened } = pair();
    wild.send(frame(DATA, SYN, 1, words.length, words));
    await turns();
    expect(opened.map(({ status }) => status)).toEqual(["aborted"]);
  });

  it("hands on whatever follows when the protocol is agreed on, and resets a stream that is answered so before", async () => {
    const good = "\u0013/multistream/1.0.0\n\u0003na\n\u0003/b\n";
    for (const [answer, status, handedOn] of [
      ["\xff".repeat(100), "aborted", 0],
      ["\u0003na\n" + "\xff".repeat(100), "aborted", 0],
      [good + "\xff".repeat(100), "open", good.length + 100],
    ] as const) {
      const { wild, muxer } = pair();
      const stream = await muxer.createStream();
      let heard = 0;
      stream.addEventListener("message", ({ data }) => void (heard += data.byteLength));
      const bytes = Buffer.from(answer, "latin1");
      wild.send(frame(DATA, ACK, 2, bytes.length, bytes));
      await turns();
      expect([stream.status, heard]).toEqual([status, handedOn]);
    }
  });
});
