/** Two libp2p nodes and one stream that echoes: what calls cannot be faster than. */
import type { Stream } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const PROTOCOL = "/bench/echo/1";

export class BareEcho {
  readonly #node: Awaited<ReturnType<typeof createNode>>;

  private constructor(node: Awaited<ReturnType<typeof createNode>>) {
    this.#node = node;
  }

  static async start(): Promise<BareEcho> {
    return new BareEcho(await createNode());
  }

  /** Echoes what comes; the address to dial. */
  async serve(): Promise<string> {
    await this.#node.handle(PROTOCOL, (stream) => {
      stream.addEventListener("message", ({ data }) => void stream.send(data));
    });
    const [address] = this.#node.getMultiaddrs();
    return address?.toString() ?? "";
  }

  async dial(address: string): Promise<EchoClient> {
    return new EchoClient(await this.#node.dialProtocol(multiaddr(address), PROTOCOL));
  }
}

/** One question at a time. */
class EchoClient {
  readonly #stream: Stream;
  #missing = 0;
  #done: () => void = () => undefined;

  constructor(stream: Stream) {
    this.#stream = stream;
    stream.addEventListener("message", ({ data }) => {
      this.#missing -= data.byteLength;
      if (this.#missing === 0) this.#done();
    });
  }

  async echo(bytes: Uint8Array): Promise<void> {
    this.#missing = bytes.length;
    const answered = new Promise<void>((resolve) => (this.#done = resolve));
    this.#stream.send(bytes);
    await answered;
  }
}

async function createNode() {
  return await createLibp2p({
    addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  });
}
