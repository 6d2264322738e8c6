import type { Clock } from "@klatsch/kit";
import type { Connection, Stream } from "@libp2p/interface";
import { decodeLinkMessage, encodeLinkMessage, LINK_PAYLOAD_BYTES_MAX } from "../codec/link-codec.ts";
import type { Hello, LinkMessage, RefusalCode } from "../core/messages.ts";
import type { ChannelClass, ClassLimits, Conduit } from "../types.ts";
import { isNoise } from "../admission/encrypter.ts";
import { conduitOf } from "./conduits.ts";
import { CHANNEL_CLASSES } from "./channels.ts";
import type { ClassStream } from "./channels.ts";
import { FrameStream } from "./frame-stream.ts";
import type { FrameMeter } from "./frame-stream.ts";
import { parseTunnelAddress } from "./tunnel-address.ts";
import { countReceived, countSent } from "./traffic.ts";
import type { Traffic } from "./traffic.ts";

/** Protocol of the stream that carries hello and membership; the dialer of a connection opens it. */
export const LINK_PROTOCOL = "/klatsch/link/1";
/** Protocol of a class stream; the dialer opens it once the link is up. */
export function classProtocol(trafficClass: ChannelClass): string {
  return `/klatsch/${trafficClass}/1`;
}

/** Frames of a link stream: about the connection, of membership, and of gossip state. */
const ABOUT_LINK = 0;
const MEMBERSHIP = 1;
const ADMISSION = 4;
const STATE = 2;
/** With so much waiting, state is dropped: it is found missing and sent again, and must not delay a probe. */
const STATE_WAITS_BYTES_MAX: number = 2 * 1024 * 1024;
/** Counts the frames of all link streams by what they are about. */
export function linkMeter(traffic: Traffic): FrameMeter {
  const rows = new Map(
    Object.entries({ link: ABOUT_LINK, membership: MEMBERSHIP, state: STATE, admission: ADMISSION }).map(
      ([protocol, number]) => [number, traffic.row("link", protocol)],
    ),
  );
  const other = traffic.row("link", "other");
  return {
    sent: (number, bytes) => countSent(rows.get(number) ?? other, bytes),
    received: (number, bytes) => countReceived(rows.get(number) ?? other, bytes),
  };
}

/** A connection without completed hello is closed after this, in milliseconds. */
const HELLO_MS = 5_000;
/** Opening a stream may take this long, in milliseconds. */
const STREAM_MS = 5_000;
/** Pause before a class stream is opened anew: doubles from the first to the last, in milliseconds. */
const REOPEN_MS_FIRST = 20;
const REOPEN_MS_MAX = 5_000;
/** A stream that lived this long starts again with the shortest pause. */
const REOPEN_RESET_MS = 10_000;
/** What waits for one peer on a link stream: the whole table, in chunks, fits many times. */
const LINK_LIMITS: ClassLimits = { queueFramesMax: 8_192, queueBytesMax: 16 * 1024 * 1024 };

/** What a connection asks of whoever keeps all of them. */
export interface LinkConnectionPorts {
  /** Our hello for this peer. */
  hello(): Hello;
  /** The other end's first word. A returned code turns it away. */
  onHello(hello: Hello): { readonly code: RefusalCode; readonly detail: string } | undefined;
  onMessage(message: Exclude<LinkMessage, { type: "hello" }>): void;
  /** `false`: undecodable. */
  onMembership(payload: Uint8Array): boolean;
  /** Likewise. */
  onAdmission(payload: Uint8Array): boolean;
  /** `false`: undecodable. */
  onState(payload: Uint8Array): boolean;
  attachClass(trafficClass: ChannelClass, stream: Stream, onEnd: () => void): ClassStream;
  wants(trafficClass: ChannelClass): boolean;
  onBad(reason: string): void;
  readonly meter: FrameMeter;
  /** Ends the connection: at once with an error, in order without. */
  hangUp(connection: Connection, error: Error | undefined): void;
  /** It is no link any more: its channels are down; its last words may still be leaving. */
  onRetire(reason: string): void;
  /** Called once, after `onRetire`, whoever ended it. */
  onEnd(reason: string): void;
}

interface ClassSlot {
  stream: ClassStream | undefined;
  opening: boolean;
  openedMs: number;
  pauseMs: number;
}

/** One libp2p connection as a link: hello first, then membership, and a stream for each class in use. */
export class LinkConnection {
  readonly no: number;
  readonly peer: string;
  /** Whether this end dialled; it alone opens streams, so there is never a second one of a kind. */
  readonly dialer: boolean;
  /** The peers a tunnel passes on its way to the peer, which is the last; `undefined` for a direct connection. */
  readonly hops: readonly string[] | undefined;
  readonly conduit: Conduit | undefined;
  /** What is sent is encrypted into other memory, at once. */
  readonly encrypted: boolean;
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #ports: LinkConnectionPorts;
  readonly #slots = new Map<ChannelClass, ClassSlot>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #frames: FrameStream | undefined;
  #greeted = false;
  #active = false;
  #retired = false;
  #ended = false;
  /** Class streams that came before `activate`. */
  #early: { readonly trafficClass: ChannelClass; readonly stream: Stream }[] = [];

  constructor(no: number, connection: Connection, clock: Clock, ports: LinkConnectionPorts) {
    this.no = no;
    this.#clock = clock;
    this.#connection = connection;
    this.peer = connection.remotePeer.toString();
    this.dialer = connection.direction === "outbound";
    this.hops = parseTunnelAddress(connection.remoteAddr)?.hops;
    this.conduit = conduitOf(connection.remoteAddr);
    this.encrypted = isNoise(connection.encryption);
    this.#ports = ports;
    connection.addEventListener("close", () => this.end("connection closed"));
    this.#after(HELLO_MS, () => {
      if (!this.#active) this.end("hello not completed in time");
    });
    if (connection.status !== "open") queueMicrotask(() => this.end("connection closed at once"));
    else if (this.dialer) void this.#openLink();
  }

  /** Whether the connection may still become a link: it is new and not refused. */
  get pending(): boolean {
    return !this.#retired && !this.#active;
  }

  /** What waits on the link stream itself. */
  get waiting(): { readonly frames: number; readonly bytes: number } {
    return { frames: this.#frames?.queuedFrames ?? 0, bytes: this.#frames?.queuedBytes ?? 0 };
  }

  get id(): string {
    return this.#connection.id;
  }

  get connection(): Connection {
    return this.#connection;
  }

  /** Latest arrival on any stream; monotonic milliseconds, 0 if none. */
  heardMs(): number {
    let heardMs = this.#frames?.heardMs ?? 0;
    for (const slot of this.#slots.values()) heardMs = Math.max(heardMs, slot.stream?.heardMs ?? 0);
    return heardMs;
  }

  /** When a channel last used it; monotonic milliseconds, 0 if none did. */
  usedMs(): number {
    let usedMs = 0;
    for (const slot of this.#slots.values()) usedMs = Math.max(usedMs, slot.stream?.usedMs ?? 0);
    return usedMs;
  }

  /** The other end's link stream has arrived. */
  acceptLink(stream: Stream): void {
    if (this.dialer || this.#frames !== undefined || this.#retired) this.#refuseStream(stream);
    else this.#attachLink(stream);
  }

  /** The other end's stream of a class has arrived: attached once the link is known to everybody here. */
  acceptClass(trafficClass: ChannelClass, stream: Stream): void {
    if (this.dialer || this.#retired || !this.#greeted || this.#early.length >= CHANNEL_CLASSES.length) {
      this.#refuseStream(stream);
    } else if (this.#active) this.#attachClass(trafficClass, stream);
    else this.#early.push({ trafficClass, stream });
  }

  /** The link is up and membership has told so: class streams may carry channels now. */
  activate(): void {
    if (this.#active || this.#retired) return;
    this.#active = true;
    for (const { trafficClass, stream } of this.#early.splice(0)) this.#attachClass(trafficClass, stream);
    for (const trafficClass of CHANNEL_CLASSES) this.openClass(trafficClass);
  }

  /** Opens the stream of a class if it is this end's to do and a channel wants it. */
  openClass(trafficClass: ChannelClass): void {
    if (!this.dialer || !this.#active || this.#retired || !this.#ports.wants(trafficClass)) return;
    const slot = this.#slot(trafficClass);
    if (slot.stream !== undefined || slot.opening) return;
    slot.opening = true;
    void this.#openClass(trafficClass, slot);
  }

  send(message: LinkMessage): void {
    this.#queue(ABOUT_LINK, encodeLinkMessage(message));
  }

  sendMembership(payload: Uint8Array): void {
    this.#queue(MEMBERSHIP, payload);
  }

  sendAdmission(payload: Uint8Array): void {
    this.#queue(ADMISSION, payload);
  }

  /** `false`: not sent, since the peer is behind. */
  sendState(payload: Uint8Array): boolean {
    if (this.#ended || this.#frames === undefined) return false;
    return this.#frames.queuedBytes <= STATE_WAITS_BYTES_MAX && this.#frames.send(STATE, payload);
  }

  /** Says why, then closes in order, so that the last word arrives. */
  refuse(code: RefusalCode, detail: string): void {
    this.send({ type: "refuse", code, detail });
    this.close(`refused: ${code}`);
  }

  /** Its channels go down at once; it ends when what is queued has left, within a second at the latest. */
  close(reason: string): void {
    this.#retire(reason);
    const frames = this.#frames;
    if (frames === undefined || this.#ended) {
      this.end(reason);
      return;
    }
    const finish = (): void => {
      if (this.#ended) return;
      this.#finish(reason, () => this.#ports.hangUp(this.#connection, undefined));
    };
    frames.whenIdle(finish);
    this.#after(1_000, finish);
  }

  /** Ends at once. */
  end(reason: string): void {
    if (this.#ended) return;
    this.#finish(reason, () => {
      if (this.#connection.status === "open") this.#ports.hangUp(this.#connection, new Error(reason));
    });
  }

  #retire(reason: string): void {
    if (this.#retired) return;
    this.#retired = true;
    for (const slot of this.#slots.values()) slot.stream?.end({ cause: "remote", reason });
    for (const { stream } of this.#early.splice(0)) stream.abort(new Error(reason));
    this.#ports.onRetire(reason);
  }

  #finish(reason: string, close: () => void): void {
    this.#ended = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#frames?.release();
    close(); // Before the class streams, or each would send a reset of its own.
    this.#retire(reason);
    this.#ports.onEnd(reason);
  }

  #queue(channel: number, payload: Uint8Array): void {
    if (this.#ended || this.#frames === undefined) return;
    if (!this.#frames.send(channel, payload)) this.end("link queue full");
  }

  async #openLink(): Promise<void> {
    try {
      const stream = await this.#connection.newStream(LINK_PROTOCOL, {
        signal: AbortSignal.timeout(STREAM_MS),
        runOnLimitedConnection: true, // Tunnels are such.
      });
      if (this.#ended) {
        stream.abort(new Error("link ended"));
        return;
      }
      this.#attachLink(stream);
      this.send({ type: "hello", hello: this.#ports.hello() });
    } catch (error) {
      this.end(`no link stream: ${asError(error).message}`);
    }
  }

  #attachLink(stream: Stream): void {
    this.#frames = new FrameStream({
      stream,
      encrypted: this.encrypted,
      payloadBytesMax: LINK_PAYLOAD_BYTES_MAX,
      limits: LINK_LIMITS,
      clock: this.#clock,
      meter: this.#ports.meter,
      onFrame: (channel, payload) => this.#received(channel, payload),
      onEnd: (end) => {
        if (this.#ended) return;
        if (end.cause === "bad" || end.cause === "threw") this.#ports.onBad(end.reason);
        this.end(`link stream ended: ${end.reason}`);
      },
    });
  }

  #received(channel: number, payload: Uint8Array): boolean {
    if (channel === MEMBERSHIP) return this.#greeted && this.#ports.onMembership(payload);
    if (channel === ADMISSION) return this.#greeted && this.#ports.onAdmission(payload);
    if (channel === STATE) return this.#greeted && this.#ports.onState(payload);
    if (channel !== ABOUT_LINK) return false;
    const message = decodeLinkMessage(payload);
    if (message === undefined) return false;
    if (message.type === "foreign") {
      this.refuse("PROTOCOL_VERSION", `version ${message.version} is not spoken here`);
      return true;
    }
    if (message.type !== "hello") {
      if (!this.#greeted && message.type !== "refuse" && message.type !== "busy") return false;
      this.#ports.onMessage(message);
      return true;
    }
    if (this.#greeted || message.hello.record.peer !== this.peer) return false;
    this.#greeted = true;
    this.#greet(message.hello);
    return true;
  }

  #greet(hello: Hello): void {
    const refusal = this.#ports.onHello(hello);
    if (refusal !== undefined) this.refuse(refusal.code, refusal.detail);
  }

  #attachClass(trafficClass: ChannelClass, stream: Stream): void {
    const slot = this.#slot(trafficClass);
    // The opener has one stream of a class at a time: it has given the old one up.
    slot.stream?.end({ cause: "remote", reason: "replaced by its opener" });
    slot.openedMs = this.#clock.now().monoMs;
    const attached: ClassStream = this.#ports.attachClass(trafficClass, stream, () => {
      if (slot.stream === attached) slot.stream = undefined;
      this.#reopen(trafficClass, slot);
    });
    slot.stream = attached;
  }

  async #openClass(trafficClass: ChannelClass, slot: ClassSlot): Promise<void> {
    try {
      const stream = await this.#connection.newStream(classProtocol(trafficClass), {
        signal: AbortSignal.timeout(STREAM_MS),
        runOnLimitedConnection: true, // Tunnels are such.
      });
      slot.opening = false;
      if (this.#retired) stream.abort(new Error("link ended"));
      else this.#attachClass(trafficClass, stream);
    } catch {
      slot.opening = false;
      this.#reopen(trafficClass, slot);
    }
  }

  #reopen(trafficClass: ChannelClass, slot: ClassSlot): void {
    if (!this.dialer || this.#retired) return;
    const livedMs = this.#clock.now().monoMs - slot.openedMs;
    slot.pauseMs = livedMs > REOPEN_RESET_MS ? REOPEN_MS_FIRST : Math.min(slot.pauseMs * 2, REOPEN_MS_MAX);
    this.#after(slot.pauseMs, () => this.openClass(trafficClass));
  }

  #slot(trafficClass: ChannelClass): ClassSlot {
    const known = this.#slots.get(trafficClass);
    if (known !== undefined) return known;
    const slot: ClassSlot = { stream: undefined, opening: false, openedMs: 0, pauseMs: REOPEN_MS_FIRST / 2 };
    this.#slots.set(trafficClass, slot);
    return slot;
  }

  #refuseStream(stream: Stream): void {
    stream.abort(new Error("not yours to open"));
    this.#ports.onBad("a stream out of turn");
  }

  #after(delayMs: number, task: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      task();
    }, delayMs);
    this.#timers.add(timer);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
