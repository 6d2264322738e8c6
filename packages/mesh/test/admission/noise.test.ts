import { Socket } from "node:net";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { noise } from "@libp2p/noise";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { multiaddrConnectionPair } from "@libp2p/utils";
import type { MessageStream, MultiaddrConnection } from "@libp2p/interface";
import { Uint8ArrayList } from "uint8arraylist";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { thriftyNoise } from "../../src/admission/noise.ts";
import type { NoiseComponents } from "../../src/admission/noise.ts";

const SIZES = [1, 12, 600, 700, 1_200, 20_000, 65_519, 65_520, 200_000];
const ALONE = { skipStreamMuxerNegotiation: true };

async function componentsFor({ log }: MultiaddrConnection): Promise<NoiseComponents> {
  const privateKey = await generateKeyPair("Ed25519");
  const logger = { forComponent: () => log };
  const components = { privateKey, peerId: peerIdFromPrivateKey(privateKey), logger };
  // Nothing else of it is used where no muxer is negotiated.
  return components as unknown as NoiseComponents;
}

/** Two ends that have shaken hands, and how many pieces each raw end was given since then. */
async function pair(outbound: typeof thriftyNoise, inbound: typeof thriftyNoise) {
  const [one, other] = multiaddrConnectionPair();
  let pieces = 0;
  const send = one.send.bind(one);
  one.send = (bytes) => {
    pieces += bytes instanceof Uint8Array ? 1 : [...bytes].length;
    return send(bytes);
  };
  const [near, far] = await Promise.all([
    outbound(await componentsFor(one)).secureOutbound(one, ALONE),
    inbound(await componentsFor(other)).secureInbound(other, ALONE),
  ]);
  pieces = 0;
  return { near: near.connection, far: far.connection, pieces: () => pieces };
}

function received(stream: MessageStream, bytes: number): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const all = new Uint8ArrayList();
    stream.addEventListener("message", ({ data }) => {
      all.append(data);
      if (all.byteLength >= bytes) resolve(all.subarray());
    });
  });
}

/** In pieces as a muxer sends them: a short header, then views of what the application sent. */
function message(bytes: number): { readonly whole: Uint8Array; readonly list: Uint8ArrayList } {
  const whole = Uint8Array.from({ length: bytes }, (_, at) => (at * 7) & 0xff);
  const cut = Math.min(12, bytes - 1);
  return { whole, list: new Uint8ArrayList(whole.subarray(0, cut), whole.subarray(cut)) };
}

describe("thrifty Noise", () => {
  it.each([
    ["its like", thriftyNoise, thriftyNoise],
    ["libp2p's", thriftyNoise, noise()],
    ["libp2p's the other way round", noise(), thriftyNoise],
  ])("understands %s", async (_, outbound, inbound) => {
    const { near, far } = await pair(outbound, inbound);
    const total = SIZES.reduce((sum, size) => sum + size, 0);
    const arrived = received(far, total);
    for (const size of SIZES) near.send(message(size).list);
    expect(Buffer.compare(await arrived, Buffer.concat(SIZES.map((size) => message(size).whole)))).toBe(0);
  });

  it("hands what one send consists of to the socket in one piece", async () => {
    const { near, far, pieces } = await pair(thriftyNoise, thriftyNoise);
    const arrived = received(far, 12 + 2_000);
    near.send(message(12).whole);
    near.send(message(2_000).list);
    await arrived;
    expect(pieces()).toBe(2);
  });

  it("writes long pieces in one system call, and those behind a socket that is full once it is not", async () => {
    const [one, other] = multiaddrConnectionPair();
    const raw = one as unknown as { sendData(bytes: Uint8ArrayList): unknown; socket: Socket };
    const toPeer = raw.sendData.bind(one);
    const calls: number[] = [];
    const socket = new Socket();
    socket._writev = (chunks, done) => {
      const bytes = new Uint8ArrayList(...chunks.map(({ chunk }) => chunk as Uint8Array));
      calls.push(bytes.byteLength);
      toPeer(bytes);
      setImmediate(done);
    };
    socket._write = (chunk: Uint8Array, encoding, done) => socket._writev?.([{ chunk, encoding }], done);
    socket.on("drain", () => one.dispatchEvent(new Event("drain")));
    raw.socket = socket;
    const [near, far] = await Promise.all([
      thriftyNoise(await componentsFor(one)).secureOutbound(one, ALONE),
      thriftyNoise(await componentsFor(other)).secureInbound(other, ALONE),
    ]);
    calls.length = 0;
    const arrived = received(far.connection, 400_000);
    near.connection.send(message(200_000).list);
    near.connection.send(message(200_000).list);
    const { whole } = message(200_000);
    expect(Buffer.compare(await arrived, Buffer.concat([whole, whole]))).toBe(0);
    // A length of 2 bytes and a tag of 16 for each 65,519 bytes.
    expect(calls).toEqual([200_072, 200_072]);
  });

  it("reads what arrives byte by byte, and learns from no exception what is missing", async () => {
    const [one, other] = multiaddrConnectionPair();
    const [near, far] = await Promise.all([
      thriftyNoise(await componentsFor(one)).secureOutbound(one, ALONE),
      thriftyNoise(await componentsFor(other)).secureInbound(other, ALONE),
    ]);
    const send = one.send.bind(one);
    one.send = (bytes) => {
      let more = true;
      for (const byte of bytes.subarray()) more = send(Uint8Array.of(byte));
      return more;
    };
    const thrown = vi.spyOn(globalThis, "RangeError");
    onTestFinished(() => thrown.mockRestore());
    const arrived = received(far.connection, 300);
    near.connection.send(message(100).list);
    near.connection.send(message(200).list);
    expect(Buffer.from(await arrived)).toEqual(Buffer.concat([message(100).whole, message(200).whole]));
    expect(thrown).not.toHaveBeenCalled();
  });

  it.each([100, 5_000])("ends the connection at one flipped bit in %i bytes", async (size) => {
    const [one, other] = multiaddrConnectionPair();
    const send = one.send.bind(one);
    let flip = false;
    one.send = (bytes) => {
      const copy = bytes instanceof Uint8Array ? bytes.slice() : bytes.slice();
      if (flip) copy[size >> 1] = (copy[size >> 1] ?? 0) ^ 1;
      return send(copy);
    };
    const [near, far] = await Promise.all([
      thriftyNoise(await componentsFor(one)).secureOutbound(one, ALONE),
      thriftyNoise(await componentsFor(other)).secureInbound(other, ALONE),
    ]);
    const ended = new Promise((resolve) => far.connection.addEventListener("close", resolve));
    let seen = 0;
    far.connection.addEventListener("message", () => (seen += 1));
    flip = true;
    near.connection.send(message(size).whole);
    await ended;
    expect(seen).toBe(0);
  });
});
