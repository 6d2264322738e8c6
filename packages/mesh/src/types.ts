import type { Libp2p } from "@libp2p/interface";
import type { Clock, Logger, MetricSource, Random } from "@klatsch/kit";
import type { MeshGate } from "./admission/gate.ts";
import type { MeshAdmission } from "./admission/control.ts";
import type { AdmissionRefusal } from "./core/trust/statements.ts";
import type { MeshState } from "./state-types.ts";

/**
 * What this node believes about a member. `stopped` is a planned stop (it may come back), `left` is for
 * good; `dead` and `suspect` are *views* that a higher boot or incarnation of the member refutes.
 */
export type MemberStatus = "alive" | "suspect" | "dead" | "stopped" | "left";

/**
 * Why the status is what it is. `self`: this node. `direct`: we heard the member itself. `reported`:
 * another member told us. `silence`: probes went unanswered. `refused`: its connection closed and
 * every address refused a redial. `announced`: the member said so itself (`stopped`, `left`).
 */
export type MemberEvidence = "self" | "direct" | "reported" | "silence" | "refused" | "announced";

/** What a direct link runs over: TCP, a unix socket, or the process that both nodes are in. */
export type Conduit = "tcp" | "unix" | "memory";

/** One entry of the membership table, frozen: a later view is a new object. */
export interface Member {
  readonly peerId: string;
  /** Chosen by the member; not unique. The peer id is the key. */
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
  /** Start number of the member's process: only grows, durable at the member before it is published. */
  readonly boot: number;
  /** Raised by the member to refute what others believe about this boot. */
  readonly incarnation: number;
  readonly status: MemberStatus;
  readonly evidence: MemberEvidence;
  /** Whether this node itself. */
  readonly self: boolean;
  /** Whether a direct connection with completed hello exists right now. Always `false` for this node itself. */
  readonly linked: boolean;
  /** What that connection runs over; `undefined` without one. */
  readonly conduit: Conduit | undefined;
  /** Smoothed round trip of probes in milliseconds, if it ever answered one of ours. */
  readonly roundTripMs: number | undefined;
  /** Full multiaddrs, `/p2p/…` included. */
  readonly addresses: readonly string[];
  /** When a frame last came directly from this member, as this machine's wall clock has it; a hint. */
  readonly lastHeardWallMs: number | undefined;
}

/** Events of a mesh and what their listeners are given. */
export interface MeshEvents {
  /** A peer is alive that was not before: new, restarted (higher boot), or back after `dead`, `stopped` or `left`. */
  "member:joined": Member;
  /** A member that is there has other tags; this node itself, too. Of one that changes them all the time one a second, the last. */
  "member:updated": Member;
  "member:suspected": Member;
  /** It was suspected and has shown to be alive. */
  "member:refuted": Member;
  "member:died": Member;
  "member:stopped": Member;
  "member:left": Member;
  /** A member in a terminal state was removed after `forgetAfterMs`. */
  "member:forgotten": Member;
  /** A connection to this member is ready; its channels follow one by one. */
  "link:up": { readonly peerId: string };
  "link:down": { readonly peerId: string; readonly reason: string };
  /**
   * A peer was turned away, or turned us away: `MESH_NAME` is the usual mistake in a configuration. `peerId` is unknown of
   * a node that speaks another protocol.
   */
  "link:refused": {
    readonly peerId: string | undefined;
    readonly code: LinkRefusal;
    readonly reason: string;
  };
  /** Root or admin have revoked a key (a peer id) or a certificate (its serial); its connections are closed. */
  "member:revoked": { readonly subject: string };
  /** This node's certificate ends soon and nobody has renewed it: 30, 7, 1 and 0 days before. */
  "certificate:expiring": { readonly notAfterWallMs: number; readonly daysLeft: number };
  /** A member with capability `ca` has prolonged this node's certificate. */
  "certificate:renewed": { readonly notAfterWallMs: number };
  /** Channels reach this member over relays: the path leads from this node to the member. */
  "tunnel:up": { readonly peerId: string; readonly path: readonly string[] };
  "tunnel:down": { readonly peerId: string; readonly path: readonly string[]; readonly reason: string };
  /** Others had declared this node dead; it refuted with `incarnation`. Whoever holds leases re-confirms them. */
  "self:declaredDead": { readonly boot: number; readonly incarnation: number };
  /** The last link is gone: the fault is likely here, others are judged more slowly. */
  "self:isolated": { readonly boot: number };
  /** Shared state on disk was damaged and put aside to `path`; what others hold of it comes back by itself. */
  "state:quarantined": { readonly path: string; readonly reason: string };
  /** This process can no longer be a member and has stopped; `error.code` says why. */
  "mesh:failed": { readonly error: Error };
}

/**
 * Why a peer was refused: before the connection was given out ({@link AdmissionRefusal}), or by its hello. `UNCERTIFIED`: it
 * calls itself something that its certificate does not say. `FORBIDDEN`: no direct link with it is wanted, see
 * `MeshInit.mayLink` and `MeshInit.reach`.
 */
export type LinkRefusal =
  | AdmissionRefusal
  | "MEMBERS_MAX"
  | "SUPERSEDED"
  | "BOOT_LOW"
  | "UNCERTIFIED"
  | "FORBIDDEN";

/** Traffic classes, most urgent first. Each has its own stream and queue per peer. */
export type ChannelClass = "control" | "high" | "normal" | "bulk";

/** What a channel calls. All three run synchronously; a handler that throws resets that peer's stream. */
export interface ChannelHandlers {
  /** Both ends have the channel open on the same stream: a new session begins. */
  onUp(peer: string): void;
  /** The session ended; every frame that was queued and not yet delivered may be lost. */
  onDown(peer: string): void;
  /**
   * One frame, in order, none missing since `onUp`. `frame` may be a view into a larger receive buffer,
   * which is never reused: slices may be kept, but each keeps the whole buffer alive.
   */
  onFrame(peer: string, frame: Uint8Array): void;
}

/** Options of {@link Mesh.channel}. Both ends have to agree on `class`. */
export interface ChannelOptions {
  /** Default `normal`. */
  readonly class?: ChannelClass | undefined;
}

/** A named flow of frames between this node and all its linked peers that opened the same name. */
export interface Channel {
  readonly name: string;
  readonly class: ChannelClass;
  /** Peers whose channel is up now. */
  peers(): readonly string[];
  /**
   * Queues one frame for a peer whose channel is up; it leaves with everything else for that peer in
   * this tick. `false`: not up, longer than {@link Channel.frameBytesMax}, or the queue limit is
   * reached; then nothing was queued. A frame of up to `FRAME_COPIED_BYTES_MAX` bytes is copied; the mesh keeps a longer one
   * until it has left: do not change it.
   * @throws MeshError `INVALID_OPTIONS`: the frame is no Uint8Array.
   */
  send(peer: string, frame: Uint8Array): boolean;
  /** Longest frame `send` takes, in bytes. */
  readonly frameBytesMax: number;
  /**
   * Ends the peer's stream of this class (its bytes were bad, or a frame could not be queued) and
   * opens it anew: `onDown` at once, for every channel of the class, `onUp` when both ends are back.
   */
  reset(peer: string, reason: string): void;
  /** Unregisters: `onDown` for every peer that was up, at once; no call follows. May be called twice. */
  close(): void;
}

/** Options of {@link Mesh.connect}. */
export interface ConnectOptions {
  /**
   * What the peer is to be reached for. `high` and `control` may open a direct link to anybody, `normal` (the
   * default) within the own cloud; `bulk` keeps to the links there are and goes around gateways.
   */
  readonly class?: ChannelClass | undefined;
  /** How long to go on trying where no way is known yet, or none works, in milliseconds. Default 0. */
  readonly waitMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Whom {@link Mesh.waitFor} waits for: members that are `alive` and all that is said here. */
export interface WaitForOptions {
  /** So many of them, this node included if it is one. Default 1. */
  readonly members?: number | undefined;
  readonly name?: string | undefined;
  readonly cloud?: string | undefined;
  /** Who has all of these, with these values. */
  readonly tags?: Readonly<Record<string, string>> | undefined;
  /** Default: as long as the mesh runs. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The way that one class takes to a peer. */
export interface RouteTrace {
  readonly class: ChannelClass;
  /** Hop by hop, the peer last; empty where no way is known. Round trips are from this node to that hop. */
  readonly hops: readonly { readonly peerId: string; readonly roundTripMs: number | undefined }[];
  /** Why the last hops did not answer, or there are none; `undefined` where the peer did. */
  readonly code: string | undefined;
}

/** Whom a message on a topic is for: the receiver looks whether it is meant. */
export type TopicTarget =
  | "all"
  | { readonly cloud: string }
  /** Who has the tag, with that value if one is given. */
  | { readonly tag: { readonly key: string; readonly value?: string | undefined } };

/** A message on a topic, as a subscriber gets it. */
export interface TopicMessage {
  readonly topic: string;
  /** Peer id of the author, whose signature was checked. */
  readonly from: string;
  readonly body: Uint8Array;
  readonly to: TopicTarget;
}

/** Called once for each message on a topic, synchronously; messages come in any order. */
export type TopicListener = (message: TopicMessage) => void;

/** Options of {@link MeshTopics.publish}. */
export interface TopicPublishOptions {
  /** Default `all`. */
  readonly to?: TopicTarget | undefined;
}

/**
 * Messages to whoever has subscribed, this node included. Each arrives at most once, in any order, and not at those
 * who come later or are cut off: who must not miss one uses a queue. Carried by gossipsub, which runs on all members
 * from the first use by any of them on.
 */
export interface MeshTopics {
  /**
   * Calls `listener` for each message on the topic until the returned function is called. A listener that throws or
   * rejects is logged.
   * @throws MeshError `INVALID_OPTIONS`, `LIMIT_REACHED`, `STOPPED`, `TOPICS_REFUSED`.
   */
  subscribe(topic: string, listener: TopicListener): () => void;
  /**
   * Sends up to 64 KiB; 200 messages at once after quiet, then 100 a second. Resolves once it is on its way; that
   * does not say to how many.
   * @throws MeshError `INVALID_OPTIONS`, `LIMIT_REACHED` (retryable), `STOPPED`, `TOPICS_REFUSED`, `STORE_FAILED` (retryable) where
   * gossipsub cannot be loaded.
   */
  publish(topic: string, body: Uint8Array, options?: TopicPublishOptions): Promise<void>;
}

/** Counters of one node since its start, for tests and metrics. */
export interface MeshStats {
  /** Frames or streams of peers that were refused: undecodable, too long, or against the protocol. */
  readonly badFrames: number;
  /** Times a channel handler threw. */
  readonly handlerErrors: number;
  /** Streams ended because of bad bytes, a throwing handler, or {@link Channel.reset}. */
  readonly streamResets: number;
  /** Frames that a full queue refused. */
  readonly framesRefused: number;
  /** Connections refused by either end. */
  readonly linksRefused: number;
  /** Dials that did not end in a connection. */
  readonly dialsFailed: number;
  /** Entries of gossip state that were not taken over: forged, forbidden, too large, or from a clock too far ahead. */
  readonly stateRefused: number;
  /** Places of `bootstrap` that it joins by; 0: others come, or nobody does. */
  readonly seeds: number;
  /** Live connections. */
  readonly connections: number;
  /** Members with completed hello. */
  readonly links: number;
  /** Members that tunnels over relays reach, and no link. */
  readonly tunnels: number;
  /** Tunnels that pass here, between others. */
  readonly tunnelsCarried: number;
  /** Bytes that passed here in tunnels since the start. */
  readonly bytesCarried: number;
}

/** This node in a mesh. */
export interface Mesh extends AsyncDisposable, MetricSource {
  readonly peerId: string;
  readonly name: string;
  readonly cloud: string;
  /** Who may be here, and what they may do. */
  readonly admission: MeshAdmission;
  /** Start number of this process, higher than any before it. */
  readonly boot: number;
  /** What members say of themselves, and what they share. */
  readonly state: MeshState;
  /** Messages to all who have subscribed. */
  readonly topics: MeshTopics;
  /**
   * Gives this node other tags, in place of those it has, until it stops: `member:updated` everywhere. They are not
   * kept; a new start has those of its options. Resolves once this node has them.
   * @throws MeshError `INVALID_OPTIONS`, `STOPPED`; `FORBIDDEN` where a certificate says what its tags are.
   */
  setTags(tags: Readonly<Record<string, string>>): Promise<void>;
  /** Full multiaddrs with `/p2p/…`: what others put into `bootstrap`. */
  addresses(): readonly string[];
  /** All known members, this node included, ordered by peer id. */
  members(): readonly Member[];
  member(peerId: string): Member | undefined;
  /**
   * The peer id of the only member called `name` that is neither `dead` nor `left`.
   * @throws MeshError `INVALID_OPTIONS`, `UNKNOWN_NAME` or `AMBIGUOUS_NAME`.
   */
  resolve(name: string): string;
  /**
   * Resolves once so many such members are there, at once if they are; with all of them, ordered by peer id.
   * @throws MeshError `INVALID_OPTIONS`; `TIMED_OUT`, whose message says how many there were; `STOPPED`; or the signal's reason.
   */
  waitFor(options: WaitForOptions): Promise<readonly Member[]>;
  /**
   * Calls `listener` at each such event until the returned function is called. A listener that throws or rejects is logged.
   * @throws MeshError `INVALID_OPTIONS`, for an event that is none of {@link MeshEvents}, too.
   */
  on<Name extends keyof MeshEvents>(event: Name, listener: (event: MeshEvents[Name]) => void): () => void;
  /**
   * Registers a channel; peers that have it too come up at once or later.
   * @throws MeshError `CHANNEL_EXISTS`, `INVALID_OPTIONS`, `STOPPED`, `LIMIT_REACHED`.
   */
  channel(name: string, handlers: ChannelHandlers, options?: ChannelOptions): Channel;
  /**
   * Makes a member reachable for channels that is no neighbour: by a direct link where the class may open one, else
   * by a tunnel over other members, encrypted from end to end. Resolves once there is a connection; channels come up
   * on it as on any other. It is made again if it is lost, over another way if need be, and given up once no channel
   * has used it for 60 s. A member that is linked already is kept reachable likewise.
   * @throws MeshError `INVALID_OPTIONS`, `NO_ROUTE`, `FORBIDDEN`, `RELAY_FULL`, `LIMIT_REACHED`, `STOPPED`, or the
   * signal's reason.
   */
  connect(peerId: string, options?: ConnectOptions): Promise<void>;
  /**
   * Members that a member has a direct link with, as both say; this node's as they are now. None of who is unknown.
   * @throws MeshError `INVALID_OPTIONS`.
   */
  neighbours(peerId: string): readonly string[];
  /**
   * The way that each class (high, normal, bulk) takes to a member, and the round trip to each hop of it.
   * @throws MeshError `INVALID_OPTIONS`, `STOPPED`.
   */
  trace(peerId: string): Promise<readonly RouteTrace[]>;
  /** This node's counters as they are now. */
  stats(): MeshStats;
  /**
   * Keeps a direct link with a peer, opens it if there is none, and watches it closely (every 500 ms, unless `closely` is
   * false) until the returned function is called. For whoever shares work with it; in a full mesh the link is there anyway.
   * Without effect once the mesh has stopped. @throws MeshError `INVALID_OPTIONS`.
   */
  attend(peerId: string, options?: { readonly closely?: boolean | undefined }): () => void;
  /**
   * Whether this boot of a peer is gone: it said so, a higher boot is known, its address refuses, or it did not
   * answer a ping sent now. Takes about a second at most, and is never concluded from silence so far.
   * @throws MeshError `INVALID_OPTIONS`, `STOPPED`.
   */
  isGone(peerId: string, boot: number): Promise<boolean>;
  /** All of this node's numbers in the text format of Prometheus. */
  metrics(): string;
  /** Planned stop: others see `stopped`, not `dead`, and keep the place free. May be called twice. */
  stop(): Promise<void>;
  /** Stops for good: others see `left`. */
  leave(): Promise<void>;
}

/** Whom a direct link would be with. */
export interface LinkPeer {
  readonly peerId: string;
  readonly name: string;
  readonly cloud: string;
}

/** Limits of one traffic class, for each peer. */
export interface ClassLimits {
  /** Frames waiting for one peer. */
  readonly queueFramesMax: number;
  /** Bytes waiting for one peer. */
  readonly queueBytesMax: number;
}

/** Admission by certificate, as an option of `createMesh`. */
export interface CertificateAdmissionInit {
  /** Text of `MeshAuthority.issueCertificate`. Default: the file `certificate` in `dataDir`, else the one in `adoption` there. A renewed one there wins. */
  readonly certificate?: string | undefined;
  /** Refuses to start with a certificate of another mesh. Default: the mesh that the certificate is of. */
  readonly meshId?: string | undefined;
  /** Inside a given `libp2p`, and only there: what has the encrypters of that node, see {@link meshGate}. */
  readonly gate?: MeshGate | undefined;
}

/** How a node without a mesh waits for one. */
export interface JoinAny {
  /** Told where the node listens meanwhile: others put that into `bootstrap`. */
  readonly onWaiting?: ((addresses: readonly string[]) => void) | undefined;
  /** Ends the waiting: `createMesh` throws `STOPPED`. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of `createMesh`. */
export interface MeshInit {
  /**
   * What people call this node; 1 to 64 characters of `A-Z a-z 0-9 . _ -`. Where there are certificates, they say it, as well
   * as `cloud` and `tags`: anything else here is refused.
   */
  readonly name?: string | undefined;
  /**
   * Multiaddrs to listen on, such as `/ip4/127.0.0.1/tcp/4001`, `/unix/run/klatsch.sock` (its slashes written
   * `%2F`) and `/memory/main`, all at once; others use the nearest that reaches. Without `/p2p/…`. Default
   * `["/ip4/127.0.0.1/tcp/0"]`.
   */
  readonly listen?: readonly string[] | undefined;
  /**
   * Multiaddrs that others shall dial, where they differ from what this node listens on: behind a published
   * port, a proxy, or address translation. Default: what it listens on.
   */
  readonly announce?: readonly string[] | undefined;
  /**
   * A started libp2p node of the application, with an Ed25519 key: the mesh works inside it beside other
   * protocols, and leaves it running at the end. It listens where that node does, so `listen` and `announce` are
   * not taken, and admission guards Klatsch's own protocols only; by certificate it takes a {@link meshGate}. Tunnels and
   * topics are not to be had there.
   */
  readonly libp2p?: Libp2p | undefined;
  /**
   * Multiaddrs of nodes to join by, at most 256. Its own address may be among them. With `/p2p/…` at the end only that node will do;
   * without, whoever of this mesh answers there, and a name of several hosts (`/dns4/klatsch.example/tcp/4001`) means each of them.
   * Those that do not work are logged as warnings, each at most once a minute, while they lead to no member or there is no link at all.
   */
  readonly bootstrap?: readonly string[] | undefined;
  /**
   * Directory for `identity.key`, `boot`, the store of shared state and, where there are certificates, `adoption`,
   * `certificate` and `trust`; made if missing. Two processes must not share it.
   */
  readonly dataDir: string;
  /** Only nodes of the same mesh name link. Default `default`. */
  readonly mesh?: string | undefined;
  /**
   * In place of `mesh`: this node joins the open mesh of the first member that dials it, remembers that in `dataDir`
   * and stays there. Until then `createMesh` does not resolve. Whoever reaches the port first decides.
   */
  readonly joinAny?: JoinAny | undefined;
  /** Default `default`. */
  readonly cloud?: string | undefined;
  /** At most 32, keys up to 64 and values up to 256 bytes. */
  readonly tags?: Readonly<Record<string, string>> | undefined;
  /**
   * `open` lets anyone in who knows the mesh name. Implied when every listen address is loopback, a
   * unix socket or in-process; otherwise it must be asked for, and start-up warns. `certificate` lets in who has a certificate of this
   * node's mesh; this node's own is in `dataDir`, where enrolment put it (file `adoption`) or a person or renewal (`certificate`), or given here.
   */
  readonly admission?: "open" | "certificate" | CertificateAdmissionInit | undefined;
  /**
   * Which shared keys may be written: prefixes, and the capability that writing needs. Default: any. Keys of no such
   * prefix are refused. Where admission is open, every member has every capability. All members need the same.
   */
  readonly sharedPrefixes?: Readonly<Record<string, string>> | undefined;
  /**
   * Whether this node reaches members over others, and carries the tunnels of others. Default true. Without it
   * {@link Mesh.connect} to a member that no direct link reaches fails with `NO_ROUTE`. Always false inside a given
   * `libp2p`.
   */
  readonly router?: boolean | undefined;
  /**
   * Whether a direct link with such a peer is wanted: others are neither dialled nor let in directly, only over
   * relays. Asked at each dial and hello, and every second about the links there are, so it may change its mind.
   * For networks whose shape addresses do not show, and for tests. Default: all are.
   */
  readonly mayLink?: ((peer: LinkPeer) => boolean) | undefined;
  /** How long members in a terminal state stay in the table, in milliseconds. Default 24 h. */
  readonly forgetAfterMs?: number | undefined;
  /** Longest frame of a channel, in bytes. Default 16 MiB. */
  readonly frameBytesMax?: number | undefined;
  /** Members this node is ready to know, terminal ones included. Default 4 096. */
  readonly membersMax?: number | undefined;
  /**
   * Up to this many members everybody links to everybody; well above it each keeps `degree` links along hash rings
   * within its cloud, and gateways join the clouds. All members need the same. Default 16.
   */
  readonly fullMeshUpTo?: number | undefined;
  /** Links to keep in a mesh that is not full; up to twice as many are taken. Default max(8, ⌈2·log2 N⌉). */
  readonly degree?: number | undefined;
  /** Carries traffic between its cloud and others. A cloud without any gateway uses all of its members. */
  readonly gateway?: boolean | undefined;
  /** Nobody can dial this node (address translation): it dials all of its links itself. Default `false`. */
  readonly dialOnly?: boolean | undefined;
  /** Clouds this node's own may have links with. Both have to allow it. Default: all. */
  readonly reach?: readonly string[] | undefined;
  /**
   * New connections per second that one host may open; the rest is turned away before any handshake.
   * Default 200. Raise it for many nodes behind one address.
   */
  readonly inboundPerSecondMax?: number | undefined;
  /** Queue limits per peer; a class left out keeps its default. */
  readonly queues?: Readonly<Partial<Record<ChannelClass, ClassLimits>>> | undefined;
  /** Default: nothing is written. */
  readonly logger?: Logger | undefined;
  /** For tests. Default: the machine's clock. */
  readonly clock?: Clock | undefined;
  /** For tests. Default: seeded from the operating system. Used for jitter and choices, never for keys. */
  readonly random?: Random | undefined;
  /**
   * For tests: `true` loses the frame of membership or gossip state that is about to go to that peer. Channels
   * promise more than that, and lose none. Default: none is lost.
   */
  readonly losesFrame?: ((peerId: string) => boolean) | undefined;
}
