import { yamux } from "@libp2p/yamux";
import type { Connection, Ed25519PrivateKey, Libp2p, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import type { EncrypterFactory } from "../admission/encrypter.ts";
import { MeshError } from "../errors.ts";
import type { ChannelClass } from "../types.ts";
import { CHANNEL_CLASSES } from "./channels.ts";
import { conduits, inDialOrder, isRefusal, removeStaleSocket } from "./conduits.ts";
import { classProtocol, LINK_PROTOCOL } from "./link-connection.ts";
import { TUNNEL_PROTOCOL } from "./tunnels.ts";
import type { Tunnels } from "./tunnels.ts";

/** A dial, the handshake included, may take this long, in milliseconds. */
const DIAL_MS = 3_000;
/** Connections that may be half open at once. */
const PENDING_MAX = 256;
/** Each member may briefly have two: both ends dialled. */
const CONNECTIONS_PER_MEMBER = 4;
/** Tunnel streams between two nodes, each way: all that a relay carries may pass one link. */
const TUNNEL_STREAMS_MAX = 256;
/** Read buffer of a stream nobody listens to yet. */
const READ_BUFFER_BYTES_MAX: number = 2 * 1024 * 1024;
/** LIBP2P.md: a window may grow only as far as the read buffer can hold. The initial one stays at the default. */
const WINDOW_BYTES_MAX: number = 1024 * 1024;

export interface NodeInit {
  readonly privateKey: Ed25519PrivateKey;
  /** What decides who is let in. */
  readonly encrypters: readonly EncrypterFactory[];
  readonly listen: readonly string[];
  readonly announce: readonly string[];
  readonly membersMax: number;
  /** Inbound connections per second that one host may open. */
  readonly inboundPerSecondMax: number;
  readonly tunnels: Tunnels;
  onConnection(connection: Connection): void;
  onStream(kind: ChannelClass | "link", stream: Stream, connection: Connection): void;
}

/**
 * How a dial ended. `refused` is hard evidence that nobody of this identity listens there: the kernel refused
 * at every address, or another peer answered. Everything else (time-out, handshake cut short) is `failed`.
 */
type DialOutcome = "connected" | "refused" | "failed";

/** The libp2p node under a mesh: everything of it that the mesh uses. */
export interface LinkNode {
  readonly peerId: string;
  addresses(): string[];
  connections(): Connection[];
  dial(peer: string, addresses: readonly string[]): Promise<DialOutcome>;
  stop(): Promise<void>;
}

/** Starts a libp2p node. @throws MeshError `LISTEN_FAILED`. */
export async function startNode(init: NodeInit): Promise<LinkNode> {
  const node = await createLibp2p({
    privateKey: init.privateKey,
    start: false,
    addresses: { listen: [...init.listen], announce: [...init.announce] },
    transports: [...conduits(), init.tunnels.transport],
    connectionEncrypters: [...init.encrypters],
    streamMuxers: [
      yamux({
        enableKeepAlive: false, // Our probes do that.
        streamOptions: { maxStreamWindowSize: WINDOW_BYTES_MAX, maxReadBufferLength: READ_BUFFER_BYTES_MAX },
      }),
    ],
    connectionMonitor: { enabled: false }, // Likewise; it costs 0.3 % CPU and 1.2 kB/s a node.
    connectionManager: {
      maxConnections: init.membersMax * CONNECTIONS_PER_MEMBER,
      maxIncomingPendingConnections: PENDING_MAX,
      inboundConnectionThreshold: init.inboundPerSecondMax, // The default of 5 is less than one restarted rack.
      inboundUpgradeTimeout: DIAL_MS,
      reconnectRetries: 0,
      dialTimeout: DIAL_MS,
      addressDialTimeout: DIAL_MS,
    },
  });
  for (const trafficClass of CHANNEL_CLASSES)
    await handle(node, init, trafficClass, classProtocol(trafficClass));
  await handle(node, init, "link", LINK_PROTOCOL);
  // Not on connections that are tunnels themselves.
  await node.handle(TUNNEL_PROTOCOL, (stream, connection) => init.tunnels.accept(stream, connection), {
    maxInboundStreams: TUNNEL_STREAMS_MAX,
    maxOutboundStreams: TUNNEL_STREAMS_MAX,
  });
  node.addEventListener("connection:open", (event) => init.onConnection(event.detail));
  try {
    for (const address of init.listen) await removeStaleSocket(address);
    await node.start();
  } catch (error) {
    await Promise.allSettled([node.stop()]);
    throw new MeshError("LISTEN_FAILED", `cannot listen on ${init.listen.join(", ")}`, { cause: error });
  }
  return new Libp2pNode(node);
}

async function handle(
  node: Libp2p,
  init: NodeInit,
  kind: ChannelClass | "link",
  protocol: string,
): Promise<void> {
  const handler = (stream: Stream, connection: Connection): void => init.onStream(kind, stream, connection);
  // Two: the opener may open the next before we have seen the end of the last.
  await node.handle(protocol, handler, {
    maxInboundStreams: 2,
    maxOutboundStreams: 2,
    runOnLimitedConnection: true, // Tunnels are such.
  });
}

class Libp2pNode implements LinkNode {
  readonly peerId: string;
  readonly #node: Libp2p;

  constructor(node: Libp2p) {
    this.#node = node;
    this.peerId = node.peerId.toString();
  }

  addresses(): string[] {
    return this.#node.getMultiaddrs().map(String);
  }

  connections(): Connection[] {
    return this.#node.getConnections();
  }

  /** One address after the other, because hard evidence needs the outcome of each. Never rejects. */
  async dial(peer: string, addresses: readonly string[]): Promise<DialOutcome> {
    let refused = addresses.length > 0;
    for (const address of inDialOrder(addresses, this.addresses())) {
      try {
        const signal = AbortSignal.timeout(DIAL_MS);
        const connection = await this.#node.dial(multiaddr(address), { force: true, signal });
        if (connection.remotePeer.toString() === peer) return "connected";
        // In process libp2p asks for whoever listens there, not for whom we dial.
        connection.abort(new Error("another peer answers there"));
      } catch (error) {
        refused &&= isRefusal(error, peer);
      }
    }
    return refused ? "refused" : "failed";
  }

  async stop(): Promise<void> {
    await this.#node.stop();
  }
}
