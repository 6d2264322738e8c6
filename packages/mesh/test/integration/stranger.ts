import { generateKeyPair } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey, Libp2p } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import type { Mesh } from "@klatsch/mesh";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { admissionEncrypters, CERTIFICATE_NOISE } from "../../src/admission/encrypter.ts";
import type { EncrypterFactory } from "../../src/admission/encrypter.ts";
import { encodeDecision } from "../../src/codec/admission-codec.ts";
import { FRAME_HEADER_BYTES, FrameDecoder, writeFrameHeader } from "../../src/codec/framing.ts";
import {
  decodeMemberMessage,
  encodeLinkMessage,
  encodeMemberMessage,
  LINK_PAYLOAD_BYTES_MAX,
} from "../../src/codec/link-codec.ts";
import type { MemberRecord } from "../../src/core/messages.ts";

const PROTOCOLS: readonly string[] = [
  "/klatsch/link/1",
  "/klatsch/normal/1",
  "/klatsch/tunnel/1",
  "/ipfs/id/1.0.0",
  "/ipfs/ping/1.0.0",
];

/** Encrypters of a node that introduces itself with `introduction`, whatever that is, and finds everybody welcome. */
export function introducing(protocol: string, introduction: Uint8Array): EncrypterFactory[] {
  const notices = { rotations: [], revocations: [] };
  return admissionEncrypters({
    protocol,
    begin: () => ({
      introduction: () => introduction,
      judge: () => undefined,
      decision: () => encodeDecision({ refusal: undefined, detail: "", wallMs: 0, notices }),
      conclude: (message) =>
        message?.type === "decision" && message.refusal !== undefined
          ? { code: message.refusal, detail: "", byUs: false }
          : undefined,
    }),
    onRefused: () => undefined,
  });
}

/** A libp2p node that is not of the mesh, and notes whatever it is nevertheless given. */
export class Stranger implements AsyncDisposable {
  readonly #node: Libp2p;
  /** Protocols that somebody served to it. */
  readonly served: string[] = [];
  /** Connections that it got. */
  connections = 0;

  private constructor(node: Libp2p) {
    this.#node = node;
    node.addEventListener("connection:open", () => (this.connections += 1));
  }

  /** An ordinary node. */
  static async stock(): Promise<Stranger> {
    return await Stranger.#start(await generateKeyPair("Ed25519"), [noise()]);
  }

  /** A node that speaks our handshake and introduces itself with `introduction`, whatever that is. */
  static async impostor(privateKey: Ed25519PrivateKey, introduction: Uint8Array): Promise<Stranger> {
    const encrypters = introducing(CERTIFICATE_NOISE, introduction);
    return await Stranger.#start(privateKey, encrypters);
  }

  static async #start(
    privateKey: Ed25519PrivateKey,
    connectionEncrypters: readonly EncrypterFactory[],
  ): Promise<Stranger> {
    const node = await createLibp2p({
      privateKey,
      addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
      transports: [tcp()],
      connectionEncrypters: [...connectionEncrypters],
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false },
    });
    return new Stranger(node);
  }

  get peerId(): string {
    return this.#node.peerId.toString();
  }

  addresses(): string[] {
    return this.#node.getMultiaddrs().map(String);
  }

  /** Dials and asks for every protocol there is; resolves when all has been tried. */
  async tryEverything(address: string): Promise<void> {
    try {
      const connection = await this.#node.dial(multiaddr(address));
      for (const protocol of PROTOCOLS) {
        const stream = await connection.newStream(protocol).catch(() => undefined);
        if (stream !== undefined) this.served.push(protocol);
      }
    } catch {
      // As it should be.
    }
  }

  /** Becomes a member that answers when it is probed, and else says only what it is told to. */
  async link(
    to: Mesh,
    { mesh, record }: { readonly mesh: string; readonly record: MemberRecord },
  ): Promise<{ say(channel: number, ...payloads: readonly Uint8Array[]): void }> {
    const connection = await this.#node.dial(multiaddr(to.addresses()[0] ?? ""));
    const stream = await connection.newStream("/klatsch/link/1");
    const say = (channel: number, ...payloads: readonly Uint8Array[]): void => {
      for (const payload of payloads) {
        const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
        writeFrameHeader(frame, 0, channel, payload.length);
        frame.set(payload, FRAME_HEADER_BYTES);
        stream.send(frame);
      }
    };
    const decoder = new FrameDecoder(LINK_PAYLOAD_BYTES_MAX);
    const hear = (channel: number, payload: Uint8Array): boolean => {
      const heard = channel === 1 ? decodeMemberMessage(payload) : undefined;
      if (heard?.type === "ping") say(1, ...encodeMemberMessage({ ...heard, type: "ack" }));
      return true;
    };
    stream.addEventListener("message", ({ data }) => void decoder.push(data.subarray(), hear));
    const about = { instance: "0".repeat(32), wallMs: Date.now(), knownBoot: 0, frameBytesMax: 1_000 };
    const hello = { mesh, ...about, record, digest: undefined };
    say(0, encodeLinkMessage({ type: "hello", hello }));
    if (this.peerId < to.peerId) say(0, encodeLinkMessage({ type: "accept" }));
    return { say };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#node.stop();
  }
}
