import { generateKeyPair } from "@libp2p/crypto/keys";
import type { Connection, Stream } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { silentLogger, systemClock, systemRandom } from "@klatsch/kit";
import { RELAY_LIMITS } from "../../src/core/routing/relay-book.ts";
import type { RelayLimits } from "../../src/core/routing/relay-book.ts";
import type { NodeLinks } from "../../src/core/routing/types.ts";
import { startNode } from "../../src/host/node.ts";
import type { LinkNode } from "../../src/host/node.ts";
import { SeedLog } from "../../src/host/seed-log.ts";
import { TUNNEL_TIMES, Tunnels } from "../../src/host/tunnels.ts";
import type { TunnelTimes } from "../../src/host/tunnels.ts";

/** Protocol of the node that a test may use for anything; see `TunnelNode.onStream`. */
export const TEST_PROTOCOL = "/klatsch/bulk/1";

interface TunnelNodeInit {
  readonly listen?: readonly string[];
  readonly limits?: Partial<RelayLimits>;
  readonly times?: Partial<TunnelTimes>;
  readonly self?: Partial<NodeLinks>;
}

/** A libp2p node with tunnels and without a mesh: links are what the test dials. */
export class TunnelNode implements AsyncDisposable {
  readonly tunnels: Tunnels;
  readonly bad: string[] = [];
  readonly tunnelled: Connection[] = [];
  readonly clouds = new Map<string, string>();
  carriedBytes = 0;
  onCarried: (bytes: Uint8Array) => void = () => undefined;
  onStream: (stream: Stream, connection: Connection) => void = (stream) =>
    stream.abort(new Error("not expected"));
  onTunnel: (connection: Connection) => void = () => undefined;
  readonly #self: Partial<NodeLinks>;
  readonly #listen: readonly string[];
  #node: LinkNode | undefined;

  constructor(init: TunnelNodeInit = {}) {
    this.#self = init.self ?? {};
    this.#listen = init.listen ?? ["/ip4/127.0.0.1/tcp/0"];
    this.tunnels = new Tunnels({
      clock: systemClock,
      logger: silentLogger,
      limits: { ...RELAY_LIMITS, ...init.limits },
      times: { ...TUNNEL_TIMES, ...init.times },
      ports: {
        self: () => ({ ...NOBODY, peer: this.peerId, ...this.#self }),
        isLinked: (peer) => this.direct(peer) !== undefined,
        cloudOf: (peer) => this.clouds.get(peer),
        direct: (peer) => this.direct(peer),
        onCarried: (_class, bytes) => {
          this.carriedBytes += bytes.length;
          this.onCarried(bytes);
        },
        onBad: (_peer, reason) => this.bad.push(reason),
      },
    });
  }

  get peerId(): string {
    return this.#running.peerId;
  }

  get #running(): LinkNode {
    if (this.#node === undefined) throw new Error("not started");
    return this.#node;
  }

  direct(peer: string): Connection | undefined {
    return this.#running
      .connections()
      .find(({ remotePeer, limits }) => limits === undefined && remotePeer.toString() === peer);
  }

  async start(): Promise<this> {
    this.#node = await startNode({
      privateKey: await generateKeyPair("Ed25519"),
      encrypters: [noise()],
      listen: this.#listen,
      announce: [],
      membersMax: 64,
      inboundPerSecondMax: 10_000,
      tunnels: this.tunnels,
      seeking: {
        log: new SeedLog({
          ...{ seeds: new Map(), clock: systemClock, logger: silentLogger },
          isMissed: () => false,
        }),
        unnamed: { addresses: [], clock: systemClock, random: systemRandom, alive: () => [] },
      },
      onConnection: (connection) => {
        if (connection.limits === undefined) return;
        this.tunnelled.push(connection);
        this.onTunnel(connection);
      },
      onStream: (_kind, stream, connection) => this.onStream(stream, connection),
    });
    return this;
  }

  addresses(): readonly string[] {
    return this.#running.addresses();
  }

  async dial(peer: string, addresses: readonly string[]): ReturnType<LinkNode["dial"]> {
    return this.#running.dial(peer, addresses);
  }

  /** Closes the listeners and every connection. */
  async stop(): Promise<void> {
    await this.#running.stop();
  }

  /** A direct link; up at both ends when this resolves. */
  async link(other: TunnelNode): Promise<Connection> {
    await this.#running.dial(other.peerId, other.#running.addresses());
    const connection = this.direct(other.peerId);
    if (connection === undefined) throw new Error("no link");
    while (other.direct(this.peerId) === undefined) await new Promise((resolve) => setImmediate(resolve));
    return connection;
  }

  async open(hops: readonly TunnelNode[], signal = AbortSignal.timeout(10_000)): Promise<Connection> {
    return this.tunnels.open(
      hops.map(({ peerId }) => peerId),
      "normal",
      signal,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.tunnels.stop();
    for (const connection of this.#running.connections()) connection.abort(new Error("test over"));
    await this.#running.stop();
  }
}

const NOBODY: NodeLinks = {
  peer: "",
  cloud: "default",
  gateway: false,
  router: true,
  overloaded: false,
  reaches: undefined,
  links: [],
};

/** Nodes in a row, each linked with the next. */
export async function chain(
  stack: AsyncDisposableStack,
  length: number,
  init: (index: number) => TunnelNodeInit = () => ({}),
): Promise<TunnelNode[]> {
  const nodes: TunnelNode[] = [];
  for (let index = 0; index < length; index += 1) {
    const node = stack.use(await new TunnelNode(init(index)).start());
    const before = nodes.at(-1);
    if (before !== undefined) await before.link(node);
    nodes.push(node);
  }
  return nodes;
}
