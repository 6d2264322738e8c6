import { transportSymbol } from "@libp2p/interface";
import type { ComponentLogger, Connection, Stream, Transport, Upgrader } from "@libp2p/interface";
import type { Multiaddr } from "@multiformats/multiaddr";
import type { Clock, Logger } from "@klatsch/kit";
import {
  decodeTunnelAnswer,
  decodeTunnelRequest,
  encodeTunnelAnswer,
  encodeTunnelRequest,
} from "../codec/tunnel-codec.ts";
import { RelayBook } from "../core/routing/relay-book.ts";
import type { RelayLimits, RelayPorts } from "../core/routing/relay-book.ts";
import type { HopRefusalCode, Route, RouteClass, TunnelRequest } from "../core/routing/types.ts";
import { boundedNegotiation } from "./lengths.ts";
import { Splice } from "./splice.ts";
import { parseTunnelAddress, tunnelAddress } from "./tunnel-address.ts";
import { TunnelConnection } from "./tunnel-connection.ts";
import { asError, BadTunnelWordError, closeSoon, readTunnelWord } from "./tunnel-words.ts";

/** Protocol of the streams that tunnels are made of; either end of a direct link opens them. */
export const TUNNEL_PROTOCOL = "/klatsch/tunnel/1";

export interface TunnelTimes {
  /** A tunnel opens and is upgraded within this, or not at all, in milliseconds. */
  readonly openMs: number;
  /** A relay keeps a tunnel that is not open yet for this long at most. */
  readonly halfOpenMs: number;
  /** A relay ends a tunnel that carried nothing for this long. */
  readonly idleMs: number;
}

export const TUNNEL_TIMES: TunnelTimes = { openMs: 3_000, halfOpenMs: 5_000, idleMs: 60_000 };
/** Each hop leaves the next less time than it has, so that the hop which does not answer is blamed by its neighbour. */
const DEADLINE_SHARE = 0.9;
/** How often a relay looks for idle tunnels, as a part of `idleMs`. */
const SWEEPS_PER_IDLE = 4;

interface TunnelsPorts extends RelayPorts {
  /** The direct link's connection to a peer, if it is up. */
  direct(peer: string): Connection | undefined;
  /** Bytes that this node carried for others. */
  onCarried(trafficClass: RouteClass, bytes: Uint8Array): void;
  /** A peer sent what is no tunnel word. */
  onBad(peer: string, reason: string): void;
}

interface TunnelsInit {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: RelayLimits;
  readonly times: TunnelTimes;
  readonly ports: TunnelsPorts;
}

/** What of libp2p's components a tunnel needs. */
interface TunnelComponents {
  readonly upgrader: Upgrader;
  readonly logger: ComponentLogger;
}

/** A hop of a route refused. Only its own link to the next, or itself, is to blame. */
export class HopRefusedError extends Error {
  readonly route: Route;
  /** Index in the route of the hop that refused. */
  readonly hop: number;
  readonly code: HopRefusalCode;

  constructor(route: Route, hop: number, code: HopRefusalCode) {
    super(`hop ${hop} (${route[hop] ?? "?"}) refused: ${code}`);
    this.route = route;
    this.hop = hop;
    this.code = code;
  }
}

interface Carried {
  readonly splice: Splice;
  sweptBytes: number;
  quietSweeps: number;
}

/** The tunnels that begin, end and pass here. */
export class Tunnels {
  readonly #init: TunnelsInit;
  readonly #book: RelayBook;
  readonly #carried = new Set<Carried>();
  readonly #stopping = new AbortController();
  #sweep: NodeJS.Timeout | undefined;
  #components: TunnelComponents | undefined;

  constructor(init: TunnelsInit) {
    this.#init = init;
    this.#book = new RelayBook(init.limits, init.ports);
  }

  /** What this node says to routes that pass or end here. */
  get book(): RelayBook {
    return this.#book;
  }

  /** Makes the transport that libp2p is given, and learns from it what upgrades connections. */
  readonly transport = (components: TunnelComponents): Transport => {
    this.#components = components;
    return new TunnelTransport((hops, trafficClass, signal) => this.open(hops, trafficClass, signal));
  };

  /** Tunnels that pass here now. */
  get carriedCount(): number {
    return this.#book.count;
  }

  /**
   * Opens a tunnel to the last of `hops` through the others and upgrades it end to end.
   * @throws HopRefusedError, or the reason of `signal`.
   */
  async open(hops: Route, trafficClass: RouteClass, signal: AbortSignal): Promise<Connection> {
    const { ports, times } = this.#init;
    const route = [ports.self().peer, ...hops];
    const next = hops[0] ?? "";
    const first = ports.direct(next);
    if (first === undefined) throw new HopRefusedError(route, 0, "NOT_DIRECT");
    const limit = AbortSignal.any([signal, this.#stopping.signal, AbortSignal.timeout(times.openMs)]);
    const stream = await first.newStream(TUNNEL_PROTOCOL, { signal: limit });
    try {
      const deadlineMs = times.openMs * DEADLINE_SHARE;
      stream.send(encodeTunnelRequest({ class: trafficClass, route, index: 1, deadlineMs }));
      const answer = decodeTunnelAnswer(await readTunnelWord(stream, limit));
      if (answer === undefined) throw new BadTunnelWordError();
      if (answer.type === "refused") throw new HopRefusedError(route, answer.hop, answer.code);
      return await this.#upgradeOutbound(stream, tunnelAddress(trafficClass, hops), limit);
    } catch (error) {
      stream.abort(asError(error));
      if (error instanceof BadTunnelWordError) this.#init.ports.onBad(next, error.message);
      throw error;
    }
  }

  /** A peer opened a tunnel stream. */
  accept(stream: Stream, connection: Connection): void {
    const from = connection.remotePeer.toString();
    this.#accept(stream, connection, from).catch((error: unknown) => {
      stream.abort(asError(error));
      if (error instanceof BadTunnelWordError) this.#init.ports.onBad(from, error.message);
      else this.#init.logger.debug("a tunnel did not open", { err: error, from });
    });
  }

  stop(): void {
    clearInterval(this.#sweep);
    const reason = new Error("the mesh has stopped");
    this.#stopping.abort(reason);
    for (const { splice } of [...this.#carried]) splice.abort(reason);
  }

  async #accept(stream: Stream, connection: Connection, from: string): Promise<void> {
    const { ports, times, clock } = this.#init;
    const startedMs = clock.now().monoMs;
    const halfOpen = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(times.halfOpenMs)]);
    const request = decodeTunnelRequest(await readTunnelWord(stream, halfOpen));
    if (request === undefined) throw new BadTunnelWordError();
    // A tunnel inside a tunnel would hide its relays from one another, and loops with them.
    const isDirect = connection.limits === undefined && ports.direct(from) === connection;
    const verdict = isDirect
      ? this.#book.judge(request, from)
      : ({ type: "refuse", code: "NOT_DIRECT" } as const);
    switch (verdict.type) {
      case "refuse":
        this.#refuse(stream, request.index, verdict.code);
        return;
      case "end":
        // Inside a node of the application nothing of ours upgrades connections.
        if (this.#components === undefined) this.#refuse(stream, request.index, "NO_ROUTE");
        else await this.#end(stream, request, this.#components, halfOpen);
        return;
      case "carry": {
        const spentMs = clock.now().monoMs - startedMs;
        const leftMs = Math.max(1, Math.min(request.deadlineMs, times.halfOpenMs) - spentMs);
        await this.#carry(stream, request, verdict, leftMs);
      }
    }
  }

  #refuse(stream: Stream, hop: number, code: HopRefusalCode): void {
    stream.send(encodeTunnelAnswer({ type: "refused", hop, code }));
    closeSoon(stream);
  }

  /** The tunnel ends here: the other end upgrades it as its dialer. */
  async #end(
    stream: Stream,
    request: TunnelRequest,
    components: TunnelComponents,
    signal: AbortSignal,
  ): Promise<void> {
    stream.send(encodeTunnelAnswer({ type: "opened" }));
    // The route back; its last peer is whom the handshake has to prove.
    const back = request.route.slice(0, -1).toReversed();
    const remoteAddr = tunnelAddress(request.class, back);
    const log = components.logger.forComponent("klatsch:tunnel");
    const tunnel = new TunnelConnection({ stream, remoteAddr, direction: "inbound", log });
    try {
      await components.upgrader.upgradeInbound(tunnel, { signal, limits: {}, ...boundedNegotiation() });
    } catch (error) {
      tunnel.abort(asError(error));
      throw error;
    }
  }

  async #upgradeOutbound(stream: Stream, remoteAddr: Multiaddr, signal: AbortSignal): Promise<Connection> {
    const components = this.#components;
    if (components === undefined) throw new Error("no transport");
    const log = components.logger.forComponent("klatsch:tunnel");
    const tunnel = new TunnelConnection({ stream, remoteAddr, direction: "outbound", log });
    try {
      return await components.upgrader.upgradeOutbound(tunnel, {
        signal,
        limits: {},
        ...boundedNegotiation(),
      });
    } catch (error) {
      tunnel.abort(asError(error));
      throw error;
    }
  }

  /** Asks the next hop, passes its answer back, and joins the two streams if it is open. */
  async #carry(
    stream: Stream,
    request: TunnelRequest,
    hop: { readonly next: string; readonly source: string },
    leftMs: number,
  ): Promise<void> {
    const abandoned = new AbortController();
    const timer = setTimeout(() => abandoned.abort(new HalfOpenError()), leftMs);
    const onClose = (): void => abandoned.abort(new Error("the tunnel was given up"));
    stream.addEventListener("close", onClose);
    const signal = AbortSignal.any([abandoned.signal, this.#stopping.signal]);
    let onward: Stream | undefined;
    let joined = false;
    try {
      onward = await this.#ask(request, hop.next, leftMs, signal);
      stream.send(encodeTunnelAnswer({ type: "opened" }));
      this.#join(stream, onward, request.class, hop.source);
      joined = true;
    } catch (error) {
      const refused = this.#refusalOf(error, request);
      if (stream.status === "open") {
        stream.send(encodeTunnelAnswer({ type: "refused", ...refused }));
        closeSoon(stream);
      }
    } finally {
      clearTimeout(timer);
      stream.removeEventListener("close", onClose);
      if (!joined) {
        onward?.abort(new Error("the tunnel did not open"));
        this.#book.release(hop.source);
      }
    }
  }

  /** The stream to the next hop, once the tunnel is open from there on. */
  async #ask(request: TunnelRequest, next: string, leftMs: number, signal: AbortSignal): Promise<Stream> {
    const connection = this.#init.ports.direct(next);
    if (connection === undefined) throw new HopRefusedError(request.route, request.index, "NOT_DIRECT");
    const onward = await connection.newStream(TUNNEL_PROTOCOL, { signal });
    try {
      onward.send(
        encodeTunnelRequest({ ...request, index: request.index + 1, deadlineMs: leftMs * DEADLINE_SHARE }),
      );
      const answer = decodeTunnelAnswer(await readTunnelWord(onward, signal));
      if (answer === undefined) throw new BadTunnelWordError();
      if (answer.type === "opened") return onward;
      // A hop speaks for itself and for those behind it, never for one before it.
      if (answer.hop <= request.index) throw new BadTunnelWordError();
      throw new HopRefusedError(request.route, answer.hop, answer.code);
    } catch (error) {
      onward.abort(asError(error));
      if (error instanceof BadTunnelWordError) this.#init.ports.onBad(next, error.message);
      throw error;
    }
  }

  #refusalOf(
    error: unknown,
    request: TunnelRequest,
  ): { readonly hop: number; readonly code: HopRefusalCode } {
    if (error instanceof HopRefusedError) return { hop: error.hop, code: error.code };
    if (this.#stopping.signal.aborted) return { hop: request.index, code: "STOPPED" };
    return { hop: request.index, code: error instanceof HalfOpenError ? "TIMED_OUT" : "NOT_DIRECT" };
  }

  #join(a: Stream, b: Stream, trafficClass: RouteClass, source: string): void {
    const splice = new Splice({
      a,
      b,
      onCarried: (bytes) => this.#init.ports.onCarried(trafficClass, bytes),
      onEnd: () => {
        this.#book.release(source);
        this.#carried.delete(carried);
      },
    });
    const carried: Carried = { splice, sweptBytes: 0, quietSweeps: 0 };
    this.#carried.add(carried);
    this.#sweep ??= setInterval(() => this.#endIdle(), this.#init.times.idleMs / SWEEPS_PER_IDLE).unref();
    splice.start();
  }

  #endIdle(): void {
    for (const carried of [...this.#carried]) {
      const { bytes } = carried.splice;
      carried.quietSweeps = bytes === carried.sweptBytes ? carried.quietSweeps + 1 : 0;
      carried.sweptBytes = bytes;
      if (carried.quietSweeps >= SWEEPS_PER_IDLE) carried.splice.abort(new Error("the tunnel was idle"));
    }
  }
}

/** The next hop did not answer while the tunnel was half open. */
class HalfOpenError extends Error {
  constructor() {
    super("the next hop did not answer in time");
  }
}

/** Lets libp2p dial addresses of tunnels. The mesh itself opens tunnels without libp2p's dial queue: that one
 * joins all dials of a peer, so a direct dial into a black hole would hold up the tunnel around it. */
class TunnelTransport implements Transport {
  readonly [Symbol.toStringTag] = "@klatsch/tunnel";
  readonly [transportSymbol] = true;
  readonly #open: Tunnels["open"];

  constructor(open: Tunnels["open"]) {
    this.#open = open;
  }

  async dial(address: Multiaddr, options: { readonly signal: AbortSignal }): Promise<Connection> {
    const parsed = parseTunnelAddress(address);
    if (parsed === undefined) throw new Error(`${address.toString()} is no address of a tunnel`);
    return this.#open(parsed.hops, parsed.class, options.signal);
  }

  createListener(): never {
    throw new Error("tunnels arrive over links and have no listener");
  }

  listenFilter(): Multiaddr[] {
    return [];
  }

  dialFilter(addresses: Multiaddr[]): Multiaddr[] {
    return addresses.filter((address) => parseTunnelAddress(address) !== undefined);
  }
}
