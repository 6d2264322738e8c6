import type { MessageStream } from "@libp2p/interface";
import { lpStream } from "@libp2p/utils";
import type { LengthPrefixedStream } from "@libp2p/utils";
import type { Uint8ArrayList } from "uint8arraylist";

/** Messages in which two ends agree on an encrypter and a muxer: two proposals and a few that are declined. */
const NEGOTIATION_MESSAGES_MAX = 16;
/** Longest of them, as multistream-select has it. */
const NEGOTIATION_BYTES_MAX = 1_024;

type LengthDecoder = (bytes: Uint8Array | Uint8ArrayList) => number;

/**
 * Decodes the lengths that libp2p's length-prefixed streams read, byte by byte: unsigned varints of at most `bytesMax`, of at most
 * `messagesMax` messages. By themselves those streams look for the end of a length for ever, an exception for each byte, in one turn of the event loop
 * (`@libp2p/utils` 7.4.1): 64 KiB of 0xff from a stranger stopped a node for seconds.
 * @throws RangeError if more bytes are needed, Error for what no more bytes can mend.
 */
export function lengthsUpTo(bytesMax: number, messagesMax: number = Infinity): LengthDecoder {
  let left = messagesMax;
  return (given) => {
    const bytes = given.subarray();
    let length = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      const byte = bytes[at] ?? 0;
      length += (byte & 0x7f) * 128 ** at;
      if (length > bytesMax || 128 ** at > bytesMax) break;
      if (byte >= 0x80) continue;
      if (left <= 0) throw new Error(`more than ${messagesMax} messages`);
      left -= 1;
      return length;
    }
    if (length > bytesMax || 128 ** bytes.length > bytesMax) throw new Error(`longer than ${bytesMax} bytes`);
    throw new RangeError("the length goes on");
  };
}

/** Reads and writes messages of at most `bytesMax` on a connection that may be anybody's. */
export function boundedWords(connection: MessageStream, bytesMax: number): LengthPrefixedStream {
  return lpStream(connection, { maxDataLength: bytesMax, lengthDecoder: lengthsUpTo(bytesMax) });
}

/** What is passed to an upgrade of a connection, and goes on to each negotiation of it. */
export function boundedNegotiation(): { readonly lengthDecoder: LengthDecoder } {
  return { lengthDecoder: lengthsUpTo(NEGOTIATION_BYTES_MAX, NEGOTIATION_MESSAGES_MAX) };
}
