import type { MessageStream, StreamMuxerFactory } from "@libp2p/interface";

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
 * encrypted, sent and read for itself: where messages are small that was half of all packets.
 */
export function withSparingWindows(factory: StreamMuxerFactory): StreamMuxerFactory {
  const create = factory.createStreamMuxer.bind(factory);
  factory.createStreamMuxer = (connection) => create(holdingUpdates(connection));
  return factory;
}

function holdingUpdates(connection: MessageStream): MessageStream {
  const send = connection.send.bind(connection);
  const held = new Map<number, number>();
  connection.send = (bytes) => {
    if (!(bytes instanceof Uint8Array) || !isPlainUpdate(bytes)) return send(bytes);
    const frame = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const stream = frame.getUint32(4);
    const sum = (held.get(stream) ?? 0) + frame.getUint32(8);
    if (sum < HELD_BYTES_MAX && (held.size < STREAMS_MAX || held.has(stream))) {
      held.set(stream, sum);
      return true;
    }
    held.delete(stream);
    frame.setUint32(8, sum);
    return send(bytes);
  };
  return connection;
}

/** Flags open, confirm or end a stream: such an update waits for nothing. */
function isPlainUpdate(bytes: Uint8Array): boolean {
  return bytes.length === FRAME_BYTES && bytes[1] === WINDOW_UPDATE && bytes[2] === 0 && bytes[3] === 0;
}
