import { AbstractMultiaddrConnection } from "@libp2p/utils";
import type { SendResult } from "@libp2p/utils";
import type { AbortOptions, Logger, Stream, StreamCloseEvent, StreamMessageEvent } from "@libp2p/interface";
import type { Multiaddr } from "@multiformats/multiaddr";
import { asError } from "./tunnel-words.ts";

/** The stream at one end of an open tunnel as a connection that libp2p upgrades like any other. */
export class TunnelConnection extends AbstractMultiaddrConnection {
  readonly #stream: Stream;

  /** The stream is paused, as `readTunnelWord` leaves it. */
  constructor(init: {
    readonly stream: Stream;
    readonly remoteAddr: Multiaddr;
    readonly direction: "inbound" | "outbound";
    readonly log: Logger;
  }) {
    super({ remoteAddr: init.remoteAddr, direction: init.direction, log: init.log });
    const { stream } = init;
    this.#stream = stream;
    stream.addEventListener("message", (event: StreamMessageEvent) => this.onData(event.data));
    stream.addEventListener("drain", () => this.#drained());
    stream.addEventListener("remoteCloseWrite", () => this.#finish());
    stream.addEventListener("close", (event: StreamCloseEvent) => this.#finish(event.error));
    if (stream.status !== "open") queueMicrotask(() => this.#finish(new Error("tunnel closed at once")));
    else this.#follow();
  }

  override sendData(data: Parameters<AbstractMultiaddrConnection["sendData"]>[0]): SendResult {
    const sentBytes = data.byteLength; // Sending empties the list.
    return { sentBytes, canSendMore: this.#stream.send(data) };
  }

  override sendReset(error: Error): void {
    this.#stream.abort(error);
  }

  override async sendClose(options?: AbortOptions): Promise<void> {
    await this.#stream.close(options);
  }

  override sendPause(): void {
    this.#later();
  }

  override sendResume(): void {
    this.#later();
  }

  /** From a microtask: inside `resume()` of either stream a pause would be undone. */
  #later(): void {
    queueMicrotask(() => this.#follow());
  }

  #follow(): void {
    if (this.#stream.status !== "open") return;
    try {
      if (this.readStatus === "paused") this.#stream.pause();
      else this.#stream.resume();
    } catch (error) {
      this.#stream.abort(asError(error));
    }
  }

  /** libp2p sends the stream's own remainder in a microtask queued before ours, and it may be full again after it. */
  #drained(): void {
    queueMicrotask(() => {
      if (!this.#stream.writableNeedsDrain) this.safeDispatchEvent("drain");
    });
  }

  /** A tunnel is never half open. */
  #finish(error?: Error): void {
    if (this.status !== "open" && this.status !== "closing") return;
    if (this.#stream.status === "open") {
      this.#stream.close({ signal: AbortSignal.timeout(1_000) }).catch((cause: unknown) => {
        this.#stream.abort(asError(cause));
      });
    }
    this.onTransportClosed(error);
  }
}
