import type { MessageStream, StreamMuxer, StreamMuxerFactory } from "@libp2p/interface";
import { AbstractStreamMuxer } from "@libp2p/utils";
import type { AbstractStream } from "@libp2p/utils";
import { Uint8ArrayList } from "uint8arraylist";
import { boundedNegotiation } from "./lengths.ts";

/** Streams that the other end may open at once, and have open, and then in a second: all tunnels of a relay, four times over. */
const OPENED_AT_ONCE_MAX = 1_024;
const OPENED_PER_SECOND_MAX = 256;
/** Whoever opens so many more, which are reset, is disconnected. */
const REFUSED_MAX = 1_024;
/** Answers to yamux's pings that wait behind so much which the other end does not read. */
const UNREAD_BYTES_MAX: number = 1024 * 1024;
/** The head of a frame in yamux, and the most bytes that tell the length of a word in a negotiation. */
const HEADER_BYTES = 12;
const LENGTH_BYTES = 2;
const PING = 2;
/** Words in a negotiation that do not end it. */
const GOES_ON: ReadonlySet<string> = new Set(["/multistream/1.0.0", "na"]);

/** What is in yamux of libp2p that it does not show. */
interface Inside {
  readonly decoder?: { readonly buffer?: unknown };
}

/**
 * Has an end to what a member can make of yamux (8.0.3), which trusts it: a frame is put together whatever length its head claims
 * (754 MiB of a frame of 4 GiB, and more), pings are answered into memory while nobody reads (900 MiB in 20 s), each stream opened and reset takes
 * 80 µs (100,000 in 2 MB stopped a node for 8 s), and each negotiation of a stream looks for the end of a length for ever (250 KiB of 0xff: 5 s).
 */
export function withLimits(
  factory: StreamMuxerFactory,
  init: { readonly frameBytesMax: number; readonly nowMs: () => number },
): StreamMuxerFactory {
  const create = factory.createStreamMuxer.bind(factory);
  factory.createStreamMuxer = (connection) =>
    limited(create(answeringReaders(connection)), init.frameBytesMax, init.nowMs);
  return factory;
}

/** For yamux's own limit, at which it would answer each frame for ever. */
export const UNLIMITED_STREAMS: number = 2 ** 31;

/**
 * What is thrown while the muxer reads ends the connection; but it says good-bye after its streams have ended, and with the
 * stream of a link we end the connection: what it threw then ended the process.
 */
function answeringReaders(connection: MessageStream): MessageStream {
  const send = connection.send.bind(connection);
  connection.send = (bytes) => {
    if (connection.status !== "open") return false;
    const isPing = bytes instanceof Uint8Array && bytes.length === HEADER_BYTES && bytes[1] === PING;
    if (isPing && connection.writeBufferLength > UNREAD_BYTES_MAX) throw new Error("pings without a reader");
    return send(bytes);
  };
  return connection;
}

function limited(muxer: StreamMuxer, frameBytesMax: number, nowMs: () => number): StreamMuxer {
  const buffer = (muxer as Inside).decoder?.buffer;
  if (!(muxer instanceof AbstractStreamMuxer) || !(buffer instanceof Uint8ArrayList))
    throw new TypeError("not yamux as it was");
  const onData = muxer.onData.bind(muxer);
  muxer.onData = (data) => {
    onData(data);
    // What is left is the beginning of one frame.
    if (buffer.byteLength > frameBytesMax + HEADER_BYTES) throw new Error("a frame longer than any window");
  };
  const createStream = muxer.createStream.bind(muxer);
  muxer.createStream = async (options) => hearing(await createStream(options), "answers");
  const onRemoteStream = muxer.onRemoteStream.bind(muxer);
  let room = OPENED_AT_ONCE_MAX;
  let atMs = nowMs();
  muxer.onRemoteStream = (stream) => {
    const now = nowMs();
    room = Math.min(OPENED_AT_ONCE_MAX, room + ((now - atMs) * OPENED_PER_SECOND_MAX) / 1_000) - 1;
    atMs = now;
    if (room < -REFUSED_MAX) throw new Error("streams without end");
    if (room < 0 || muxer.streams.length >= OPENED_AT_ONCE_MAX)
      stream.abort(new Error("too many streams at once"));
    else onRemoteStream(hearing(stream, "asks"));
  };
  return muxer;
}

/** Hands on what comes before the protocol is agreed on only as long as it is words of a negotiation. */
function hearing<S extends AbstractStream>(stream: S, what: "asks" | "answers"): S {
  const deliver = stream.onData.bind(stream);
  const words = new Words(what);
  stream.onData = (data) => {
    if (stream.protocol !== "" || words.areOver) stream.onData = deliver;
    else if (!words.take(data)) {
      stream.abort(new Error("no words of a negotiation"));
      return;
    }
    deliver(data);
  };
  return stream;
}

/** Reads along while two ends agree on the protocol of a stream. */
class Words {
  readonly #endAtAnswer: boolean;
  readonly #lengthOf = boundedNegotiation().lengthDecoder;
  #bytes = new Uint8ArrayList();
  #length: number | undefined;
  areOver = false;

  constructor(what: "asks" | "answers") {
    this.#endAtAnswer = what === "answers"; // What follows there may be anything.
  }

  /** `false`: a word that is too long, or one too many. */
  take(data: Uint8Array | Uint8ArrayList): boolean {
    this.#bytes.append(data);
    try {
      while (!this.areOver && this.#word());
      return true;
    } catch (error) {
      return error instanceof RangeError; // The length goes on.
    }
  }

  /** `false`: it is not whole yet. */
  #word(): boolean {
    if (this.#length === undefined) {
      if (this.#bytes.byteLength === 0) return false;
      const head = this.#bytes.sublist(0, Math.min(this.#bytes.byteLength, LENGTH_BYTES));
      this.#length = this.#lengthOf(head);
      this.#bytes.consume(this.#length < 0x80 ? 1 : LENGTH_BYTES);
    }
    if (this.#bytes.byteLength < this.#length) return false;
    const word = Buffer.from(this.#bytes.subarray(0, this.#length)).toString().trimEnd();
    this.#bytes.consume(this.#length);
    this.#length = undefined;
    this.areOver = this.#endAtAnswer && !GOES_ON.has(word);
    return true;
  }
}
