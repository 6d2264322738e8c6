import type { Message } from "../../packages/queue/src/core/messages.ts";
import type { PeerId } from "../../packages/queue/src/core/types.ts";
import type { EventQueue } from "./events.ts";
import type { Dice } from "./scenario.ts";

/** One direction of a session: an ordered stream that may pause but never loses or repeats. */
interface Channel {
  readonly to: PeerId;
  /** When the receiver learns of its connection: nothing is read before. */
  readonly upAt: number;
  readonly queue: { readonly message: Message; readonly readyAt: number }[];
  lastReadyAt: number;
  stalledUntil: number;
  draining: boolean;
  /** Has had its first message, the hello. */
  begun: boolean;
  /** Where messages with bodies go by themselves, and may be overtaken. */
  readonly bulk: Channel | undefined;
}

/** One connection of two nodes. What was in flight when it ends never arrives. */
export interface Session {
  readonly ends: readonly [PeerId, PeerId];
  readonly channels: readonly [Channel, Channel];
  alive: boolean;
}

interface Pair {
  readonly ends: readonly [PeerId, PeerId];
  session: Session | undefined;
  /** No connection is made, and none outlives its detection, while this is above 0. */
  blocked: number;
  connecting: boolean;
}

/** What the network asks of the machines it joins. */
export interface NetworkHost {
  /** The process can answer a connection attempt. */
  canConnect(peer: PeerId): boolean;
  linkUp(peer: PeerId, other: PeerId, session: Session): void;
  linkDown(peer: PeerId, other: PeerId, session: Session): void;
  receive(peer: PeerId, from: PeerId, message: Message): void;
}

/** What the host sends as pieces of its own class once it is long. */
function hasBody(message: Message): boolean {
  switch (message.type) {
    case "ops":
      return message.sections.some(({ accepts }) => accepts.some(({ body }) => body !== undefined));
    case "deliver":
      return message.items.some(({ body }) => body !== undefined);
    default:
      return message.type === "body";
  }
}

/** Connections of all pairs: sessions that come and go, each an ordered stream both ways. */
export class Network {
  readonly #events: EventQueue;
  readonly #dice: Dice;
  readonly #host: NetworkHost;
  /** By the lower end, then the higher. */
  readonly #pairs = new Map<PeerId, Map<PeerId, Pair>>();
  /** In the order in which they first met. */
  readonly #all: Pair[] = [];
  readonly #delayMs: number;
  readonly #jitterMs: number;
  readonly #slowest: number;
  /** Dice of its own for messages with bodies, if they travel apart from the others. */
  readonly #bulk: Dice | undefined;
  readonly #factors = new Map<PeerId, Map<PeerId, number>>();
  /** No delay but the least, for the time after faults. */
  calm = false;

  constructor(
    events: EventQueue,
    dice: Dice,
    host: NetworkHost,
    delays: { readonly delayMs: number; readonly jitterMs: number; readonly slowest: number },
    bulk: Dice | undefined,
  ) {
    this.#bulk = bulk;
    this.#events = events;
    this.#dice = dice;
    this.#host = host;
    this.#delayMs = delays.delayMs;
    this.#jitterMs = delays.jitterMs;
    this.#slowest = delays.slowest;
  }

  /** How many times as long as others a message with a body may be under way. */
  get slowdown(): number {
    return this.#bulk === undefined ? 1 : 20;
  }

  #pair(a: PeerId, b: PeerId): Pair {
    const [low, high] = a < b ? [a, b] : [b, a];
    const known = this.#pairs.get(low) ?? new Map<PeerId, Pair>();
    let pair = known.get(high);
    if (pair === undefined) {
      pair = { ends: [low, high], session: undefined, blocked: 0, connecting: false };
      this.#pairs.set(low, known.set(high, pair));
      this.#all.push(pair);
    }
    return pair;
  }

  isOpen(a: PeerId, b: PeerId): boolean {
    return this.#pair(a, b).blocked === 0;
  }

  /** Keeps trying until the two are connected. */
  connect(a: PeerId, b: PeerId, delayMs: number): void {
    const pair = this.#pair(a, b);
    if (pair.connecting || pair.session !== undefined) return;
    pair.connecting = true;
    this.#events.in(delayMs, () => {
      pair.connecting = false;
      if (pair.session !== undefined) return;
      if (pair.blocked > 0 || !this.#host.canConnect(a) || !this.#host.canConnect(b)) {
        this.connect(a, b, this.#dice.real(20, 100));
        return;
      }
      this.#open(pair);
    });
  }

  #open(pair: Pair): void {
    const [a, b] = pair.ends;
    const session: Session = { ends: pair.ends, channels: [this.#stream(b), this.#stream(a)], alive: true };
    pair.session = session;
    for (const { to, upAt } of session.channels) {
      const other = to === a ? b : a;
      this.#events.at(upAt, () => {
        if (session.alive) this.#host.linkUp(to, other, session);
      });
    }
  }

  #stream(to: PeerId): Channel {
    const upAt = this.#events.now + this.#dice.real(0.1, 3);
    const stream = {
      to,
      upAt,
      queue: [],
      lastReadyAt: upAt,
      stalledUntil: upAt,
      draining: false,
      begun: false,
    };
    // Nothing is read from it before the hello came on the other.
    const stalledUntil = Number.POSITIVE_INFINITY;
    const bulk =
      this.#bulk === undefined ? undefined : { ...stream, queue: [], stalledUntil, bulk: undefined };
    return { ...stream, bulk };
  }

  /** Ends the connection; each side notices in its own time, and both try again. */
  reset(a: PeerId, b: PeerId, noticeMs: number): void {
    const pair = this.#pair(a, b);
    const { session } = pair;
    if (session === undefined) return;
    session.alive = false;
    pair.session = undefined;
    for (const { queue, bulk } of session.channels) {
      queue.length = 0;
      if (bulk !== undefined) bulk.queue.length = 0;
    }
    for (const [peer, other] of [
      [a, b],
      [b, a],
    ] as const) {
      this.#events.in(this.#dice.real(0, noticeMs), () => this.#host.linkDown(peer, other, session));
    }
    this.connect(a, b, this.#dice.real(1, noticeMs * 2 + 5));
  }

  /** A process is gone: its connections are, too. */
  drop(peer: PeerId, noticeMs: number): void {
    for (const { ends } of this.#all) {
      if (ends.includes(peer)) this.reset(ends[0], ends[1], noticeMs);
    }
  }

  /** No new connection, and nothing from `a` arrives at `b`; nor the other way, unless `oneWay`. */
  block(a: PeerId, b: PeerId, oneWay: boolean): void {
    this.#pair(a, b).blocked += 1;
    this.#stall(a, b);
    if (!oneWay) this.#stall(b, a);
  }

  unblock(a: PeerId, b: PeerId): void {
    const pair = this.#pair(a, b);
    pair.blocked -= 1;
    if (pair.blocked > 0) return;
    this.#resume(a, b);
    this.#resume(b, a);
    this.connect(a, b, this.#dice.real(1, 100));
  }

  #channel(from: PeerId, to: PeerId): Channel | undefined {
    return this.#pair(from, to).session?.channels.find((stream) => stream.to === to);
  }

  #stall(from: PeerId, to: PeerId): void {
    const stream = this.#channel(from, to);
    if (stream !== undefined) stream.stalledUntil = Number.POSITIVE_INFINITY;
  }

  #resume(from: PeerId, to: PeerId): void {
    const stream = this.#channel(from, to);
    if (stream === undefined) return;
    stream.stalledUntil = Math.max(stream.upAt, this.#events.now + this.#dice.real(0, 5));
    this.#drain(stream, from);
  }

  /** Into the stream of the session that `from` knows; a session that is over swallows it. */
  send(session: Session, from: PeerId, message: Message): void {
    if (!session.alive) return;
    const [first, second] = session.channels;
    const stream = first.to === from ? second : first;
    const delay = this.calm
      ? 1
      : this.#delayMs * this.#factor(from, stream.to) + this.#dice.real(0, this.#jitterMs);
    const { bulk } = stream;
    if (bulk !== undefined && hasBody(message))
      this.#queue(bulk, from, message, delay * (this.#bulk?.real(1, this.slowdown) ?? 1));
    else this.#queue(stream, from, message, delay);
  }

  #queue(stream: Channel, from: PeerId, message: Message, delay: number): void {
    const readyAt = Math.max(stream.lastReadyAt, this.#events.now + delay);
    stream.lastReadyAt = readyAt;
    stream.queue.push({ message, readyAt });
    this.#drain(stream, from);
  }

  #begin(stream: Channel, from: PeerId): void {
    if (stream.begun) return;
    stream.begun = true;
    if (stream.bulk === undefined) return;
    stream.bulk.stalledUntil = this.#events.now;
    this.#drain(stream.bulk, from);
  }

  #factor(from: PeerId, to: PeerId): number {
    const known = this.#factors.get(from) ?? new Map<PeerId, number>();
    let factor = known.get(to);
    if (factor === undefined) {
      factor = this.#slowest ** this.#dice.real(0, 1);
      this.#factors.set(from, known.set(to, factor));
    }
    return factor;
  }

  #drain(stream: Channel, from: PeerId): void {
    const first = stream.queue[0];
    if (first === undefined || stream.draining) return;
    const at = Math.max(first.readyAt, stream.stalledUntil);
    if (at === Number.POSITIVE_INFINITY) return; // `resume` comes back here.
    stream.draining = true;
    this.#events.at(at, () => {
      stream.draining = false;
      while (stream.queue.length > 0) {
        const { message, readyAt } = stream.queue[0]!;
        if (readyAt > this.#events.now || stream.stalledUntil > this.#events.now) break;
        stream.queue.shift();
        this.#host.receive(stream.to, from, message);
        this.#begin(stream, from);
      }
      this.#drain(stream, from);
    });
  }
}
