import type { MessageStream, StreamMuxerFactory } from "@libp2p/interface";
import { Uint8ArrayList } from "uint8arraylist";

/*
 * A window update in yamux: version 0, type 1, flags u16, stream u32, bytes u32, big-endian, and nothing behind it.
 */
const FRAME_BYTES = 12;
const WINDOW_UPDATE = 1;
/** Updates are held back until they come to this much: a quarter of a window, so that none ever runs dry. */
const HELD_BYTES_MAX: number = 64 * 1024;
/** Streams whose updates are held back at a time. */
const STREAMS_MAX = 1_024;

/**
 * Has yamux tell the other end of room seldom. By itself it does so after each piece of data, in a packet that is
 * encrypted, sent and read for itself: where messages are small that was half of all packets. What is to be told leaves
 * with the data of the same turn of the event loop, if there is any: an answer, as a rule.
 */
export function withSparingWindows(factory: StreamMuxerFactory): StreamMuxerFactory {
  const create = factory.createStreamMuxer.bind(factory);
  factory.createStreamMuxer = (connection) => create(holdingUpdates(connection));
  return factory;
}

function holdingUpdates(connection: MessageStream): MessageStream {
  const send = connection.send.bind(connection);
  const held = new Map<number, number>();
  /** Updates that leave in this turn of the event loop, by stream. */
  const due = new Map<number, Uint8Array>();
  const take = (): Uint8Array[] => {
    const updates = [...due.values()];
    due.clear();
    return updates;
  };
  const tell = (): void => {
    // They may have left, and the connection may have ended.
    if (due.size === 0 || connection.status !== "open") return;
    try {
      send(new Uint8ArrayList(...take()));
    } catch (error) {
      connection.abort(error instanceof Error ? error : new Error(String(error)));
    }
  };
  connection.send = (bytes) => {
    if (!(bytes instanceof Uint8Array) || !isPlainUpdate(bytes)) {
      // Behind it: the longest data fills a message of Noise, and is to arrive in one piece.
      return send(due.size === 0 ? bytes : new Uint8ArrayList(bytes, ...take()));
    }
    const frame = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const stream = frame.getUint32(4);
    const sum = (held.get(stream) ?? 0) + frame.getUint32(8);
    held.set(stream, sum);
    if (sum < HELD_BYTES_MAX && held.size <= STREAMS_MAX) return true;
    held.delete(stream);
    const room = sum + roomIn(due.get(stream));
    frame.setUint32(8, room);
    if (due.size === 0) setImmediate(tell);
    due.set(stream, bytes);
    return true;
  };
  return connection;
}

/** What an update tells of. */
function roomIn(update: Uint8Array | undefined): number {
  return update === undefined ? 0 : new DataView(update.buffer, update.byteOffset).getUint32(8);
}

/** Flags open, confirm or end a stream: such an update waits for nothing. */
function isPlainUpdate(bytes: Uint8Array): boolean {
  return bytes.length === FRAME_BYTES && bytes[1] === WINDOW_UPDATE && bytes[2] === 0 && bytes[3] === 0;
}
