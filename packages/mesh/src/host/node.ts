import { systemClock } from "@klatsch/kit";
import { yamux } from "@libp2p/yamux";
import type { Connection, Ed25519PrivateKey, Libp2p, Stream } from "@libp2p/interface";
import type { GossipSubComponents } from "@libp2p/gossipsub";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import type { Random } from "@klatsch/kit";
import type { AdmissionRules, EncrypterFactory } from "../admission/encrypter.ts";
import type { Gate } from "../admission/gate.ts";
import { MeshError } from "../errors.ts";
import type { GivenNode } from "../given-node.ts";
import type { ChannelClass } from "../types.ts";
import { CHANNEL_CLASSES } from "./channels.ts";
import { ForgetfulPeers } from "./forgetful-peers.ts";
import { conduits, inDialOrder, isOurselves, isRefusal, placesOf, removeStaleSocket } from "./conduits.ts";
import { classProtocol, LINK_PROTOCOL } from "./link-connection.ts";
import { TUNNEL_PROTOCOL } from "./tunnels.ts";
import { SeedLog } from "./seed-log.ts";
import type { SeedLogInit } from "./seed-log.ts";
import type { Tunnels } from "./tunnels.ts";
import { UnnamedSeeds } from "./unnamed-seeds.ts";
import type { UnnamedSeedsInit } from "./unnamed-seeds.ts";
import { UNLIMITED_STREAMS, withLimits } from "./wary-muxer.ts";
import { withSparingWindows } from "./windows.ts";

/** A dial, the handshake included, may take this long, in milliseconds. */
const DIAL_MS = 3_000;
/** Connections that may be half open at once, beside as many as one host may hold by the rate at which it is let in. */
const PENDING_MAX = 256;
/** Each member may briefly have two: both ends dialled. */
const CONNECTIONS_PER_MEMBER = 4;
/** Tunnel streams between two nodes, each way: all that a relay carries may pass one link. */
const TUNNEL_STREAMS_MAX = 256;
/** Read buffer of a stream nobody listens to yet. */
const READ_BUFFER_BYTES_MAX: number = 2 * 1024 * 1024;
/** LIBP2P.md: a window may grow only as far as the read buffer can hold. The initial one stays at the default. */
const WINDOW_BYTES_MAX: number = 1024 * 1024;

/** Whom a node tells of connections and streams. */
interface LinkNodePorts {
  onConnection(connection: Connection): void;
  onStream(kind: ChannelClass | "link", stream: Stream, connection: Connection): void;
}

export interface NodeInit extends LinkNodePorts {
  readonly privateKey: Ed25519PrivateKey;
  /** What decides who is let in. */
  readonly encrypters: readonly EncrypterFactory[];
  readonly listen: readonly string[];
  readonly announce: readonly string[];
  readonly membersMax: number;
  /** Inbound connections per second that one host may open. */
  readonly inboundPerSecondMax: number;
  readonly tunnels: Tunnels;
  readonly seeking: Seeking;
}

/** How a node looks for others by addresses of its options. */
interface Seeking {
  readonly log: SeedLog;
  /** What it needs for those that do not say whose they are. */
  readonly unnamed: Pick<UnnamedSeedsInit, "addresses" | "clock" | "random" | "alive">;
}

/**
 * How a dial ended. `refused` is hard evidence that nobody of this identity listens there: the kernel refused
 * at every address, or another peer answered. Everything else (time-out, handshake cut short) is `failed`.
 */
type DialOutcome = "connected" | "refused" | "failed";

/** The libp2p node under a mesh: everything of it that the mesh uses. */
export interface LinkNode {
  /** Ends a connection: at once with an error, in order without. */
  hangUp(connection: Connection, error: Error | undefined): void;
  readonly peerId: string;
  /** What gossipsub works with; `undefined` in a node that is not ours. */
  readonly components: GossipSubComponents | undefined;
  addresses(): string[];
  connections(): Connection[];
  dial(peer: string, addresses: readonly string[]): Promise<DialOutcome>;
  /** From now on dials the bootstrap addresses that do not say whose they are, as long as they are missed. */
  seek(): void;
  stop(): Promise<void>;
}

/** Starts a libp2p node of our own, or takes a place in the application's. @throws MeshError `LISTEN_FAILED`. */
export function openNode(
  { libp2p, listen, announce, membersMax, inboundPerSecondMax, ...options }: NodeOptions,
  given: Pick<NodeInit, "privateKey" | "encrypters" | "tunnels"> &
    Pick<SeedLogInit, "isMissed"> &
    Pick<UnnamedSeedsInit, "alive"> &
    LinkNodePorts &
    Guarded,
): Promise<LinkNode> {
  const { seeds, unnamedSeeds, clock, random, logger } = options;
  const { isMissed, alive } = given;
  const seeking = {
    log: new SeedLog({ seeds, clock, logger, isMissed }),
    unnamed: { addresses: unnamedSeeds, clock, random, alive },
  };
  if (libp2p !== undefined) return joinNode(libp2p.node, { ...given, seeking });
  return startNode({ listen, announce, membersMax, inboundPerSecondMax, seeking, ...given });
}

/** How a mesh of certificates is guarded in a node of the application's. */
interface Guarded {
  readonly gate: Gate | undefined;
  /** Who decides behind the gate. */
  readonly rules: AdmissionRules;
}

type NodeOptions = Pick<NodeInit, "listen" | "announce" | "membersMax" | "inboundPerSecondMax"> &
  Omit<SeedLogInit, "isMissed"> & {
    readonly libp2p: GivenNode | undefined;
    readonly unnamedSeeds: readonly string[];
    readonly random: Random;
  };

const makeMuxer = yamux({
  enableKeepAlive: false, // Our probes do that.
  maxInboundStreams: UNLIMITED_STREAMS,
  streamOptions: { maxStreamWindowSize: WINDOW_BYTES_MAX, maxReadBufferLength: READ_BUFFER_BYTES_MAX },
});

const MUXER_LIMITS = { frameBytesMax: WINDOW_BYTES_MAX, nowMs: (): number => systemClock.now().monoMs };

/** Starts a libp2p node of our own. @throws MeshError `LISTEN_FAILED`. */
export async function startNode(init: NodeInit): Promise<LinkNode> {
  let components: GossipSubComponents | undefined;
  const node = await createLibp2p({
    privateKey: init.privateKey,
    start: false,
    addresses: { listen: [...init.listen], announce: [...init.announce] },
    transports: [...conduits(), init.tunnels.transport],
    connectionEncrypters: [...init.encrypters],
    streamMuxers: [() => withLimits(withSparingWindows(makeMuxer()), MUXER_LIMITS)],
    services: {
      components: (given: GossipSubComponents) => {
        given.peerStore = new ForgetfulPeers();
        components = given;
        return {};
      },
    },
    connectionMonitor: { enabled: false }, // Likewise; it costs 0.3 % CPU and 1.2 kB/s a node.
    connectionManager: {
      maxConnections: init.membersMax * CONNECTIONS_PER_MEMBER,
      maxIncomingPendingConnections: PENDING_MAX + Math.ceil((init.inboundPerSecondMax * DIAL_MS) / 1_000),
      inboundConnectionThreshold: init.inboundPerSecondMax, // The default of 5 is less than one restarted rack.
      inboundUpgradeTimeout: DIAL_MS,
      reconnectRetries: 0,
      dialTimeout: DIAL_MS,
      addressDialTimeout: DIAL_MS,
    },
  });
  await serveLinks(node, init);
  // Not on connections that are tunnels themselves.
  await node.handle(TUNNEL_PROTOCOL, (stream, connection) => init.tunnels.accept(stream, connection), {
    maxInboundStreams: TUNNEL_STREAMS_MAX,
    maxOutboundStreams: TUNNEL_STREAMS_MAX,
  });
  node.addEventListener("connection:open", (event) => init.onConnection(event.detail));
  const own = new OwnNode(node, init.seeking, components); // Before anybody can connect: it may fail.
  try {
    for (const address of init.listen) await removeStaleSocket(address);
    await node.start();
  } catch (error) {
    await Promise.allSettled([node.stop()]);
    throw new MeshError("LISTEN_FAILED", `cannot listen on ${init.listen.join(", ")}${whyNot(error)}`, {
      cause: error,
    });
  }
  return own;
}

/** What the system said, out of a text that libp2p makes of all that went wrong, stacks included. */
function whyNot(error: unknown): string {
  const reasons = error instanceof Error ? [...error.message.matchAll(/Error: (listen .+)/gu)] : [];
  return reasons.map(([, reason]) => `: ${reason}`).join("");
}

/** The streams that links are made of, and what serves each. */
const LINK_PROTOCOLS: ReadonlyMap<string, ChannelClass | "link"> = new Map([
  [LINK_PROTOCOL, "link"],
  ...CHANNEL_CLASSES.map((trafficClass) => [classProtocol(trafficClass), trafficClass] as const),
]);

async function serveLinks(node: Libp2p, ports: Pick<LinkNodePorts, "onStream">): Promise<void> {
  for (const [protocol, kind] of LINK_PROTOCOLS) {
    await node.handle(protocol, (stream, connection) => ports.onStream(kind, stream, connection), {
      // Two: the opener may open the next before we have seen the end of the last.
      maxInboundStreams: 2,
      maxOutboundStreams: 2,
      runOnLimitedConnection: true, // Tunnels are such.
    });
  }
}

/**
 * Works inside a libp2p node of the application: serves our protocols there, dials connections of its own, and
 * leaves what others use. The node itself is neither started nor stopped. @throws MeshError `INVALID_OPTIONS`.
 */
async function joinNode(
  node: Libp2p,
  ports: LinkNodePorts & Guarded & Pick<NodeInit, "seeking">,
): Promise<LinkNode> {
  const { gate, rules } = ports;
  if (node.getProtocols().includes(LINK_PROTOCOL))
    throw new MeshError("INVALID_OPTIONS", "libp2p: another mesh works in this node; stop that one first");
  const isLetIn = ({ encryption, remotePeer }: Connection): boolean =>
    gate === undefined || gate.admits(encryption, remotePeer.toString());
  const guest = new GuestNode(node, ports.seeking, { ...ports, isLetIn });
  gate?.open(rules);
  await serveLinks(node, {
    onStream: (kind, stream, connection) => {
      if (isLetIn(connection)) ports.onStream(kind, stream, connection);
      else stream.abort(new Error("not admitted"));
    },
  });
  return guest;
}

/** What both kinds of node have in common. */
abstract class Libp2pNode implements LinkNode {
  readonly peerId: string;
  protected readonly node: Libp2p;
  readonly #seedLog: SeedLog;
  readonly #unnamed: UnnamedSeeds;
  #stopped = false;

  constructor(node: Libp2p, { log, unnamed }: Seeking) {
    this.node = node;
    this.peerId = node.peerId.toString();
    this.#seedLog = log;
    this.#unnamed = new UnnamedSeeds({
      ...unnamed,
      self: this.peerId,
      find: (address) => this.#find(address),
      onFailed: (address, error) => log.tell(address, error),
    });
  }

  abstract readonly components: GossipSubComponents | undefined;
  abstract connections(): Connection[];
  abstract hangUp(connection: Connection, error: Error | undefined): void;
  protected abstract end(): Promise<void>;

  seek(): void {
    this.#unnamed.start();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unnamed.stop();
    await this.end();
  }

  addresses(): string[] {
    return this.node.getMultiaddrs().map(String);
  }

  /** One address after the other, because hard evidence needs the outcome of each. Never rejects. */
  async dial(peer: string, addresses: readonly string[]): Promise<DialOutcome> {
    let refused = addresses.length > 0;
    for (const address of inDialOrder(addresses, this.addresses())) {
      try {
        const signal = AbortSignal.timeout(DIAL_MS);
        const connection = await this.node.dial(multiaddr(address), { force: true, signal });
        if (connection.remotePeer.toString() === peer) {
          return this.onDialed(connection) ? "connected" : "failed";
        }
        // In process libp2p asks for whoever listens there, not for whom we dial.
        const other = new Error(`another peer answers there: ${connection.remotePeer.toString()}`);
        connection.abort(other);
        this.#seedLog.failed(peer, address, other);
      } catch (error) {
        refused &&= isRefusal(error, peer);
        this.#seedLog.failed(peer, address, error);
      }
    }
    return refused ? "refused" : "failed";
  }

  /**
   * Who answers first of the places that an address may mean; this node itself only if nobody else does. All of them are dialled: of hosts with
   * one name two and two could find each other, and nobody would look for the others any more.
   */
  async #find(address: string): Promise<string> {
    let found: string | undefined;
    let failed: unknown;
    let isOurs = false;
    for (const place of await placesOf(address)) {
      if (this.#stopped) break; // The application's node goes on.
      try {
        const signal = AbortSignal.timeout(DIAL_MS);
        const connection = await this.node.dial(multiaddr(place), { force: true, signal });
        if (this.onDialed(connection)) found ??= connection.remotePeer.toString();
        else failed = new Error("not admitted");
      } catch (error) {
        if (isOurselves(error)) isOurs = true;
        else failed = error;
      }
    }
    if (isOurs) found ??= this.peerId;
    if (found === undefined) throw failed;
    return found;
  }

  /** `false`: the connection is not one for the mesh. */
  protected abstract onDialed(connection: Connection): boolean;
}

class OwnNode extends Libp2pNode {
  readonly components: GossipSubComponents | undefined;

  constructor(node: Libp2p, seeking: Seeking, components: GossipSubComponents | undefined) {
    super(node, seeking);
    this.components = components;
  }

  connections(): Connection[] {
    return this.node.getConnections();
  }

  hangUp(connection: Connection, error: Error | undefined): void {
    if (error !== undefined) connection.abort(error);
    else connection.close().catch((cause: unknown) => connection.abort(asError(cause)));
  }

  protected async end(): Promise<void> {
    await this.node.stop();
    releaseTimers(this.node);
  }

  protected onDialed(): boolean {
    return true; // `connection:open` has told.
  }
}

interface GuestPorts extends LinkNodePorts, Guarded {
  /** Whether the mesh may use a connection. */
  isLetIn(connection: Connection): boolean;
}

class GuestNode extends Libp2pNode {
  readonly components: undefined;
  readonly #ports: GuestPorts;
  readonly #dialed = new WeakSet<Connection>();

  constructor(node: Libp2p, seeking: Seeking, ports: GuestPorts) {
    super(node, seeking);
    this.#ports = ports;
  }

  /** None is ours yet: a peer that wants a link opens a stream for it. */
  connections(): Connection[] {
    return [];
  }

  /** Ends the connection if nobody else needs it, and otherwise our streams on it. */
  hangUp(connection: Connection, error: Error | undefined): void {
    const ours = connection.streams.filter(({ protocol }) => LINK_PROTOCOLS.has(protocol));
    const isOurs = connection.direction === "inbound" || this.#dialed.has(connection);
    if (isOurs && ours.length === connection.streams.length) {
      // Not while its muxer, which is the application's, is ending: it says good-bye afterwards, and throws if it cannot.
      if (error !== undefined) queueMicrotask(() => connection.abort(error));
      else connection.close().catch((cause: unknown) => connection.abort(asError(cause)));
      return;
    }
    for (const stream of ours) stream.abort(error ?? new Error("link ended"));
  }

  protected async end(): Promise<void> {
    this.#ports.gate?.shut();
    await this.node.unhandle([...LINK_PROTOCOLS.keys()]);
  }

  protected onDialed(connection: Connection): boolean {
    if (!this.#ports.isLetIn(connection)) {
      connection.abort(new Error("not admitted")); // Dialled for the mesh, so nobody else has it.
      return false;
    }
    this.#dialed.add(connection);
    this.#ports.onConnection(connection);
    return true;
  }
}

/**
 * libp2p's address manager plans to note a second later that the listeners have closed, and keeps the process
 * alive for it. It offers no way to call that off: a test notices if this one is gone.
 */
export function releaseTimers(node: Libp2p): boolean {
  const { components } = node as { components?: { addressManager?: Record<string, unknown> } };
  const planned = components?.addressManager?.["_updatePeerStoreAddresses"];
  if (typeof planned !== "function" || !("stop" in planned) || typeof planned.stop !== "function")
    return false;
  planned.stop();
  return true;
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
