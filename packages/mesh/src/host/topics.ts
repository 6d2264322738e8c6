import { types } from "node:util";
import { callListener, textOf } from "@klatsch/kit";
import type { Clock, Logger } from "@klatsch/kit";
import type { GossipSub, GossipSubComponents, Message } from "@libp2p/gossipsub";
import type { RPC } from "@libp2p/gossipsub/message";
import type { Connection, PeerId, Topology } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import {
  decodeTopicEnvelope,
  encodeTopicEnvelope,
  TOPIC_BODY_BYTES_MAX,
  TOPIC_LENGTH_MAX,
} from "../codec/topic-codec.ts";
import { NAME_PATTERN, TAG_KEY_LENGTH_MAX, TAG_VALUE_LENGTH_MAX } from "../codec/record-codec.ts";
import type { TopicEnvelope } from "../codec/topic-codec.ts";
import { TokenBucket } from "../core/state/token-bucket.ts";
import { Budgets } from "../core/budgets.ts";
import { TOPIC_BUDGET, TOPIC_PASSED_BUDGET } from "../core/topic-rules.ts";
import { MeshError, readable } from "../errors.ts";
import type { Member, Mesh, MeshTopics, TopicListener, TopicPublishOptions, TopicTarget } from "../types.ts";
import type { LinkCounters } from "./channels.ts";
import { checkFunction, checkObject, checkText, refuse } from "./given.ts";
import type { StateHost } from "./state-host.ts";
import { countReceived, countSent } from "./traffic.ts";
import type { Traffic } from "./traffic.ts";
import { Unverified } from "./unverified.ts";

/** Own entry of gossip state of whoever takes part: the others have to as well, since gossipsub relays for its topics only. */
const TOPICS_KEY = "klatsch/topics";

const SUBSCRIPTIONS_MAX = 1_024;
/** What gossipsub may hold for a peer that does not read; its stream is ended then, and opened again by us. */
const OUTBOUND_BYTES_MAX: number = 1024 * 1024;
/** Longest frame of gossipsub's own: several messages in one. */
const INBOUND_BYTES_MAX: number = 4 * 1024 * 1024;
/** Between two looks for peers whose stream has ended, or who did not serve gossipsub yet, in milliseconds. */
const MEND_MS = 2_000;

export interface TopicsInit {
  readonly mesh: Pick<Mesh, "peerId" | "member" | "members">;
  /** What tells this mesh from others: their topics must not mix. */
  readonly name: string;
  /** Made when libp2p is; `undefined` inside a node of the application, whose strangers we do not keep out. */
  readonly components: () => GossipSubComponents | undefined;
  readonly direct: (peer: string) => Connection | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly counters: LinkCounters;
  readonly traffic: Traffic;
}

/**
 * Application topics, carried by gossipsub on one topic of its own that all members subscribe; the receiver filters.
 * Nothing of it runs before a member of the mesh uses topics.
 */
export class Topics implements MeshTopics {
  readonly #init: TopicsInit;
  readonly #listeners = new Map<string, Set<TopicListener>>();
  readonly #own: TokenBucket;
  readonly #budgets = new Budgets(TOPIC_PASSED_BUDGET);
  /** The topologies that gossipsub registered: we tell it of peers, since identify is off. */
  readonly #topologies = new Map<string, Topology>();
  #state: StateHost | undefined;
  #unverified: Unverified | undefined;
  #starting: Promise<GossipSub> | undefined;
  #mending: NodeJS.Timeout | undefined;
  /** Until the next start is tried. */
  #again: NodeJS.Timeout | undefined;
  #hasFailed = false;
  #subscriptions = 0;
  #stopped = false;

  constructor(init: TopicsInit) {
    this.#init = init;
    this.#own = new TokenBucket(TOPIC_BUDGET, init.clock.now().monoMs);
  }

  /** Learns from gossip state who takes part. */
  attach(state: StateHost): void {
    this.#state = state;
    state.watch({ key: TOPICS_KEY }, ({ peerId, value }) => {
      if (value === undefined || peerId === this.#init.mesh.peerId) return;
      this.#begin();
      this.offer(peerId);
    });
  }

  subscribe(topic: string, listener: TopicListener): () => void {
    this.#check(topic);
    checkFunction("listener", listener);
    if (this.#subscriptions >= SUBSCRIPTIONS_MAX) {
      throw new MeshError("LIMIT_REACHED", `no more than ${SUBSCRIPTIONS_MAX} subscriptions at once`);
    }
    // Its own function each time, so that one listener subscribed twice is removed once at a time.
    const own: TopicListener = (message) => listener(message);
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners.add(own));
    this.#subscriptions += 1;
    this.#begin();
    return () => {
      if (!listeners.delete(own)) return;
      this.#subscriptions -= 1;
      if (listeners.size === 0 && this.#listeners.get(topic) === listeners) this.#listeners.delete(topic);
    };
  }

  async publish(topic: string, body: Uint8Array, options: TopicPublishOptions = {}): Promise<void> {
    this.#check(topic);
    const target = targetOf(options);
    const copy = copyOf(body);
    if (copy.length > TOPIC_BODY_BYTES_MAX) {
      throw new MeshError("INVALID_OPTIONS", `body: is longer than ${TOPIC_BODY_BYTES_MAX} bytes`);
    }
    const { peerId } = this.#init.mesh;
    if (!this.#own.take(this.#init.clock.now().monoMs)) {
      throw new MeshError("LIMIT_REACHED", "too many messages on topics, 100 a second at length", {
        retryable: true,
      });
    }
    const envelope: TopicEnvelope = { topic, target, body: copy };
    const bytes = encodeTopicEnvelope(envelope);
    const gossip = await this.#start();
    if (this.#stopped) throw new MeshError("STOPPED", "the mesh has stopped");
    countSent(this.#init.traffic.row("topics", "gossipsub"), bytes.length);
    this.#deliver(envelope, peerId);
    await gossip.publish(this.#name, bytes);
  }

  /** A link came up, or a peer has said that it takes part. */
  offer(peer: string): void {
    if (this.#mending === undefined || this.#state?.get(peer, TOPICS_KEY) === undefined) return;
    const connection = this.#init.direct(peer);
    if (connection === undefined || isJoined(connection)) return;
    for (const topology of this.#topologies.values()) {
      this.#guard(topology.onDisconnect?.(connection.remotePeer));
      this.#guard(topology.onConnect?.(connection.remotePeer, connection));
    }
  }

  linkDown(peer: string): void {
    this.#unverified?.drop(peer);
    for (const topology of this.#topologies.values()) {
      this.#guard(topology.onDisconnect?.(peerIdFromString(peer)));
    }
  }

  forget(peer: string): void {
    this.#budgets.forget(peer);
    this.#unverified?.forget(peer);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#mending);
    clearTimeout(this.#again);
    this.#unverified?.stop();
    const gossip = await this.#starting?.catch(() => undefined);
    if (gossip !== undefined && isService(gossip)) await gossip.stop();
  }

  get #name(): string {
    return `klatsch/${this.#init.name}`;
  }

  #check(topic: string): void {
    if (this.#stopped) throw new MeshError("STOPPED", "the mesh has stopped");
    if (this.#init.components() === undefined) {
      const why = "others than members could publish there, and read";
      throw new MeshError(
        "TOPICS_REFUSED",
        `topics are not to be had inside the application's libp2p node: ${why}`,
      );
    }
    checkText("topic", topic);
    if (topic.length === 0 || topic.length > TOPIC_LENGTH_MAX) {
      throw new MeshError("INVALID_OPTIONS", `topic: has 1 to ${TOPIC_LENGTH_MAX} characters`);
    }
  }

  /** Takes part from now on: this node uses topics, or another one does and this one has to pass on. */
  #begin(): void {
    if (this.#stopped || this.#init.components() === undefined) return;
    this.#start().catch(() => undefined); // It is logged, and tried again.
  }

  /** @throws MeshError `STORE_FAILED`. */
  #start(): Promise<GossipSub> {
    this.#starting ??= this.#open().catch((error: unknown) => this.#failed(error));
    return this.#starting;
  }

  /** There may have been no descriptor left to load it with: whoever has subscribed hears of what comes once there is. */
  #failed(error: unknown): never {
    this.#starting = undefined;
    this.#topologies.clear();
    if (!this.#hasFailed) this.#init.logger.error("topics cannot be started: tried again", { err: error });
    this.#hasFailed = true;
    if (!this.#stopped) this.#again ??= setTimeout(() => this.#retry(), MEND_MS).unref();
    const message = `topics cannot be started now: ${textOf(error)}`;
    throw new MeshError("STORE_FAILED", message, { cause: error, retryable: true });
  }

  #retry(): void {
    this.#again = undefined;
    this.#begin();
  }

  async #open(): Promise<GossipSub> {
    const components = this.#init.components();
    if (components === undefined) throw new TypeError("no components");
    // Loaded when it is used: it takes its time.
    const { gossipsub, TopicValidatorResult } = await import("@libp2p/gossipsub");
    const gossip = gossipsub({
      emitSelf: false,
      doPX: false,
      allowPublishToZeroTopicPeers: true,
      allowedTopics: [this.#name],
      globalSignaturePolicy: "StrictSign",
      maxOutboundBufferSize: OUTBOUND_BYTES_MAX,
      maxInboundDataLength: INBOUND_BYTES_MAX,
      // Members may share a host; and whom to trust is admission's to say.
      scoreParams: { IPColocationFactorWeight: 0 },
    })({
      // One by one: libp2p's components are a proxy that has no properties to spread.
      privateKey: components.privateKey,
      peerId: components.peerId,
      peerStore: components.peerStore,
      connectionManager: components.connectionManager,
      logger: components.logger,
      registrar: this.#registrar(components.registrar),
    });
    gossip.topicValidators.set(this.#name, (_from, message) =>
      this.#isWelcome(message) ? TopicValidatorResult.Accept : TopicValidatorResult.Ignore,
    );
    gossip.addEventListener("gossipsub:message", ({ detail: { msg } }) => {
      const envelope = decodeTopicEnvelope(msg.data);
      if (envelope !== undefined && "from" in msg) this.#deliver(envelope, msg.from.toString());
    });
    if (!isService(gossip)) throw new TypeError("gossipsub cannot be started");
    this.#dose(gossip);
    await gossip.start();
    this.#hasFailed = false;
    if (this.#stopped) return gossip;
    gossip.subscribe(this.#name);
    this.#state?.setReserved(TOPICS_KEY, 1);
    this.#mending = setInterval(() => this.#mend(), MEND_MS);
    this.#mend();
    return gossip;
  }

  /** Messages are looked at before gossipsub verifies them; the rest of what comes goes its way. */
  #dose(gossip: Service): void {
    const handle = gossip.handleReceivedRpc.bind(gossip);
    const unverified = new Unverified({
      isThere: (author) => this.#isThere(author),
      verify: (from, message) => this.#guard(handle(from, { subscriptions: [], messages: [message] })),
      onRefused: () => (this.#init.counters.framesRefused += 1),
      clock: this.#init.clock,
    });
    this.#unverified = unverified;
    gossip.handleReceivedRpc = async (from, rpc) => {
      unverified.enter(from, rpc.messages);
      await handle(from, { ...rpc, messages: [] });
    };
  }

  #isThere(author: string): boolean {
    const status = this.#init.mesh.member(author)?.status;
    return status === "alive" || status === "suspect";
  }

  /** Authors that are no members are ignored and not held against whoever passed them on: it may know better. */
  #isWelcome(message: Message): boolean {
    if (!("from" in message)) return false;
    const author = message.from.toString();
    if (!this.#isThere(author)) return false;
    if (decodeTopicEnvelope(message.data) === undefined) {
      this.#init.counters.badFrames += 1;
      return false;
    }
    if (!this.#budgets.take(author, this.#init.clock.now().monoMs)) {
      this.#init.counters.framesRefused += 1;
      return false;
    }
    countReceived(this.#init.traffic.row("topics", "gossipsub"), message.data.length);
    return true;
  }

  #deliver({ topic, target, body }: TopicEnvelope, from: string): void {
    const listeners = this.#listeners.get(topic);
    const self = this.#init.mesh.member(this.#init.mesh.peerId);
    if (listeners === undefined || self === undefined || !isMeant(target, self)) return;
    for (const listener of [...listeners]) {
      if (!listeners.has(listener)) continue; // One before it has removed it.
      callListener(
        () => listener({ topic, from, body, to: target }),
        (error) => {
          this.#init.counters.handlerErrors += 1;
          this.#init.logger.error("a topic listener threw", { err: error, topic });
        },
      );
    }
  }

  #mend(): void {
    for (const { peerId, linked } of this.#init.mesh.members()) if (linked) this.offer(peerId);
  }

  #guard(told: void | Promise<void>): void {
    Promise.resolve(told).catch((error: unknown) => {
      this.#init.logger.warn("gossipsub failed at a peer", { err: error });
    });
  }

  /** libp2p's, but for whom to connect: it would learn that from identify. */
  #registrar(real: GossipSubComponents["registrar"]): GossipSubComponents["registrar"] {
    return {
      getProtocols: () => real.getProtocols(),
      handle: (...given) => real.handle(...given),
      unhandle: (...given) => real.unhandle(...given),
      getHandler: (...given) => real.getHandler(...given),
      use: (...given) => real.use(...given),
      unuse: (...given) => real.unuse(...given),
      getMiddleware: (...given) => real.getMiddleware(...given),
      getTopologies: () => [...this.#topologies.values()],
      // One is enough: gossipsub registers the same for each version of its protocol.
      register: async (protocol, topology) => {
        if (this.#topologies.size === 0) this.#topologies.set(protocol, topology);
        return protocol;
      },
      unregister: (protocol) => void this.#topologies.delete(protocol),
    };
  }
}

/** Whether gossipsub has its stream to the other end. */
function isJoined(connection: Connection): boolean {
  return connection.streams.some(
    ({ protocol, direction, status }) =>
      direction === "outbound" && status === "open" && protocol.startsWith("/meshsub/"),
  );
}

interface Service {
  start(): Promise<void>;
  stop(): Promise<void>;
  handleReceivedRpc(from: PeerId, rpc: RPC): Promise<void>;
}

/** gossipsub is a libp2p service, which libp2p would start and stop, and whose class has more; its own type does not say so. */
function isService(gossip: object): gossip is Service {
  return "start" in gossip && "stop" in gossip && "handleReceivedRpc" in gossip;
}

function isMeant(target: TopicTarget, self: Member): boolean {
  if (target === "all") return true;
  if ("cloud" in target) return target.cloud === self.cloud;
  const { key, value } = target.tag;
  const own = Object.hasOwn(self.tags, key) ? self.tags[key] : undefined;
  return own !== undefined && (value === undefined || own === value);
}

/**
 * Its bytes as they are now, as many as there are: the caller may use the memory again before the first message leaves, and
 * a class of its own may say another length. @throws MeshError `INVALID_OPTIONS`.
 */
function copyOf(body: Uint8Array): Uint8Array {
  if (!types.isUint8Array(body)) refuse("body", "must be a Uint8Array");
  try {
    return new Uint8Array(body);
  } catch {
    return refuse("body", "lies in memory that was given away");
  }
}

/** @throws MeshError `INVALID_OPTIONS`. */
function targetOf(options: TopicPublishOptions): TopicTarget {
  return readable("options", () => {
    checkObject("options", options);
    const { to = "all" } = options;
    return checkedTarget(to);
  });
}

function checkedTarget(target: TopicTarget): TopicTarget {
  if (target === "all") return target;
  checkObject("to", target);
  if ("cloud" in target) {
    const { cloud } = target;
    checkText("to.cloud", cloud);
    if (!NAME_PATTERN.test(cloud)) refuse("to.cloud", "is no name of a cloud");
    return { cloud };
  }
  checkObject("to.tag", target.tag);
  const { key, value } = target.tag;
  checkText("to.tag.key", key);
  if (key.length === 0 || key.length > TAG_KEY_LENGTH_MAX) refuse("to.tag.key", "is too short or too long");
  if (value === undefined) return { tag: { key } };
  checkText("to.tag.value", value);
  if (value.length > TAG_VALUE_LENGTH_MAX) refuse("to.tag.value", "is too long");
  return { tag: { key, value } };
}
