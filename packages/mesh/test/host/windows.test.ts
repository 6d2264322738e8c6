import { multiaddrConnectionPair } from "@libp2p/utils";
import type { Stream } from "@libp2p/interface";
import { yamux } from "@libp2p/yamux";
import { describe, expect, it } from "vitest";
import { withSparingWindows } from "../../src/host/windows.ts";

const KIB = 1024;

/** A stream between two muxers, and the frames with which the receiving end told of room. */
async function streams() {
  const [one, other] = multiaddrConnectionPair();
  const updates: number[] = [];
  const sends: number[] = [];
  const send = other.send.bind(other);
  other.send = (bytes) => {
    const frame = Buffer.from(bytes.subarray());
    sends.push(frame.length);
    if (frame[1] === 1 && frame.readUInt16BE(2) === 0) updates.push(frame.readUInt32BE(8));
    return send(bytes);
  };
  const quiet = yamux({ enableKeepAlive: false });
  const near = withSparingWindows(quiet()).createStreamMuxer(one);
  const far = withSparingWindows(quiet()).createStreamMuxer(other);
  const accepted = new Promise<Stream>((resolve) => {
    far.addEventListener("stream", ({ detail }) => resolve(detail), { once: true });
  });
  const stream = await near.createStream();
  return { stream, accepted: await accepted, updates, sends };
}

/** Sends as many chunks as are given, with back-pressure, and resolves when all of them arrived. */
async function pour(from: Stream, to: Stream, chunks: number, bytes: number): Promise<void> {
  let arrived = 0;
  const all = new Promise<void>((resolve) => {
    to.addEventListener("message", ({ data }) => {
      arrived += data.byteLength;
      if (arrived === chunks * bytes) resolve();
    });
  });
  for (let sent = 0; sent < chunks; sent += 1) {
    if (from.send(new Uint8Array(bytes))) continue;
    await new Promise((resolve) => from.addEventListener("drain", resolve, { once: true }));
  }
  await all;
}

describe("sparing window updates", () => {
  it("tell of room once for many small pieces", async () => {
    const { stream, accepted, updates } = await streams();
    await pour(stream, accepted, 200, KIB);
    expect(updates.length).toBeLessThanOrEqual(3);
    expect(updates.every((bytes) => bytes >= 64 * KIB)).toBe(true);
  });

  it("leave with an answer, behind it, if there is one in the same turn", async () => {
    const { stream, accepted, sends } = await streams();
    await pour(stream, accepted, 1, KIB); // The first one is answered by an update that confirms the stream.
    const answer = (): void => queueMicrotask(() => void accepted.send(new Uint8Array(5)));
    accepted.addEventListener("message", answer, { once: true });
    sends.length = 0;
    await pour(stream, accepted, 1, 100 * KIB);
    await new Promise((resolve) => setImmediate(resolve));
    // Header and data, then the update: all in one.
    expect(sends).toEqual([12 + 5 + 12]);
  });

  it("never let the sender stand still: many windows pass one after the other", async () => {
    const { stream, accepted, updates } = await streams();
    await pour(stream, accepted, 64, 100 * KIB);
    await new Promise((resolve) => setImmediate(resolve)); // What is told at the end of this turn.
    const told = updates.reduce((sum, bytes) => sum + bytes, 0);
    // All but the last piece, whose update may still be on its way, and what is held back.
    expect(told).toBeGreaterThanOrEqual((6_400 - 100 - 64) * KIB);
  });
});
