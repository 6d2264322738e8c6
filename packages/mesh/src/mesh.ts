import { randomBytes } from "node:crypto";
import { createRunner, Emitter, renderMetrics } from "@klatsch/kit";
import type { EffectRunner, MetricFamily } from "@klatsch/kit";
import { AdmissionHost } from "./admission/host.ts";
import type { MeshAdmission } from "./admission/control.ts";
import { LINKS_KEY } from "./codec/links-entry.ts";
import { ADDRESSES_MAX } from "./codec/record-codec.ts";
import { Membership } from "./core/membership.ts";
import type {
  MemberSnapshot,
  MembershipEffect,
  MembershipEvent,
  MembershipInput,
} from "./core/membership-types.ts";
import type { Hello, MemberRecord, RefusalCode } from "./core/messages.ts";
import { mayReach } from "./core/routing/policy.ts";
import { MEMBERSHIP_TIMES } from "./core/times.ts";
import { STATE_TIMES } from "./core/state/state-types.ts";
import { MeshError } from "./errors.ts";
import { BootRaiser } from "./host/boot-raiser.ts";
import { Channels } from "./host/channels.ts";
import type { LinkCounters } from "./host/channels.ts";
import { checkCount, checkText, isSet, refuse } from "./host/given.ts";
import { awaitInvitation } from "./host/invitation.ts";
import { GoneQuestions } from "./host/gone-questions.ts";
import { answerHello } from "./host/greeting.ts";
import { HearingCore } from "./host/hearing-core.ts";
import { loadIdentity } from "./host/identity.ts";
import type { Identity } from "./host/identity.ts";
import { Links } from "./host/links.ts";
import { memberOf, peerCalled } from "./host/member-list.ts";
import { MemberWaits } from "./host/member-waits.ts";
import { MESH_EVENTS } from "./host/mesh-events.ts";
import { MeshMetrics } from "./host/mesh-metrics.ts";
import { openNode } from "./host/node.ts";
import type { LinkNode } from "./host/node.ts";
import { isLasting, RefusalLog } from "./host/refusal-log.ts";
import type { TurnedAway } from "./host/refusal-log.ts";
import { Routing } from "./host/routing.ts";
import { SharedStore } from "./host/shared-store.ts";
import type { LinkedMember } from "./host/link-publisher.ts";
import { StateHost } from "./host/state-host.ts";
import { identityConflict, Superseded } from "./host/superseded.ts";
import { Topics } from "./host/topics.ts";
import { resolveOptions, resolveTags } from "./options.ts";
import type { MeshOptions } from "./options.ts";
import type { MeshState, StateValue } from "./state-types.ts";
import type {
  Channel,
  ChannelHandlers,
  ChannelOptions,
  ConnectOptions,
  Member,
  Mesh,
  MeshEvents,
  MeshInit,
  MeshStats,
  MeshTopics,
  RouteTrace,
  WaitForOptions,
} from "./types.ts";

/**
 * Starts this node: identity, listener, links and membership. Resolves once it listens; joining goes on by
 * itself, for ever.
 * @throws MeshError `INVALID_OPTIONS`, `IDENTITY_DAMAGED`, `CERTIFICATE_INVALID`, `REVOKED`, `LISTEN_FAILED`,
 * `STORE_LOCKED`, `STORE_FAILED`.
 */
export async function createMesh(init: MeshInit): Promise<Mesh> {
  const asked = resolveOptions(init);
  const identity = await loadIdentity(asked.dataDir, asked.libp2p?.privateKey);
  const options = await withMesh(asked, identity);
  const admission = await AdmissionHost.open(options, identity);
  const store = await SharedStore.open(options.dataDir, admission.description.mesh, options.logger);
  try {
    return await startMesh(options, identity, admission, store);
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A node that is to join any mesh waits here for the first that wants it. */
async function withMesh(options: MeshOptions, { privateKey }: Identity): Promise<MeshOptions> {
  const { joinAny } = options;
  return joinAny === undefined
    ? options
    : { ...options, ...(await awaitInvitation({ ...options, joinAny, privateKey })) };
}

async function startMesh(
  options: MeshOptions,
  identity: Identity,
  admission: AdmissionHost,
  store: SharedStore,
): Promise<Mesh> {
  const boot = Math.max(identity.lastBoot + 1, options.clock.now().wallMs);
  await identity.saveBoot(boot);
  if (options.exposed) {
    options.logger.warn("open admission beyond loopback: anybody who knows the mesh name is let in", {
      mesh: admission.description.mesh,
      listen: options.listen,
    });
  }
  const service = new MeshService(options, identity, admission, store);
  try {
    await service.start(boot);
    return service;
  } catch (error) {
    await service.abandon();
    throw error;
  }
}

class MeshService implements Mesh {
  readonly #options: MeshOptions;
  readonly #identity: Identity;
  readonly #store: SharedStore;
  readonly #admission: AdmissionHost;
  readonly #emitter: Emitter<MeshEvents>;
  readonly #counters: LinkCounters = {
    badFrames: 0,
    handlerErrors: 0,
    streamResets: 0,
    framesRefused: 0,
    dialsFailed: 0,
    stateRefused: 0,
    linksRefused: 0,
  };
  readonly #instance: string = randomBytes(16).toString("hex");
  readonly #metrics = new MeshMetrics();
  readonly #channels: Channels;
  readonly #topics: Topics;
  readonly #routing: Routing;
  readonly #refusals: RefusalLog;
  /** How far the clocks of linked peers are ahead of ours, as their hellos told. */
  readonly #aheadMs = new Map<string, number>();
  #node: LinkNode | undefined;
  #links: Links | undefined;
  #membership: Membership | undefined;
  #state: StateHost | undefined;
  #runner: EffectRunner<MembershipInput, MembershipEffect> | undefined;
  readonly #boots: BootRaiser;
  readonly #superseded = new Superseded();
  readonly #waits: MemberWaits;
  readonly #inquiries = new GoneQuestions();
  /** Who waits for other tags to be said, in order. */
  readonly #retagging: (() => void)[] = [];
  #departed: (() => void) | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: MeshOptions, identity: Identity, admission: AdmissionHost, store: SharedStore) {
    this.#store = store;
    this.#options = options;
    this.#admission = admission;
    this.#identity = identity;
    this.#emitter = new Emitter({ names: MESH_EVENTS, logger: options.logger, refuse });
    this.#waits = new MemberWaits({ members: () => this.members(), on: (...given) => this.on(...given) });
    this.#refusals = new RefusalLog(options.logger);
    this.#boots = new BootRaiser({
      boot: () => this.#self().boot,
      save: (boot) => identity.saveBoot(boot),
      onRaised: (boot) => {
        this.#enter({ type: "booted", boot });
        this.#state?.enter({ type: "booted", boot });
      },
      isSuperseded: () => this.#superseded.isHeard,
      onSuperseded: () => this.#fail(identityConflict(options.dataDir)),
      onFailed: (error) => this.#fail(error),
    });
    this.#channels = new Channels({
      frameBytesMax: options.frameBytesMax,
      queues: options.queues,
      counters: this.#counters,
      traffic: this.#metrics.traffic,
      clock: options.clock,
      logger: options.logger,
      onWanted: (trafficClass) => this.#links?.openClass(trafficClass),
    });
    this.#routing = this.#createRouting();
    this.#topics = new Topics({
      ...{ clock: options.clock, logger: options.logger },
      ...{ counters: this.#counters, traffic: this.#metrics.traffic },
      ...{ mesh: this, name: admission.description.mesh },
      components: () => this.#node?.components,
      direct: (peer) => this.#links?.direct(peer),
    });
    this.#admission.attach({
      links: () => this.#links,
      node: () => this.#node,
      refused: (peer, refusal) => this.#turnedAway(peer, refusal),
      revoked: (subject) => this.#revoked(subject),
      onForged: (peer, what) => {
        this.#counters.badFrames += 1;
        this.#refusals.told(peer, "UNCERTIFIED", what);
      },
      expiring: (notAfterWallMs, daysLeft) =>
        this.#emitter.emit("certificate:expiring", { notAfterWallMs, daysLeft }),
      renewed: (notAfterWallMs) => this.#emitter.emit("certificate:renewed", { notAfterWallMs }),
      failed: (error) => this.#fail(error),
    });
  }

  get peerId(): string {
    return this.#self().peer;
  }

  get name(): string {
    return this.#admission.description.name;
  }

  get cloud(): string {
    return this.#admission.description.cloud;
  }

  get boot(): number {
    return this.#self().boot;
  }

  get admission(): MeshAdmission {
    return this.#admission.control;
  }

  get state(): MeshState {
    return this.#gossip();
  }

  get topics(): MeshTopics {
    return this.#topics;
  }

  /** Opens the listener and goes looking for others. */
  async start(boot: number): Promise<void> {
    const { clock, logger, losesFrame, membersMax, random, seeds, forgetAfterMs } = this.#options;
    const links = new Links({
      self: this.#identity.peerId,
      routing: this.#routing,
      clock,
      channels: this.#channels,
      counters: this.#counters,
      traffic: this.#metrics.traffic,
      ...{ logger, losesFrame },
      ports: {
        hello: (peer) => this.#hello(peer),
        admit: (hello, isGuest, direct) => this.#admit(hello, isGuest, direct),
        referrals: () => this.#running().referrals(),
        onBusy: (peer, records) => this.#enter({ type: "busy", peer, records }),
        onUp: (peer, link, { record, digest, wallMs }) => {
          this.#aheadMs.set(peer, wallMs - clock.now().wallMs);
          this.#enter({ type: "linkUp", peer, link, record, digest });
        },
        onDown: (peer, reason) => this.#enter({ type: "linkDown", peer, reason }),
        onMessage: (peer, received) => {
          const message = this.#admission.incoming(peer, received);
          this.#metrics.received(received.type);
          if (message !== undefined) this.#enter({ type: "message", peer, message });
        },
        onAdmission: (peer, payload) => this.#admission.control.onFrame(peer, payload),
        onState: (peer, payload) => this.#gossip().receive(peer, payload),
        onRefused: (peer, code, detail, byUs) => this.#refused(peer, code, detail, byUs),
        hangUp: (connection, error) => this.#node?.hangUp(connection, error),
      },
    });
    const node = (this.#node = await this.#openNode(links));
    const self = this.#record(node, boot);
    const times = { ...MEMBERSHIP_TIMES, forgetMs: forgetAfterMs };
    const { fullMeshUpTo, degree } = this.#options;
    const overlay = { fullMeshUpTo, degree };
    const membership = new Membership({ self, seeds, membersMax, times, random, overlay }, clock.now());
    this.#links = links;
    this.#membership = membership;
    this.#state = this.#newState(self, links);
    this.#topics.attach(this.#state);
    this.#state.watch({ key: LINKS_KEY }, ({ peerId }) => this.#routing.onSaid(peerId));
    this.#runner = createRunner({
      core: new HearingCore(membership, links),
      clock,
      tick: { type: "tick" },
      phase: () => "now",
      perform: (effect) => this.#perform(effect),
      commit: (_records, done) => queueMicrotask(() => done(undefined, 0)),
      onFailed: (error) => this.#fail(error instanceof Error ? error : new Error(String(error))),
    });
    this.#admission.control.start();
    this.#routing.start();
    this.#enter({ type: "tick" }); // The first dials.
    node.seek();
    for (const connection of node.connections()) links.adopt(connection);
    logger.info("mesh started", { peerId: self.peer, boot, addresses: self.addresses });
  }

  #newState(self: MemberRecord, links: Links): StateHost {
    const { clock, random, logger, sharedPrefixes } = this.#options;
    const { mesh } = this.#admission.description;
    const { quarantined } = this.#store;
    // Later: nobody can be listening yet.
    if (quarantined !== undefined) setImmediate(() => this.#emitter.emit("state:quarantined", quarantined));
    return new StateHost({
      ...{ self: self.peer, boot: self.boot, times: STATE_TIMES, clock, random, logger, mesh },
      privateKey: this.#identity.privateKey,
      store: this.#store,
      policy: this.#admission.control.policy(sharedPrefixes),
      counters: this.#counters,
      send: (peer, payload) => links.sendState(peer, payload),
      disconnect: (peer, reason) => links.disconnect(peer, reason),
      raiseBoot: (above) => this.#boots.hear(above),
      onFailed: (error) => this.#fail(error),
    });
  }

  /** A libp2p node of our own, or a place in the one that the application gave. */
  #openNode(links: Links): Promise<LinkNode> {
    return openNode(this.#options, {
      privateKey: this.#identity.privateKey,
      encrypters: this.#admission.encrypters,
      gate: this.#options.admission.mode === "certificate" ? this.#options.admission.gate : undefined,
      rules: this.#admission.control,
      tunnels: this.#routing.tunnels,
      // Whoever comes before our own addresses are known waits for `adopt` in `start`.
      onConnection: (connection) => void (this.#membership === undefined || links.adopt(connection)),
      isMissed: (peer) =>
        this.#stopping === undefined && (links.upCount === 0 || this.#membership?.member(peer) === undefined),
      alive: () => this.#running().alive(),
      onStream: (kind, stream, connection) => {
        if (this.#membership === undefined) stream.abort(new Error("not ready"));
        else links.acceptStream(kind, stream, connection);
      },
    });
  }

  /** It did not start: what has begun of it ends. */
  abandon(): Promise<void> {
    return (this.#stopping ??= this.#tearDown("not started"));
  }

  async setTags(tags: Readonly<Record<string, string>>): Promise<void> {
    const resolved = resolveTags(tags);
    if (this.#stopping !== undefined) throw new MeshError("STOPPED", "the mesh has stopped");
    if (!this.#admission.control.isDescribed({ ...this.#self(), tags: resolved }))
      throw new MeshError("FORBIDDEN", "tags: the certificate says what they are; issue another one");
    await new Promise<void>((resolve) => {
      this.#retagging.push(resolve);
      this.#enter({ type: "retag", tags: resolved });
    });
  }

  addresses(): readonly string[] {
    return this.#self().addresses;
  }

  members(): readonly Member[] {
    const members = this.#running()
      .members()
      .map((snapshot) => this.#member(snapshot));
    return members.toSorted((a, b) => (a.peerId < b.peerId ? -1 : 1));
  }

  member(peerId: string): Member | undefined {
    const snapshot = this.#running().member(peerId);
    return snapshot === undefined ? undefined : this.#member(snapshot);
  }

  resolve(name: string): string {
    checkText("name", name);
    return peerCalled(name, this.members());
  }

  waitFor(options: WaitForOptions): Promise<readonly Member[]> {
    return this.#waits.waitFor(options);
  }

  on<Name extends keyof MeshEvents>(event: Name, listener: (event: MeshEvents[Name]) => void): () => void {
    return this.#emitter.on(event, listener);
  }

  channel(name: string, handlers: ChannelHandlers, options: ChannelOptions = {}): Channel {
    if (this.#stopping !== undefined) throw new MeshError("STOPPED", "the mesh has stopped");
    return this.#channels.register(name, handlers, options);
  }

  attend(peerId: string, options?: { readonly closely?: boolean | undefined }): () => void {
    checkText("peerId", peerId);
    const closely = isSet(options, "closely", true);
    this.#enter({ type: "attend", peer: peerId, on: true, closely });
    let isOn = true;
    return () => {
      if (isOn) this.#enter({ type: "attend", peer: peerId, on: false, closely });
      isOn = false;
    };
  }

  async isGone(peerId: string, boot: number): Promise<boolean> {
    checkText("peerId", peerId);
    checkCount("boot", boot);
    if (this.#stopping !== undefined) throw new MeshError("STOPPED", "the mesh has stopped");
    return this.#inquiries.ask((id) => this.#enter({ type: "ask", id, peer: peerId, boot }));
  }

  connect(peerId: string, options?: ConnectOptions): Promise<void> {
    return this.#routing.connect(peerId, options);
  }

  neighbours(peerId: string): readonly string[] {
    return this.#routing.neighbours(peerId);
  }

  trace(peerId: string): Promise<readonly RouteTrace[]> {
    return this.#routing.trace(peerId);
  }

  stats(): MeshStats {
    return {
      ...this.#counters,
      seeds: this.#options.seeds.size + this.#options.unnamedSeeds.length,
      connections: this.#links?.connectionCount ?? 0,
      links: this.#links?.upCount ?? 0,
      tunnels: this.#links?.tunnelCount ?? 0,
      tunnelsCarried: this.#routing.tunnels.carriedCount,
      bytesCarried: this.#routing.carriedBytes,
    };
  }

  metrics(): string {
    return renderMetrics(this.metricFamilies());
  }

  metricFamilies(): readonly MetricFamily[] {
    return this.#metrics.families(this, this.#links, this.#channels);
  }

  stop(): Promise<void> {
    return (this.#stopping ??= this.#depart("stopped"));
  }

  leave(): Promise<void> {
    if (this.#stopping !== undefined) return Promise.reject(new MeshError("STOPPED", "the mesh has stopped"));
    return (this.#stopping = this.#depart("left"));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #record(node: LinkNode, boot: number): MemberRecord {
    const { name, cloud, tags } = this.#admission.description;
    const addresses = node.addresses().slice(0, ADDRESSES_MAX);
    const { gateway, dialOnly, reach } = this.#options;
    return { peer: node.peerId, boot, inc: 0, name, cloud, tags, addresses, gateway, dialOnly, reach };
  }

  // ── links ──────────────────────────────────────────────────────────────────────────────────────

  #hello(peer: string): Hello {
    const membership = this.#running();
    return {
      mesh: this.#admission.description.mesh,
      instance: this.#instance,
      wallMs: this.#options.clock.now().wallMs,
      knownBoot: membership.member(peer)?.record.boot ?? 0,
      frameBytesMax: this.#options.frameBytesMax,
      record: this.#admission.sealed(membership.self),
      digest: membership.digest,
    };
  }

  /** Reaches those that are no neighbours. */
  #createRouting(): Routing {
    const { clock, logger, router } = this.#options;
    return new Routing({
      clock,
      logger,
      router,
      ports: {
        self: () => this.#self(),
        links: () => this.#links,
        members: () => this.#others(),
        said: (peer) => this.#state?.get(peer, LINKS_KEY),
        publish: (value) => this.#publishLinks(value),
        mayLink: (peer) => this.#mayLink(this.#membership?.member(peer)?.record),
        dial: async (peer) => {
          const addresses = this.#membership?.member(peer)?.record.addresses ?? [];
          return (await this.#node?.dial(peer, addresses)) === "connected";
        },
        onTunnel: (type, peerId, path, reason) => {
          if (type === "up") this.#emitter.emit("tunnel:up", { peerId, path });
          else this.#emitter.emit("tunnel:down", { peerId, path, reason });
        },
        onBad: (peer, reason) => this.#badTunnel(peer, reason),
      },
    });
  }

  /** Everybody else who is there. */
  #others(): LinkedMember[] {
    const self = this.#self().peer;
    return this.#running()
      .members()
      .filter(({ record, status }) => record.peer !== self && (status === "alive" || status === "suspect"))
      .map(({ record, linked, roundTripMs }) => ({ ...record, linked, roundTripMs }));
  }

  #publishLinks(value: StateValue): void {
    if (this.#stopping === undefined) this.#state?.setReserved(LINKS_KEY, value);
  }

  /** Whether a direct link is wanted; with a peer that nobody has told of, its hello will show. */
  #mayLink(record: MemberRecord | undefined): boolean {
    if (record === undefined) return true;
    const { peer: peerId, name, cloud } = record;
    return (
      mayReach({ cloud: this.cloud, reaches: this.#options.reach }, cloud) &&
      this.#options.mayLink({ peerId, name, cloud })
    );
  }

  #admit(hello: Hello, isGuest: boolean, direct: boolean): ReturnType<typeof answerHello> {
    if (this.#stopping !== undefined) return "later";
    const { clock, logger, membersMax } = this.#options;
    return answerHello(
      hello,
      { isGuest, direct },
      {
        ...{ clock, logger, membersMax, mesh: this.#admission.description.mesh, name: this.name },
        membership: this.#running(),
        isDescribed: (record) => this.#admission.control.isDescribed(record),
        mayLink: (record) => this.#mayLink(record),
        hearBoot: (boot) => this.#boots.hear(boot),
      },
    );
  }

  #refused(peerId: string, code: RefusalCode, detail: string, byUs: boolean): void {
    if (code === "DUPLICATE" || code === "BUSY") return;
    if (code === "SUPERSEDED" && !byUs && this.#superseded.isBelieved(peerId, [...this.#aheadMs.keys()]))
      return this.#fail(identityConflict(this.#options.dataDir));
    if (code === "BOOT_LOW" && !byUs) this.#boots.raise(this.#self().boot);
    this.#turnedAway(peerId, { code, detail, byUs }, isLasting(code));
  }

  /** Also inside the encrypter, before there was a connection. */
  #turnedAway(peerId: string | undefined, { code, detail, byUs }: TurnedAway, lasts = true): void {
    const reason = `${byUs ? "we refused the peer" : "the peer refused us"}: ${detail === "" ? code : detail}`;
    this.#counters.linksRefused += 1;
    if (lasts && peerId !== undefined) this.#enter({ type: "turnedAway", peer: peerId });
    this.#refusals.told(peerId, code, reason);
    this.#emitter.emit("link:refused", { peerId, code, reason });
  }

  /** Its links are closed next; here it has left for good, whatever it may say. */
  #revoked(subject: string): void {
    const record = this.#membership?.member(subject)?.record;
    if (record !== undefined) {
      const views = [{ ...record, status: "left", ageMs: 0 } as const];
      this.#enter({ type: "message", peer: subject, message: { type: "views", views } });
    }
    this.#emitter.emit("member:revoked", { subject });
  }

  #badTunnel(peer: string, reason: string): void {
    this.#counters.badFrames += 1;
    this.#options.logger.warn("bad bytes from a peer", { peer, reason });
  }

  // ── effects ────────────────────────────────────────────────────────────────────────────────────

  #perform(effect: MembershipEffect): void {
    switch (effect.type) {
      case "send":
        this.#metrics.sent(effect.message.type);
        this.#links?.send(effect.to, this.#admission.outgoing(effect.message));
        if (effect.message.type === "ping" || effect.message.type === "ack") {
          this.#state?.sendHash(effect.to);
        }
        return;
      case "dial":
        void this.#dial(effect.peer, effect.addresses);
        return;
      case "disconnect":
        this.#links?.disconnect(effect.peer, effect.reason);
        return;
      case "raiseBoot":
        this.#boots.know(effect.above);
        return;
      case "emit":
        this.#emit(effect.event);
        return;
      case "answer":
        this.#inquiries.answer(effect.id, effect.gone);
        return;
      case "departed":
        this.#departed?.();
        return;
    }
  }

  async #dial(peer: string, addresses: readonly string[]): Promise<void> {
    const busy = this.#links?.isConnecting(peer) === true;
    const allowed = this.#mayLink(this.#membership?.member(peer)?.record);
    if (!allowed) {
      this.#enter({ type: "dialed", peer, outcome: "failed" });
      return;
    }
    const outcome = busy ? "connected" : await this.#node?.dial(peer, addresses);
    if (outcome === undefined) return;
    if (outcome !== "connected") this.#counters.dialsFailed += 1;
    this.#enter({ type: "dialed", peer, outcome });
  }

  #emit(event: MembershipEvent): void {
    this.#metrics.happened(event.type);
    switch (event.type) {
      case "linkUp":
        this.#state?.enter({ ...event, aheadMs: this.#aheadMs.get(event.peer) ?? 0 });
        this.#admission.control.onLinkUp(event.peer);
        this.#superseded.withdrawn(event.peer);
        this.#emitter.emit("link:up", { peerId: event.peer });
        // Only now: whoever is told of a channel already knows the member.
        this.#links?.activate(event.peer, event.link);
        this.#routing.onLinkUp(event.peer);
        this.#topics.offer(event.peer);
        return;
      case "linkDown":
        this.#aheadMs.delete(event.peer);
        this.#state?.enter(event);
        this.#emitter.emit("link:down", { peerId: event.peer, reason: event.reason });
        this.#routing.onLinkDown();
        this.#topics.linkDown(event.peer);
        return;
      case "declaredDead":
        this.#emitter.emit("self:declaredDead", { boot: event.boot, incarnation: event.inc });
        return;
      case "isolated":
        this.#emitter.emit("self:isolated", { boot: this.#self().boot });
        return;
      case "joined":
      case "updated":
      case "suspected":
      case "refuted":
      case "died":
      case "stopped":
      case "left":
      case "forgotten": {
        const member = this.#member(event.member);
        this.#state?.follow(event.type, member.peerId, member.boot);
        if (event.type === "forgotten") this.#topics.forget(member.peerId);
        this.#routing.membersChanged();
        this.#options.logger.info(`member ${event.type}`, {
          peerId: member.peerId,
          name: member.name,
          boot: member.boot,
        });
        this.#emitter.emit(`member:${event.type}`, member);
        if (event.type === "updated" && member.self) this.#retagging.shift()?.();
      }
    }
  }

  // ── the end ────────────────────────────────────────────────────────────────────────────────────

  async #depart(status: "stopped" | "left"): Promise<void> {
    await this.#boots.end(); // What is raised last is said last.
    const told = new Promise<void>((resolve) => (this.#departed = resolve));
    this.#enter({ type: "depart", status });
    await told;
    await this.#tearDown(status);
  }

  async #tearDown(reason: string): Promise<void> {
    await this.#boots.end();
    this.#waits.end();
    this.#channels.closeAll();
    this.#inquiries.end();
    for (const end of this.#retagging.splice(0)) end();
    this.#metrics.stop();
    await this.#topics.stop();
    this.#routing.stop();
    this.#links?.stop(reason);
    await this.#node?.stop();
    this.#admission.control.stop(); // It looks at certificates as long as anybody comes.
    this.#runner?.stop();
    await this.#state?.stop();
    this.#options.logger.info("mesh stopped", { reason });
  }

  /** This process cannot be a member any more: everything ends, and the application is told. */
  #fail(error: Error): void {
    if (this.#stopping !== undefined) return this.#departed?.();
    this.#options.logger.error("mesh failed", { err: error });
    this.#stopping = this.#tearDown("failed")
      .catch((cause: unknown) => this.#options.logger.error("mesh did not end in order", { err: cause }))
      .finally(() => this.#emitter.emit("mesh:failed", { error }));
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────

  #enter(input: MembershipInput): void {
    this.#runner?.enter(input);
  }

  #running(): Membership {
    if (this.#membership === undefined) throw new MeshError("STOPPED", "the mesh has not started");
    return this.#membership;
  }

  #gossip(): StateHost {
    if (this.#state === undefined) throw new MeshError("STOPPED", "the mesh has not started");
    return this.#state;
  }

  #self(): MemberRecord {
    return this.#running().self;
  }

  #member(snapshot: MemberSnapshot): Member {
    return memberOf(snapshot, this.#links, this.#options.clock.now().wallMs);
  }
}
