import type { Stream, StreamCloseEvent, StreamMessageEvent } from "@libp2p/interface";
import { asError, closeSoon } from "./tunnel-words.ts";

export interface SpliceInit {
  readonly a: Stream;
  readonly b: Stream;
  /** Bytes that passed, as they are: encrypted between the ends of the tunnel. */
  onCarried(bytes: Uint8Array): void;
  /** Called once, when both ends are done. */
  onEnd(): void;
}

/** An end that does not close after the other did is aborted after this, in milliseconds. */
const CLOSING_MS = 2_000;

/** Two streams joined: what one receives the other sends, with back-pressure, until either ends. */
export class Splice {
  readonly #init: SpliceInit;
  readonly #flows: readonly [Flow, Flow];
  #ending: NodeJS.Timeout | undefined;
  #ended = false;

  /** Both streams are paused, as `readTunnelWord` leaves them; nothing moves before `start`. */
  constructor(init: SpliceInit) {
    this.#init = init;
    const { a, b } = init;
    const onCarried = (bytes: Uint8Array): void => init.onCarried(bytes);
    this.#flows = [new Flow(a, b, onCarried), new Flow(b, a, onCarried)];
  }

  start(): void {
    const { a, b } = this.#init;
    for (const stream of [a, b]) {
      stream.addEventListener("close", this.#closed);
      stream.addEventListener("remoteCloseWrite", this.#remoteClosed);
    }
    // Either may have ended before anybody listened.
    const gone = [a, b].find(({ status }) => status !== "open");
    if (gone !== undefined) this.abort(new Error(`a tunnel stream is ${gone.status}`));
    else for (const flow of this.#flows) flow.start();
  }

  /** Bytes carried so far, both ways together. */
  get bytes(): number {
    return this.#flows[0].bytes + this.#flows[1].bytes;
  }

  abort(error: Error): void {
    for (const stream of [this.#init.a, this.#init.b]) stream.abort(error);
    this.#settle();
  }

  readonly #closed = (event: StreamCloseEvent): void => {
    if (event.error !== undefined) this.abort(event.error);
    else this.#end();
  };

  readonly #remoteClosed = (): void => this.#end();

  /** A tunnel is never half open: one end is done, so is the other, once what it was sent has left. */
  #end(): void {
    if (this.#ending !== undefined || this.#ended) return;
    this.#ending = setTimeout(() => this.abort(new Error("tunnel closed")), CLOSING_MS);
    for (const stream of [this.#init.a, this.#init.b]) closeSoon(stream);
    this.#settle();
  }

  #settle(): void {
    const { a, b } = this.#init;
    if (this.#ended || isLive(a) || isLive(b)) return;
    this.#ended = true;
    clearTimeout(this.#ending);
    for (const flow of this.#flows) flow.stop();
    for (const stream of [a, b]) {
      stream.removeEventListener("close", this.#closed);
      stream.removeEventListener("remoteCloseWrite", this.#remoteClosed);
    }
    this.#init.onEnd();
  }
}

function isLive(stream: Stream): boolean {
  return stream.status === "open" || stream.status === "closing";
}

/**
 * One direction. At most one receive window of the source stands unread and one unsent: a full target pauses
 * the source, whose window then stays shut.
 */
class Flow {
  readonly #from: Stream;
  readonly #to: Stream;
  readonly #onCarried: (bytes: Uint8Array) => void;
  #blocked = false;
  #resuming = false;
  bytes = 0;

  constructor(from: Stream, to: Stream, onCarried: (bytes: Uint8Array) => void) {
    this.#from = from;
    this.#to = to;
    this.#onCarried = onCarried;
  }

  start(): void {
    this.#from.addEventListener("message", this.#receive);
    this.#to.addEventListener("drain", this.#drained);
    this.resume();
  }

  /** `resume()` dispatches what is buffered and *then* reopens the window: a pause made inside would be undone. */
  resume(): void {
    if (this.#from.status !== "open") return;
    this.#blocked = false;
    this.#resuming = true;
    try {
      this.#from.resume();
    } catch (error) {
      this.#from.abort(asError(error));
    }
    this.#resuming = false;
    if (this.#blocked) this.#pause();
  }

  stop(): void {
    this.#from.removeEventListener("message", this.#receive);
    this.#to.removeEventListener("drain", this.#drained);
  }

  readonly #receive = (event: StreamMessageEvent): void => {
    const parts = event.data instanceof Uint8Array ? [event.data] : event.data;
    for (const part of parts) {
      this.bytes += part.length;
      this.#onCarried(part);
    }
    try {
      if (this.#to.send(event.data)) return;
    } catch (error) {
      this.#to.abort(asError(error));
      return;
    }
    this.#blocked = true;
    if (!this.#resuming) this.#pause();
  };

  /** libp2p sends its own remainder in a microtask queued before ours, and may be full again after it. */
  readonly #drained = (): void => {
    if (!this.#blocked) return;
    queueMicrotask(() => {
      if (this.#blocked && !this.#to.writableNeedsDrain) this.resume();
    });
  };

  #pause(): void {
    if (this.#from.status === "open") this.#from.pause();
  }
}
