import { performance } from "node:perf_hooks";
import type { EventLoopUtilization } from "node:perf_hooks";
import { excerpt } from "@klatsch/kit";
import type { Clock, Logger } from "@klatsch/kit";
import { decodeLinks, encodeLinks } from "../codec/links-entry.ts";
import type { LinksSaid } from "../codec/links-entry.ts";
import { INTEREST_TIMES, Interests } from "../core/routing/interests.ts";
import type { InterestEffect, InterestInput } from "../core/routing/interests.ts";
import { Overload } from "../core/routing/overload.ts";
import { RELAY_LIMITS } from "../core/routing/relay-book.ts";
import { Router } from "../core/routing/router.ts";
import type { NodeLinks, Route, RouteClass, RouteProbe } from "../core/routing/types.ts";
import { MeshError, readable } from "../errors.ts";
import type { StateValue } from "../state-types.ts";
import type { ChannelClass, ConnectOptions, RouteTrace } from "../types.ts";
import { classOf } from "./channels.ts";
import { checkText, isSignal, refuse } from "./given.ts";
import { LinkPublisher } from "./link-publisher.ts";
import type { LinkedMember } from "./link-publisher.ts";
import type { Links, TunnelUp } from "./links.ts";
import { RouteProbes } from "./route-probes.ts";
import { HopRefusedError, TUNNEL_TIMES, Tunnels } from "./tunnels.ts";

/** Peers that this node may want to reach at once although they are no neighbours. */
const INTERESTS_MAX = 1_024;
/** Routes tried for one connection. Each refusal teaches one broken link, so few are ever needed. */
const TRIES_MAX = 16;
/** A direct link on demand is awaited alone for this long, then a tunnel is tried beside it; milliseconds. */
const DIRECT_ALONE_MS = 300;
/** A connection that is open must have greeted within this. */
const GREET_MS = 3_000;
const CHECK_MS = 1_000;
const RETRY_MS = 100;
const PROBE_MS = 2_000;
const TRACED: readonly RouteClass[] = ["high", "normal", "bulk"];

/** What routing asks of the service around it. */
interface RoutingPorts {
  /** This node's record. */
  self(): Pick<LinkedMember, "peer" | "cloud" | "gateway" | "reach">;
  links(): Links | undefined;
  /** Everybody else who is alive, as far as is known. */
  members(): readonly LinkedMember[];
  /** What a member said last of its links. */
  said(peer: string): StateValue | undefined;
  publish(value: StateValue): void;
  /** Whether a direct link with the peer is wanted at all. */
  mayLink(peer: string): boolean;
  /** Opens a direct connection; `false`: it cannot. */
  dial(peer: string): Promise<boolean>;
  onTunnel(type: "up" | "down", peer: string, path: Route, reason: string): void;
  onBad(peer: string, reason: string): void;
}

interface RoutingInit {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether this node opens tunnels, and carries those of others. */
  readonly router: boolean;
  readonly ports: RoutingPorts;
}

/** Reaches peers this node has no direct link with, and carries the tunnels of others. */
export class Routing {
  readonly tunnels: Tunnels;
  readonly #init: RoutingInit;
  readonly #publisher: LinkPublisher;
  readonly #probes: RouteProbes;
  readonly #interests: Interests = new Interests(INTEREST_TIMES);
  readonly #attempts = new Map<string, Promise<void>>();
  /** Called when channels may be up with a peer. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #check: NodeJS.Timeout | undefined;
  readonly #stopping = new AbortController();
  #router: Router | undefined;
  readonly #overload: Overload = new Overload();
  #loopUse: EventLoopUtilization = performance.eventLoopUtilization();
  #mapIsOld = true;
  #carriedBytes = 0;

  constructor(init: RoutingInit) {
    this.#init = init;
    const { clock, logger, ports } = init;
    const direct = (peer: string): ReturnType<Links["direct"]> => ports.links()?.direct(peer);
    this.tunnels = new Tunnels({
      clock,
      logger,
      limits: RELAY_LIMITS,
      times: TUNNEL_TIMES,
      ports: {
        self: () => this.#self([]),
        isLinked: (peer) => direct(peer) !== undefined,
        cloudOf: (peer) => ports.members().find((member) => member.peer === peer)?.cloud,
        direct,
        onCarried: (_class, bytes) => (this.#carriedBytes += bytes.length),
        onBad: (peer, reason) => ports.onBad(peer, reason),
      },
    });
    this.#publisher = new LinkPublisher(clock, {
      members: () => ports.members(),
      publish: (links) => ports.publish(encodeLinks(this.#self(links))),
      onLook: () => this.#lookAtLoad(),
    });
    this.#probes = new RouteProbes(clock, {
      self: () => ports.self().peer,
      book: () => this.tunnels.book,
      send: (peer, probe) => ports.links()?.sendProbe(peer, probe) === true,
    });
  }

  /** Once this node is a member. */
  start(): void {
    this.#publisher.start();
    this.#check = setInterval(() => this.#checkLinks(), CHECK_MS).unref();
  }

  /** Bytes carried for others since the start. */
  get carriedBytes(): number {
    return this.#carriedBytes;
  }

  // ── what the mesh tells ────────────────────────────────────────────────────────────────────────

  /** Membership has changed, or a direct link has come or gone. */
  membersChanged(): void {
    this.#mapIsOld = true;
    this.#publisher.changed();
  }

  /** A member told of its links anew. */
  onSaid(peer: string): void {
    this.#mapIsOld = true;
    this.#router?.forgive(peer);
  }

  onLinkUp(peer: string): void {
    this.membersChanged();
    this.#wake(peer);
  }

  onLinkDown(): void {
    this.membersChanged();
    this.#tick(); // Whoever is wanted is reached in another way at once.
  }

  onTunnelUp(tunnel: TunnelUp): void {
    this.#init.ports.links()?.activate(tunnel.peer, tunnel.link);
    this.#init.ports.onTunnel("up", tunnel.peer, this.#pathOf(tunnel), "");
    this.#wake(tunnel.peer);
  }

  onTunnelDown(tunnel: TunnelUp, reason: string): void {
    const path = this.#pathOf(tunnel);
    this.#init.ports.onTunnel("down", tunnel.peer, path, reason);
    if (this.#stopping.signal.aborted || this.#init.ports.links()?.linkKind(tunnel.peer) !== undefined)
      return;
    if (tunnel.dialer && this.#interests.has(tunnel.peer)) this.#router?.lost(path, this.#init.clock.now());
    this.#tick();
  }

  onProbe(peer: string, probe: RouteProbe): void {
    this.#probes.receive(peer, probe);
  }

  stop(): void {
    this.#stopping.abort(new MeshError("STOPPED", "the mesh has stopped"));
    clearInterval(this.#check);
    this.#publisher.stop();
    this.tunnels.stop();
  }

  // ── for the application ────────────────────────────────────────────────────────────────────────

  /** See `Mesh.connect`. */
  async connect(peer: string, options: ConnectOptions = {}): Promise<void> {
    checkText("peerId", peer);
    const given = checkedConnect(options);
    const { class: trafficClass } = given;
    given.signal?.throwIfAborted();
    this.#stopping.signal.throwIfAborted();
    const known = this.#interests.has(peer);
    if (!known && this.#interests.count >= INTERESTS_MAX)
      throw new MeshError("LIMIT_REACHED", `no more than ${INTERESTS_MAX} peers at once`);
    this.#enter({ type: "wanted", peer, class: trafficClass });
    if (this.#init.ports.links()?.linkKind(peer) !== undefined) return;
    try {
      await this.#persist(peer, given);
    } catch (error) {
      if (!known) this.#enter({ type: "unwanted", peer });
      throw error;
    }
  }

  /** Tries until it is there, or the time is over. */
  async #persist(peer: string, { class: trafficClass, waitMs, signal }: Connecting): Promise<void> {
    const { clock, ports } = this.#init;
    const deadlineMs = clock.now().monoMs + waitMs;
    while (ports.links()?.linkKind(peer) === undefined) {
      try {
        await abortable(this.#attempt(peer, trafficClass), signal);
        return;
      } catch (error) {
        const isWorthIt = error instanceof MeshError && error.retryable;
        if (!isWorthIt || clock.now().monoMs >= deadlineMs) throw error;
      }
      await abortable(delay(RETRY_MS), signal);
    }
  }

  /** See `Mesh.neighbours`. */
  neighbours(peer: string): readonly string[] {
    checkText("peerId", peer);
    return this.#mapped().neighbours(peer);
  }

  /** See `Mesh.trace`. */
  async trace(peer: string): Promise<readonly RouteTrace[]> {
    checkText("peerId", peer);
    this.#stopping.signal.throwIfAborted();
    const self = this.#init.ports.self().peer;
    const isDirect = this.#init.ports.links()?.direct(peer) !== undefined;
    return Promise.all(
      TRACED.map(async (trafficClass): Promise<RouteTrace> => {
        const answer = this.#route(peer, trafficClass);
        if (isDirect) return this.#measure(trafficClass, [self, peer]);
        if (answer.type === "none") return { class: trafficClass, hops: [], code: answer.code };
        return this.#measure(trafficClass, answer.route);
      }),
    );
  }

  async #measure(trafficClass: RouteClass, route: Route): Promise<RouteTrace> {
    const hops = await Promise.all(
      route.slice(1).map(async (peerId, index) => {
        const result = await this.#probes.measure(route.slice(0, index + 2), PROBE_MS);
        const isWhole = result !== undefined && result.code === undefined;
        return { peerId, roundTripMs: isWhole ? result.roundTripMs : undefined, code: result?.code };
      }),
    );
    const broken = hops.find(({ roundTripMs }) => roundTripMs === undefined);
    return {
      class: trafficClass,
      hops: hops.map(({ peerId, roundTripMs }) => ({ peerId, roundTripMs })),
      code: broken === undefined ? undefined : (broken.code ?? "TIMED_OUT"),
    };
  }

  // ── reaching ───────────────────────────────────────────────────────────────────────────────────

  /** One attempt for each peer at a time, whoever asks. */
  #attempt(peer: string, trafficClass: RouteClass): Promise<void> {
    const running = this.#attempts.get(peer);
    if (running !== undefined) return running;
    const attempt = this.#establish(peer, trafficClass)
      .then(
        () => this.#enter({ type: "established", peer }),
        (error: unknown) => {
          this.#enter({ type: "failed", peer });
          throw error;
        },
      )
      .finally(() => this.#attempts.delete(peer));
    this.#attempts.set(peer, attempt);
    return attempt;
  }

  /** A direct link where the class may open one, and a tunnel where that does not come at once. */
  async #establish(peer: string, trafficClass: RouteClass): Promise<void> {
    if (!this.#mayOpenDirect(peer, trafficClass)) return this.#tunnel(peer, trafficClass);
    const direct = this.#direct(peer);
    const early = await Promise.race([direct, delay(DIRECT_ALONE_MS).then(() => undefined)]);
    if (early === true) return;
    try {
      await this.#tunnel(peer, trafficClass);
    } catch (error) {
      if (!(await direct)) throw error;
    }
  }

  /** High traffic may open links to anybody, normal to its own cloud, bulk to nobody. */
  #mayOpenDirect(peer: string, trafficClass: RouteClass): boolean {
    if (trafficClass === "bulk" || !this.#init.ports.mayLink(peer)) return false;
    if (trafficClass !== "normal") return true;
    const member = this.#init.ports.members().find((candidate) => candidate.peer === peer);
    return member?.cloud === this.#init.ports.self().cloud;
  }

  async #direct(peer: string): Promise<boolean> {
    const up = this.#up(peer);
    try {
      if (await this.#init.ports.dial(peer)) return await up.within(GREET_MS);
      return false;
    } finally {
      up.cancel();
    }
  }

  /** @throws MeshError `NO_ROUTE`, `FORBIDDEN`, `RELAY_FULL`, `STOPPED`. */
  async #tunnel(peer: string, trafficClass: RouteClass): Promise<void> {
    const { clock, ports, router } = this.#init;
    if (!router) {
      throw new MeshError(
        "NO_ROUTE",
        `no direct link to ${excerpt(peer)}, and this node runs without a router`,
      );
    }
    const tried = new Map<string, string>();
    let code: "NO_ROUTE" | "FORBIDDEN" | "RELAY_FULL" = "NO_ROUTE";
    while (ports.links()?.linkKind(peer) === undefined) {
      this.#stopping.signal.throwIfAborted();
      const answer = this.#route(peer, trafficClass);
      if (answer.type === "none") throw noRoute(tried.size === 0 ? answer.code : code, peer, tried.values());
      const key = answer.route.join(" ");
      if (tried.has(key) || tried.size >= TRIES_MAX) throw noRoute(code, peer, tried.values());
      try {
        if (await this.#open(peer, answer.route, trafficClass)) return;
        this.#router?.lost(answer.route, clock.now());
        tried.set(key, `${this.#named(answer.route)}: no hello in time`);
      } catch (error) {
        code = this.#failed(answer.route, error);
        tried.set(key, `${this.#named(answer.route)}: ${error instanceof Error ? error.message : "failed"}`);
      }
    }
  }

  async #open(peer: string, route: Route, trafficClass: RouteClass): Promise<boolean> {
    const up = this.#up(peer);
    try {
      await this.tunnels.open(route.slice(1), trafficClass, this.#stopping.signal);
      return await up.within(GREET_MS);
    } finally {
      up.cancel();
    }
  }

  #failed(route: Route, error: unknown): "NO_ROUTE" | "FORBIDDEN" | "RELAY_FULL" {
    const now = this.#init.clock.now();
    if (!(error instanceof HopRefusedError)) {
      this.#router?.lost(route, now);
      return "NO_ROUTE";
    }
    this.#router?.refused(route, error.hop, error.code, now);
    return error.code === "FORBIDDEN" || error.code === "RELAY_FULL" ? error.code : "NO_ROUTE";
  }

  /** Waits for channels to be possible with a peer. */
  #up(peer: string): { within(limitMs: number): Promise<boolean>; cancel(): void } {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const waiting = this.#waiting.get(peer) ?? new Set();
    this.#waiting.set(peer, waiting);
    const wake = (): void => resolve(true);
    waiting.add(wake);
    return {
      within: (limitMs) => Promise.race([promise, delay(limitMs).then(() => false)]),
      cancel: () => {
        waiting.delete(wake);
        if (waiting.size === 0 && this.#waiting.get(peer) === waiting) this.#waiting.delete(peer);
      },
    };
  }

  #wake(peer: string): void {
    for (const wake of this.#waiting.get(peer) ?? []) wake();
  }

  // ── what is wanted ─────────────────────────────────────────────────────────────────────────────

  #checkLinks(): void {
    const { ports } = this.#init;
    for (const [peer, { kind }] of ports.links()?.uses() ?? []) {
      if (kind === "direct" && !ports.mayLink(peer)) ports.links()?.disconnect(peer, "no direct link wanted");
    }
    this.#tick();
  }

  #tick(): void {
    if (!this.#stopping.signal.aborted)
      this.#enter({ type: "tick", links: this.#init.ports.links()?.uses() ?? new Map() });
  }

  #enter(input: InterestInput): void {
    for (const effect of this.#interests.step(input, this.#init.clock.now())) this.#perform(effect);
  }

  #perform(effect: InterestEffect): void {
    const links = this.#init.ports.links();
    switch (effect.type) {
      case "establish":
        this.#attempt(effect.peer, effect.class).catch((error: unknown) =>
          this.#init.logger.debug("a peer cannot be reached", { peerId: effect.peer, err: error }),
        );
        return;
      case "test":
        links?.test(effect.peer);
        return;
      case "silent":
        links?.closeTunnel(effect.peer, "silent");
        return;
      case "close":
        links?.closeTunnel(effect.peer, "idle");
        return;
    }
  }

  // ── the map ────────────────────────────────────────────────────────────────────────────────────

  #route(peer: string, trafficClass: RouteClass): ReturnType<Router["route"]> {
    return this.#mapped().route(peer, trafficClass, this.#init.clock.now());
  }

  /** The router, with the map as it is now. */
  #mapped(): Router {
    const router = (this.#router ??= new Router(this.#init.ports.self().peer));
    if (this.#mapIsOld) {
      this.#mapIsOld = false;
      router.learn(this.#nodes());
    }
    return router;
  }

  /** What everybody says of itself; who has said nothing yet can be an end and no relay. */
  *#nodes(): Generator<NodeLinks> {
    const { ports } = this.#init;
    yield this.#self(this.#publisher.links());
    const members = ports.members();
    const named = cloudsWithGateways([...members, ports.self()]);
    for (const member of members) {
      yield nodeOf(member, named, decodeLinks(ports.said(member.peer)) ?? NOTHING_SAID);
    }
  }

  #self(links: NodeLinks["links"]): NodeLinks {
    const { ports, router } = this.#init;
    const self = ports.self();
    const named = cloudsWithGateways([...ports.members(), self]);
    return nodeOf(self, named, { router, overloaded: this.#overload.isOverloaded, links });
  }

  /** All meshes of a process share its event loop. */
  #lookAtLoad(): void {
    const use = performance.eventLoopUtilization();
    this.#overload.look(performance.eventLoopUtilization(use, this.#loopUse).utilization);
    this.#loopUse = use;
  }

  #pathOf({ hops }: TunnelUp): Route {
    return [this.#init.ports.self().peer, ...hops];
  }

  #named(route: Route): string {
    return route.map((peer) => peer.slice(-6)).join(" ");
  }
}

interface Connecting {
  readonly class: ChannelClass;
  readonly waitMs: number;
  readonly signal: AbortSignal | undefined;
}

/** The options as they are now. @throws MeshError `INVALID_OPTIONS`. */
function checkedConnect(options: ConnectOptions): Connecting {
  return readable("options", () => {
    const trafficClass = classOf(options);
    const { waitMs = 0, signal } = options;
    if (typeof waitMs !== "number" || !(waitMs >= 0)) refuse("options.waitMs", "must be 0 or more");
    if (signal !== undefined && !isSignal(signal)) refuse("options.signal", "must be an AbortSignal");
    return { class: trafficClass, waitMs, signal };
  });
}

const NOTHING_SAID: LinksSaid = { router: false, overloaded: false, links: [] };

function cloudsWithGateways(members: readonly Pick<LinkedMember, "cloud" | "gateway">[]): Set<string> {
  return new Set(members.flatMap(({ cloud, gateway }) => (gateway === true ? [cloud] : [])));
}

/** A cloud that names no gateway has all of its members for gateways. */
function nodeOf(
  { peer, cloud, gateway, reach }: Pick<LinkedMember, "peer" | "cloud" | "gateway" | "reach">,
  named: ReadonlySet<string>,
  said: LinksSaid,
): NodeLinks {
  return { peer, cloud, gateway: gateway === true || !named.has(cloud), reaches: reach, ...said };
}

function noRoute(
  code: "NO_ROUTE" | "FORBIDDEN" | "RELAY_FULL",
  peer: string,
  tried: Iterable<string>,
): MeshError {
  const attempts = [...tried];
  const what = attempts.length === 0 ? "the map has none" : attempts.join("; ");
  return new MeshError(code, `no way to ${excerpt(peer)}: ${what}`, { retryable: code !== "FORBIDDEN" });
}

function delay(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs).unref());
}

/** The promise, unless the signal fires first. */
async function abortable(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return promise;
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
  signal.addEventListener("abort", onAbort);
  promise.catch(() => undefined); // Nobody may be left to hear of it.
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
