import type { Channel, Mesh } from "@klatsch/mesh";

/** Beside the queue's own channel, in the class whose frames wait for nobody else's. */
const CHANNEL = "klatsch/queue/bulk/1";
/** Bytes of a long frame in one piece: so long at most a short frame waits behind it. */
const PIECE_BYTES = 24 * 1_024;
/** Length of the whole, and where the piece begins in it: 4 bytes each, big-endian. */
const HEADER_BYTES = 8;
/** Where a piece is put together: the mesh copies what is so short. */
const scratch: Buffer = Buffer.allocUnsafeSlow(HEADER_BYTES + PIECE_BYTES);
/** Pieces handed to the mesh in one turn of the event loop. */
const TURN_PIECES = 16;
/** How long a queue of the mesh that is full is left alone, in milliseconds. */
const FULL_MS = 10;
/** Longest frame, in bytes: the longest body with all that is around it. */
const FRAME_BYTES_MAX = 9 * 1_024 * 1_024;
/** Frames kept that came before the session began. */
const EARLY_MAX = 8;
/** Bytes that wait for one peer; who has more waits, too. */
const WAITING_BYTES_MAX = 64 * 1_024 * 1_024;

interface BulkPort {
  /** A whole frame; never before `begin`. */
  onFrame(peer: string, frame: Uint8Array): void;
  /** Something may be missing: the session has to begin anew. */
  onLost(peer: string, reason: string): void;
}

/** What leaves for one peer, within a session of the queue's own channel. */
interface Outbound {
  readonly waiting: Uint8Array[];
  waitingBytes: number;
  /** How much of the first has left. */
  at: number;
  timer: NodeJS.Timeout | NodeJS.Immediate | undefined;
  /** Pieces left since this end of the channel came up: some may be lost with it. */
  used: boolean;
}

/** What comes from one peer. Its pieces may come before the session does: here the other channel is not up yet. */
interface Inbound {
  arriving: { readonly frame: Buffer; got: number } | undefined;
  /** The peer's first frame on the queue's own channel has come. */
  begun: boolean;
  /** Whole, and from before that. */
  early: Uint8Array[];
}

/**
 * Long frames travel in pieces on a channel of their own, so that short ones overtake them. Each peer's leave one after
 * the other; they belong to a session of the queue's own channel, and are dropped when that ends.
 */
export class Bulk {
  readonly #port: BulkPort;
  readonly #channel: Channel;
  readonly #outbound = new Map<string, Outbound>();
  readonly #inbound = new Map<string, Inbound>();

  constructor(mesh: Mesh, port: BulkPort) {
    this.#port = port;
    const handlers = {
      onUp: () => undefined,
      onDown: (peer: string) => this.#onDown(peer),
      onFrame: (peer: string, piece: Uint8Array) => this.#onPiece(peer, piece),
    };
    this.#channel = mesh.channel(CHANNEL, handlers, { class: "bulk" });
  }

  /** A session of the queue's own channel begins. */
  up(peer: string): void {
    this.#endOutbound(peer);
    this.#outbound.set(peer, { waiting: [], waitingBytes: 0, at: 0, timer: undefined, used: false });
  }

  down(peer: string): void {
    this.#endOutbound(peer);
    const inbound = this.#inbound.get(peer);
    if (inbound === undefined) return;
    inbound.begun = false;
    inbound.early = [];
  }

  #endOutbound(peer: string): void {
    const line = this.#outbound.get(peer);
    if (line !== undefined) stopTimer(line);
    this.#outbound.delete(peer);
  }

  #from(peer: string): Inbound {
    let inbound = this.#inbound.get(peer);
    if (inbound === undefined) {
      inbound = { arriving: undefined, begun: false, early: [] };
      this.#inbound.set(peer, inbound);
    }
    return inbound;
  }

  /** A frame came on the queue's own channel: what arrived before it may be read. */
  begin(peer: string): void {
    const inbound = this.#from(peer);
    if (inbound.begun) return;
    inbound.begun = true;
    for (const frame of inbound.early.splice(0)) this.#port.onFrame(peer, frame);
  }

  /** So many bytes more have to wait before they are given to `send`. */
  isFull(peer: string, bytes: number): boolean {
    const line = this.#outbound.get(peer);
    return line !== undefined && line.waiting.length > 0 && line.waitingBytes + bytes > WAITING_BYTES_MAX;
  }

  /** `false`: there is no way for it here now. */
  send(peer: string, frame: Uint8Array): boolean {
    const line = this.#outbound.get(peer);
    if (line === undefined || frame.length > FRAME_BYTES_MAX || !this.#channel.peers().includes(peer))
      return false;
    line.waiting.push(frame);
    line.waitingBytes += frame.length;
    if (line.timer === undefined) this.#pump(peer, line);
    return true;
  }

  #pump(peer: string, line: Outbound): void {
    line.timer = undefined;
    for (let count = 0; count < TURN_PIECES; count += 1) {
      const frame = line.waiting[0];
      if (frame === undefined) return;
      const part = frame.subarray(line.at, line.at + PIECE_BYTES);
      const piece = scratch.subarray(0, HEADER_BYTES + part.length);
      piece.writeUInt32BE(frame.length, 0);
      piece.writeUInt32BE(line.at, 4);
      piece.set(part, HEADER_BYTES);
      if (!this.#channel.send(peer, piece)) {
        line.timer = setTimeout(() => this.#pump(peer, line), FULL_MS);
        return;
      }
      line.used = true;
      line.at += part.length;
      if (line.at < frame.length) continue;
      line.waiting.shift();
      line.waitingBytes -= frame.length;
      line.at = 0;
    }
    if (line.waiting.length > 0) line.timer = setImmediate(() => this.#pump(peer, line));
  }

  #onDown(peer: string): void {
    this.#inbound.delete(peer);
    const line = this.#outbound.get(peer);
    if (line === undefined) return;
    const { used, waiting } = line;
    stopTimer(line);
    line.used = false;
    if (used || waiting.length > 0) this.#port.onLost(peer, "the channel for long frames ended");
  }

  /** Pieces of one frame come in order; what is left of one that was given up, or is nonsense, is passed over. */
  #onPiece(peer: string, piece: Uint8Array): void {
    if (piece.length <= HEADER_BYTES) return;
    const line = this.#from(peer);
    const view = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
    const [length, at] = [view.readUInt32BE(0), view.readUInt32BE(4)];
    if (at === 0) {
      if (length > FRAME_BYTES_MAX) return;
      line.arriving = { frame: Buffer.allocUnsafeSlow(length), got: 0 };
    }
    const { arriving } = line;
    if (arriving === undefined || arriving.got !== at || arriving.frame.length !== length) return;
    const part = view.subarray(HEADER_BYTES);
    if (at + part.length > length) return;
    arriving.frame.set(part, at);
    arriving.got += part.length;
    if (arriving.got < length) return;
    line.arriving = undefined;
    if (line.begun) this.#port.onFrame(peer, arriving.frame);
    else if (line.early.length < EARLY_MAX) line.early.push(arriving.frame);
    else this.#port.onLost(peer, "long frames came before the session began");
  }

  close(): void {
    for (const peer of [...this.#outbound.keys()]) this.#endOutbound(peer);
    this.#channel.close();
  }
}

function stopTimer(line: Outbound): void {
  clearTimeout(line.timer as NodeJS.Timeout | undefined);
  clearImmediate(line.timer as NodeJS.Immediate | undefined);
  line.timer = undefined;
}
