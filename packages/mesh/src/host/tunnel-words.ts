import type { Stream, StreamCloseEvent, StreamMessageEvent } from "@libp2p/interface";
import { splitTunnelWord, tunnelWordBytes } from "../codec/tunnel-codec.ts";

/**
 * Reads the first word of a stream. Afterwards the stream is paused, and what followed the word is read first by
 * whoever listens next. Rejects when the stream ends, says what is no word, or the signal fires.
 */
export function readTunnelWord(stream: Stream, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let held: Uint8Array = new Uint8Array(0);
    const finish = (): void => {
      stream.removeEventListener("message", receive);
      stream.removeEventListener("close", closed);
      stream.removeEventListener("remoteCloseWrite", ended);
      signal.removeEventListener("abort", aborted);
    };
    const fail = (error: Error): void => {
      finish();
      reject(error);
    };
    const receive = (event: StreamMessageEvent): void => {
      held = Buffer.concat([held, event.data.subarray()]);
      if (tunnelWordBytes(held) === 0) {
        fail(new BadTunnelWordError());
        return;
      }
      const split = splitTunnelWord(held);
      if (split === undefined) return;
      finish();
      // Paused first: nobody listens now, and the window must not go on opening for a buffer that nobody reads.
      if (stream.status === "open") {
        stream.pause();
        if (split.rest.length > 0) stream.unshift(split.rest);
      }
      resolve(split.word);
    };
    const closed = (event: StreamCloseEvent): void => fail(event.error ?? new Error("stream closed"));
    const ended = (): void => fail(new Error("the other end closed the stream"));
    const aborted = (): void => fail(asError(signal.reason));
    if (signal.aborted) return aborted();
    if (stream.status !== "open") return fail(new Error(`stream is ${stream.status}`));
    stream.addEventListener("message", receive);
    stream.addEventListener("close", closed);
    stream.addEventListener("remoteCloseWrite", ended);
    signal.addEventListener("abort", aborted);
  });
}

/** The bytes are no word of ours. */
export class BadTunnelWordError extends Error {
  constructor() {
    super("bytes that are no tunnel word");
  }
}

/** Closes a stream once its bytes have left, within a second at the latest. */
export function closeSoon(stream: Stream): void {
  stream
    .close({ signal: AbortSignal.timeout(1_000) })
    .catch((error: unknown) => stream.abort(asError(error)));
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
