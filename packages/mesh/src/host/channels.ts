import { types } from "node:util";
import { callListener } from "@klatsch/kit";
import type { Clock, Logger } from "@klatsch/kit";
import type { Stream } from "@libp2p/interface";
import { decodeNotice, encodeNotice, CHANNEL_NAME_LENGTH_MAX } from "../codec/link-codec.ts";
import { CHANNEL_NUMBER_MAX, FRAME_HEADER_BYTES } from "../codec/framing.ts";
import { CHANNELS_MAX, ChannelSessions } from "../core/channel-sessions.ts";
import type { ChannelNotice } from "../core/channel-sessions.ts";
import { MeshError, readable } from "../errors.ts";
import type { Channel, ChannelClass, ChannelHandlers, ChannelOptions, ClassLimits } from "../types.ts";
import { FrameStream } from "./frame-stream.ts";
import type { FrameStreamEnd } from "./frame-stream.ts";
import { checkFunction, checkObject, checkOneOf, checkText, refuse } from "./given.ts";
import { countReceived, countSent } from "./traffic.ts";
import type { Waiting } from "./traffic.ts";
import type { Traffic, TrafficRow } from "./traffic.ts";

/** Frames of this number are notices about channels. */
const NOTICES = 0;

export const CHANNEL_CLASSES: readonly ChannelClass[] = ["control", "high", "normal", "bulk"];

/** Counters that channels and links share. */
export interface LinkCounters {
  badFrames: number;
  handlerErrors: number;
  streamResets: number;
  framesRefused: number;
  linksRefused: number;
  dialsFailed: number;
  stateRefused: number;
}

export interface ChannelsInit {
  readonly frameBytesMax: number;
  readonly queues: Readonly<Record<ChannelClass, ClassLimits>>;
  readonly counters: LinkCounters;
  readonly traffic: Traffic;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A channel of this class was registered: links may now need a stream for it. */
  onWanted(trafficClass: ChannelClass): void;
}

/** What a peer said of itself in its hello that matters here. */
export interface PeerLimits {
  readonly peer: string;
  /** Longest frame it takes. */
  readonly frameBytesMax: number;
  /** The connection to it encrypts what is sent into other memory, at once. */
  readonly encrypted: boolean;
}

/** The channels of this node, and the streams of all peers that carry them. */
export class Channels {
  readonly #init: ChannelsInit;
  readonly #channels = new Map<string, LocalChannel>();
  /** Live streams, by class. */
  readonly #streams: Readonly<Record<ChannelClass, Set<ClassStream>>> = {
    control: new Set(),
    high: new Set(),
    normal: new Set(),
    bulk: new Set(),
  };

  constructor(init: ChannelsInit) {
    this.#init = init;
  }

  /** Whether any channel of the class is registered. */
  wants(trafficClass: ChannelClass): boolean {
    for (const channel of this.#channels.values()) if (channel.class === trafficClass) return true;
    return false;
  }

  /** @throws MeshError `CHANNEL_EXISTS`, `INVALID_OPTIONS`, `LIMIT_REACHED`. */
  register(name: string, handlers: ChannelHandlers, options: ChannelOptions): Channel {
    checkText("name", name);
    checkHandlers(handlers);
    const trafficClass = classOf(options);
    if (name.length === 0 || name.length > CHANNEL_NAME_LENGTH_MAX) {
      throw new MeshError(
        "INVALID_OPTIONS",
        `name: a channel name has 1 to ${CHANNEL_NAME_LENGTH_MAX} characters`,
      );
    }
    if (this.#channels.has(name)) {
      const text = `channel ${name} is registered already: a mesh has one createQueues and one createRpc at a time`;
      throw new MeshError("CHANNEL_EXISTS", text);
    }
    if (this.#channels.size >= CHANNELS_MAX) {
      throw new MeshError("LIMIT_REACHED", `no more than ${CHANNELS_MAX} channels at once`);
    }
    const channel = new LocalChannel(this.#init, name, trafficClass, handlers, () =>
      this.#unregister(channel),
    );
    this.#channels.set(name, channel);
    for (const stream of this.#streams[trafficClass]) stream.register(name);
    this.#init.onWanted(trafficClass);
    return channel;
  }

  /** Takes over a negotiated stream: every channel of the class is offered on it. */
  attach(peer: PeerLimits, trafficClass: ChannelClass, stream: Stream, onEnd: () => void): ClassStream {
    const streams = this.#streams[trafficClass];
    const carried: ClassStream = new ClassStream({
      init: this.#init,
      peer: peer.peer,
      frameBytesMax: Math.min(peer.frameBytesMax, this.#init.frameBytesMax),
      encrypted: peer.encrypted,
      trafficClass,
      stream,
      channel: (name) => this.#channels.get(name),
      onEnd: () => {
        streams.delete(carried);
        onEnd();
      },
    });
    streams.add(carried);
    for (const channel of this.#channels.values())
      if (channel.class === trafficClass) carried.register(channel.name);
    return carried;
  }

  /** What waits for all peers, by class. */
  waiting(): Waiting[] {
    return CHANNEL_CLASSES.map((trafficClass) => {
      let [frames, bytes] = [0, 0];
      for (const stream of this.#streams[trafficClass]) {
        frames += stream.queuedFrames;
        bytes += stream.queuedBytes;
      }
      return { class: trafficClass, frames, bytes };
    });
  }

  closeAll(): void {
    for (const channel of this.#channels.values()) channel.close();
  }

  #unregister(channel: LocalChannel): void {
    // The streams first: they call `onDown`, which has to find the channel.
    for (const stream of this.#streams[channel.class]) stream.unregister(channel.name);
    this.#channels.delete(channel.name);
  }
}

function checkHandlers(handlers: ChannelHandlers): void {
  readable("handlers", () => {
    checkObject("handlers", handlers);
    for (const name of ["onUp", "onDown", "onFrame"] as const) {
      checkFunction(`handlers.${name}`, handlers[name]);
    }
  });
}

/** @throws MeshError `INVALID_OPTIONS`. */
export function classOf(options: ChannelOptions): ChannelClass {
  return readable("options", () => {
    checkObject("options", options);
    const { class: trafficClass = "normal" } = options;
    checkOneOf("options.class", trafficClass, CHANNEL_CLASSES);
    return trafficClass;
  });
}

/** Where a session's frames go, and under which number. */
interface Session {
  readonly stream: ClassStream;
  readonly number: number;
}

class LocalChannel implements Channel {
  readonly name: string;
  readonly class: ChannelClass;
  readonly frameBytesMax: number;
  readonly #init: ChannelsInit;
  readonly #handlers: ChannelHandlers;
  readonly #sessions = new Map<string, Session>();
  readonly #unregister: () => void;
  readonly #row: TrafficRow;
  #closed = false;

  constructor(
    init: ChannelsInit,
    name: string,
    trafficClass: ChannelClass,
    handlers: ChannelHandlers,
    unregister: () => void,
  ) {
    this.#init = init;
    this.name = name;
    this.class = trafficClass;
    this.frameBytesMax = init.frameBytesMax;
    this.#handlers = handlers;
    this.#unregister = unregister;
    this.#row = init.traffic.row(trafficClass, name);
  }

  peers(): readonly string[] {
    return [...this.#sessions.keys()];
  }

  send(peer: string, frame: Uint8Array): boolean {
    if (!types.isUint8Array(frame)) refuse("frame", "must be a Uint8Array");
    const session = this.#sessions.get(peer);
    if (session === undefined) return false;
    if (frame.length <= session.stream.frameBytesMax && session.stream.send(session.number, frame)) {
      countSent(this.#row, frame.length + FRAME_HEADER_BYTES);
      return true;
    }
    this.#init.counters.framesRefused += 1;
    return false;
  }

  reset(peer: string, reason: string): void {
    this.#sessions
      .get(peer)
      ?.stream.end({ cause: "local", reason: `reset by channel ${this.name}: ${reason}` });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unregister();
  }

  up(peer: string, session: Session): void {
    this.#sessions.set(peer, session);
    // Not from inside the notice that brought it up.
    const end = (): void => queueMicrotask(() => this.#end(peer, session, "onUp threw"));
    this.#guard(() => this.#handlers.onUp(peer), "onUp", peer, end);
  }

  down(peer: string): void {
    if (this.#sessions.delete(peer)) this.#guard(() => this.#handlers.onDown(peer), "onDown", peer, ignore);
  }

  /** `false`: the handler threw. */
  deliver(peer: string, frame: Uint8Array): boolean {
    countReceived(this.#row, frame.length + FRAME_HEADER_BYTES);
    try {
      const given: unknown = this.#handlers.onFrame(peer, frame);
      if (given !== undefined) this.#follow(given, peer);
      return true;
    } catch (error) {
      this.#threw(error, "onFrame", peer);
      return false;
    }
  }

  /** An async handler is not waited for; where it rejects, that costs its peer's stream too. */
  #follow(given: unknown, peer: string): void {
    const session = this.#sessions.get(peer);
    this.#guard(
      () => given,
      "onFrame",
      peer,
      () => this.#end(peer, session, "onFrame rejected"),
    );
  }

  #end(peer: string, session: Session | undefined, reason: string): void {
    if (session !== undefined && this.#sessions.get(peer) === session) this.reset(peer, reason);
  }

  #guard(call: () => unknown, handler: string, peer: string, onThrew: () => void): void {
    callListener(call, (error) => {
      this.#threw(error, handler, peer);
      onThrew();
    });
  }

  #threw(error: unknown, handler: string, peer: string): void {
    this.#init.counters.handlerErrors += 1;
    this.#init.logger.error("a channel handler threw", { err: error, channel: this.name, handler, peer });
  }
}

interface ClassStreamInit {
  readonly init: ChannelsInit;
  readonly peer: string;
  readonly frameBytesMax: number;
  readonly trafficClass: ChannelClass;
  readonly stream: Stream;
  readonly encrypted: boolean;
  channel(name: string): LocalChannel | undefined;
  onEnd(): void;
}

/** One peer's stream of one class with the channels that are up on it. */
export class ClassStream {
  /** Longest frame that both ends take. */
  readonly frameBytesMax: number;
  readonly #init: ClassStreamInit;
  readonly #frames: FrameStream;
  readonly #sessions: ChannelSessions;

  constructor(init: ClassStreamInit) {
    this.#init = init;
    this.frameBytesMax = init.frameBytesMax;
    this.#sessions = new ChannelSessions({
      send: (notice) => this.#notify(notice),
      up: (name, number) => init.channel(name)?.up(init.peer, { stream: this, number }),
      down: (name) => init.channel(name)?.down(init.peer),
    });
    this.#frames = new FrameStream({
      stream: init.stream,
      encrypted: init.encrypted,
      payloadBytesMax: init.init.frameBytesMax,
      limits: init.init.queues[init.trafficClass],
      clock: init.init.clock,
      onFrame: (channel, payload) => this.#received(channel, payload),
      onEnd: (end) => this.#ended(end),
    });
  }

  get heardMs(): number {
    return this.#frames.heardMs;
  }

  /** When bytes last went either way; monotonic milliseconds, 0 if none did. */
  get usedMs(): number {
    return Math.max(this.#frames.heardMs, this.#frames.sentMs);
  }

  get queuedFrames(): number {
    return this.#frames.queuedFrames;
  }

  get queuedBytes(): number {
    return this.#frames.queuedBytes;
  }

  send(channel: number, frame: Uint8Array): boolean {
    return this.#frames.send(channel, frame);
  }

  register(name: string): void {
    this.#sessions.register(name);
  }

  unregister(name: string): void {
    this.#sessions.unregister(name);
  }

  end(end: FrameStreamEnd): void {
    this.#frames.end(end);
  }

  #received(number: number, payload: Uint8Array): boolean {
    if (number === NOTICES) {
      const notice = decodeNotice(payload);
      return notice !== undefined && this.#sessions.receive(notice);
    }
    const side = this.#sessions.channelOf(number);
    if (side === "unknown") return false;
    if (side === "stale") return true;
    const channel = this.#init.channel(side.name);
    if (channel === undefined || channel.deliver(this.#init.peer, payload)) return true;
    this.#frames.end({ cause: "threw", reason: `channel ${side.name}: its handler threw` });
    return true;
  }

  #notify(notice: ChannelNotice): void {
    const fits = notice.number <= CHANNEL_NUMBER_MAX && this.#frames.send(NOTICES, encodeNotice(notice));
    // A notice that cannot be sent would leave the ends disagreeing about who is up.
    if (!fits) this.#frames.end({ cause: "local", reason: "a channel notice could not be queued" });
  }

  #ended(end: FrameStreamEnd): void {
    const { counters, logger } = this.#init.init;
    if (end.cause === "bad") counters.badFrames += 1;
    if (end.cause !== "remote") {
      counters.streamResets += 1;
      const { peer, trafficClass } = this.#init;
      logger.warn("stream reset", { peer, class: trafficClass, cause: end.cause, reason: end.reason });
    }
    this.#init.onEnd();
    this.#sessions.end();
  }
}

function ignore(): void {}
