import type { Connection, Stream } from "@libp2p/interface";
import type { Clock, Logger } from "@klatsch/kit";
import { decodeMemberMessage, encodeMemberMessage } from "../codec/link-codec.ts";
import { LinkChoice } from "../core/link-choice.ts";
import type { LinkChoiceEffect, LinkChoiceInput } from "../core/link-choice.ts";
import type { LinkUse } from "../core/routing/interests.ts";
import type { RouteProbe } from "../core/routing/types.ts";
import type { Hello, LinkMessage, MemberMessage, MemberRecord, RefusalCode } from "../core/messages.ts";
import type { ChannelClass, Conduit } from "../types.ts";
import type { Channels, LinkCounters } from "./channels.ts";
import type { FrameMeter } from "./frame-stream.ts";
import { LinkConnection, linkMeter } from "./link-connection.ts";
import type { Traffic, Waiting } from "./traffic.ts";

/** A peer may have this many connections at once; the surplus is aborted. */
const CONNECTIONS_PER_PEER_MAX = 4;

/** What links tell the service, synchronously and in order. */
interface LinksPorts {
  /** Our hello for a peer. */
  hello(peer: string): Hello;
  /**
   * Whether a peer that greets so is welcome, and the highest boot known of it. `later`: not with our present boot.
   * `isGuest`: it came by itself, over a direct connection.
   */
  admit(
    hello: Hello,
    isGuest: boolean,
    direct: boolean,
  ): { readonly knownBoot: number } | { readonly code: RefusalCode; readonly detail: string } | "later";
  /** Ends a connection: at once with an error, in order without. */
  hangUp(connection: Connection, error: Error | undefined): void;
  onUp(peer: string, link: number, hello: Hello): void;
  onDown(peer: string, reason: string): void;
  onMessage(peer: string, message: MemberMessage): void;
  /** A frame of admission; `false`: undecodable. */
  onAdmission(peer: string, payload: Uint8Array): boolean;
  /** Bytes about gossip state. `false`: undecodable. */
  onState(peer: string, payload: Uint8Array): boolean;
  /** Members to try instead of this busy node. */
  referrals(): readonly MemberRecord[];
  /** The peer is busy and named others. */
  onBusy(peer: string, records: readonly MemberRecord[]): void;
  /** A connection was turned away, by us or by the peer. */
  onRefused(peer: string, code: RefusalCode, detail: string, byUs: boolean): void;
}

/** A tunnel as a link. */
export interface TunnelUp {
  readonly peer: string;
  readonly link: number;
  /** The relays, nearest first, and the peer. */
  readonly hops: readonly string[];
  /** Whether this node opened it. */
  readonly dialer: boolean;
}

/** What links tell routing. */
interface RoutingSink {
  /** The only connection with the peer runs over relays: channels may use it, membership takes no notice. */
  onTunnelUp(tunnel: TunnelUp): void;
  onTunnelDown(tunnel: TunnelUp, reason: string): void;
  /** A probe along a route, from a linked peer. */
  onProbe(peer: string, probe: RouteProbe): void;
}

export interface LinksInit {
  /** Peer id of this node. */
  readonly self: string;
  readonly clock: Clock;
  readonly channels: Channels;
  readonly counters: LinkCounters;
  readonly traffic: Traffic;
  readonly logger: Logger;
  readonly ports: LinksPorts;
  readonly routing: RoutingSink;
  /** Whether the frame of membership or gossip state that is about to go there is lost. */
  readonly losesFrame: (peer: string) => boolean;
}

interface PeerLinks {
  readonly choice: LinkChoice;
  readonly connections: Map<number, LinkConnection>;
  readonly hellos: Map<number, Hello>;
  up: LinkConnection | undefined;
  timer: NodeJS.Timeout | undefined;
}

/** All connections of this node, and which of them are links. */
export class Links {
  readonly #init: LinksInit;
  readonly #peers = new Map<string, PeerLinks>();
  readonly #byId = new Map<string, LinkConnection>();
  readonly #meter: FrameMeter;
  #lastNo = 0;
  #stopped = false;

  constructor(init: LinksInit) {
    this.#init = init;
    this.#meter = linkMeter(init.traffic);
  }

  /** What waits on the link streams. */
  waiting(): Waiting {
    let [frames, bytes] = [0, 0];
    for (const link of this.#byId.values()) {
      frames += link.waiting.frames;
      bytes += link.waiting.bytes;
    }
    return { class: "link", frames, bytes };
  }

  get connectionCount(): number {
    return this.#byId.size;
  }

  /** Peers with a direct link. */
  get upCount(): number {
    let count = 0;
    for (const { up } of this.#peers.values()) if (up !== undefined && up.hops === undefined) count += 1;
    return count;
  }

  /** Peers that a tunnel reaches and no direct link. */
  get tunnelCount(): number {
    let count = 0;
    for (const links of this.#peers.values()) if (links.up?.hops !== undefined) count += 1;
    return count;
  }

  /** Whether channels may be up with the peer, and over what. */
  linkKind(peer: string): "direct" | "tunnel" | undefined {
    const up = this.#peers.get(peer)?.up;
    if (up === undefined) return undefined;
    return up.hops === undefined ? "direct" : "tunnel";
  }

  /** What the direct link with the peer runs over. */
  conduit(peer: string): Conduit | undefined {
    const up = this.#peers.get(peer)?.up;
    return up?.hops === undefined ? up?.conduit : undefined;
  }

  /** The connection of the direct link with the peer, if that is up. */
  direct(peer: string): Connection | undefined {
    return this.#directOf(peer)?.connection;
  }

  /** A connection opened, by either end. */
  adopt(connection: Connection): void {
    if (this.#byId.has(connection.id)) return;
    const peer = connection.remotePeer.toString();
    const links = this.#peers.get(peer) ?? this.#newPeer(peer);
    if (this.#stopped || links.connections.size >= CONNECTIONS_PER_PEER_MAX) {
      connection.abort(new Error("too many connections"));
      return;
    }
    this.#lastNo += 1;
    const no = this.#lastNo;
    const link = new LinkConnection(no, connection, this.#init.clock, {
      hello: () => this.#init.ports.hello(peer),
      onHello: (hello) => this.#greeted(links, link, hello),
      onMessage: (message) => this.#received(links, link, message),
      onMembership: (payload) => this.#membership(links, link, payload),
      onAdmission: (payload) => links.up !== link || this.#init.ports.onAdmission(peer, payload),
      onState: (payload) =>
        link.hops === undefined && (links.up !== link || this.#init.ports.onState(peer, payload)),
      attachClass: (trafficClass, stream, onEnd) => {
        const frameBytesMax = links.hellos.get(no)?.frameBytesMax ?? 0;
        const limits = { peer, frameBytesMax, encrypted: link.encrypted };
        return this.#init.channels.attach(limits, trafficClass, stream, onEnd);
      },
      wants: (trafficClass) => this.#init.channels.wants(trafficClass),
      onBad: (reason) => this.#bad(peer, reason),
      meter: this.#meter,
      hangUp: (connection, error) => this.#init.ports.hangUp(connection, error),
      onRetire: (reason) => this.#retired(links, link, reason),
      onEnd: () => this.#connectionEnded(links, link),
    });
    links.connections.set(no, link);
    this.#byId.set(connection.id, link);
  }

  /** A stream that a peer opened. */
  acceptStream(kind: ChannelClass | "link", stream: Stream, connection: Connection): void {
    this.adopt(connection);
    const link = this.#byId.get(connection.id);
    if (link === undefined) stream.abort(new Error("connection not taken"));
    else if (kind === "link") link.acceptLink(stream);
    else link.acceptClass(kind, stream);
  }

  /** Membership has told of the link: channels may use it. */
  activate(peer: string, link: number): void {
    const up = this.#peers.get(peer)?.up;
    if (up?.no === link) up.activate();
  }

  /** A class is wanted now that was not before. */
  openClass(trafficClass: ChannelClass): void {
    for (const links of this.#peers.values()) links.up?.openClass(trafficClass);
  }

  send(peer: string, message: MemberMessage): void {
    const up = this.#directOf(peer);
    if (up === undefined) return;
    for (const payload of encodeMemberMessage(message))
      if (!this.#init.losesFrame(peer)) up.sendMembership(payload);
  }

  /** `false`: not sent; there is no link, or the peer is behind. */
  sendState(peer: string, payload: Uint8Array): boolean {
    const up = this.#directOf(peer);
    return up !== undefined && (this.#init.losesFrame(peer) || up.sendState(payload));
  }

  /** `false`: not sent; there is no direct link. */
  sendProbe(peer: string, probe: RouteProbe): boolean {
    const up = this.#directOf(peer);
    up?.send(probe);
    return up !== undefined;
  }

  /** Asks a peer that a tunnel reaches for a sign of life. */
  test(peer: string): void {
    this.#peers.get(peer)?.up?.send({ type: "test" });
  }

  /** Closes the tunnel to a peer in order, if that is what reaches it. */
  closeTunnel(peer: string, reason: string): void {
    const up = this.#peers.get(peer)?.up;
    if (up?.hops !== undefined) up.close(reason);
  }

  /** What channels use to each peer that is up. */
  uses(): ReadonlyMap<string, LinkUse> {
    const uses = new Map<string, LinkUse>();
    for (const [peer, { up }] of this.#peers) {
      if (up === undefined) continue;
      const kind = up.hops === undefined ? "direct" : "tunnel";
      uses.set(peer, { kind, dialer: up.dialer, usedMs: up.usedMs(), heardMs: up.heardMs() });
    }
    return uses;
  }

  /** Peers with a link. */
  upPeers(): string[] {
    return [...this.#peers].flatMap(([peer, links]) => (links.up === undefined ? [] : [peer]));
  }

  sendAdmission(peer: string, payload: Uint8Array): void {
    this.#peers.get(peer)?.up?.sendAdmission(payload);
  }

  /** Whether a new connection to the peer is about to greet: another dial would only make a duplicate. */
  isConnecting(peer: string): boolean {
    const links = this.#peers.get(peer);
    if (links === undefined) return false;
    for (const link of links.connections.values()) if (link.pending && link.hops === undefined) return true;
    return false;
  }

  /** Ends all connections with the peer at once. */
  disconnect(peer: string, reason: string): void {
    const links = this.#peers.get(peer);
    if (links !== undefined) for (const link of [...links.connections.values()]) link.end(reason);
  }

  /** When bytes last came from each linked peer itself, not through others; monotonic milliseconds. */
  heard(): { readonly peer: string; readonly atMs: number; readonly usedAtMs: number }[] {
    const heard: { readonly peer: string; readonly atMs: number; readonly usedAtMs: number }[] = [];
    for (const [peer, { up }] of this.#peers) {
      if (up === undefined || up.hops !== undefined) continue;
      const atMs = up.heardMs();
      if (atMs > 0) heard.push({ peer, atMs, usedAtMs: up.usedMs() });
    }
    return heard;
  }

  /**
   * Ends all connections at once; nothing is adopted any more. Whoever was to be told has answered by now, and
   * an orderly close of both ends at the same time keeps libp2p waiting for half a second.
   */
  stop(reason: string): void {
    this.#stopped = true;
    for (const links of [...this.#peers.values()]) {
      for (const link of [...links.connections.values()]) link.end(reason);
    }
  }

  #directOf(peer: string): LinkConnection | undefined {
    const up = this.#peers.get(peer)?.up;
    return up?.hops === undefined ? up : undefined;
  }

  #newPeer(peer: string): PeerLinks {
    const links: PeerLinks = {
      choice: new LinkChoice({ arbiter: this.#init.self < peer }),
      connections: new Map(),
      hellos: new Map(),
      up: undefined,
      timer: undefined,
    };
    this.#peers.set(peer, links);
    return links;
  }

  #greeted(
    links: PeerLinks,
    link: LinkConnection,
    hello: Hello,
  ): { readonly code: RefusalCode; readonly detail: string } | undefined {
    const { ports } = this.#init;
    const direct = link.hops === undefined;
    const admitted = ports.admit(hello, direct && !link.dialer, direct);
    if (admitted === "later") {
      link.end("our boot has to rise first");
      return undefined;
    }
    if ("code" in admitted) {
      if (admitted.code === "BUSY") link.send({ type: "busy", records: ports.referrals() });
      ports.onRefused(link.peer, admitted.code, admitted.detail, true);
      return admitted;
    }
    // The acceptor answers only whom it takes for a member.
    if (!link.dialer) link.send({ type: "hello", hello: ports.hello(link.peer) });
    links.hellos.set(link.no, hello);
    const process = { boot: hello.record.boot, instance: hello.instance };
    const tunnel = link.hops !== undefined;
    this.#choose(links, { type: "hello", conn: link.no, process, tunnel, knownBoot: admitted.knownBoot });
    return undefined;
  }

  #received(links: PeerLinks, link: LinkConnection, message: Exclude<LinkMessage, { type: "hello" }>): void {
    switch (message.type) {
      case "accept":
        this.#choose(links, { type: "accepted", conn: link.no });
        return;
      case "test":
        link.send({ type: "testAck" });
        return;
      case "testAck":
        this.#choose(links, { type: "heard", conn: link.no });
        return;
      case "busy":
        if (link.dialer) this.#init.ports.onBusy(link.peer, message.records);
        return;
      case "probe":
        if (links.up === link && link.hops === undefined) this.#init.routing.onProbe(link.peer, message);
        return;
      case "refuse":
        this.#init.ports.onRefused(link.peer, message.code, message.detail, false);
        link.end(`refused by peer: ${message.code}`);
        return;
    }
  }

  #membership(links: PeerLinks, link: LinkConnection, payload: Uint8Array): boolean {
    const message = decodeMemberMessage(payload);
    // Evidence comes from neighbours: what says so over relays breaks the protocol.
    if (message === undefined || link.hops !== undefined) return false;
    // What is still in the pipe of a connection that lost its place says nothing any more.
    if (links.up === link) this.#init.ports.onMessage(link.peer, message);
    return true;
  }

  #retired(links: PeerLinks, link: LinkConnection, reason: string): void {
    if (links.up !== link) return;
    links.up = undefined;
    if (link.hops === undefined) this.#init.ports.onDown(link.peer, reason);
    else this.#init.routing.onTunnelDown(tunnelUp(link, link.hops), reason);
  }

  #connectionEnded(links: PeerLinks, link: LinkConnection): void {
    this.#byId.delete(link.id);
    links.connections.delete(link.no);
    links.hellos.delete(link.no);
    this.#choose(links, { type: "closed", conn: link.no });
    if (links.connections.size > 0 || this.#peers.get(link.peer) !== links) return;
    clearTimeout(links.timer);
    this.#peers.delete(link.peer);
  }

  #choose(links: PeerLinks, input: LinkChoiceInput): void {
    for (const effect of links.choice.step(input, this.#init.clock.now())) this.#perform(links, effect);
    this.#arm(links);
  }

  #perform(links: PeerLinks, effect: LinkChoiceEffect): void {
    const link = links.connections.get(effect.conn);
    if (link === undefined) return;
    switch (effect.type) {
      case "accept":
        link.send({ type: "accept" });
        return;
      case "up": {
        const hello = links.hellos.get(link.no);
        if (hello === undefined) return;
        links.up = link;
        if (link.hops === undefined) this.#init.ports.onUp(link.peer, link.no, hello);
        else this.#init.routing.onTunnelUp(tunnelUp(link, link.hops));
        return;
      }
      case "test":
        link.send({ type: "test" });
        return;
      case "refuse":
        if (effect.code !== "DUPLICATE") this.#init.ports.onRefused(link.peer, effect.code, "", true);
        link.refuse(effect.code, "");
        return;
      case "drop":
        if (effect.code === "SUPERSEDED") link.refuse(effect.code, "a newer process of this peer is here");
        else link.end(effect.code);
        return;
    }
  }

  #arm(links: PeerLinks): void {
    clearTimeout(links.timer);
    links.timer = undefined;
    const deadline = links.choice.nextDeadline();
    if (deadline === undefined) return;
    const delayMs = Math.max(0, deadline - this.#init.clock.now().monoMs);
    links.timer = setTimeout(() => this.#choose(links, { type: "tick" }), delayMs);
  }

  #bad(peer: string, reason: string): void {
    this.#init.counters.badFrames += 1;
    this.#init.logger.warn("bad bytes from a peer", { peer, reason });
  }
}

function tunnelUp(link: LinkConnection, hops: readonly string[]): TunnelUp {
  return { peer: link.peer, link: link.no, hops, dialer: link.dialer };
}
